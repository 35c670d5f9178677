package usp

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"twinspan/usp/uspmsg"
)

// completeKeys checks the unique keys of a new Subscription: all of them, with Alias optional.
func (t *T) completeKeys(keys map[string]string, optional string, names ...string) {
	got := slices.Sorted(maps.Keys(keys))
	without := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s == optional })
	slices.Sort(names)
	t.want(slices.Equal(without, names), "unique_keys are %v instead of %v and %s", got, names, optional)
	for k, v := range keys {
		t.want(v != "", "unique key %s is empty", k)
	}
}

// isSubscription reads a row back and compares.
func (t *T) isSubscription(row string, o object) {
	for _, s := range o.settings {
		if s.name != "Alias" {
			t.holds(row+s.name, s.value)
		}
	}
}

// noSubscription checks that no row has this ID.
func (t *T) noSubscription(ids ...string) {
	for _, id := range ids {
		rows := t.rows(subs + `[ID=="` + id + `"].`)
		t.want(len(rows) == 0, "a row with ID %s exists: %v", id, rows)
	}
}

func addTests() map[string]test {
	valid := func(partial bool, n int) func(t *T) {
		return func(t *T) {
			var objs []object
			for i := range n {
				objs = append(objs, subscription(fmt.Sprintf("add%d-%v", i, partial), opt("Alias", fmt.Sprintf("add%d%v", i, partial))))
			}
			res := t.add(partial, objs...)
			t.want(len(res) == n, "%d results instead of %d", len(res), n)
			for i, r := range res {
				s := t.added(r)
				t.want(r.GetRequestedPath() == subs, "requested_path %q", r.GetRequestedPath())
				t.completeKeys(s.GetUniqueKeys(), "Alias", "Recipient", "ID")
				t.isSubscription(s.GetInstantiatedPath(), objs[i])
			}
		}
	}
	bad := func(id string) object {
		return obj(subs, req("ID", id), req("Enable", "InvalidValue"), req("NotifType", "ValueChange"), req("ReferenceList", "Device.LocalAgent.SoftwareVersion"))
	}
	unsupported := func(t *T, m *uspmsg.Msg) {
		p := t.fault(m, 1, noObject...)
		t.want(p[0].GetParamPath() == invalid, "param_path %q instead of %q", p[0].GetParamPath(), invalid)
	}
	return map[string]test{
		"1.1": {run: valid(false, 1)},
		"1.2": {run: valid(true, 1)},
		"1.3": {run: func(t *T) {
			p := t.fault(t.addMsg(t.main, false, bad("add3")), 1, badValue...)
			t.want(strings.HasSuffix(p[0].GetParamPath(), "Enable"), "param_path %q does not name Enable", p[0].GetParamPath())
			t.noSubscription("add3")
		}},
		"1.4": {run: func(t *T) {
			before := t.rows(subs + "*.")
			unsupported(t, t.addMsg(t.main, false, obj(invalid, req("ID", "add4"), req("Enable", "true"))))
			t.want(slices.Equal(before, t.rows(subs+"*.")), "the Subscription table changed")
		}},
		"1.5": {run: valid(false, 2)},
		"1.6": {run: func(t *T) {
			unsupported(t, t.addMsg(t.main, false, subscription("add61"), obj(invalid, req("ID", "add62"), req("Enable", "true"))))
			t.noSubscription("add61")
		}},
		"1.7": {run: func(t *T) {
			p := t.fault(t.addMsg(t.main, false, bad("add71"), subscription("add72")), 1, badValue...)
			t.want(strings.HasSuffix(p[0].GetParamPath(), "Enable"), "param_path %q does not name Enable", p[0].GetParamPath())
			t.noSubscription("add71", "add72")
		}},
		"1.8": {run: func(t *T) {
			res := t.add(true, bad("add8"))
			t.want(len(res) == 1, "%d results", len(res))
			f := res[0].GetOperStatus().GetOperFailure()
			t.want(f != nil, "no oper_failure")
			t.fits(f.GetErrCode(), append(objectFailed, badValue...))
			t.noSubscription("add8")
		}},
		"1.9":  {run: addSameKeyTwice},
		"1.10": {run: addBelowKey},
		"1.81": {run: addGeneratedKeys},
		"1.88": {run: func(t *T) {
			m := t.addMsg(t.main, false, obj(subs, opt("Alias", "1-bad alias"), req("ID", "add88"), req("NotifType", "ValueChange"), req("ReferenceList", "Device.LocalAgent.SoftwareVersion")))
			t.fault(m, -1, append(badValue, 7013)...)
			t.noSubscription("add88")
		}},
		"1.95": {run: addThroughSearch},
	}
}

