package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
	"twinspan/usp/controller"
	"twinspan/usp/uspmsg"
)

// Parameters of the story. All are ordinary configuration of the gateway profile.
const (
	contested = "Device.Time.Client.1.Servers" // provisioned by the ACS
	shielded  = "Device.Time.Client.2.Servers" // written by Controller B while the ACS looks on
	firstCome = "Device.Time.Client.3.Servers" // rule "first-come": whoever wrote it keeps it
	burstLeaf = "Device.Time.Client.4.Servers"
	burstRows = "Device.Users.User."
)

// steps is the main job: what an operator must see before he trusts a device with two managers.
func (sb *sandbox) steps() []step {
	return []step{
		{"agent", "starts for the first time and finds its ACS", sb.stepStart},
		{"ACS", "provisions the device", sb.stepProvision},
		{"ACS", "brings the USP side up by writing Device.USPAgent. and Device.MQTT.", sb.stepBringUp},
		{"controller A", "subscribes and is told of the ACS's next write", sb.stepSubscribe},
		{"controller A", "wants another value for what the ACS owns, and is refused with the reason", sb.stepRefusedUSP},
		{"ACS", "wants what the rule leaves to Controller A, and is refused with the reason", sb.stepRefusedCWMP},
		{"controller B", "writes while the ACS's session is open; the ACS's view does not move", sb.stepShield},
		{"agent", "is killed in the middle of a burst of writes and comes back with every acknowledged one", sb.stepKill},
		{"operator", "reads in the journal who changed what", sb.stepJournal},
		{"operator", "stops the agent and verifies its database", sb.stepCheck},
	}
}

func (sb *sandbox) stepStart(ctx context.Context, s *scene) error {
	began := time.Now()
	if err := sb.agent.Start(); err != nil {
		return err
	}
	d, err := sb.acs.WaitDevice(ctx)
	if err != nil {
		return fmt.Errorf("no Inform: %w", err)
	}
	sb.device = d
	r, err := d.WaitEvent(ctx, began, "0 BOOTSTRAP")
	if err != nil {
		return fmt.Errorf("no 0 BOOTSTRAP: %w", err)
	}
	id := r.Inform.DeviceID
	s.Observe("Inform after %d ms from %s-%s-%s: %s", r.At.Sub(began).Milliseconds(), id.OUI, id.ProductClass, id.SerialNumber, events(&r))
	return sb.quiet(ctx)
}

// events lists the event codes of an Inform.
func events(r *acs.InformRecord) string {
	var codes []string
	for _, e := range r.Inform.Event {
		codes = append(codes, e.EventCode)
	}
	return strings.Join(codes, ", ")
}

// quiet waits until the session that sent the newest Inform is over.
func (sb *sandbox) quiet(ctx context.Context) error {
	return sb.device.WaitIdle(ctx, len(sb.device.Informs()))
}

func (sb *sandbox) stepProvision(ctx context.Context, s *scene) error {
	err := sb.inSession(ctx, func(ctx context.Context) error {
		if err := sb.setValues(ctx, provisionedKey,
			"Device.DeviceInfo.ProvisioningCode", "sandbox.1",
			contested, "ntp.operator.example",
			shielded, "ntp2.operator.example"); err != nil {
			return err
		}
		_, err := sb.device.Call(ctx, &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: firstCome, NotificationChange: true, Notification: 2}}})
		return err
	})
	if err != nil {
		return err
	}
	s.Observe("%s = ntp.operator.example, active notification on %s", contested, firstCome)
	return sb.quiet(ctx)
}

func (sb *sandbox) webSocketAddress() (host, port string, err error) {
	addr := sb.wsServer.Addr()
	if addr == nil {
		return "", "", errors.New("controller B does not listen")
	}
	return net.SplitHostPort(addr.String())
}

