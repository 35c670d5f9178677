package usp

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"twinspan/cmd/internal/conform"
	"twinspan/usp/mtp"
)

//go:embed tp469.tsv
var catalogueTSV string

// DefaultFeatures are the optional features of the plan that this project's agent claims, by number, and tests of other features
// that it passes without them: 2.6 to 2.8 are counted to session contexts (24).
// Firmware (26, 27, 28, 30) needs a build with its banks; see FeaturesOf.
const (
	DefaultFeatures = "1-10,12,13,15,19,25-28,30,31,36-40,42,2.6,2.7,2.8"
	noFirmware      = "1-10,12,13,15,19,25,31,36-40,42,2.6,2.7,2.8"
)

// Config of a run. MTP, AgentID and Agent are required.
type Config struct {
	MTP      string // mqtt (version 5) or ws
	AgentID  string // Endpoint ID of the agent
	Agent    NewAgent
	Features string // claimed features: "1-10,12"; empty: DefaultFeatures
	Only     string // ids or patterns: "1.20,2.*"; empty: all

	Broker     string   // host:port of a broker that runs already, or Mosquitto; empty: an embedded one
	BrokerCA   string   // PEM; the broker speaks TLS
	AgentTopic string   // where an agent that is not configured by the runner listens
	Listen     []string // addresses of the listeners for Controllers 1 and 2 over WebSocket; empty: any on loopback

	// Firmware are image files for agents that the runner did not build, two or more that differ; empty: images for the simulated banks.
	Firmware       []string
	FirmwareListen string // address where they are served; empty: any on loopback

	Lanes int    // agents at a time, for agents that the runner configures; 0: 6
	Quick bool   // leave out what waits longer than a few seconds
	Dir   string // for working files; empty: the system's
	// Alter wraps the transport of every Controller: planted faults of tests.
	Alter func(mtp.Transport) mtp.Transport
	// packets and frames do the same one layer below: they alter what the broker, or the WebSocket server of section 7,
	// noted of the agent; false loses it.
	packets func(*packets.Packet) bool
	// patience caps what is waited for something that should come; 0: as long as each test says.
	patience time.Duration
	images   *atomic.Int32 // handed out
	frames   func(op byte, data []byte) bool
	// Done is called with each result as it comes; nil: not.
	Done func(conform.Result)
}

func (c *Config) wait(d time.Duration) time.Duration {
	if c.patience > 0 {
		return min(d, c.patience)
	}
	return d
}

// Catalogue is every test of the plan.
func Catalogue() ([]conform.Check, error) { return conform.ParseCatalogue(catalogueTSV) }

// test is one procedure.
type test struct {
	run  func(t *T)
	slow bool // waits for longer than a few seconds
	own  bool // makes a bench of its own: the agent must be configurable
	mtp  string
	// image: the agent needs firmware images
	image bool
}

// notShown says why a test of a claimed feature has no procedure.
var notShown = map[string]string{}

// features reads "1-10,12,2.6": features by number, and tests that are to be run whatever features the plan counts them to.
func features(s string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		if tests[part].run != nil {
			out[part] = true
			continue
		}
		lo, hi, span := strings.Cut(part, "-")
		if !span {
			hi = lo
		}
		a, err1 := strconv.Atoi(lo)
		z, err2 := strconv.Atoi(hi)
		if err1 != nil || err2 != nil || a < 1 || z < a || z > 99 {
			return nil, fmt.Errorf("features %q: %q is neither a number nor a range", s, part)
		}
		for ; a <= z; a++ {
			out[strconv.Itoa(a)] = true
		}
	}
	return out, nil
}

// judge decides what can be said without running anything; ok when the test is to run.
func judge(c conform.Check, claimed map[string]bool, cfg *Config) (res conform.Result, ok bool) {
	res = conform.Result{Check: c, Verdict: conform.NotApplicable}
	switch c.Level {
	case "P":
		res.Reason = "the plan keeps the number without a procedure"
		return res, false
	case "D":
		res.Reason = "deprecated in the plan"
		return res, false
	}
	for area, name := range map[string]string{"6": "STOMP", "7": "ws", "11": "mqtt"} {
		if sec, _, _ := strings.Cut(c.ID, "."); sec == area && name != cfg.MTP {
			res.Reason = "about another MTP than the one of this run"
			return res, false
		}
	}
	if c.Needs != "" && c.Level == "C" && !claimed[c.ID] {
		// MQTT tests name the versions as alternatives, bulk data its encodings; elsewhere all are needed.
		either := strings.HasPrefix(c.ID, "11.") || strings.HasPrefix(c.ID, "10.")
		var missing []string
		fs := strings.Split(c.Needs, ",")
		for _, f := range fs {
			if !claimed[f] {
				missing = append(missing, f)
			}
		}
		if len(missing) > 0 && (!either || len(missing) == len(fs)) {
			res.Reason = "feature " + strings.Join(missing, ", ") + " is not claimed"
			return res, false
		}
	}
	res.Verdict = conform.NotShown
	tst, there := tests[c.ID]
	switch {
	case !there:
		res.Reason = notShown[c.ID]
		if res.Reason == "" {
			res.Reason = "the runner has no procedure for it"
		}
	case tst.slow && cfg.Quick:
		res.Reason = "left out of the quick run: it waits"
	case tst.own && !cfg.Agent("").Configurable():
		res.Reason = "needs an agent that the runner configures"
	case tst.image && len(cfg.Firmware) == 0 && !cfg.Agent("").Configurable():
		res.Reason = errNoImages.Error()
	case tst.mtp != "" && tst.mtp != cfg.MTP:
		res.Reason = "the bench can do it over " + tst.mtp + " only"
	default:
		return res, true
	}
	return res, false
}

