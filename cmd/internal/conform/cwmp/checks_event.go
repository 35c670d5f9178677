package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

var informChecks = map[string]check{
	"INF-02": {run: forcedParameters},
	"INF-03": {run: forcedParameters098},
	"INF-05": {run: func(_ context.Context, b *bench) error {
		m := b.lastExchange("Inform").inform()
		if m.MaxEnvelopes != 1 || m.RetryCount != 0 {
			return fmt.Errorf("MaxEnvelopes %d, RetryCount %d", m.MaxEnvelopes, m.RetryCount)
		}
		return nil
	}},
	"INF-06": {run: informCounts},
	"INF-09": {needs: []ability{canLocal}, run: twoReasons},
	"INF-10": {run: func(ctx context.Context, b *bench) error {
		if err := b.schedule(ctx, "key", 1); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if _, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second); err != nil {
			return err
		}
		for _, x := range b.tap.since(0) {
			if m := x.inform(); m != nil {
				b.observe("%s", events(m))
				for _, e := range m.Event {
					if !strings.HasPrefix(e.EventCode, "M ") && e.CommandKey != "" {
						return fmt.Errorf("%s has the CommandKey %q", e.EventCode, e.CommandKey)
					}
				}
			}
		}
		return nil
	}},
	"INF-11": {run: manyEvents},
	"INF-12": {needs: []ability{canLocal}, run: func(ctx context.Context, b *bench) error {
		if err := b.notify(ctx, 2, b.code()); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if err := b.local(ctx, b.code()+"=once"); err != nil {
			return err
		}
		x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 5*time.Second)
		if err != nil {
			return err
		}
		seen := map[string]int{}
		for _, p := range x.inform().ParameterList {
			if seen[p.Name]++; seen[p.Name] > 1 {
				return fmt.Errorf("%s is listed twice", p.Name)
			}
		}
		if seen[b.code()] != 1 {
			return errors.New("the changed parameter is not listed")
		}
		return nil
	}},
}

func forcedParameters(_ context.Context, b *bench) error {
	if b.root != "Device." {
		return notApplicable("the CPE has the root %s", b.root)
	}
	m := b.lastExchange("Inform").inform()
	for _, name := range []string{"RootDataModelVersion", "DeviceInfo.HardwareVersion", "DeviceInfo.SoftwareVersion", "DeviceInfo.ProvisioningCode",
		"ManagementServer.ParameterKey", "ManagementServer.ConnectionRequestURL", "ManagementServer.AliasBasedAddressing"} {
		if _, ok := informValue(m, b.root+name); !ok {
			return fmt.Errorf("the Inform lacks %s", b.root+name)
		}
	}
	version, _ := informValue(m, b.root+"RootDataModelVersion")
	b.observe("RootDataModelVersion %q, %d parameters", version, len(m.ParameterList))
	if !regexp.MustCompile(`^2\.[0-9]+$`).MatchString(version) {
		return fmt.Errorf("RootDataModelVersion is %q", version)
	}
	return nil
}

func forcedParameters098(_ context.Context, b *bench) error {
	if b.root != "InternetGatewayDevice." {
		return notApplicable("the CPE has the root %s", b.root)
	}
	m := b.lastExchange("Inform").inform()
	for _, name := range []string{"DeviceSummary", "DeviceInfo.HardwareVersion", "DeviceInfo.SoftwareVersion", "DeviceInfo.SpecVersion",
		"DeviceInfo.ProvisioningCode", "ManagementServer.ParameterKey", "ManagementServer.ConnectionRequestURL"} {
		if _, ok := informValue(m, b.root+name); !ok {
			return fmt.Errorf("the Inform lacks %s", b.root+name)
		}
	}
	return nil
}

func informCounts(_ context.Context, b *bench) error {
	x := b.lastExchange("Inform")
	m := x.inform()
	for what, n := range map[string]int{"EventStruct": len(m.Event), "ParameterValueStruct": len(m.ParameterList)} {
		found := regexp.MustCompile(what + `\[([0-9]+)\]`).FindSubmatch(x.Body)
		if found == nil {
			return fmt.Errorf("there is no arrayType for %s", what)
		}
		if claimed, _ := strconv.Atoi(string(found[1])); claimed != n {
			return fmt.Errorf("the arrayType of %s says %d, there are %d", what, claimed, n)
		}
	}
	b.observe("%d events, %d parameters", len(m.Event), len(m.ParameterList))
	if len(m.Event) < 1 || len(m.Event) > 64 {
		return fmt.Errorf("%d events", len(m.Event))
	}
	return nil
}

// count is how often an event is in an Inform.
func count(m *soap.Inform, code string) (n int) {
	for _, e := range m.Event {
		if e.EventCode == code {
			n++
		}
	}
	return n
}

// periodic switches periodic Informs on, or off with 0.
func (b *bench) periodic(ctx context.Context, seconds int) error {
	if seconds == 0 {
		return b.set(ctx, "", b.ms("PeriodicInformEnable"), "false")
	}
	return b.set(ctx, "", b.ms("PeriodicInformEnable"), "true", b.ms("PeriodicInformInterval"), strconv.Itoa(seconds))
}