func addSameKeyTwice(t *T) {
	first, second := subscription("add91"), subscription("add91", req("InvalidParameter", "true"))
	res := t.add(true, first, second)
	t.want(len(res) == 2, "%d results", len(res))
	var rows, failed int
	for _, r := range res {
		if s := r.GetOperStatus().GetOperSuccess(); s != nil {
			rows++
			t.completeKeys(s.GetUniqueKeys(), "Alias", "Recipient", "ID")
			t.isSubscription(s.GetInstantiatedPath(), first)
			continue
		}
		failed++
		t.fits(r.GetOperStatus().GetOperFailure().GetErrCode(), append(append(objectFailed, noParameter...), 7025))
	}
	t.want(rows == 1 && failed == 1, "%d rows were made and %d failed", rows, failed)
	t.want(len(t.rows(subs+`[ID=="add91"].`)) == 1, "not exactly one row has the ID")
}

func bootParameter(table, name, enable string, more ...setting) object {
	return obj(table, append([]setting{req("Enable", enable), req("ParameterName", name)}, more...)...)
}

func addBelowKey(t *T) {
	row := t.controllerRow(t.main)
	res := t.add(false, bootParameter(ctls+`[EndpointID=="`+mainID+`"].BootParameter.`, "Device.LocalAgent.EndpointID", "true", opt("Alias", "add10")))
	t.want(len(res) == 1, "%d results", len(res))
	s := t.added(res[0])
	t.completeKeys(s.GetUniqueKeys(), "Alias", "ParameterName")
	t.want(strings.HasPrefix(s.GetInstantiatedPath(), row+"BootParameter."), "the row is %s, not below %s", s.GetInstantiatedPath(), row)
	t.holds(s.GetInstantiatedPath()+"ParameterName", "Device.LocalAgent.EndpointID")
}

func addGeneratedKeys(t *T) {
	o := obj(subs, req("Enable", "true"), req("NotifType", "ValueChange"), req("ReferenceList", "Device.LocalAgent.SoftwareVersion"))
	res := t.add(false, o, o)
	t.want(len(res) == 2, "%d results", len(res))
	a, b := t.added(res[0]).GetUniqueKeys(), t.added(res[1]).GetUniqueKeys()
	for _, keys := range []map[string]string{a, b} {
		t.completeKeys(keys, "Alias", "Recipient", "ID")
		t.want(keys["Alias"] == "" || strings.HasPrefix(keys["Alias"], "cpe-"), "generated Alias %q does not begin with cpe-", keys["Alias"])
	}
	t.want(a["ID"] != b["ID"] && (a["Alias"] == "" || a["Alias"] != b["Alias"]), "keys do not differ: %v %v", a, b)
	t.want(a["Recipient"] == b["Recipient"], "Recipient differs: %v %v", a, b)
}

func addThroughSearch(t *T) {
	name := "Device.LocalAgent.SoftwareVersion"
	parents := t.rows(ctls + `[Enable==true].EndpointID`)
	res := t.add(true, bootParameter(ctls+"[Enable==true].BootParameter.", name, "true"))
	t.want(len(res) == len(parents), "%d results for %d matching rows", len(res), len(parents))
	var rows []string
	for _, r := range res {
		t.want(r.GetRequestedPath() == ctls+"[Enable==true].BootParameter.", "requested_path %q", r.GetRequestedPath())
		rows = append(rows, t.added(r).GetInstantiatedPath())
	}
	slices.Sort(rows)
	got := t.rows(ctls + `*.BootParameter.[ParameterName=="` + name + `"].`)
	t.want(slices.Equal(rows, got), "Get shows %v, made were %v", got, rows)
}