// Run runs the selected tests and reports a verdict on each. The error is about the bench; failed tests are in the report.
func Run(ctx context.Context, cfg Config) (*conform.Report, error) {
	if cfg.MTP != "mqtt" && cfg.MTP != "ws" {
		return nil, fmt.Errorf("MTP %q is neither mqtt nor ws", cfg.MTP)
	}
	if cfg.Agent == nil || cfg.AgentID == "" {
		return nil, errors.New("the agent and its Endpoint ID are needed")
	}
	if cfg.Features == "" {
		cfg.Features = DefaultFeatures
	}
	cfg.images = new(atomic.Int32)
	claimed, err := features(cfg.Features)
	if err != nil {
		return nil, err
	}
	all, err := Catalogue()
	if err != nil {
		return nil, err
	}
	chosen, err := conform.Select(all, cfg.Only)
	if err != nil {
		return nil, err
	}
	report := conform.NewReport("USP (TP-469) over "+map[string]string{"mqtt": "MQTT 5", "ws": "WebSocket"}[cfg.MTP], cfg.AgentID, all)
	var mu sync.Mutex
	add := func(r conform.Result) {
		report.Add(r)
		if cfg.Done != nil {
			mu.Lock()
			defer mu.Unlock()
			cfg.Done(r)
		}
	}
	var quick, slow []conform.Check
	for _, c := range chosen {
		res, ok := judge(c, claimed, &cfg)
		switch {
		case !ok:
			add(res)
		case tests[c.ID].slow || tests[c.ID].own:
			slow = append(slow, c)
		default:
			quick = append(quick, c)
		}
	}
	return report, runLanes(ctx, &cfg, quick, slow, add)
}

// runLanes spreads the tests: one lane for all that are quick, the others take what waits.
func runLanes(ctx context.Context, cfg *Config, quick, slow []conform.Check, add func(conform.Result)) error {
	if !cfg.Agent("").Configurable() {
		return runLane(ctx, cfg, feed(append(quick, slow...)), add)
	}
	if cfg.Lanes == 0 {
		cfg.Lanes = 6
	}
	// The longest first, so that no lane ends long after the others.
	slices.SortStableFunc(slow, func(a, b conform.Check) int { return longest(b.ID) - longest(a.ID) })
	waiting := feed(slow)
	var wg sync.WaitGroup
	errs := make([]error, cfg.Lanes+1)
	wg.Go(func() { errs[0] = runLane(ctx, cfg, feed(quick), add) })
	for i := range min(cfg.Lanes, len(slow)) {
		wg.Go(func() { errs[i+1] = runLane(ctx, cfg, waiting, add) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// longest is about how long a slow test waits, in seconds.
func longest(id string) int {
	return map[string]int{"1.59": 130, "1.102": 130, "1.100": 120, "11.11": 120, "1.103": 60, "9.11": 60, "9.8": 55, "9.5": 30, "1.56": 45, "1.54": 35}[id]
}

func feed(list []conform.Check) <-chan conform.Check {
	ch := make(chan conform.Check, len(list))
	for _, c := range list {
		ch <- c
	}
	close(ch)
	return ch
}

// runLane runs tests one after the other on a bench, which is opened when the first test needs one.
func runLane(ctx context.Context, cfg *Config, list <-chan conform.Check, add func(conform.Result)) error {
	var b *bench
	defer func() {
		if b != nil {
			b.close()
		}
	}()
	for c := range list {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		tst := tests[c.ID]
		if b == nil && !tst.own {
			var err error
			if b, err = openBench(ctx, cfg, variant{}); err != nil {
				return err
			}
		}
		var on *bench
		if !tst.own {
			on = b
		}
		res, healthy := runTest(ctx, cfg, on, c, tst)
		add(res)
		if !healthy && cfg.Agent("").Configurable() && on != nil { // what failed may have left rows behind
			b.close()
			b = nil
		}
	}
	return nil
}

// testTime bounds one test.
const testTime = 4 * time.Minute

// runTest runs one test; healthy is false when the bench should not be used again.
func runTest(ctx context.Context, cfg *Config, b *bench, c conform.Check, tst test) (res conform.Result, healthy bool) {
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	t := &T{ctx: ctx, cfg: cfg, b: b}
	if b != nil {
		t.main, t.second = b.main, b.second
		t.main.clear()
		t.second.clear()
	}
	began := time.Now()
	res = conform.Result{Check: c, Verdict: conform.Pass}
	verdict := func(f func()) {
		defer func() {
			switch r := recover().(type) {
			case nil:
			case stop:
				if res.Verdict == conform.Pass {
					res.Verdict, res.Reason = r.verdict, r.text
				}
			default:
				res.Verdict, res.Reason = conform.Fail, fmt.Sprintf("the runner broke: %v %s", r, lastBytes(string(debug.Stack()), 1500))
			}
		}()
		f()
	}
	verdict(func() { tst.run(t) })
	if res.Verdict == conform.Fail && t.b != nil {
		t.see("the agent's log ends: %s", lastBytes(t.b.agent.Log(), 600))
	}
	for i := len(t.cleanup) - 1; i >= 0; i-- {
		verdict(t.cleanup[i])
	}
	res.Observed = t.seen
	if res.Verdict == conform.Fail {
		res.Observed = t.trace
	}
	res.Millis = time.Since(began).Milliseconds()
	return res, res.Verdict != conform.Fail
}

// Print writes results for people as they come.
func Print(w io.Writer) func(conform.Result) {
	return func(r conform.Result) { _ = conform.Line(w, r) } // standard output that is gone stops nothing
}
