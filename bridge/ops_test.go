package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"twinspan/datamodel"
	"twinspan/store"
)

func (r *rig) rows(table string) []uint32 { return r.store.Head().Instances(table) }

func ids(ns []uint32) string { return strings.Trim(fmt.Sprint(ns), "[]") }

func TestAddGeneratesKeys(t *testing.T) {
	r := newRig(t)
	res := r.do(mainC, whole(add("Device.DHCPv4.Server.Pool.", "LeaseTime", "600")))
	o := res.Outcomes[0].Objects[0]
	if o.Path != "Device.DHCPv4.Server.Pool.1." || o.Keys["Alias"] != "cpe-1" || o.Keys["Order"] != "1" { // R-ADD.5
		t.Fatalf("%+v", o)
	}
	res = r.do(mainC, whole(add("Device.DHCPv4.Server.Pool.", "Alias", "cpe-3", "Order", "7")))
	if o := res.Outcomes[0].Objects[0]; o.Keys["Alias"] != "cpe-3" || o.Keys["Order"] != "7" {
		t.Fatalf("%+v", o)
	}
	res = r.do(mainC, whole(add("Device.DHCPv4.Server.Pool.")))
	if o := res.Outcomes[0].Objects[0]; o.Keys["Alias"] != "cpe-3-2" || o.Keys["Order"] != "8" {
		t.Fatalf("generated keys collide with chosen ones: %+v", o)
	}
	r.refuse(mainC, whole(add("Device.DHCPv4.Server.Pool.")), datamodel.Resources) // profile: 3 rows
	r.do(mainC, whole(del("Device.DHCPv4.Server.Pool.3.")))
	res = r.do(mainC, whole(add("Device.DHCPv4.Server.Pool.")))
	if p := res.Outcomes[0].Objects[0].Path; p != "Device.DHCPv4.Server.Pool.4." {
		t.Fatalf("instance number was used again: %s", p)
	}
	// The subscription belongs to the Controller that made it, and tells when.
	res = r.do(mainC, whole(add("Device.LocalAgent.Subscription.", "NotifType", "ValueChange")))
	o = res.Outcomes[0].Objects[0]
	if o.Keys["Recipient"] != "Device.LocalAgent.Controller.1" || o.Keys["ID"] != "cpe-1" {
		t.Fatalf("%+v", o)
	}
	if v, _ := r.View(mainC).get("Device.LocalAgent.Subscription.1.CreationDate"); len(v) != 20 || v < "2020" {
		t.Fatalf("CreationDate %q", v)
	}
}

func TestCWMPAddObject(t *testing.T) {
	r := newRig(t)
	op := add("Device.USPAgent.Controller.")
	res := r.do(acs, whole(op))
	row := res.Outcomes[0].Objects[0].Path
	if row != "Device.USPAgent.Controller.2." {
		t.Fatal(row)
	}
	r.do(acs, whole(add("Device.USPAgent.Controller."))) // two incomplete rows do not collide
	r.is(acs, row+"Alias", "cpe-2")
	r.is(acs, row+"EndpointID", "")
	op.Alias = "backup"
	r.do(acs, whole(op))
	r.is(acs, "Device.USPAgent.Controller.[backup].Alias", "backup")
	r.refuse(acs, whole(op), datamodel.DuplicateKey)
	// TR-069 3.6.1: the ACS may rewrite an Alias at any time; for USP it never changes (R-KEY.1).
	r.do(acs, whole(set("Device.USPAgent.Controller.[backup].", "Alias", "spare")))
	r.refuse(mainC, whole(set("Device.LocalAgent.Controller.4.", "Alias", "other")), datamodel.NotWritable)
	r.refuse(acs, whole(set("Device.USPAgent.Controller.4.", "EndpointID", "self::main")), datamodel.DuplicateKey)
}

