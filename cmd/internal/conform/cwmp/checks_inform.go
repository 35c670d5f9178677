package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

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
