package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"twinspan/bridge"
	"twinspan/bridge/policy"
	"twinspan/bridge/vendor"
	"twinspan/datamodel"
	"twinspan/store"
)

// arbiter builds the class order of all phases with the configured rules by path; a policy file replaces it.
func (c *Config) arbiter() (*bridge.Orders, error) {
	rules := []bridge.Rule{{ID: "default", Path: "Device.**", OnConflict: bridge.Conflict(c.Bridge.OnConflict)}}
	for _, r := range c.Bridge.Rule {
		path := r.Path
		if len(path) > 0 && path[len(path)-1] == '.' { // a partial path means everything below it
			path += "**"
		}
		rules = append(rules, bridge.Rule{ID: r.ID, Path: path, OnConflict: bridge.Conflict(r.OnConflict)})
	}
	return bridge.NewOrders(bridge.Phase(c.Bridge.Phase), 0, func(p bridge.Phase) (*bridge.ClassOrder, error) {
		return bridge.NewOrder(p, bridge.OrderOptions{}, rules...)
	})
}

// arbitrationOptions are what the configuration says of arbitration beside the policy.
func (c *Config) arbitrationOptions(o *bridge.Options, prefix string) {
	o.GuardParam = "Device." + prefix + "Migration." + vendor.GuardParam
	o.ConfirmParam = "Device." + prefix + "Migration." + vendor.ConfirmParam
	o.Rate, o.Burst = policy.DefaultRate, policy.DefaultBurst
	if r := c.Bridge.CommitsPerSecond; r != nil {
		o.Rate = *r
		o.Burst = max(policy.DefaultBurst, *r)
	}
	switch c.Bridge.FaultStyle {
	case "standard":
		o.Style = datamodel.StyleStandard
	case "vendor":
		o.Style = datamodel.StyleVendor
	}
}

// newPolicy reads the policy file and hands it to the engine; nil without a file. A bad file is no reason not to start
// while the database knows the last good one.
func (c *Config) newPolicy(engine *bridge.Engine, db *store.Store, log *slog.Logger) (*policy.Live, error) {
	if c.Bridge.Policy == "" {
		return nil, nil
	}
	p, fileErr, err := policy.First(c.Bridge.Policy, bridge.Phase(c.Bridge.Phase), db)
	if err != nil {
		return nil, fmt.Errorf("bridge.policy: %w", err)
	}
	if fileErr != nil {
		log.Error("the policy file is bad, the last good policy is in force", "error", fileErr)
	}
	for _, f := range p.Lint(engine.Schema()) {
		log.Warn("policy", "finding", f.String())
	}
	engine.SetArbiter(p.Orders())
	return policy.NewLive(engine, c.Bridge.Policy, bridge.Phase(c.Bridge.Phase), p, fileErr, log.With("part", "policy")), nil
}

// reloadOnHangup loads the policy again at every SIGHUP until stop is called, which waits for it.
func reloadOnHangup(ctx context.Context, live *policy.Live) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				if live != nil {
					_, _, _ = live.Reload(ctx) // logged, and kept for the status
				}
			}
		}
	}()
	return func() {
		signal.Stop(hup)
		cancel()
		wg.Wait()
	}
}

// classOf a Controller: by its Endpoint ID in the configuration, else by the policy, else main.
func (c *Config) classOf(live *policy.Live, endpoint string, roles []string) string {
	if class := c.Bridge.Classes[endpoint]; class != "" {
		return class
	}
	if live != nil {
		if class := live.Class("usp:"+endpoint, roles); class != "" {
			return class
		}
	}
	return bridge.ClassMain
}