func TestTruthTable(t *testing.T) { // usp.md 4.1
	for _, c := range []struct {
		name              string
		required, reqFail bool
		otherFail         bool
		atomic            bool
		wantErr           bool // of Apply
		wantOp, wantParam bool
	}{
		{name: "none", atomic: true},
		{name: "other fails", otherFail: true, wantParam: true},
		{name: "other fails, atomic", otherFail: true, atomic: true, wantParam: true},
		{name: "required fine", required: true, atomic: true},
		{name: "required fine, other fails", required: true, otherFail: true, atomic: true, wantParam: true},
		{name: "required fails", required: true, reqFail: true, wantOp: true, wantParam: true},
		{name: "required fails, atomic", required: true, reqFail: true, atomic: true, wantErr: true, wantOp: true, wantParam: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			op := optional(set("Device.IP.Interface.1.", "MaxMTUSize", "1400"))
			if c.required {
				v := "true"
				if c.reqFail {
					v = "maybe"
				}
				op.Settings = append(op.Settings, Setting{Name: "Enable", Value: v, Required: true})
			}
			if c.otherFail {
				op.Settings = append(op.Settings, Setting{Name: "Loopback", Value: "perhaps"})
			}
			res, err := r.Apply(context.Background(), mainC, Change{Ops: []Op{op}, Atomic: c.atomic})
			if (err != nil) != c.wantErr {
				t.Fatalf("error %v", err)
			}
			o := res.Outcomes[0]
			if (o.Err != nil) != c.wantOp {
				t.Fatalf("operation %v", o.Err)
			}
			if c.wantOp && datamodel.ReasonOf(o.Err) != datamodel.RequiredFailed {
				t.Fatalf("operation %v", o.Err)
			}
			bad := slices.ContainsFunc(o.Objects[0].Params, func(p ParamOutcome) bool { return p.Err != nil })
			if bad != c.wantParam {
				t.Fatalf("parameters %+v", o.Objects[0].Params)
			}
			got, _ := r.View(mainC).get("Device.IP.Interface.1.MaxMTUSize")
			if (got == "1400") != (!c.wantOp) {
				t.Fatalf("MaxMTUSize is %s", got)
			}
		})
	}
}

func TestAddBySearchPath(t *testing.T) { // R-ADD.2a
	r := newRig(t)
	res := r.do(mainC, whole(add("Device.IP.Interface.*.IPv4Address.", "IPAddress", "192.0.2.1")))
	if o := res.Outcomes[0]; len(o.Objects) != 2 || o.Objects[1].Path != "Device.IP.Interface.2.IPv4Address.1." {
		t.Fatalf("%+v", o)
	}
	res = r.do(mainC, whole(add(`Device.IP.Interface.[Alias=="nobody"].IPv4Address.`)))
	if len(res.Outcomes[0].Objects) != 0 || res.Changed {
		t.Fatalf("%+v", res)
	}
	// A given key that collides in one of the parents fails all of it, or that one.
	r.do(mainC, whole(add("Device.IP.Interface.1.IPv4Address.", "Alias", "x")))
	c := partial(add("Device.IP.Interface.*.IPv4Address.", "Alias", "x"))
	c.Atomic = true
	r.refuse(mainC, c, datamodel.DuplicateKey)
	c.Atomic = false
	res = r.do(mainC, c)
	if o := res.Outcomes[0]; o.Err != nil || deepest(o.Objects[0].Err) != datamodel.DuplicateKey || o.Objects[1].Err != nil {
		t.Fatalf("%+v", o)
	}
}

func TestValidation(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		w    Writer
		op   Op
		want datamodel.Reason
	}{
		{mainC, set("Device.Time.", "Enable", "maybe"), datamodel.InvalidType},
		{mainC, set("Device.DeviceInfo.", "ProvisioningCode", strings.Repeat("x", 65)), datamodel.InvalidValue},
		{mainC, set("Device.Time.", "Nope", "1"), datamodel.NotSupported},
		{mainC, set("Device.Time.", "Status", "Disabled"), datamodel.NotWritable},
		{mainC, set("Device.IP.", "InterfaceNumberOfEntries", "9"), datamodel.NotWritable},
		{mainC, set("Device.WiFi.", "Enable", "1"), datamodel.NotSupported},
		{mainC, set("Device.IP.Interface.9.", "Enable", "1"), datamodel.NoInstance},
		{mainC, set("Device.IP.Interface.", "Enable", "1"), datamodel.NoInstance},
		{mainC, set("Device..", "Enable", "1"), datamodel.PathSyntax},
		{mainC, set("Device.ManagementServer.", "EnableCWMP", "true"), datamodel.NotSupported}, // invariant 6
		{acs, set("Device.LocalAgent.Controller.1.", "Enable", "true"), datamodel.NotSupported},
		{acs, set("Device.IP.Interface.*.", "Enable", "true"), datamodel.PathSyntax},
		{mainC, add("Device.Ethernet.Interface."), datamodel.NotCreatable},
		{mainC, add("Device.IP.Interface.1."), datamodel.NotTable},
		{mainC, add("Device.Time."), datamodel.NotTable},
		{mainC, del("Device.Time."), datamodel.NotDeletable},
		{mainC, del("Device.Ethernet.Interface.1."), datamodel.NotDeletable},
		{mainC, del("Device.IP.Interface.9."), datamodel.NoInstance},
		{mainC, set("Device.IP.Interface.1.", "LowerLayers", "Device.Ethernet.Interface.9"), datamodel.InvalidValue},
		{mainC, set("Device.IP.Interface.1.", "Alias", "x"), datamodel.NotWritable},
		{mainC, Op{Kind: 9, Path: "Device."}, datamodel.InvalidArgs},
	} {
		if acs.Name == c.w.Name && strings.Contains(c.op.Path, "*") {
			// Wildcards over CWMP are the CWMP head's business (InstanceWildcardsSupported); the bridge takes them.
			continue
		}
		r.refuse(c.w, whole(c.op), c.want)
	}
	r.is(mainC, "Device.IP.Interface.1.LowerLayers", "Device.Ethernet.Interface.1")
}