func twoReasons(ctx context.Context, b *bench) error {
	name, err := b.text(ctx)
	if err != nil {
		return err
	}
	if err := b.notify(ctx, 1, name); err != nil { // passive: it waits for the other reason
		return err
	}
	if err := b.periodic(ctx, 2); err != nil {
		return err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	if err := b.local(ctx, name+"=both"); err != nil {
		return err
	}
	x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 8*time.Second)
	if err != nil {
		return err
	}
	b.observe("%s", events(x.inform()))
	if count(x.inform(), "2 PERIODIC") != 1 || count(x.inform(), "4 VALUE CHANGE") != 1 {
		return fmt.Errorf("the Inform has %s", events(x.inform()))
	}
	return nil
}

func manyEvents(ctx context.Context, b *bench) error {
	if err := b.schedule(ctx, "k01", 1); err != nil {
		return err
	}
	for i := 2; i <= 60; i++ {
		if err := b.schedule(ctx, fmt.Sprintf("k%02d", i), 1); err != nil {
			return err
		}
	}
	if err := pause(ctx, 1500*time.Millisecond); err != nil { // these have fired; they wait for the end of the session
		return err
	}
	for i := 61; i <= 70; i++ {
		if err := b.schedule(ctx, fmt.Sprintf("k%02d", i), 1); err != nil {
			return err
		}
	}
	if err := pause(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second)
	if err != nil {
		return err
	}
	m := x.inform()
	n := count(m, "M ScheduleInform")
	b.observe("%d events, %d of them M ScheduleInform", len(m.Event), n)
	if len(m.Event) > 64 {
		return fmt.Errorf("%d events in one Inform", len(m.Event))
	}
	for i := 70; i > 70-n; i-- {
		if !hasKey(m, "M ScheduleInform", fmt.Sprintf("k%02d", i)) {
			return fmt.Errorf("k%02d was dropped while older ones were kept", i)
		}
	}
	return nil
}

