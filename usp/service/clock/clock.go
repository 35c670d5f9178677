// Package clock is the example of a USP Service: a small world clock with a value that is read live, one that is stored, a table,
// a synchronous and an asynchronous command, and an event.
//
//	Device.X_TWINSPAN-EXAMPLE_Clock.
//	    Time                 the time, with Offset (read-only)
//	    Offset               minutes east of UTC, -840 to 840
//	    AlarmNumberOfEntries
//	    Alarm.{i}.           Name (key), At (HH:MM), Enable
//	    Now()                Time
//	    Countdown(Seconds)   ends after so many seconds, at most 3600; can be canceled
//	    Tick!                Time, every Config.Tick
//
// It shows what usp/service needs: a schema, a provider, an engine. Run it with `twinspan-lab service`.
package clock

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
	"twinspan/usp/service"
)

// Path is what the clock registers unless Config says otherwise.
const Path = "Device.X_TWINSPAN-EXAMPLE_Clock."

const (
	name = "X_TWINSPAN-EXAMPLE_Clock"
	role = "Device.LocalAgent.ControllerTrust.Role.1"
	// minutes
	maxOffset = 840
	// seconds
	maxCountdown = 3600
	maxAlarms    = 64
)

// Config of a clock. EndpointID and Socket are required.
type Config struct {
	EndpointID, Socket string
	Paths              []string      // instead of Path
	Tick               time.Duration // of Tick!; 0: none
	Log                *slog.Logger
	OnRegistered       func(err error)
	RetryMin, RetryMax time.Duration // of the link, 0: the standard's
}

// Clock is a running Service.
type Clock struct {
	*service.Service
	Engine *bridge.Engine
	db     *store.Store
	cfg    Config
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New builds a clock; what it stores lives in memory.
func New(c Config) (*Clock, error) {
	if len(c.Paths) == 0 {
		c.Paths = []string{Path}
	}
	profile := &datamodel.Profile{Name: "clock", Supports: []string{"Device.LocalAgent."}, Factory: map[string]string{}}
	for k, v := range map[string]string{"Enable": "true", "Name": "Broker", "Permission.1.Enable": "true", "Permission.1.Targets": "Device.",
		"Permission.1.Param": "rw-n", "Permission.1.Obj": "rw-n", "Permission.1.InstantiatedObj": "rw-n", "Permission.1.CommandEvent": "r-xn"} {
		profile.Factory[role+"."+k] = v
	}
	schema, err := tr181.Load(profile)
	if err != nil {
		return nil, err
	}
	extend(schema.Root())
	profile.MaxRows = map[string]int{Path + "Alarm.": maxAlarms} // a table that the profile could not know of
	db := store.OpenMemory(store.Options{})
	k := &Clock{db: db, cfg: c}
	k.Engine, err = bridge.New(bridge.Options{Schema: schema, Profile: profile, Store: db, Providers: []datamodel.Provider{&provider{k}}, Log: c.Log})
	if err == nil {
		k.Service, err = service.New(service.Options{EndpointID: c.EndpointID, Socket: c.Socket, Engine: k.Engine, Paths: c.Paths, Role: role,
			Log: c.Log, OnRegistered: c.OnRegistered, RetryMin: c.RetryMin, RetryMax: c.RetryMax})
	}
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return k, nil
}

// Start connects and begins to tick.
func (k *Clock) Start(ctx context.Context) error {
	if err := k.Engine.Start(ctx); err != nil {
		return err
	}
	if err := k.Service.Start(ctx); err != nil {
		return err
	}
	ctx, k.cancel = context.WithCancel(ctx)
	if k.cfg.Tick > 0 {
		k.wg.Go(func() { k.tick(ctx) }) // ends with ctx
	}
	return nil
}

// Close stops the clock and waits.
func (k *Clock) Close() error {
	if k.cancel != nil {
		k.cancel()
	}
	k.wg.Wait()
	err := k.Service.Close()
	if e := k.Engine.Close(); err == nil {
		err = e
	}
	if e := k.db.Close(); err == nil {
		err = e
	}
	return err
}

func (k *Clock) tick(ctx context.Context) {
	t := time.NewTicker(k.cfg.Tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			k.Ring()
		}
	}
}

// Ring sends one Tick!.
func (k *Clock) Ring() {
	k.Engine.Emit(bridge.Event{Kind: bridge.EventModel, Path: Path, Name: "Tick!", Args: map[string]string{"Time": k.now()}})
}

// now is the time at the stored offset.
func (k *Clock) now() string {
	l, _ := k.db.Head().Leaf(Path + "Offset")
	minutes, _ := strconv.Atoi(l.Value) // "" is the default
	return time.Now().In(time.FixedZone("", minutes*60)).Format(time.RFC3339)
}