func (sb *sandbox) stepBringUp(ctx context.Context, s *scene) error {
	if err := sb.inSession(ctx, sb.bringUp); err != nil {
		return err
	}
	began := time.Now()
	if err := sb.a.WaitConnect(ctx); err != nil {
		return fmt.Errorf("controller A saw no connect record: %w", err)
	}
	s.Observe("controller A: connect record over MQTT %d ms after the session", time.Since(began).Milliseconds())
	if err := sb.b.WaitConnect(ctx); err != nil {
		return fmt.Errorf("controller B saw no connect record: %w", err)
	}
	s.Observe("controller B: connect record over WebSocket")
	for name, c := range map[string]*controller.Controller{"A": sb.a, "B": sb.b} {
		got, err := c.Value(ctx, contested)
		if err != nil {
			return fmt.Errorf("controller %s: %w", name, err)
		}
		if got != "ntp.operator.example" {
			return fmt.Errorf("controller %s reads %q", name, got)
		}
	}
	versions, err := sb.a.Protocols(ctx, "1.4")
	if err != nil {
		return err
	}
	s.Observe("both read %s = ntp.operator.example; the agent speaks USP %s", contested, versions)
	return sb.quiet(ctx)
}

func (sb *sandbox) stepSubscribe(ctx context.Context, s *scene) error {
	row, err := sb.a.Subscribe(ctx, "story", "ValueChange", true, "Device.Time.")
	if err != nil {
		return err
	}
	s.Observe("subscription %s", row)
	began := time.Now()
	if err := sb.inSession(ctx, func(ctx context.Context) error {
		if _, err := sb.getValue(ctx, contested); err != nil { // now the session is open
			return err
		}
		began = time.Now()
		return sb.setValues(ctx, "", contested, "ntp-new.operator.example")
	}); err != nil {
		return err
	}
	_, err = awaitNotify(ctx, sb.notifyA, func(n *uspmsg.Notify) bool {
		v := n.GetValueChange()
		return v.GetParamPath() == contested && v.GetParamValue() == "ntp-new.operator.example"
	})
	if err != nil {
		return fmt.Errorf("no ValueChange: %w", err)
	}
	s.Observe("ValueChange %s = ntp-new.operator.example, %d ms after the ACS sent its write", contested, time.Since(began).Milliseconds())
	return sb.quiet(ctx)
}

func (sb *sandbox) stepRefusedUSP(ctx context.Context, s *scene) error {
	err := sb.a.Set(ctx, map[string]string{contested: "ntp.controller-a.example"})
	var e *controller.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("the Set was not refused by the agent: %v", err)
	}
	if !strings.Contains(err.Error(), "cwmp") {
		return fmt.Errorf("the refusal does not name the owner: %w", err)
	}
	s.Observe("Set refused: %v", err)
	got, err := sb.a.Value(ctx, contested)
	if err != nil {
		return err
	}
	if got != "ntp-new.operator.example" {
		return fmt.Errorf("the value moved to %q", got)
	}
	s.Observe("%s is still %s", contested, got)
	return nil
}

func (sb *sandbox) stepRefusedCWMP(ctx context.Context, s *scene) error {
	began := time.Now()
	if err := sb.a.Set(ctx, map[string]string{firstCome: "ntp.controller-a.example"}); err != nil {
		return err
	}
	r, err := sb.device.WaitEvent(ctx, began, "4 VALUE CHANGE")
	if err != nil {
		return fmt.Errorf("the ACS was not told of controller A's write: %w", err)
	}
	value, _ := r.Value(firstCome)
	s.Observe("controller A writes it first; the ACS is told by 4 VALUE CHANGE after %d ms: %q", r.At.Sub(began).Milliseconds(), value)
	if err := sb.quiet(ctx); err != nil {
		return err
	}
	err = sb.inSession(ctx, func(ctx context.Context) error {
		return sb.setValues(ctx, "", firstCome, "ntp3.operator.example")
	})
	var f *soap.Fault
	if !errors.As(err, &f) {
		return fmt.Errorf("the SetParameterValues was not refused by the agent: %v", err)
	}
	if !strings.Contains(err.Error(), controllerA) {
		return fmt.Errorf("the refusal does not name the owner: %w", err)
	}
	s.Observe("SetParameterValues refused: %v", err)
	return sb.quiet(ctx)
}

