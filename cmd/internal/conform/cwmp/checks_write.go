package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"twinspan/cwmp/soap"
)

var writeChecks = map[string]check{
	"SPV-02": {run: func(ctx context.Context, b *bench) error {
		for _, key := range []string{"some-key", ""} {
			if err := b.set(ctx, key, b.code(), "x"+key); err != nil {
				return err
			}
			if err := b.wantValue(ctx, b.ms("ParameterKey"), key); err != nil {
				return err
			}
		}
		return nil
	}},
	"SPV-03": {run: func(ctx context.Context, b *bench) error {
		fixed := b.root + "DeviceInfo.SerialNumber"
		return b.nothingChanges(ctx, map[string][]soap.FaultCode{fixed: {soap.NonWritableParameter}}, b.code(), "changed", fixed, "changed")
	}},
	"SPV-04": {run: func(ctx context.Context, b *bench) error {
		unknown, number := b.root+"NoSuchThing", b.ms("PeriodicInformInterval")
		return b.nothingChanges(ctx, map[string][]soap.FaultCode{unknown: {soap.InvalidParameterName}, number: {soap.InvalidParameterType}},
			b.code(), "changed", unknown, "x", number, "no number")
	}},
	"SPV-06": {run: func(ctx context.Context, b *bench) error {
		before, err := b.get(ctx, b.code())
		if err != nil {
			return err
		}
		_, err = b.setRaw(ctx, "twice", b.code(), "one", b.code(), "two")
		if err := b.wantFault(err, "the same name twice", soap.InvalidArguments); err != nil {
			return err
		}
		return b.wantValue(ctx, b.code(), before)
	}},
	"SPV-09": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("PeriodicInformEnable")
		for _, text := range []string{"TRUE", "yes", "2"} {
			if err := b.wantSetFault(b.set(ctx, "", name, text), "boolean "+text, map[string][]soap.FaultCode{name: {soap.InvalidParameterValue}}); err != nil {
				return err
			}
		}
		return nil
	}},
	"SPV-10": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("PeriodicInformInterval")
		for _, c := range []struct{ write, read string }{{"+500", "500"}, {"00700", "700"}, {" 900 ", "900"}} {
			if err := b.set(ctx, "", name, c.write); err != nil {
				return fmt.Errorf("%q: %w", c.write, err)
			}
			if err := b.wantValue(ctx, name, c.read); err != nil {
				return err
			}
		}
		return b.wantSetFault(b.set(ctx, "", name, "-1"), "-1", map[string][]soap.FaultCode{name: {soap.InvalidParameterType, soap.InvalidParameterValue}})
	}},
	"SPV-11": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("")
		_, err := b.setRaw(ctx, "", name, "x")
		return b.wantSetFault(err, "a partial path", map[string][]soap.FaultCode{name: {soap.InvalidParameterName}})
	}},
	"SPV-14": {run: inconsistent},
	"SPV-16": {run: func(ctx context.Context, b *bench) error {
		status, err := b.setRaw(ctx, "", b.code(), "later")
		if err != nil {
			return err
		}
		if _, err := b.newSession(ctx); err != nil {
			return err
		}
		if err := b.wantValue(ctx, b.code(), "later"); err != nil {
			return err
		}
		if status == 0 {
			return notApplicable("no parameter was found that is answered with Status 1")
		}
		return nil
	}},
	"SPV-17": {run: func(ctx context.Context, b *bench) error {
		if err := b.set(ctx, "", b.code(), "same"); err != nil {
			return err
		}
		if err := b.notify(ctx, 2, b.code()); err != nil {
			return err
		}
		if err := b.set(ctx, "", b.code(), "same"); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if err := b.quiet(ctx, mark, 1500*time.Millisecond); err != nil {
			return err
		}
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		if hasEvent(x.inform(), "4 VALUE CHANGE") {
			return errors.New("the ACS was told of its own value")
		}
		return nil
	}},
	"SPV-19": {run: consequence},
	"SPV-20": {needs: []ability{canRestart}, run: func(ctx context.Context, b *bench) error {
		if err := b.set(ctx, "durable", b.code(), "durable"); err != nil {
			return err
		}
		if _, err := b.restart(ctx); err != nil { // power off right after the answer, in the session
			return err
		}
		if err := b.wantValue(ctx, b.ms("ParameterKey"), "durable"); err != nil {
			return err
		}
		return b.wantValue(ctx, b.code(), "durable")
	}},
	"SPV-21": {run: func(ctx context.Context, b *bench) error {
		table, _, err := b.table(ctx)
		if err != nil {
			return err
		}
		one, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		two, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		if err := b.need(ctx, one+"Alias"); err != nil {
			return err
		}
		if err := b.set(ctx, "", one+"Alias", "conform-1"); err != nil {
			return err
		}
		return b.wantSetFault(b.set(ctx, "", two+"Alias", "conform-1"), "a duplicate Alias", map[string][]soap.FaultCode{two + "Alias": {soap.InvalidParameterValue}})
	}},
	"SPV-22": {run: func(ctx context.Context, b *bench) error {
		table := b.root + "NAT.PortMapping."
		if err := b.need(ctx, table, b.root+"IP.Interface."); err != nil {
			return err
		}
		row, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		err = b.set(ctx, "", row+"Interface", b.root+"IP.Interface.4711")
		b.observe("a reference to a row that is not there: %s", outcome(err))
		if err != nil {
			return b.wantSetFault(err, "a reference to nothing", map[string][]soap.FaultCode{row + "Interface": {soap.InvalidParameterValue}})
		}
		return nil
	}},
	"SPV-23": {run: strongReference},
	"SPV-24": {run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.table(ctx)
		if err != nil {
			return err
		}
		var pairs []string
		for len(pairs) < 2*500 {
			row, err := b.add(ctx, table, "")
			if faultCode(err) == soap.ResourcesExceeded {
				break
			}
			if err != nil {
				return err
			}
			list, err := b.names(ctx, row, true)
			if err != nil {
				return err
			}
			for _, n := range list {
				if name := n.Name[strings.LastIndex(n.Name, ".")+1:]; n.Writable && name != "Alias" && name != "Enable" && !strings.HasSuffix(n.Name, ".") {
					v, err := b.get(ctx, n.Name)
					if err != nil {
						return err
					}
					if name == leaf {
						v = fmt.Sprintf("entry-%d", len(pairs))
					}
					if v == "" { // the model may ask for another value than the one of a fresh row
						continue
					}
					pairs = append(pairs, n.Name, v)
				}
			}
		}
		status, err := b.setRaw(ctx, "many", pairs...)
		b.observe("%d parameters in one request: %s, Status %d", len(pairs)/2, outcome(err), status)
		if len(pairs) < 1000 {
			b.observe("the CPE has no room for more rows")
		}
		if err != nil && faultCode(err) != soap.ResourcesExceeded {
			return err
		}
		return nil
	}},
}

