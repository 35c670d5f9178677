package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
	"twinspan/usp/uspmsg"
)

// Sizes of the parts that use both protocols, or the ACS.
const (
	benchChanges  = 200  // changes that somebody is told of
	benchSessions = 30   // of the ACS
	benchReads    = 10   // sessions that read benchMany parameters
	benchMany     = 5000 // what they read is at least that
	benchWrites   = 60   // SetParameterValues of benchBatch parameters
	benchBatch    = 100
	benchMute     = 1000 // notifications that nobody answers
	benchFlood    = 1000 // connection requests a second
	benchPatience = 30 * time.Second
	benchGap      = 250 * time.Millisecond // longer than the agent waits between two sessions
)

// benchSecret is the password of the ACS's connection requests, on loopback.
const benchSecret = "bench"

// Rows of Device.NAT.PortMapping. by their use, so that no part meets what another one watches.
const (
	rowToController = 200 // written by the writer, watched by the reader
	rowToACS        = 201 // written by the writer, watched by the ACS
	rowFromACS      = 202 // written by the ACS, watched by the reader
	rowsOfACS       = 210 // and above: written by the ACS
)

func description(row int) string { return fmt.Sprintf("Device.NAT.PortMapping.%d.Description", row) }

// client is what the ACS writes: the arbitration keeps Controllers away from it then.
func client(row int) string { return fmt.Sprintf("Device.NAT.PortMapping.%d.InternalClient", row) }

// p99 of a sorted sample.
func p99(d []time.Duration) time.Duration { return d[len(d)*99/100] }

// device is the agent as the ACS knows it.
func (b *bench) device(ctx context.Context) (*acs.Device, error) {
	wait, done := context.WithTimeout(ctx, benchPatience)
	defer done()
	dev, err := b.acs.WaitDevice(wait)
	if err == nil {
		dev.SetConnectionRequestAuth(connReqUser, benchSecret)
	}
	return dev, err
}

// notified is called with every notification that the reader gets.
func (b *bench) notified(n *uspmsg.Notify) {
	if v := n.GetValueChange(); v != nil {
		b.seen.Store(v.GetParamPath()+"="+v.GetParamValue(), time.Now())
	}
}

// await waits until the reader was told that a parameter has a value, and returns when that was.
func (b *bench) await(ctx context.Context, path, value string) (time.Time, error) {
	for end := time.Now().Add(benchPatience); time.Now().Before(end); {
		if at, ok := b.seen.LoadAndDelete(path + "=" + value); ok {
			return at.(time.Time), nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-time.After(200 * time.Microsecond):
		}
	}
	return time.Time{}, fmt.Errorf("nobody told the Controller of %s", path)
}

// changes measures from a change to the notification of others: a Controller's for a Controller, a Controller's for the ACS, the
// ACS's for a Controller. The time begins before the change is sent, so that the whole commit is in it.
func (b *bench) changes(ctx context.Context) error {
	dev, err := b.device(ctx)
	if err != nil {
		return err
	}
	b.once++
	if _, err := b.reader.Subscribe(ctx, fmt.Sprintf("bench-%d", b.once), "ValueChange", false, description(rowToController), client(rowFromACS)); err != nil {
		return err
	}
	value := func(i int) string { return fmt.Sprintf("%d.%d", i, time.Now().UnixNano()) }
	told, err := serialOf(benchChanges, func(i int) (time.Duration, error) {
		v, began := value(i), time.Now()
		if err := b.writer.Set(ctx, map[string]string{description(rowToController): v}); err != nil {
			return 0, err
		}
		at, err := b.await(ctx, description(rowToController), v)
		return at.Sub(began), err
	})
	if err != nil {
		return err
	}
	b.add("Set by a Controller to ValueChange at another, median", ms(median(told)), "ms")
	b.add("p99", ms(p99(told)), "ms")

	release := dev.Hold()
	defer release()
	if err := b.attention(ctx, dev, rowToACS); err != nil {
		return err
	}
	told, err = serialOf(benchChanges, func(i int) (time.Duration, error) {
		v, began := value(i), time.Now()
		if _, err := dev.SetValues(ctx, "", soap.ParameterValue{Name: client(rowFromACS), Value: v, Type: soap.String}); err != nil {
			return 0, err
		}
		at, err := b.await(ctx, client(rowFromACS), v)
		return at.Sub(began), err
	})
	if err != nil {
		return err
	}
	b.add("SetParameterValues by the ACS to ValueChange at a Controller, median", ms(median(told)), "ms")
	b.add("p99", ms(p99(told)), "ms")
	release()
	if err := b.quiet(ctx, dev); err != nil {
		return err
	}

	var ended []time.Duration
	told, err = serialOf(benchSessions, func(i int) (time.Duration, error) {
		informed, over, err := b.session(ctx, dev)
		ended = append(ended, over)
		return informed, err
	})
	if err != nil {
		return err
	}
	b.add("Set by a Controller to Inform with 4 VALUE CHANGE, median", ms(median(told)), "ms")
	b.add("p99", ms(p99(told)), "ms")
	b.add("session without work, Inform to 204, median", ms(median(ended)), "ms")
	return nil
}