var eventChecks = map[string]check{
	"EVT-01": {needs: []ability{canFresh}, run: func(_ context.Context, b *bench) error {
		for _, x := range b.tap.since(0) {
			if m := x.inform(); m != nil {
				b.observe("%s", events(m))
				if !hasEvent(m, "0 BOOTSTRAP") || !hasEvent(m, "1 BOOT") {
					return fmt.Errorf("the first Inform has %s", events(m))
				}
				return nil
			}
		}
		return errNothingCame
	}},
	"EVT-02": {needs: []ability{canRestart}, run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		x, err := b.restart(ctx)
		if err != nil {
			return err
		}
		b.observe("%s", events(x.inform()))
		if !hasEvent(x.inform(), "1 BOOT") || hasEvent(x.inform(), "0 BOOTSTRAP") {
			return fmt.Errorf("the Inform after a restart has %s", events(x.inform()))
		}
		return nil
	}},
	"EVT-03": {run: newACS},
	"EVT-04": {run: func(ctx context.Context, b *bench) error {
		if err := b.set(ctx, "", b.ms("URL"), b.url()); err != nil {
			return err
		}
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		if hasEvent(x.inform(), "0 BOOTSTRAP") {
			return errors.New("the same URL caused a BOOTSTRAP")
		}
		return nil
	}},
	"EVT-06": {needs: []ability{canLocal}, run: bootstrapDrops},
	"EVT-07": {run: func(ctx context.Context, b *bench) error {
		if err := b.fastRetry(ctx); err != nil {
			return err
		}
		if err := b.periodic(ctx, 1); err != nil {
			return err
		}
		b.refuseInforms(3, unavailable)
		mark := b.tap.mark()
		b.endSession(ctx)
		x, err := b.tap.wait(ctx, mark, func(x *exchange) bool { m := x.inform(); return m != nil && m.RetryCount >= 3 })
		if err != nil {
			return fmt.Errorf("no third retry: %w", err)
		}
		b.observe("%s, RetryCount %d", events(x.inform()), x.inform().RetryCount)
		if n := count(x.inform(), "2 PERIODIC"); n != 1 {
			return fmt.Errorf("2 PERIODIC is there %d times", n)
		}
		return nil
	}},
	"EVT-09": {run: func(ctx context.Context, b *bench) error {
		if err := b.fastRetry(ctx); err != nil {
			return err
		}
		if err := b.schedule(ctx, "K1", 1); err != nil {
			return err
		}
		if err := b.schedule(ctx, "K2", 2); err != nil {
			return err
		}
		stop := b.refuseInforms(-1, unavailable)
		b.endSession(ctx)
		if err := pause(ctx, 3*time.Second); err != nil {
			return err
		}
		mark := b.tap.mark()
		stop()
		x, err := b.inform(ctx, mark, "M ScheduleInform", 6*time.Second)
		if err != nil {
			return err
		}
		m := x.inform()
		b.observe("%s", events(m))
		if count(m, "3 SCHEDULED") != 1 || !hasKey(m, "M ScheduleInform", "K1") || !hasKey(m, "M ScheduleInform", "K2") || count(m, "M ScheduleInform") != 2 {
			return fmt.Errorf("the Inform has %s", events(m))
		}
		return nil
	}},
	"EVT-10": {needs: []ability{canLocal}, run: passiveChange},
	"EVT-12": {run: func(ctx context.Context, b *bench) error {
		if err := b.fastRetry(ctx); err != nil {
			return err
		}
		b.endSession(ctx)
		b.refuseInforms(-1, func(x *exchange) { x.Cut = true })
		mark := b.tap.mark()
		if err := b.request(ctx); err != nil {
			return err
		}
		x, err := b.inform(ctx, mark, "6 CONNECTION REQUEST", 5*time.Second)
		if err != nil {
			return err
		}
		if err := pause(ctx, 4*time.Second); err != nil {
			return err
		}
		for _, e := range b.tap.since(b.after(x)) {
			// The same POST once more over a new connection is HTTP's doing, not a retry of the session.
			if m := e.inform(); m != nil && (m.RetryCount > 0 || e.At.Sub(x.At) > time.Second) {
				return fmt.Errorf("a session was tried again for %s", events(m))
			}
		}
		return nil
	}},
	"EVT-14": {run: retryRequested},
	"EVT-15": {run: func(ctx context.Context, b *bench) error {
		for _, code := range []soap.FaultCode{soap.ACSRequestDenied, soap.ACSInternalError} {
			if err := b.completeRefused(ctx, code); err != nil {
				return err
			}
		}
		return nil
	}},
	"EVT-16": {run: func(ctx context.Context, b *bench) error {
		x, err := b.reboot(ctx, "RK1")
		if err != nil {
			return err
		}
		m := x.inform()
		if !hasKey(m, "1 BOOT", "") || !hasKey(m, "M Reboot", "RK1") {
			return fmt.Errorf("the Inform after Reboot has %s", events(m))
		}
		return nil
	}},
	"EVT-21": {run: func(ctx context.Context, b *bench) error {
		if err := b.schedule(ctx, "told", 1); err != nil {
			return err
		}
		acked := false
		b.tap.onAfter(func(x *exchange) bool {
			switch {
			case x.inform() != nil && hasEvent(x.inform(), "M ScheduleInform"):
				acked = true
			case acked && len(x.Body) == 0:
				x.Cut = true
			}
			return false
		})
		mark := b.tap.mark()
		b.endSession(ctx)
		if _, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second); err != nil {
			return err
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		b.tap.clearHooks()
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		b.observe("next: %s", events(x.inform()))
		if hasEvent(x.inform(), "M ScheduleInform") || hasEvent(x.inform(), "3 SCHEDULED") {
			return fmt.Errorf("acknowledged events are told again: %s", events(x.inform()))
		}
		return nil
	}},
	"EVT-22": {needs: []ability{canLocal}, limit: 90 * time.Second, run: func(ctx context.Context, b *bench) error {
		if err := b.heartbeat(ctx); err != nil {
			return err
		}
		name, err := b.text(ctx)
		if err != nil {
			return err
		}
		if err := b.notify(ctx, 1, name); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if err := b.local(ctx, name+"=pending"); err != nil {
			return err
		}
		x, err := b.inform(ctx, mark, "14 HEARTBEAT", 40*time.Second)
		if err != nil {
			return err
		}
		if len(x.inform().Event) != 1 {
			return fmt.Errorf("with the heartbeat came %s", events(x.inform()))
		}
		return nil
	}},
}

// heartbeat switches it on at its shortest interval.
func (b *bench) heartbeat(ctx context.Context) error {
	policy := b.ms("HeartbeatPolicy.")
	if err := b.need(ctx, policy+"Enable", policy+"ReportingInterval"); err != nil {
		return err
	}
	if err := b.set(ctx, "", policy+"ReportingInterval", "30", policy+"Enable", "true"); err != nil {
		return notApplicable("the heartbeat cannot be switched on: %v", err)
	}
	return nil
}

func newACS(ctx context.Context, b *bench) error {
	other, err := b.tap.listen(hostOf(b.base)+":0", nil)
	if err != nil {
		return err
	}
	n := b.dev.Sessions()
	x, err := b.moveTo(ctx, other+"/acs", 10*time.Second)
	if err != nil {
		return err
	}
	if b.dev.Sessions() <= n {
		return errors.New("the session with the old ACS did not end in order")
	}
	b.observe("at the new ACS: %s", events(x.inform()))
	if !hasEvent(x.inform(), "0 BOOTSTRAP") {
		return fmt.Errorf("the first Inform at the new URL has %s", events(x.inform()))
	}
	return nil
}

