package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
	"twinspan/store"
	"twinspan/usp/agent"
	"twinspan/usp/broker"
	"twinspan/usp/controller"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/uds"
	"twinspan/usp/service/clock"
	"twinspan/usp/uspmsg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	agentID  = "os::012345-1"
	fullID   = "self::full"
	littleID = "self::little"
	patience = 20 * time.Second
)

// rig is a device with a Broker, and two Controllers: one may do everything, one only read the clock's Time and Now().
type rig struct {
	t      testing.TB
	dir    string
	engine *bridge.Engine
	agent  *agent.Agent
	broker *broker.Broker
	full   *peer
	little *peer
}

type peer struct {
	*controller.Controller
	notes chan *uspmsg.Notify
}

func testLog(t testing.TB) *slog.Logger {
	if os.Getenv("BROKER_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func newRig(t testing.TB, adjust ...func(*broker.Options, *datamodel.Profile)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "broker") // short, for the length of socket paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir}
	p := &datamodel.Profile{Name: "test", Supports: []string{"Device.LocalAgent.", "Device.DeviceInfo.", "Device.USPServices.", "Device.Time.", "Device.IP."},
		Factory: map[string]string{"Device.DeviceInfo.SerialNumber": "1"}}
	role := func(n int, targets, param, obj, inst, command string) {
		row := fmt.Sprintf("Device.LocalAgent.ControllerTrust.Role.%d.", n)
		for k, v := range map[string]string{"Enable": "true", "Name": fmt.Sprint("role", n), "Permission.1.Enable": "true", "Permission.1.Targets": targets,
			"Permission.1.Param": param, "Permission.1.Obj": obj, "Permission.1.InstantiatedObj": inst, "Permission.1.CommandEvent": command} {
			p.Factory[row+k] = v
		}
	}
	role(1, "Device.", "rw-n", "rw-n", "rw-n", "r-xn")
	role(2, clock.Path+"Time,"+clock.Path+"Now(),Device.DeviceInfo.,Device.LocalAgent.Subscription.", "rw-n", "rw-n", "rw-n", "r-xn")
	for i, id := range []string{fullID, littleID} {
		row := fmt.Sprintf("Device.LocalAgent.Controller.%d.", i+1)
		for k, v := range map[string]string{"Enable": "true", "EndpointID": id, "OnBoardingComplete": "true",
			"AssignedRole": fmt.Sprintf("Device.LocalAgent.ControllerTrust.Role.%d", i+1)} {
			p.Factory[row+k] = v
		}
	}
	o := broker.Options{EndpointID: agentID, Socket: r.socket(), Log: testLog(t)}
	for _, f := range adjust {
		f(&o, p)
	}
	r.broker = must(broker.New(o))(t)
	schema := must(tr181.Load(p))(t)
	db := store.OpenMemory(store.Options{})
	t.Cleanup(func() { db.Close() })
	r.engine = must(bridge.New(bridge.Options{Schema: schema, Profile: p, Store: db, Providers: []datamodel.Provider{r.broker}}))(t)
	r.agent = must(agent.New(agent.Options{EndpointID: agentID, Engine: r.engine, Services: r.broker, Log: testLog(t)}))(t)
	check(t, r.engine.Start(context.Background()))
	t.Cleanup(func() { check(t, r.engine.Close()) })
	check(t, r.agent.Start(context.Background()))
	t.Cleanup(func() { check(t, r.agent.Close()) })
	check(t, r.broker.Start(context.Background(), r.agent, r.engine))
	t.Cleanup(func() { check(t, r.broker.Close()) })
	c := uds.DefaultServerConfig()
	c.Path, c.EndpointID = filepath.Join(dir, "agent"), agentID
	r.runs(must(uds.NewServer(c))(t), r.agent.Handler(false))
	r.full, r.little = r.connect(fullID), r.connect(littleID)
	return r
}

func (r *rig) socket() string { return filepath.Join(r.dir, "broker") }

// runs keeps a transport running until the end of the test.
func (r *rig) runs(t mtp.Transport, h mtp.Handler) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = t.Run(ctx, h, func(mtp.State) {}) })
	r.t.Cleanup(func() { cancel(); wg.Wait() })
}

// connect makes a Controller at the agent's socket.
func (r *rig) connect(eid string) *peer {
	r.t.Helper()
	c := uds.DefaultClientConfig()
	c.Path, c.EndpointID, c.RetryMin, c.RetryMax = filepath.Join(r.dir, "agent"), eid, 10*time.Millisecond, 20*time.Millisecond
	p := &peer{notes: make(chan *uspmsg.Notify, 1000)}
	p.Controller = must(controller.New(controller.Config{EndpointID: eid, Transport: must(uds.NewClient(c))(r.t), Log: testLog(r.t).With("ctl", eid), OnNotify: func(n *uspmsg.Notify) { p.notes <- n }}))(r.t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	r.t.Cleanup(func() { cancel(); wg.Wait() })
	soon, stop := context.WithTimeout(r.t.Context(), patience)
	defer stop()
	check(r.t, p.WaitUp(soon))
	if _, err := p.Protocols(soon, "1.4"); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// clock starts the example and waits until its paths are in operation.
func (r *rig) clock(eid string, paths ...string) *clock.Clock {
	r.t.Helper()
	told := make(chan error, 16)
	k := must(clock.New(clock.Config{EndpointID: eid, Socket: r.socket(), Paths: paths, RetryMin: 10 * time.Millisecond, RetryMax: 30 * time.Millisecond,
		Log: testLog(r.t).With("service", eid),
		OnRegistered: func(err error) {
			select {
			case told <- err:
			default:
			}
		}}))(r.t)
	check(r.t, k.Start(context.Background()))
	r.t.Cleanup(func() { k.Close() })
	select {
	case err := <-told:
		check(r.t, err)
	case <-time.After(patience):
		r.t.Fatal("the service does not register")
	}
	r.eventually("the service's row", func() bool { return strings.Contains(r.rows(), eid) })
	return k
}

// rows is what Device.USPServices. says.
func (r *rig) rows() string {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	values, err := r.full.Get(ctx, "Device.USPServices.USPService.")
	if err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprint(values)
}

func (r *rig) eventually(what string, fn func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for !fn() {
		if time.Now().After(deadline) {
			r.t.Fatal("waited in vain for ", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// note waits for a notification that fn accepts; others are skipped.
func (p *peer) note(t testing.TB, what string, fn func(*uspmsg.Notify) bool) *uspmsg.Notify {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case n := <-p.notes:
			if fn(n) {
				return n
			}
		case <-timeout:
			t.Fatal("no notification: ", what)
		}
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