// nothingChanges wants a refused SetParameterValues that blames the right ones and changes neither the first parameter nor the
// ParameterKey.
func (b *bench) nothingChanges(ctx context.Context, blamed map[string][]soap.FaultCode, pairs ...string) error {
	if err := b.set(ctx, "before", pairs[0], "before"); err != nil {
		return err
	}
	for name := range blamed {
		if _, err := b.get(ctx, name); err != nil && faultCode(err) != soap.InvalidParameterName { // learns the type
			return err
		}
	}
	_, err := b.setRaw(ctx, "after", pairs...)
	if err := b.wantSetFault(err, "one that must fail", blamed); err != nil {
		return err
	}
	if err := b.wantValue(ctx, pairs[0], "before"); err != nil {
		return err
	}
	return b.wantValue(ctx, b.ms("ParameterKey"), "before")
}

func inconsistent(ctx context.Context, b *bench) error {
	table := b.root + "DHCPv4.Server.Pool."
	if err := b.need(ctx, table); err != nil {
		return err
	}
	pool, err := b.add(ctx, table, "")
	if err != nil {
		return err
	}
	if err := b.set(ctx, "ok", pool+"MinAddress", "192.0.2.10", pool+"MaxAddress", "192.0.2.20"); err != nil {
		return err
	}
	err = b.set(ctx, "bad", pool+"MinAddress", "192.0.2.30", pool+"MaxAddress", "192.0.2.5")
	if err == nil {
		b.observe("a pool with MinAddress above MaxAddress is taken: the model does not forbid it")
		// Two rows with the same unique key are inconsistent on every CPE.
		other, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		if err := b.need(ctx, pool+"Alias"); err != nil {
			return err
		}
		err = b.set(ctx, "bad", pool+"Alias", "conform-x", other+"Alias", "conform-x")
		if err := b.wantFault(err, "two rows with one Alias", soap.InvalidArguments, soap.InternalError); err != nil {
			return err
		}
		v, err := b.get(ctx, pool+"Alias")
		if err == nil && v == "conform-x" {
			return errors.New("half of it was applied")
		}
		return err
	}
	if err := b.wantFault(err, "MinAddress above MaxAddress", soap.InvalidArguments, soap.InternalError); err != nil {
		return err
	}
	if err := b.wantValue(ctx, b.ms("ParameterKey"), "ok"); err != nil {
		return err
	}
	return b.wantValue(ctx, pool+"MinAddress", "192.0.2.10")
}

// consequence switches connection requests off: the ACS causes the change of ConnectionRequestURL, but did not write it.
func consequence(ctx context.Context, b *bench) error {
	name := b.ms("ConnectionRequestURL")
	if err := b.need(ctx, b.ms("HTTPConnectionRequestEnable")); err != nil {
		return err
	}
	if err := b.notify(ctx, 2, name); err != nil {
		return err
	}
	mark := b.tap.mark()
	if err := b.set(ctx, "", b.ms("HTTPConnectionRequestEnable"), "false"); err != nil {
		return err
	}
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 5*time.Second)
	if err != nil {
		return err
	}
	v, ok := informValue(x.inform(), name)
	b.observe("ConnectionRequestURL is reported as %q", v)
	if !ok || v != "" {
		return fmt.Errorf("ConnectionRequestURL is reported as %q", v)
	}
	return nil
}

func strongReference(ctx context.Context, b *bench) error {
	pool, access := b.root+"IP.Interface.", b.root+"NAT.InterfaceSetting."
	if err := b.need(ctx, pool, access); err != nil {
		return err
	}
	target, err := b.add(ctx, pool, "")
	if err != nil {
		return notApplicable("no row of IP.Interface. can be added: %v", err)
	}
	row, err := b.add(ctx, access, "")
	if err != nil {
		return err
	}
	if err := b.set(ctx, "", row+"Interface", strings.TrimSuffix(target, ".")); err != nil {
		return err
	}
	if err := b.del(ctx, target, ""); err != nil {
		return err
	}
	return b.wantValue(ctx, row+"Interface", "")
}