func bootstrapDrops(ctx context.Context, b *bench) error {
	if err := b.notify(ctx, 2, b.code()); err != nil {
		return err
	}
	other, err := b.tap.listen(hostOf(b.base)+":0", nil)
	if err != nil {
		return err
	}
	if err := b.local(ctx, b.code()+"=undelivered"); err != nil { // pending until the session ends
		return err
	}
	if err := b.schedule(ctx, "undelivered", 1); err != nil {
		return err
	}
	if err := pause(ctx, 1300*time.Millisecond); err != nil {
		return err
	}
	x, err := b.moveTo(ctx, other+"/acs", 10*time.Second)
	if err != nil {
		return err
	}
	b.observe("at the new ACS: %s", events(x.inform()))
	for _, e := range x.inform().Event {
		if e.EventCode != "0 BOOTSTRAP" && e.EventCode != "1 BOOT" {
			return fmt.Errorf("beside BOOTSTRAP there is %s", e.EventCode)
		}
	}
	if !hasEvent(x.inform(), "0 BOOTSTRAP") {
		return fmt.Errorf("the first Inform at the new URL has %s", events(x.inform()))
	}
	return nil
}

func passiveChange(ctx context.Context, b *bench) error {
	name, err := b.text(ctx)
	if err != nil {
		return err
	}
	if err := b.notify(ctx, 1, name); err != nil {
		return err
	}
	b.endSession(ctx)
	mark := b.tap.mark()
	if err := b.local(ctx, name+"=passive"); err != nil {
		return err
	}
	if err := b.quiet(ctx, mark, 1500*time.Millisecond); err != nil {
		return err
	}
	x, err := b.newSession(ctx)
	if err != nil {
		return err
	}
	v, _ := informValue(x.inform(), name)
	b.observe("%s, the parameter is %q", events(x.inform()), v)
	if !hasEvent(x.inform(), "4 VALUE CHANGE") || v != "passive" {
		return fmt.Errorf("the next Inform has %s and %q", events(x.inform()), v)
	}
	return nil
}

func retryRequested(ctx context.Context, b *bench) error {
	if err := b.pendingTransfer(ctx, "8005"); err != nil {
		return err
	}
	b.acs.Inject(acs.Fault{Stage: acs.OnRequest, FaultCode: soap.ACSRetryRequest, Times: 2})
	mark := b.tap.mark()
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "7 TRANSFER COMPLETE", 10*time.Second)
	if err != nil {
		return err
	}
	if err := pause(ctx, 700*time.Millisecond); err != nil {
		return err
	}
	list := b.methodsSince(x)[1:]
	if i := slices.Index(list, "Inform"); i >= 0 {
		list = list[:i]
	}
	n := 0
	for _, m := range list {
		if m == "TransferComplete" {
			n++
		}
	}
	b.observe("TransferComplete %d times in the session", n)
	if n < 2 || n > 6 {
		return fmt.Errorf("TransferComplete was sent %d times in the session", n)
	}
	return nil
}

func (b *bench) completeRefused(ctx context.Context, code soap.FaultCode) error {
	if err := b.fastRetry(ctx); err != nil {
		return err
	}
	if err := b.pendingTransfer(ctx, fmt.Sprint(code)); err != nil {
		return err
	}
	remove := b.acs.Inject(acs.Fault{Stage: acs.OnRequest, FaultCode: code})
	defer remove()
	mark := b.tap.mark()
	b.endSession(ctx)
	if _, err := b.inform(ctx, mark, "7 TRANSFER COMPLETE", 10*time.Second); err != nil {
		return err
	}
	if err := pause(ctx, 3500*time.Millisecond); err != nil {
		return err
	}
	n, sessions := 0, 0
	for _, x := range b.tap.since(mark) {
		switch {
		case x.method() == "TransferComplete":
			n++
		case x.inform() != nil && !x.refused:
			sessions++
		}
	}
	b.observe("fault %d: %d TransferComplete in %d sessions within 3.5 s", code, n, sessions)
	if n > 8 {
		return fmt.Errorf("fault %d: TransferComplete was sent %d times in 3.5 s", code, n)
	}
	remove()
	_, err := b.newSession(ctx)
	return err
}