func TestSearchPathSetIsHolistic(t *testing.T) { // R-SET.2a
	r := newRig(t)
	r.do(acs, whole(set("Device.IP.Interface.2.", "MaxMTUSize", "1300")))
	for _, atomically := range []bool{true, false} {
		c := Change{Ops: []Op{set("Device.IP.Interface.*.", "MaxMTUSize", "1200"), set("Device.Time.", "LocalTimeZone", "UTC")}, Atomic: atomically}
		res, err := r.Apply(context.Background(), mainC, c) // the ACS owns one of the two
		if (err != nil) != atomically {
			t.Fatalf("atomic=%v: %v", atomically, err)
		}
		if res.Outcomes[0].Err == nil {
			t.Fatal("operation succeeded")
		}
		want := ""
		if !atomically {
			want = "UTC"
		}
		r.is(mainC, "Device.Time.LocalTimeZone", want)
		for i, v := range []string{"0", "1300"} {
			if got, _ := r.View(mainC).get(fmt.Sprintf("Device.IP.Interface.%d.MaxMTUSize", i+1)); got != v && !(i == 0 && got != "1200") {
				t.Fatalf("row %d has %s", i+1, got)
			}
		}
	}
	res := r.do(mainC, whole(set(`Device.IP.Interface.[Alias=="nobody"].`, "Enable", "true")))
	if len(res.Outcomes[0].Objects) != 0 || res.Changed {
		t.Fatalf("%+v", res)
	}
}

func TestUniqueKeysOverTheWholeMessage(t *testing.T) {
	r := newRig(t)
	r.do(mainC, whole(add("Device.DHCPv4.Server.Pool.", "Order", "1"), add("Device.DHCPv4.Server.Pool.", "Order", "2")))
	// Swapped in one message: unique in the end.
	r.do(mainC, whole(set("Device.DHCPv4.Server.Pool.1.", "Order", "2"), set("Device.DHCPv4.Server.Pool.2.", "Order", "1")))
	r.is(mainC, "Device.DHCPv4.Server.Pool.1.Order", "2")
	r.refuse(mainC, whole(set("Device.DHCPv4.Server.Pool.1.", "Order", "1")), datamodel.DuplicateKey)
	r.refuse(mainC, whole(add("Device.DHCPv4.Server.Pool.", "Order", "1")), datamodel.DuplicateKey)
	r.refuse(mainC, whole(add("Device.DHCPv4.Server.Pool.", "Order", "5"), set("Device.DHCPv4.Server.Pool.2.", "Order", "5")), datamodel.DuplicateKey)
	// Not atomic: the later one of two new rows fails, the first is made.
	res := r.do(mainC, partial(add("Device.LocalAgent.Controller.", "EndpointID", "self::x"), add("Device.LocalAgent.Controller.", "EndpointID", "self::x")))
	if res.Outcomes[0].Err != nil || deepest(res.Outcomes[1].Err) != datamodel.DuplicateKey {
		t.Fatalf("%+v", res.Outcomes)
	}
	if got := ids(r.rows("Device.LocalAgent.Controller.")); got != "1 2" {
		t.Fatalf("rows %s", got)
	}
	// An optional key parameter of a Set fails alone; the rest of the object is set.
	res = r.do(mainC, whole(optional(set("Device.DHCPv4.Server.Pool.1.", "Order", "1", "LeaseTime", "7"))))
	ps := res.Outcomes[0].Objects[0].Params
	if datamodel.ReasonOf(ps[0].Err) != datamodel.DuplicateKey || ps[1].Err != nil {
		t.Fatalf("%+v", ps)
	}
	r.is(mainC, "Device.DHCPv4.Server.Pool.1.LeaseTime", "7")
	r.is(mainC, "Device.DHCPv4.Server.Pool.1.Order", "2")
	// A given key of a new row is required even when it is not said to be.
	r.refuse(mainC, whole(optional(add("Device.DHCPv4.Server.Pool.", "Order", "0"))), datamodel.InvalidValue)
}

func TestWriteOnce(t *testing.T) {
	r := newRig(t)
	r.do(mainC, whole(add("Device.LocalAgent.Subscription.", "Alias", "mine", "ID", "1")))
	r.refuse(mainC, whole(set("Device.LocalAgent.Subscription.1.", "Alias", "yours")), datamodel.NotWritable)
	r.refuse(mainC, whole(set("Device.LocalAgent.Subscription.1.", "ID", "2")), datamodel.NotWritable) // R-KEY.1
	r.refuse(mainC, whole(set("Device.LocalAgent.Subscription.1.", "Recipient", "")), datamodel.NotWritable)
}