func (sb *sandbox) stepShield(ctx context.Context, s *scene) error {
	began := time.Now()
	err := sb.inSession(ctx, func(ctx context.Context) error {
		before, err := sb.getValue(ctx, shielded)
		if err != nil {
			return err
		}
		// The ACS owns the parameter in this phase; what nobody owns is Controller B's to write.
		if err := sb.b.Set(ctx, map[string]string{burstLeaf: "ntp.controller-b.example"}); err != nil {
			return err
		}
		took := time.Since(began)
		seenByB, err := sb.b.Value(ctx, burstLeaf)
		if err != nil {
			return err
		}
		seenByACS, err := sb.getValue(ctx, burstLeaf)
		if err != nil {
			return err
		}
		after, err := sb.getValue(ctx, shielded)
		if err != nil {
			return err
		}
		if seenByB != "ntp.controller-b.example" || seenByACS == seenByB || before != after {
			return fmt.Errorf("inside the session the ACS reads %q and %q -> %q, controller B reads %q", seenByACS, before, after, seenByB)
		}
		s.Observe("controller B's write was answered while the session was open (%d ms into it)", took.Milliseconds())
		s.Observe("same moment: controller B reads %q, the ACS in its session reads %q", seenByB, seenByACS)
		return nil
	})
	if err != nil {
		return err
	}
	if err := sb.quiet(ctx); err != nil {
		return err
	}
	return sb.inSession(ctx, func(ctx context.Context) error {
		got, err := sb.getValue(ctx, burstLeaf)
		if err == nil && got != "ntp.controller-b.example" {
			err = fmt.Errorf("the ACS's next session reads %q", got)
		}
		if err == nil {
			s.Observe("the ACS's next session reads %q", got)
		}
		return err
	})
}

// burst counts what the agent acknowledged before it was killed.
type burst struct {
	mu        sync.Mutex
	rows      []string // user names of acknowledged rows
	lastValue int      // of the leaf
	sentValue int
}

// wait returns when so many rows and Sets were acknowledged, or the context ended.
func (b *burst) wait(ctx context.Context, rows, sets int) {
	for ctx.Err() == nil {
		b.mu.Lock()
		enough := len(b.rows) >= rows && b.lastValue >= sets
		b.mu.Unlock()
		if enough {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// write sends as fast as acknowledgements come until the agent is gone.
func (sb *sandbox) write(ctx context.Context, b *burst) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 1; ; i++ {
				name := fmt.Sprintf("burst-%d-%d", w, i)
				if _, _, err := sb.a.Add(ctx, burstRows, map[string]string{"Username": name}); err != nil {
					return
				}
				b.mu.Lock()
				b.rows = append(b.rows, name)
				b.mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for i := 1; ; i++ {
			b.mu.Lock()
			b.sentValue = i
			b.mu.Unlock()
			if err := sb.b.Set(ctx, map[string]string{burstLeaf: "burst-" + strconv.Itoa(i)}); err != nil {
				return
			}
			b.mu.Lock()
			b.lastValue = i
			b.mu.Unlock()
		}
	})
	wg.Wait()
}

func (sb *sandbox) stepKill(ctx context.Context, s *scene) error {
	if err := sb.quiet(ctx); err != nil {
		return err
	}
	var b burst
	writing, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { sb.write(writing, &b) })
	b.wait(ctx, 50, 20) // the burst is well under way, however slow the disk
	err := sb.agent.Kill()
	time.Sleep(100 * time.Millisecond) // answers that had left before the kill arrive
	stop()
	wg.Wait()
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Observe("SIGKILL after %d acknowledged rows of Controller A and %d acknowledged Sets of Controller B", len(b.rows), b.lastValue)
	if len(b.rows) == 0 || b.lastValue == 0 {
		return errors.New("the burst was over before it began")
	}
	sb.a.Forget() // a broker tells nobody that the agent is gone
	began := time.Now()
	if err := sb.agent.Start(); err != nil {
		return err
	}
	r, err := sb.device.WaitEvent(ctx, began, "1 BOOT")
	if err != nil {
		return fmt.Errorf("no 1 BOOT: %w", err)
	}
	if r.HasEvent("0 BOOTSTRAP") {
		return errors.New("the agent forgot that it had been bootstrapped")
	}
	s.Observe("back after %d ms: %s", r.At.Sub(began).Milliseconds(), events(&r))
	return sb.verifyBurst(ctx, s, &b)
}