// reboot calls Reboot and waits for the Inform after it.
func (b *bench) reboot(ctx context.Context, key string) (*exchange, error) {
	if _, err := b.call(ctx, &soap.Reboot{CommandKey: key}); err != nil {
		return nil, err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	b.holdNext()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	x, err := b.tap.waitInform(ctx, mark, func(m *soap.Inform) bool { return hasEvent(m, "1 BOOT") })
	if err != nil {
		return nil, fmt.Errorf("no BOOT after Reboot: %w", err)
	}
	b.observe("after Reboot: %s", events(x.inform()))
	return x, nil
}

var retryChecks = map[string]check{
	"RTY-01": {limit: 2 * time.Minute, run: retryWindows},
	"RTY-02": {run: func(ctx context.Context, b *bench) error {
		waits, err := b.waits(ctx, 3, 2, 1000)
		if err != nil {
			return err
		}
		for _, w := range waits {
			if !within(w, 2*time.Second, 2*time.Second) {
				return fmt.Errorf("a wait of %v instead of 2 s", w)
			}
		}
		return nil
	}},
	"RTY-04": {needs: []ability{canFresh}, run: func(ctx context.Context, b *bench) error {
		twin, err := b.twin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = twin.close() }() // it was only for one figure
		one, err := b.waits(ctx, 1, 5, 2000)
		if err != nil {
			return err
		}
		two, err := twin.waits(ctx, 1, 5, 2000)
		if err != nil {
			return err
		}
		b.observe("%.3f s and %.3f s", one[0].Seconds(), two[0].Seconds())
		if d := one[0] - two[0]; d < 5*time.Millisecond && d > -5*time.Millisecond {
			return fmt.Errorf("both CPEs waited %v", one[0])
		}
		return nil
	}},
	"RTY-05": {needs: []ability{canLocal}, run: func(ctx context.Context, b *bench) error {
		if err := b.notify(ctx, 2, b.code()); err != nil {
			return err
		}
		return b.duringBackOff(ctx, "4 VALUE CHANGE", func() error { return b.local(ctx, b.code()+"=now") })
	}},
	"RTY-06": {run: func(ctx context.Context, b *bench) error {
		return b.duringBackOff(ctx, "6 CONNECTION REQUEST", func() error { return b.request(ctx) })
	}},
	"RTY-07": {run: func(ctx context.Context, b *bench) error {
		if _, err := b.waits(ctx, 4, 1, 1200); err != nil {
			return err
		}
		if _, err := b.newSession(ctx); err != nil { // a success, unless the last retry was one
			return err
		}
		waits, err := b.waits(ctx, 1, 1, 1200)
		if err != nil {
			return err
		}
		if !within(waits[0], time.Second, 1200*time.Millisecond) {
			return fmt.Errorf("after a success the first wait is %v", waits[0])
		}
		return nil
	}},
	"RTY-08": {needs: []ability{canRestart}, run: func(ctx context.Context, b *bench) error {
		if _, err := b.waits(ctx, 3, 1, 2000); err != nil { // the next window would be 8 to 16 s
			return err
		}
		b.endSession(ctx)
		stop := b.refuseInforms(2, unavailable)
		defer stop()
		first, err := b.restart(ctx)
		if err != nil {
			return err
		}
		again, err := b.tap.waitInform(ctx, b.after(first), nil)
		if err != nil {
			return err
		}
		wait := again.At.Sub(first.Done)
		b.observe("first wait after the restart: %.2f s", wait.Seconds())
		if !within(wait, time.Second, 2*time.Second) {
			return fmt.Errorf("the first wait after a restart is %v", wait)
		}
		return nil
	}},
	"RTY-09": {run: func(ctx context.Context, b *bench) error {
		for _, c := range []struct{ name, value string }{{"CWMPRetryMinimumWaitInterval", "0"}, {"CWMPRetryMinimumWaitInterval", "65536"},
			{"CWMPRetryIntervalMultiplier", "999"}, {"CWMPRetryIntervalMultiplier", "65536"}} {
			name := b.ms(c.name)
			if err := b.wantSetFault(b.set(ctx, "", name, c.value), c.name+"="+c.value, map[string][]soap.FaultCode{name: {soap.InvalidParameterValue}}); err != nil {
				return err
			}
		}
		return nil
	}},
	"RTY-10": {run: func(ctx context.Context, b *bench) error {
		if err := b.fastRetry(ctx); err != nil {
			return err
		}
		_, err := b.get(ctx, b.root+"NoSuchThing")
		if err := b.wantFault(err, "an unknown name", soap.InvalidParameterName); err != nil {
			return err
		}
		b.endSession(ctx)
		return b.quiet(ctx, b.tap.mark(), 2500*time.Millisecond)
	}},
}

// waits lets n sessions fail and returns the waits after each, with the retry parameters given; the session after the last
// wait succeeds and is held.
func (b *bench) waits(ctx context.Context, n, minimum, multiplier int) ([]time.Duration, error) {
	if err := b.set(ctx, "", b.ms("CWMPRetryMinimumWaitInterval"), strconv.Itoa(minimum), b.ms("CWMPRetryIntervalMultiplier"), strconv.Itoa(multiplier)); err != nil {
		return nil, err
	}
	if err := b.schedule(ctx, "wait", 1); err != nil {
		return nil, err
	}
	b.refuseInforms(n, unavailable)
	mark := b.tap.mark()
	b.endSession(ctx)
	b.holdNext()
	x, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second)
	if err != nil {
		return nil, err
	}
	var out []time.Duration
	for i := range n {
		next, err := b.tap.waitInform(ctx, b.after(x), nil)
		if err != nil {
			return nil, fmt.Errorf("retry %d did not come: %w", i+1, err)
		}
		out = append(out, next.At.Sub(x.Done))
		if got := next.inform().RetryCount; got != uint32(i+1) {
			return nil, fmt.Errorf("RetryCount is %d at retry %d", got, i+1)
		}
		x = next
	}
	b.observe("minimum %d s, multiplier %d: waits %s", minimum, multiplier, seconds(out))
	return out, nil
}