func TestDeleteCascade(t *testing.T) {
	r := newRig(t)
	r.do(user, whole(add("Device.LocalAgent.Controller.", "EndpointID", "self::app", "Enable", "true")))
	r.do(appC, whole(add("Device.LocalAgent.Subscription.", "ID", "1")))
	r.do(mainC, whole(add("Device.LocalAgent.Subscription.", "ID", "1")))
	if got := ids(r.rows("Device.LocalAgent.Subscription.")); got != "1 2" {
		t.Fatal(got)
	}
	r.do(user, whole(set("Device.IP.Interface.1.", "LowerLayers", "Device.Ethernet.Interface.1,Device.IP.Interface.2")))
	r.do(user, whole(add("Device.DHCPv4.Server.Pool.", "Interface", "Device.IP.Interface.2")))
	res := r.do(user, whole(del("Device.LocalAgent.Controller.2."), del("Device.IP.Interface.2.")))
	if n := len(res.Outcomes[0].Objects); n != 1 {
		t.Fatalf("affected: %d", n)
	}
	if got := ids(r.rows("Device.LocalAgent.Subscription.")); got != "2" {
		t.Fatalf("subscriptions of a deleted Controller: %s", got)
	}
	r.is(user, "Device.IP.Interface.1.LowerLayers", "Device.Ethernet.Interface.1")
	r.is(user, "Device.DHCPv4.Server.Pool.1.Interface", "")
}

func TestDeletePartial(t *testing.T) {
	r := newRig(t)
	r.do(acs, whole(set("Device.IP.Interface.2.", "MaxMTUSize", "1300")))
	res := r.do(mainC, partial(del("Device.IP.Interface.*."), del("Device.WiFi.Radio.1."), Op{Kind: OpDelete, Path: "Device.IP.Interface.7.", MissingOK: true}))
	o := res.Outcomes[0]
	if o.Err != nil || len(o.Objects) != 2 || o.Objects[0].Err != nil || datamodel.ReasonOf(o.Objects[1].Err) != datamodel.Refused { // R-DEL.3
		t.Fatalf("%+v", o)
	}
	if datamodel.ReasonOf(res.Outcomes[1].Err) != datamodel.NotSupported || res.Outcomes[2].Err != nil {
		t.Fatalf("%+v", res.Outcomes)
	}
	if got := ids(r.rows("Device.IP.Interface.")); got != "2" {
		t.Fatal(got)
	}
}

func TestGuard(t *testing.T) {
	r := newRig(t)
	rev := r.View(mainC).Revision()
	c := whole(set("Device.Time.", "Enable", "true"))
	c.Guards = []Guard{{"", rev}, {"Device.Time.", rev}}
	res := r.do(mainC, c)
	c = whole(set("Device.Time.", "Enable", "false"))
	c.Guards = []Guard{{"Device.Time.", rev}}
	err := r.refuse(mainC, c, datamodel.Guard)
	if !strings.Contains(err.Error(), fmt.Sprintf("is %d", res.Revision)) {
		t.Fatal(err)
	}
	c.Guards = []Guard{{"Device.IP.", rev}, {"Device.Time.", res.Revision}}
	r.do(mainC, c)
	c.Guards = []Guard{{"", 1 << 40}}
	r.refuse(mainC, c, datamodel.Guard)
}

func TestDryRun(t *testing.T) {
	r := newRig(t)
	c := whole(set("Device.Time.", "Enable", "true"), add("Device.IP.Interface."))
	c.DryRun = true
	res := r.do(mainC, c)
	if res.Changed || r.store.Head().Rev() != 1 || res.Outcomes[1].Objects[0].Path != "Device.IP.Interface.3." {
		t.Fatalf("%+v", res)
	}
}

func TestSystemAndRecordsRideInTheCommit(t *testing.T) {
	r := newRig(t)
	c := whole(set("Device.Time.", "Enable", "true"))
	c.System = map[string]string{"Device.ManagementServer.ParameterKey": "k1"}
	c.Records = []Record{{"cwmp/events", "1", []byte("x")}}
	res := r.do(acs, c)
	r.is(acs, "Device.ManagementServer.ParameterKey", "k1")
	if _, ok := r.store.Head().Record("cwmp/events", "1"); !ok || res.Revision != 2 {
		t.Fatalf("record is missing, or more than one commit: %+v", res)
	}
	c = whole(set("Device.Time.", "Enable", "nonsense"))
	c.System = map[string]string{"Device.ManagementServer.ParameterKey": "k2"}
	r.refuse(acs, c, datamodel.InvalidType)
	r.is(acs, "Device.ManagementServer.ParameterKey", "k1") // c.4: only on success
	c = whole(set("Device.Time.", "Enable", "true"))
	c.System = map[string]string{"Device.ManagementServer.ParameterKey": ""}
	if res := r.do(acs, c); !res.Changed {
		t.Fatal("ParameterKey did not change with values that did not")
	}
	c = whole(set("Device.Time.", "Enable", "true"))
	c.Records = []Record{{"bridge/writers", "cwmp", []byte("main")}}
	r.refuse(acs, c, datamodel.Internal)
}