// serialOf is serial for what measures by itself.
func serialOf(n int, do func(i int) (time.Duration, error)) ([]time.Duration, error) {
	took := make([]time.Duration, n)
	for i := range took {
		var err error
		if took[i], err = do(i); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// attention has the agent tell the ACS actively of one description. The ACS needs a session for that, which it holds: the agent is
// asked for one.
func (b *bench) attention(ctx context.Context, dev *acs.Device, row int) error {
	wait, done := context.WithTimeout(ctx, benchPatience)
	defer done()
	if err := dev.ConnectionRequest(wait); err != nil {
		return err
	}
	_, err := dev.Call(wait, &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: description(row), NotificationChange: true, Notification: 2}}})
	return err
}

// quiet waits until no session is open.
func (b *bench) quiet(ctx context.Context, dev *acs.Device) error {
	wait, done := context.WithTimeout(ctx, benchPatience)
	defer done()
	return dev.WaitIdle(wait, 1)
}

// session makes a change that the ACS is told of, and waits for the end of the session in which that happens.
func (b *bench) session(ctx context.Context, dev *acs.Device) (informed, over time.Duration, err error) {
	wait, done := context.WithTimeout(ctx, benchPatience)
	defer done()
	time.Sleep(benchGap)
	n, v := dev.Sessions(), fmt.Sprint(time.Now().UnixNano())
	began := time.Now()
	if err := b.writer.Set(wait, map[string]string{description(rowToACS): v}); err != nil {
		return 0, 0, err
	}
	r, err := dev.WaitInform(wait, func(r *acs.InformRecord) bool {
		got, _ := r.Value(description(rowToACS))
		return got == v && r.HasEvent("4 VALUE CHANGE")
	})
	if err != nil {
		return 0, 0, fmt.Errorf("the ACS was not told: %w", err)
	}
	if err := dev.WaitIdle(wait, n+1); err != nil {
		return 0, 0, fmt.Errorf("the session did not end: %w", err)
	}
	return r.At.Sub(began), time.Since(r.At), nil
}

// sessions measures what the ACS asks for in a session: thousands of values, and a hundred to be stored.
func (b *bench) sessions(ctx context.Context) error {
	dev, err := b.device(ctx)
	if err != nil {
		return err
	}
	release := dev.Hold()
	defer release()
	if err := b.attention(ctx, dev, rowToACS); err != nil {
		return err
	}
	took, err := serial(benchWrites, func(i int) error {
		list := make([]soap.ParameterValue, benchBatch)
		for k := range list {
			list[k] = soap.ParameterValue{Name: client(rowsOfACS + k), Value: fmt.Sprintf("%d.%d", i, time.Now().UnixNano()), Type: soap.String}
		}
		_, err := dev.SetValues(ctx, "", list...)
		return err
	})
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("durable SetParameterValues of %d parameters, median", benchBatch), ms(median(took)), "ms")
	one, err := dev.GetValues(ctx, "Device.NAT.PortMapping.1.")
	if err != nil {
		return err
	}
	release()
	if err := b.quiet(ctx, dev); err != nil {
		return err
	}
	var names []string
	for i := range min((benchMany+len(one)-1)/max(len(one), 1), benchLeaves/8) {
		names = append(names, fmt.Sprintf("Device.NAT.PortMapping.%d.", i+1))
	}
	if err := b.reads(ctx, dev, names, ""); err != nil {
		return err
	}
	for _, v := range serviceMemory { // for the agent that is started next
		if old, had := os.LookupEnv(v[0]); had {
			defer os.Setenv(v[0], old)
		} else {
			defer os.Unsetenv(v[0])
		}
		if err := os.Setenv(v[0], v[1]); err != nil {
			return err
		}
	}
	return b.reads(ctx, dev, names, ", GOGC=50 GOMEMLIMIT=28MiB")
}

// serviceMemory is what configs/systemd/twinspan.service sets for devices with little memory.
var serviceMemory = [][2]string{{"GOGC", "50"}, {"GOMEMLIMIT", "28MiB"}}

// reads measures sessions of a fresh agent in which the ACS reads thousands of values.
func (b *bench) reads(ctx context.Context, dev *acs.Device, names []string, note string) error {
	if err := b.fresh(ctx, dev); err != nil {
		return err
	}
	values := 0
	took, err := serialOf(benchReads, func(int) (time.Duration, error) {
		var wg sync.WaitGroup
		var got []soap.ParameterValue
		var gerr error
		wg.Go(func() { got, gerr = dev.GetValues(ctx, names...) })
		for dev.Queued() == 0 && ctx.Err() == nil {
			time.Sleep(100 * time.Microsecond)
		}
		_, over, err := b.session(ctx, dev)
		wg.Wait()
		values = len(got)
		return over, errors.Join(err, gerr)
	})
	if err != nil {
		return err
	}
	if values < benchMany {
		return fmt.Errorf("only %d values were read", values)
	}
	peak, err := b.status("VmHWM:")
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("session with GetParameterValues of %d, Inform to 204%s", values, note), ms(median(took)), "ms")
	b.add("highest resident memory of the agent meanwhile", float64(peak)/1024, "MiB")
	return nil
}