func seconds(list []time.Duration) string {
	var out []string
	for _, d := range list {
		out = append(out, fmt.Sprintf("%.2f s", d.Seconds()))
	}
	return strings.Join(out, ", ")
}

// retryWindows uses a small minimum and multiplier, so that twelve attempts fit into a minute; the formula is the same.
func retryWindows(ctx context.Context, b *bench) error {
	const attempts, k = 12, 1.2
	waits, err := b.waits(ctx, attempts, 1, 1200)
	if err != nil {
		return err
	}
	low := 1.0
	for i, w := range waits {
		if !within(w, time.Duration(low*float64(time.Second)), time.Duration(low*k*float64(time.Second))) {
			return fmt.Errorf("wait %d is %.2f s, its window is %.2f to %.2f s", i+1, w.Seconds(), low, low*k)
		}
		if i < 9 { // the tenth window is the last one
			low *= k
		}
	}
	return nil
}

// duringBackOff lets a session fail and sees that a new reason starts one at once.
func (b *bench) duringBackOff(ctx context.Context, event string, cause func() error) error {
	if err := b.schedule(ctx, "waiting", 1); err != nil {
		return err
	}
	b.refuseInforms(1, unavailable)
	mark := b.tap.mark()
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second)
	if err != nil {
		return err
	}
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	if err := cause(); err != nil {
		return err
	}
	next, err := b.inform(ctx, b.after(x), event, 3*time.Second)
	if err != nil {
		return err
	}
	m := next.inform()
	b.observe("%.2f s after the failure: %s, RetryCount %d", next.At.Sub(x.Done).Seconds(), events(m), m.RetryCount)
	if !hasKey(m, "M ScheduleInform", "waiting") {
		return fmt.Errorf("the kept event is missing: %s", events(m))
	}
	if m.RetryCount != 1 {
		return fmt.Errorf("RetryCount is %d", m.RetryCount)
	}
	return nil
}

var periodicChecks = map[string]check{
	"PER-01": {run: func(ctx context.Context, b *bench) error {
		if err := b.setUnlessRefused(ctx, b.ms("PeriodicInformTime"), "0001-01-01T00:00:00Z"); err != nil {
			return err
		}
		_, err := b.periods(ctx, 2, 4)
		return err
	}},
	"PER-02": {run: func(ctx context.Context, b *bench) error { return b.phase(ctx, "2020-01-01T00:00:01Z", 1) }},
	"PER-03": {run: func(ctx context.Context, b *bench) error { return b.phase(ctx, "2100-01-01T00:00:02Z", 2) }},
	"PER-04": {run: func(ctx context.Context, b *bench) error {
		if err := b.set(ctx, "", b.ms("PeriodicInformEnable"), "false", b.ms("PeriodicInformInterval"), "1"); err != nil {
			return err
		}
		b.endSession(ctx)
		if err := b.quiet(ctx, b.tap.mark(), 2500*time.Millisecond); err != nil {
			return err
		}
		return b.alive(ctx)
	}},
	"PER-05": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("PeriodicInformInterval")
		return b.wantSetFault(b.set(ctx, "", name, "0"), "an interval of 0", map[string][]soap.FaultCode{name: {soap.InvalidParameterValue}})
	}},
	"PER-07": {verdict: notShown("the clock of the machine would have to be set")},
}

func (b *bench) setUnlessRefused(ctx context.Context, name, value string) error {
	err := b.set(ctx, "", name, value)
	if err != nil && faultCode(err) == 0 {
		return err
	}
	return nil
}

// periods wants n periodic Informs at their distance and returns their times.
func (b *bench) periods(ctx context.Context, interval, n int) ([]time.Time, error) {
	if err := b.periodic(ctx, interval); err != nil {
		return nil, err
	}
	mark := b.tap.mark()
	b.endSession(ctx)
	var at []time.Time
	for range n {
		x, err := b.inform(ctx, mark, "2 PERIODIC", time.Duration(interval+3)*time.Second)
		if err != nil {
			return nil, err
		}
		at = append(at, x.At)
		mark = b.after(x)
	}
	for i := 1; i < n; i++ {
		d := at[i].Sub(at[i-1])
		if want := time.Duration(interval) * time.Second; d < want-slack || d > want+slack {
			return nil, fmt.Errorf("two periodic Informs are %v apart instead of %v", d, want)
		}
	}
	b.observe("interval %d s (shortened): %d Informs over %.2f s", interval, n, at[n-1].Sub(at[0]).Seconds())
	return at, nil
}

// phase wants periodic Informs every 5 seconds at a phase, in seconds after the full five.
func (b *bench) phase(ctx context.Context, reference string, second int) error {
	if err := b.set(ctx, "", b.ms("PeriodicInformTime"), reference); err != nil {
		return err
	}
	at, err := b.periods(ctx, 5, 3)
	if err != nil {
		return err
	}
	for _, t := range at {
		off := (time.Duration(t.UnixMilli()%5000)*time.Millisecond - time.Duration(second)*time.Second + 5*time.Second) % (5 * time.Second)
		if off > 2500*time.Millisecond {
			off -= 5 * time.Second
		}
		if off > slack || off < -slack {
			return fmt.Errorf("an Inform came %v off the phase of %s", off, reference)
		}
		b.observe("%.3f s off the phase", off.Seconds())
	}
	return nil
}