func TestAllErrors(t *testing.T) {
	r := newRig(t)
	c := whole(set("Device.Time.", "Enable", "x"), set("Device.IP.Interface.1.", "MaxMTUSize", "-5", "Enable", "true", "Nope", "1"))
	c.AllErrors = true
	res, err := r.Apply(context.Background(), acs, c)
	if err == nil {
		t.Fatal("accepted")
	}
	var bad []string
	for _, o := range res.Outcomes {
		for _, oo := range o.Objects {
			for _, p := range oo.Params {
				if p.Err != nil {
					bad = append(bad, oo.Path+p.Name)
				}
			}
		}
	}
	if got := strings.Join(bad, " "); got != "Device.Time.Enable Device.IP.Interface.1.MaxMTUSize Device.IP.Interface.1.Nope" {
		t.Fatal(got)
	}
}

func TestReachable(t *testing.T) { // invariant 8
	r := newRig(t)
	r.do(acs, whole(set("Device.ManagementServer.", "EnableCWMP", "false")))
	r.refuse(mainC, whole(set("Device.LocalAgent.Controller.1.", "Enable", "false")), datamodel.Unrecoverable)
	r.refuse(mainC, whole(del("Device.LocalAgent.Controller.1.")), datamodel.Unrecoverable)
	r.do(mainC, whole(add("Device.LocalAgent.Controller.", "EndpointID", "self::two", "Enable", "true"), del("Device.LocalAgent.Controller.1.")))
	r.do(acs, whole(set("Device.ManagementServer.", "EnableCWMP", "true")))
	r.do(mainC, whole(set("Device.LocalAgent.Controller.2.", "Enable", "false")))
	r.refuse(acs, whole(set("Device.ManagementServer.", "EnableCWMP", "false")), datamodel.Unrecoverable)
	// A device that had no manager before may be changed freely.
	if _, err := r.store.Update(context.Background(), store.Meta{Writer: "sys:test"}, func(tx *store.Tx) error {
		return tx.Set("Device.ManagementServer.EnableCWMP", "false", 0)
	}); err != nil {
		t.Fatal(err)
	}
	r.do(mainC, whole(del("Device.LocalAgent.Controller.2.")))
	r.do(acs, whole(set("Device.ManagementServer.", "EnableCWMP", "true")))
	// In a change that need not be whole, the rest goes on.
	res := r.do(acs, partial(set("Device.ManagementServer.", "EnableCWMP", "false"), set("Device.Time.", "Enable", "true")))
	if deepest(res.Outcomes[0].Err) != datamodel.Unrecoverable || res.Outcomes[1].Err != nil {
		t.Fatalf("%+v", res.Outcomes)
	}
}

func TestAttributes(t *testing.T) {
	r := newRig(t)
	attr := func(path string, n int8) Change {
		return whole(Op{Kind: OpAttr, Path: path, Attr: &AttrChange{Notification: &n}})
	}
	is := func(path string, want int8) {
		t.Helper()
		v := r.View(acs)
		ms, err := v.Resolve(path, datamodel.ResolvePolicy{})
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Attr(ms[0]).Notification; got != want {
			t.Fatalf("%s has %d, want %d", path, got, want)
		}
	}
	is("Device.DeviceInfo.SoftwareVersion", 2) // always active
	is("Device.DeviceInfo.ProvisioningCode", 2)
	is("Device.IP.Interface.1.Enable", 0)
	r.do(acs, attr("Device.IP.Interface.1.Enable", 2))
	r.do(acs, attr("Device.IP.", 1)) // speaks for everything below it
	is("Device.IP.Interface.1.Enable", 1)
	is("Device.IP.Interface.2.Enable", 1)
	r.do(acs, attr("Device.IP.Interface.1.Enable", 2))
	is("Device.IP.Interface.1.Enable", 2)
	list := []string{"Subscriber", "X_TWINSPAN-EXAMPLE_USP"}
	r.do(acs, whole(Op{Kind: OpAttr, Path: "Device.IP.Interface.1.", Attr: &AttrChange{AccessList: &list}}))
	is("Device.IP.Interface.1.Enable", 2)
	v := r.View(acs)
	ms, _ := v.Resolve("Device.IP.Interface.1.Enable", datamodel.ResolvePolicy{})
	if got := v.Attr(ms[0]).AccessList; !slices.Equal(got, list) {
		t.Fatalf("access list %v", got)
	}
	if res := r.do(acs, attr("Device.IP.Interface.1.Enable", 2)); res.Changed {
		t.Fatal("the same attributes made a commit")
	}
	r.refuse(acs, attr("Device.IP.Interface.1.Enable", 7), datamodel.InvalidValue)
	r.refuse(acs, attr("Device.Nope", 1), datamodel.NotSupported)
}