// fresh restarts the agent and waits until it has told the ACS.
func (b *bench) fresh(ctx context.Context, dev *acs.Device) error {
	wait, done := context.WithTimeout(ctx, benchPatience)
	defer done()
	n, began := dev.Sessions(), time.Now()
	if err := b.restart(wait); err != nil {
		return err
	}
	if _, err := dev.WaitEvent(wait, began, "1 BOOT"); err != nil {
		return err
	}
	if err := dev.WaitIdle(wait, n+1); err != nil {
		return err
	}
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", b.agent.Pid()), []byte("5"), 0) // its highest memory begins anew
}

// status reads a line of the agent's /proc status that is in kB.
func (b *bench) status(key string) (kib int, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.agent.Pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, fmt.Errorf("no %s in /proc status", key)
}

// mute measures the memory that a Controller costs that never answers what it is told.
func (b *bench) mute(ctx context.Context) error {
	before, err := b.agent.ResidentKiB()
	if err != nil {
		return err
	}
	params := []string{"Description", "RemoteHost", "InternalPort"}
	var paths []string
	for i := range benchMute {
		paths = append(paths, fmt.Sprintf("Device.NAT.PortMapping.%d.%s", i%(benchLeaves/8)+1, params[i/(benchLeaves/8)]))
	}
	got := b.unanswered.Load()
	row, err := b.mqtt.Subscribe(ctx, fmt.Sprintf("bench-mute-%d", b.once), "ValueChange", true, "Device.NAT.PortMapping.")
	if err != nil {
		return err
	}
	for part := range slices.Chunk(paths, 100) {
		values := map[string]string{}
		for _, path := range part {
			switch {
			case strings.HasSuffix(path, "Port"):
				values[path] = fmt.Sprint(1 + time.Now().UnixNano()%60000)
			case strings.HasSuffix(path, "Host"):
				n := time.Now().UnixNano()
				values[path] = fmt.Sprintf("192.0.%d.%d", n/251%251, n%251)
			default:
				values[path] = fmt.Sprint(time.Now().UnixNano())
			}
		}
		if err := b.writer.Set(ctx, values); err != nil {
			return err
		}
	}
	for end := time.Now().Add(benchPatience); b.unanswered.Load()-got < benchMute; time.Sleep(10 * time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("%d notifications came, %d were to come", b.unanswered.Load()-got, benchMute)
		}
	}
	after, err := b.agent.ResidentKiB()
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("more resident memory with %d notifications in retry", benchMute), float64(after-before)/1024, "MiB")
	_, err = b.mqtt.Delete(ctx, row)
	return err
}

// flood sends connection requests without credentials, many at a time.
func (b *bench) flood(ctx context.Context) error {
	dev, err := b.device(ctx)
	if err != nil {
		return err
	}
	last, _ := dev.LastInform()
	url, _ := last.Value("Device.ManagementServer.ConnectionRequestURL")
	before, err := b.agent.ResidentKiB()
	if err != nil {
		return err
	}
	var refused, odd atomic.Int64
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: benchPatience}
	began := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				at := began.Add(time.Duration(next.Add(1)) * time.Second / benchFlood)
				if at.Sub(began) > benchSpan {
					return
				}
				time.Sleep(time.Until(at))
				resp, err := client.Get(url)
				if err != nil {
					odd.Add(1)
					continue
				}
				_ = resp.Body.Close()
				if s := resp.StatusCode; s == http.StatusUnauthorized || s == http.StatusServiceUnavailable {
					refused.Add(1)
				} else {
					odd.Add(1)
				}
			}
		})
	}
	wg.Wait()
	rate := float64(refused.Load()) / time.Since(began).Seconds()
	after, err := b.agent.ResidentKiB()
	if err != nil {
		return err
	}
	sessions := 0
	for _, r := range dev.Informs() { // others, such as one that tells what the parts before have changed, may come
		if r.At.After(began) && r.HasEvent("6 CONNECTION REQUEST") {
			sessions++
		}
	}
	if odd.Load() > 0 || sessions > 0 {
		return fmt.Errorf("of %d connection requests %d were not refused; %d sessions", refused.Load()+odd.Load(), odd.Load(), sessions)
	}
	b.add("connection requests refused, no session", rate, "/s")
	b.add("more resident memory after them", float64(after-before)/1024, "MiB")
	return nil
}