var requestChecks = map[string]check{
	"CR-01": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		mark := b.tap.mark()
		resp, err := b.plainRequest(ctx, http.MethodGet, "", "")
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Digest ") {
			return fmt.Errorf("the answer is %d %q", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
		}
		return b.quiet(ctx, mark, time.Second)
	}},
	"CR-04": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		mark := b.tap.mark()
		resp, err := b.plainRequest(ctx, http.MethodGet, "", "basic")
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("Basic credentials are answered %d", resp.StatusCode)
		}
		return b.quiet(ctx, mark, time.Second)
	}},
	"CR-05": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		mark := b.tap.mark()
		for _, c := range []struct{ method, path string }{{http.MethodPost, ""}, {http.MethodHead, ""}, {http.MethodGet, "/elsewhere"}} {
			resp, err := b.plainRequest(ctx, c.method, c.path, "")
			if err != nil {
				b.observe("%s %s: closed", c.method, c.path)
				continue
			}
			b.observe("%s %s: %d", c.method, c.path, resp.StatusCode)
			if resp.StatusCode < 400 {
				return fmt.Errorf("%s %s is answered %d", c.method, c.path, resp.StatusCode)
			}
		}
		return b.quiet(ctx, mark, time.Second)
	}},
	"CR-06": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		url, err := b.crURL()
		if err != nil {
			return err
		}
		if err := b.settled(ctx); err != nil {
			return err
		}
		mark := b.tap.mark()
		status, err := acs.ConnectionRequest(ctx, url+"?x=1", b.crUser, b.crPass)
		if err != nil {
			return err
		}
		if status != http.StatusOK && status != http.StatusNoContent {
			return fmt.Errorf("with a query the answer is %d", status)
		}
		_, err = b.inform(ctx, mark, "6 CONNECTION REQUEST", 5*time.Second)
		return err
	}},
	"CR-08": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		mark := b.tap.mark()
		resp, err := b.plainRequest(ctx, http.MethodGet, "", "uri")
		if err != nil {
			return err
		}
		b.observe("status %d", resp.StatusCode)
		if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusBadRequest {
			return fmt.Errorf("a digest for another URI is answered %d", resp.StatusCode)
		}
		return b.quiet(ctx, mark, time.Second)
	}},
	"CR-09": {run: fiveRequests},
	"CR-11": {run: hundredRequests},
	"CR-13": {run: func(ctx context.Context, b *bench) error {
		for range 3 {
			b.endSession(ctx)
			if err := b.settled(ctx); err != nil {
				return err
			}
			mark := b.tap.mark()
			if err := b.request(ctx); err != nil {
				return err
			}
			answered := time.Now()
			x, err := b.tap.waitInform(ctx, mark, nil)
			if err != nil {
				return err
			}
			lead := x.At.Sub(answered)
			b.observe("the Inform came %.1f ms after the answer was read", float64(lead.Microseconds())/1000)
			if lead < -20*time.Millisecond { // the reader of the answer may have been scheduled late
				return fmt.Errorf("the Inform came %v before the answer", -lead)
			}
		}
		return nil
	}},
	"CR-14": {verdict: notShown("the address of the CPE would have to change: needs a DHCP server and a network of its own")},
	"CR-15": {run: func(ctx context.Context, b *bench) error {
		url, err := b.crURL()
		if err != nil {
			return err
		}
		b.observe("%s", url)
		m := regexp.MustCompile(`^http://[^/]+/(.*)$`).FindStringSubmatch(url)
		if m == nil {
			return fmt.Errorf("ConnectionRequestURL is %s", url)
		}
		if len(m[1]) < 8 {
			return fmt.Errorf("the path %q can be guessed", m[1])
		}
		if !has(b.driver, canFresh) {
			return nil
		}
		twin, err := b.twin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = twin.close() }() // it was only for its URL
		other, err := twin.crURL()
		if err != nil {
			return err
		}
		if strings.HasSuffix(other, "/"+m[1]) {
			return errors.New("two CPEs have the same path")
		}
		return nil
	}},
	"CR-16": {run: func(ctx context.Context, b *bench) error {
		oldUser, oldPass := b.crUser, b.crPass
		if err := b.set(ctx, "", b.ms("ConnectionRequestUsername"), "new", b.ms("ConnectionRequestPassword"), "new-secret"); err != nil {
			return err
		}
		if err := b.wantValue(ctx, b.ms("ConnectionRequestPassword"), ""); err != nil {
			return err
		}
		b.crUser, b.crPass = "new", "new-secret"
		b.dev.SetConnectionRequestAuth(b.crUser, b.crPass)
		if _, err := b.newSession(ctx); err != nil {
			return fmt.Errorf("with the new credentials: %w", err)
		}
		b.endSession(ctx)
		status, err := b.connect(ctx, oldUser, oldPass)
		if err != nil {
			return err
		}
		if status != http.StatusUnauthorized {
			return fmt.Errorf("the old credentials are answered %d", status)
		}
		return nil
	}},
	"CR-17": {raw: true, needs: []ability{canFresh}, run: func(ctx context.Context, b *bench) error {
		if err := b.meetNow(ctx); err != nil {
			return err
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil { // the first session ends by itself
			return err
		}
		mark := b.tap.mark()
		for _, user := range []string{"", "anybody"} {
			status, err := b.connect(ctx, user, "")
			if err != nil {
				return err
			}
			b.observe("user %q without password: %d", user, status)
			if status < 400 {
				return fmt.Errorf("user %q without password is answered %d", user, status)
			}
		}
		return b.quiet(ctx, mark, time.Second)
	}},
	"CR-18": {run: func(ctx context.Context, b *bench) error {
		if err := b.need(ctx, b.ms("HTTPConnectionRequestEnable")); err != nil {
			return err
		}
		url, err := b.crURL()
		if err != nil {
			return err
		}
		if err := b.set(ctx, "", b.ms("HTTPConnectionRequestEnable"), "false"); err != nil {
			return err
		}
		if err := b.schedule(ctx, "look", 1); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		x, err := b.inform(ctx, mark, "M ScheduleInform", 5*time.Second)
		if err != nil {
			return err
		}
		if v, ok := informValue(x.inform(), b.ms("ConnectionRequestURL")); !ok || v != "" {
			return fmt.Errorf("ConnectionRequestURL is %q", v)
		}
		short, cancel := brief(ctx)
		defer cancel()
		if status, err := acs.ConnectionRequest(short, url, b.crUser, b.crPass); err == nil {
			return fmt.Errorf("the port is still open: %d", status)
		}
		return nil
	}},
	"CR-19": {verdict: notShown("a network with IPv6 only is needed")},
}