func TestConflictNamesOwner(t *testing.T) { // invariant 9
	r := newRig(t)
	res := r.do(acs, whole(set("Device.DeviceInfo.", "ProvisioningCode", "acs")))
	err := r.refuse(mainC, whole(set("Device.DeviceInfo.", "ProvisioningCode", "usp")), datamodel.Refused)
	for _, want := range []string{"owner cwmp", fmt.Sprintf("since revision %d", res.Revision), "rule default", "dual-cwmp"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	// The refusal is journaled, though it made no commit of its own at that moment.
	r.do(acs, whole(set("Device.Time.", "Enable", "true")))
	entries, jerr := r.Journal(0, 0)
	if jerr != nil {
		t.Fatal(jerr)
	}
	found := false
	for _, en := range entries {
		for _, d := range en.Deltas {
			if d.Op == store.DeltaRefused && d.Path == "Device.DeviceInfo.ProvisioningCode" && en.Meta.Writer == mainC.Name && d.Rule == "default" {
				found = strings.Contains(d.Verdict, "owner cwmp")
			}
		}
	}
	if !found {
		t.Fatalf("no refusal in the journal: %+v", entries)
	}
}

func TestAccessList(t *testing.T) {
	for _, c := range []struct {
		phase   Phase
		list    []string
		w       Writer
		allowed bool
	}{
		{PhaseDualCWMP, nil, mainC, false},
		{PhaseDualCWMP, nil, acs, true},
		{PhaseDualCWMP, nil, user, false},
		{PhaseDualCWMP, []string{"Subscriber"}, user, true},
		{PhaseDualCWMP, []string{"X_TWINSPAN-EXAMPLE_USP"}, mainC, true},
		{PhaseDualCWMP, []string{"X_TWINSPAN-EXAMPLE_USP"}, user, false},
		{PhaseDualUSP, nil, mainC, true},
	} {
		r := newRig(t, atPhase(t, c.phase))
		r.do(acs, whole(Op{Kind: OpAttr, Path: "Device.DeviceInfo.", Attr: &AttrChange{AccessList: &c.list}}))
		ch := whole(set("Device.DeviceInfo.", "ProvisioningCode", "x"))
		if c.allowed {
			r.do(c.w, ch)
		} else if err := r.refuse(c.w, ch, datamodel.Denied); !strings.Contains(err.Error(), "AccessList") {
			t.Error(err)
		}
	}
}

func TestWritable(t *testing.T) {
	is := func(r *rig, w Writer, path string, want bool) {
		t.Helper()
		v := r.View(w)
		ms, err := v.Resolve(path, datamodel.ResolvePolicy{AllowTable: true})
		if err != nil || len(ms) != 1 {
			t.Fatal(ms, err)
		}
		if got := v.Writable(ms[0]); got != want {
			t.Errorf("%s writable for %s: %v", path, w.Name, got)
		}
	}
	r := newRig(t)
	for path, want := range map[string]bool{"Device.Time.Enable": true, "Device.Time.Status": false, "Device.Time.": false, "Device.IP.Interface.": true,
		"Device.IP.Interface.1.": true, "Device.Ethernet.Interface.": false, "Device.IP.Interface.1.Alias": true} {
		is(r, acs, path, want)
	}
	is(r, mainC, "Device.IP.Interface.1.Alias", false)
	r.do(mainC, whole(set("Device.Time.", "Enable", "true")))
	is(r, acs, "Device.Time.Enable", true)
	for _, path := range []string{"Device.Time.Enable", "Device.IP.Interface.", "Device.IP.Interface.1."} {
		is(newRig(t, atPhase(t, PhaseUSPOnly)), acs, path, false) // as a write would be answered
	}
}

func TestRules(t *testing.T) {
	const path = "Device.DeviceInfo.ProvisioningCode"
	for _, c := range []struct {
		name    string
		rules   []Rule
		allowed bool // the ACS over the Controller's value, in dual-usp
		back    bool // the Controller over the ACS's
	}{
		{"none", nil, false, true},
		{"yield", []Rule{{ID: "y", Path: path, OnConflict: OnYield}}, false, false},
		{"take", []Rule{{ID: "t", Path: "Device.DeviceInfo.*", OnConflict: OnTake}}, true, true},
		{"last below", []Rule{{ID: "l", Path: "Device.{Time,DeviceInfo}.**", OnConflict: OnLast}}, true, true},
		{"specific first", []Rule{{ID: "l", Path: "Device.**", OnConflict: OnLast}, {ID: "y", Path: "Device.DeviceInfo.**", OnConflict: OnYield}}, false, false},
		{"writers", []Rule{{ID: "w", Path: "Device.DeviceInfo.**", Writers: []string{ClassACS}, OnConflict: OnTake}}, true, false},
		{"other phase", []Rule{{ID: "t", Path: path, OnConflict: OnTake, Phases: []Phase{PhaseDualCWMP}}}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := NewClassOrder(PhaseDualUSP, c.rules...)
			if err != nil {
				t.Fatal(err)
			}
			over := a.Decide(Proposal{Writer: acs, Path: path, New: "a", Old: "b", Owner: mainC.Name, OwnerClass: ClassMain})
			if (over.Kind != Yield) != c.allowed {
				t.Errorf("ACS: %+v", over)
			}
			back := a.Decide(Proposal{Writer: mainC, Path: path, New: "b", Old: "a", Owner: acs.Name, OwnerClass: ClassACS})
			if (back.Kind != Yield) != c.back {
				t.Errorf("Controller: %+v", back)
			}
			if again := a.Decide(Proposal{Writer: acs, Path: path, New: "a", Old: "b", Owner: mainC.Name, OwnerClass: ClassMain}); again != over {
				t.Error("not pure")
			}
		})
	}
	for name, rules := range map[string][]Rule{
		"tie":      {{ID: "a", Path: "Device.Time.*"}, {ID: "b", Path: "Device.*.Enable"}},
		"middle":   {{ID: "a", Path: "Device.**.Enable"}},
		"braces":   {{ID: "a", Path: "Device.{Time"}},
		"root":     {{ID: "a", Path: "Services."}},
		"conflict": {{ID: "a", Path: "Device.", OnConflict: "maybe"}},
	} {
		if name == "tie" {
			rules[1].Path = "Device.*.Enable" // same number of elements and literals, both match Device.Time.Enable
		}
		if _, err := NewClassOrder(PhaseDualUSP, rules...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewClassOrder("later"); err == nil {
		t.Error("unknown phase accepted")
	}
}

// TestDifferential runs the same intent through both faces (STYLE 13): outcome, final state and journal must agree.
func TestDifferential(t *testing.T) {
	type step struct {
		cwmp, usp Op
		reason    datamodel.Reason
		fails     bool
	}
	steps := []step{
		{cwmp: set("Device.Time.", "Enable", "1"), usp: set("Device.Time.", "Enable", "true")},
		{cwmp: set("Device.USPAgent.Controller.1.", "ProvisioningCode", "p"), usp: set("Device.LocalAgent.Controller.1.", "ProvisioningCode", "p")},
		{cwmp: add("Device.IP.Interface.", "Enable", "true"), usp: add("Device.IP.Interface.", "Enable", "true")},
		{cwmp: add("Device.USPAgent.Controller.", "EndpointID", "self::n"), usp: add("Device.LocalAgent.Controller.", "EndpointID", "self::n")},
		{cwmp: set("Device.USPAgent.Controller.2.", "AssignedRole", "Device.USPAgent.ControllerTrust.Role.9"), fails: true, reason: datamodel.InvalidValue,
			usp: set("Device.LocalAgent.Controller.2.", "AssignedRole", "Device.LocalAgent.ControllerTrust.Role.9")},
		{cwmp: add("Device.USPAgent.ControllerTrust.Role.", "Name", "ops"), usp: add("Device.LocalAgent.ControllerTrust.Role.", "Name", "ops")},
		{cwmp: set("Device.USPAgent.Controller.2.", "AssignedRole", "Device.USPAgent.ControllerTrust.Role.1"),
			usp: set("Device.LocalAgent.Controller.2.", "AssignedRole", "Device.LocalAgent.ControllerTrust.Role.1")},
		{cwmp: set("Device.Time.", "Enable", "vrai"), usp: set("Device.Time.", "Enable", "vrai"), fails: true, reason: datamodel.InvalidType},
		{cwmp: set("Device.IP.Interface.3.", "Status", "Up"), usp: set("Device.IP.Interface.3.", "Status", "Up"), fails: true, reason: datamodel.NotWritable},
		{cwmp: del("Device.USPAgent.ControllerTrust.Role.1."), usp: del("Device.LocalAgent.ControllerTrust.Role.1.")},
		{cwmp: set("Device.ManagementServer.", "EnableCWMP", "false"), usp: set("Device.CWMPManagementServer.", "EnableCWMP", "false")},
		{cwmp: del("Device.IP.Interface.3."), usp: del("Device.IP.Interface.3.")},
	}
	run := func(w Writer, pick func(step) Op) (*rig, []string) {
		r := newRig(t)
		var trail []string
		for i, s := range steps {
			res, err := r.Apply(context.Background(), w, whole(pick(s)))
			if (err != nil) != s.fails || err != nil && deepest(err) != s.reason {
				t.Fatalf("%s step %d: %v", w.Name, i, err)
			}
			line := fmt.Sprintf("rev=%d changed=%v", res.Revision, res.Changed)
			for _, oo := range res.Outcomes[0].Objects {
				path, _ := datamodel.ToCanonical(w.Protocol, oo.Path)
				line += " " + path
			}
			trail = append(trail, line)
		}
		return r, trail
	}
	c, ct := run(acs, func(s step) Op { return s.cwmp })
	u, ut := run(mainC, func(s step) Op { return s.usp })
	for i := range ct {
		if ct[i] != ut[i] {
			t.Errorf("step %d: CWMP %s, USP %s", i, ct[i], ut[i])
		}
	}
	dump := func(r *rig) map[string]string {
		m := map[string]string{}
		r.store.Head().Walk("", func(path string, l store.Leaf) bool {
			m[path] = l.Value
			return true
		})
		return m
	}
	if cd, ud := dump(c), dump(u); !maps.Equal(cd, ud) {
		t.Errorf("trees differ:\n%v\n%v", cd, ud)
	}
	// One value, two views.
	r := newRig(t)
	r.do(acs, whole(add("Device.USPAgent.ControllerTrust.Role.", "Name", "ops")))
	r.do(acs, whole(set("Device.USPAgent.Controller.1.", "AssignedRole", "Device.USPAgent.ControllerTrust.Role.1")))
	r.is(acs, "Device.USPAgent.Controller.1.AssignedRole", "Device.USPAgent.ControllerTrust.Role.1")
	r.is(mainC, "Device.LocalAgent.Controller.1.AssignedRole", "Device.LocalAgent.ControllerTrust.Role.1")
}

// A writer must learn that storage is what is missing, in both protocols: "resources exceeded" alone says nothing to an operator.
func TestFullStoreIsNamed(t *testing.T) {
	var de *datamodel.Error
	if err := asStoreError(fmt.Errorf("commit: %w", store.ErrFull)); !errors.As(err, &de) || de.Reason != datamodel.Resources || !strings.Contains(de.Text, "full") {
		t.Errorf("%#v", de)
	}
}

// TestFailedOperationAlone: an operation that fails after it has staged something is taken back alone, wherever it stands.
func TestFailedOperationAlone(t *testing.T) {
	const pool = "Device.DHCPv4.Server.Pool."
	good := func(n int) Op { return set(fmt.Sprintf("%s%d.", pool, n), "DomainName", "new.example") }
	bad := func(n int) Op {
		return set(fmt.Sprintf("%s%d.", pool, n), "DomainName", "bad.example", "LeaseTime", "not a number")
	}
	for name, c := range map[string]Change{
		"first":  partial(bad(2), good(1), good(3)),
		"middle": partial(good(1), bad(2), good(3)),
		"last":   partial(good(1), good(3), bad(2)),
		"twice":  partial(bad(2), good(1), bad(2), good(3)),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.do(mainC, whole(add(pool), add(pool), add(pool)))
			for n := 1; n <= 3; n++ {
				r.do(mainC, whole(set(fmt.Sprintf("%s%d.", pool, n), "DomainName", "old.example")))
			}
			res := r.do(mainC, c)
			for i, op := range c.Ops {
				if failed := len(op.Settings) == 2; failed != (res.Outcomes[i].Err != nil) {
					t.Errorf("operation %d: %v", i, res.Outcomes[i].Err)
				}
			}
			r.is(mainC, pool+"1.DomainName", "new.example")
			r.is(mainC, pool+"2.DomainName", "old.example")
			r.is(mainC, pool+"3.DomainName", "new.example")
			e, err := r.Journal(res.Revision-1, 1)
			if err != nil || len(e) != 1 || len(e[0].Deltas) != 2 {
				t.Fatal(err, e)
			}
			// All or nothing: every fault is listed, nothing is kept.
			c.Atomic, c.AllErrors = true, true
			head := r.store.Head().Rev()
			c.Ops[len(c.Ops)-1].Settings[0].Value = "other.example"
			res, err = r.Apply(context.Background(), mainC, c)
			if err == nil || r.store.Head().Rev() != head {
				t.Error(err, r.store.Head().Rev(), head)
			}
			for i, op := range c.Ops {
				if failed := len(op.Settings) == 2; failed != (res.Outcomes[i].Err != nil) {
					t.Errorf("operation %d: %v", i, res.Outcomes[i].Err)
				}
			}
		})
	}
}