// verifyBurst compares what was acknowledged with what the restarted agent has.
func (sb *sandbox) verifyBurst(ctx context.Context, s *scene, b *burst) error {
	if err := sb.a.WaitConnect(ctx); err != nil {
		return fmt.Errorf("controller A: %w", err)
	}
	if err := sb.b.WaitConnect(ctx); err != nil {
		return fmt.Errorf("controller B: %w", err)
	}
	names, err := sb.a.Get(ctx, burstRows+"*.Username")
	if err != nil {
		return err
	}
	have := slices.Collect(maps.Values(names))
	for _, name := range b.rows {
		if !slices.Contains(have, name) {
			return fmt.Errorf("row %s was acknowledged and is lost", name)
		}
	}
	value, err := sb.b.Value(ctx, burstLeaf)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimPrefix(value, "burst-"))
	if err != nil || n < b.lastValue || n > b.sentValue {
		return fmt.Errorf("%s is %q; %d was acknowledged, %d was sent last", burstLeaf, value, b.lastValue, b.sentValue)
	}
	s.Observe("all %d acknowledged rows are there (%d in the table), %s = %s", len(b.rows), len(have), burstLeaf, value)
	return nil
}

func (sb *sandbox) stepJournal(ctx context.Context, s *scene) error {
	out, err := sb.agent.Command(ctx, "journal", "--socket", sb.socket(), "--json", "-n", "500", "--path", "Device.Time.Client.")
	if err != nil {
		return err
	}
	var entries []struct {
		Revision uint64
		Writer   string
		Changes  []struct{ Path, Op, Old, New, Rule string }
	}
	if err := json.Unmarshal([]byte(out), &entries); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	seen := map[string]bool{}
	shown := map[string]int{}
	for _, e := range entries {
		for _, ch := range e.Changes {
			kind := e.Writer + " " + ch.Op
			seen[kind] = true
			if shown[kind]++; shown[kind] <= 2 {
				s.Observe("%5d  %-24s %-7s %s: %q -> %q", e.Revision, e.Writer, ch.Op, ch.Path, ch.Old, ch.New)
			}
		}
	}
	for _, want := range []string{"cwmp set", "usp:" + controllerA + " set", "usp:" + controllerB + " set", "usp:" + controllerA + " refused", "cwmp refused"} {
		if !seen[want] {
			return fmt.Errorf("the journal has no %q among %d entries", want, len(entries))
		}
	}
	return nil
}

func (sb *sandbox) stepCheck(ctx context.Context, s *scene) error {
	if err := sb.agent.Stop(ctx); err != nil {
		return fmt.Errorf("the agent did not end cleanly: %w", err)
	}
	out, err := sb.agent.Command(ctx, "store", "check", filepath.Join(sb.agent.Data, "twinspan.db"))
	if err != nil {
		return err
	}
	s.Observe("%s", strings.TrimSpace(out))
	if v := sb.acs.Violations(); len(v) > 0 {
		return fmt.Errorf("the ACS noted %d violations of TR-069: %s", len(v), strings.Join(v, "; "))
	}
	s.Observe("the ACS noted no violation of TR-069 in %d sessions", sb.device.Sessions())
	return nil
}