// extend puts the clock's objects into a schema.
func extend(root *datamodel.Object) {
	facts := func(t datamodel.Type, a datamodel.Access) *datamodel.Facts {
		return &datamodel.Facts{Type: t, Access: a}
	}
	limited := func(f *datamodel.Facts, least, most int64) *datamodel.Facts {
		f.Range = []datamodel.Range{{Min: &least, Max: &most}}
		return f
	}
	argument := func(name string, f *datamodel.Facts) datamodel.Argument {
		return datamodel.Argument{Name: name, Facts: f}
	}
	add := func(o *datamodel.Object, name string, f *datamodel.Facts) {
		p := datamodel.NewParam(name, nil, f)
		p.Object = o
		o.Params = append(o.Params, p) // by name
	}
	clock := &datamodel.Object{Path: Path, Name: name, Parent: root, Protocols: datamodel.USP, MinEntries: 1, MaxEntries: 1}
	offset := limited(facts(datamodel.TypeInt, datamodel.ReadWrite), -maxOffset, maxOffset)
	offset.Default, offset.HasDefault = "0", true
	add(clock, "AlarmNumberOfEntries", facts(datamodel.TypeUnsignedInt, datamodel.ReadOnly))
	add(clock, "Offset", offset)
	add(clock, "Time", &datamodel.Facts{Type: datamodel.TypeDateTime, ActiveNotify: "canDeny"})
	alarm := &datamodel.Object{Path: Path + "Alarm.{i}.", Name: "Alarm", Parent: clock, Multi: true, Protocols: datamodel.USP, MaxEntries: -1,
		NumEntries: "AlarmNumberOfEntries", Enable: "Enable", Keys: []datamodel.UniqueKey{{Params: []string{"Name"}, Functional: true}}}
	alarm.SetAccess(datamodel.USP, datamodel.ReadWrite)
	at := facts(datamodel.TypeString, datamodel.ReadWrite)
	at.Patterns, at.Default, at.HasDefault = []string{"([01][0-9]|2[0-3]):[0-5][0-9]"}, "00:00", true
	add(alarm, "At", at)
	add(alarm, "Enable", facts(datamodel.TypeBoolean, datamodel.ReadWrite))
	add(alarm, "Name", facts(datamodel.TypeString, datamodel.ReadWrite))
	clock.Children = []*datamodel.Object{alarm}
	seconds := limited(facts(datamodel.TypeUnsignedInt, datamodel.ReadWrite), 0, maxCountdown)
	seconds.Mandatory = true
	clock.Commands = []*datamodel.Command{
		{Name: "Countdown()", Object: clock, Async: true, Inputs: []datamodel.Argument{argument("Seconds", seconds)},
			Outputs: []datamodel.Argument{argument("Time", facts(datamodel.TypeDateTime, datamodel.ReadOnly))}},
		{Name: "Now()", Object: clock, Outputs: []datamodel.Argument{argument("Time", facts(datamodel.TypeDateTime, datamodel.ReadOnly))}},
	}
	clock.Events = []*datamodel.Event{{Name: "Tick!", Object: clock, Args: []datamodel.Argument{argument("Time", facts(datamodel.TypeDateTime, datamodel.ReadOnly))}}}
	i := 0
	for i < len(root.Children) && root.Children[i].Name < name {
		i++
	}
	root.Children = append(root.Children[:i:i], append([]*datamodel.Object{clock}, root.Children[i:]...)...)
}

// provider gives the live value and the commands.
type provider struct{ k *Clock }

func (p *provider) Name() string     { return "clock" }
func (p *provider) Serves() []string { return []string{Path + "Time"} }

// Read implements datamodel.Provider.
func (p *provider) Read(_ context.Context, _ datamodel.ObjectRef, _ []string, yield func(name, value string)) error {
	yield("Time", p.k.now())
	return nil
}

// Commands implements datamodel.Commander.
func (p *provider) Commands() []string { return []string{Path + "Now()", Path + "Countdown()"} }

// Run implements datamodel.Commander.
func (p *provider) Run(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	if _, command := datamodel.SplitParam(inv.Command); command == "Countdown()" {
		n, err := strconv.Atoi(inv.Args["Seconds"])
		if err != nil || n < 0 || n > maxCountdown {
			return nil, datamodel.Fail(datamodel.InvalidArgs, inv.Command, fmt.Sprintf("Seconds: 0 to %d", maxCountdown))
		}
		select {
		case <-time.After(time.Duration(n) * time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return map[string]string{"Time": p.k.now()}, nil
}

var _ datamodel.Commander = (*provider)(nil)