// settled waits until the CPE takes its connection request credentials.
func (b *bench) settled(ctx context.Context) error { return pause(ctx, 100*time.Millisecond) }

// plainRequest makes one request to the connection request server. how: "" nothing, "basic" Basic credentials, "uri" a right
// digest for another URI.
func (b *bench) plainRequest(ctx context.Context, method, path, how string) (*http.Response, error) {
	url, err := b.crURL()
	if err != nil {
		return nil, err
	}
	if path != "" {
		url = url[:strings.Index(url[len("http://"):], "/")+len("http://")] + path
	}
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	switch how {
	case "basic":
		req.SetBasicAuth(b.crUser, b.crPass)
	case "uri":
		first, err := b.plainRequest(ctx, method, path, "")
		if err != nil {
			return nil, err
		}
		cred, err := answerChallenge(first.Header, method, "/another", b.crUser, b.crPass)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", cred)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}

func fiveRequests(ctx context.Context, b *bench) error {
	b.endSession(ctx)
	if err := b.settled(ctx); err != nil {
		return err
	}
	b.tap.onBefore(func(x *exchange) bool { // the session is slow to begin, so that no request was handled yet
		if x.inform() != nil {
			time.Sleep(300 * time.Millisecond)
		}
		return false
	})
	mark := b.tap.mark()
	type answer struct {
		status int
		err    error
	}
	answers := make(chan answer, 5)
	for range 5 {
		go func() { // joined by the five answers below
			status, err := b.connect(ctx, b.crUser, b.crPass)
			answers <- answer{status, err}
		}()
	}
	var got []int
	for range 5 {
		a := <-answers
		if a.err != nil {
			return a.err
		}
		got = append(got, a.status)
		if a.status != 200 && a.status != 204 && a.status != 503 {
			return fmt.Errorf("a valid request is answered %d", a.status)
		}
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	sessions := 0
	for _, x := range b.tap.since(mark) {
		if m := x.inform(); m != nil && !x.refused {
			sessions++
			if n := count(m, "6 CONNECTION REQUEST"); n != 1 {
				return fmt.Errorf("an Inform has %s", events(m))
			}
		}
	}
	b.observe("answers %v, %d session(s)", got, sessions)
	if sessions != 1 {
		return fmt.Errorf("five requests made %d sessions", sessions)
	}
	return nil
}

func hundredRequests(ctx context.Context, b *bench) error {
	b.endSession(ctx)
	if err := b.settled(ctx); err != nil {
		return err
	}
	statuses := map[int]int{}
	for range 100 {
		status, err := b.connect(ctx, b.crUser, b.crPass)
		if err != nil {
			return err
		}
		statuses[status]++
	}
	b.observe("100 requests: %v", statuses)
	if statuses[http.StatusServiceUnavailable] == 0 {
		return fmt.Errorf("no request was refused: %v", statuses)
	}
	began := time.Now()
	if err := b.request(ctx); err != nil { // waits while it is 503
		return err
	}
	b.observe("the next one was taken after %.1f s", time.Since(began).Seconds())
	return nil
}
