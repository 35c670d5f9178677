package usp

import "strings"

func deleteTests() map[string]test {
	missing := subs + "7777."
	empty := func(partial bool) func(t *T) {
		return func(t *T) { t.deleted(t.delResults(partial, missing)[0]) } // success of nothing
	}
	gone := func(t *T, rows ...string) {
		for _, row := range rows {
			res := t.get(row)[0]
			t.want(len(res.GetResolvedPathResults()) == 0, "%s is still there", row)
		}
	}
	return map[string]test{
		"1.24": {run: func(t *T) {
			row := t.made(subscription("del24"))[0]
			t.deleted(t.delResults(false, row)[0], row)
			gone(t, row)
		}},
		"1.25": {run: empty(false)},
		"1.26": {run: func(t *T) {
			p := t.fault(t.del(t.main, false, invalid), 1, noObject...)
			t.want(p[0].GetParamPath() == invalid, "param_path %q", p[0].GetParamPath())
		}},
		"1.27": {run: func(t *T) {
			rows := t.made(subscription("del271"), subscription("del272"))
			res := t.delResults(false, rows...)
			t.deleted(res[0], rows[0])
			t.deleted(res[1], rows[1])
			gone(t, rows...)
		}},
		"1.28": {run: func(t *T) {
			row := t.made(subscription("del28"))[0]
			p := t.fault(t.del(t.main, false, row, invalid), 1, noObject...)
			t.want(p[0].GetParamPath() == invalid, "param_path %q", p[0].GetParamPath())
			t.holds(row+"ID", "del28")
		}},
		"1.29": {run: empty(true)},
		"1.30": {run: func(t *T) {
			f := t.delResults(true, invalid)[0].GetOperStatus().GetOperFailure()
			t.want(f != nil, "no oper_failure")
			t.fits(f.GetErrCode(), noObject)
		}},
		"1.31": {run: func(t *T) {
			row := t.made(subscription("del31"))[0]
			res := t.delResults(true, row, invalid)
			t.deleted(res[0], row)
			t.fits(res[1].GetOperStatus().GetOperFailure().GetErrCode(), noObject)
			gone(t, row)
		}},
		"1.32": {run: func(t *T) {
			row := t.made(subscription("del32"))[0]
			res := t.delResults(true, row, missing)
			t.deleted(res[0], row)
			t.deleted(res[1])
			gone(t, row)
		}},
		"1.33": {run: func(t *T) {
			row := t.made(bootParameter(t.controllerRow(t.main)+"BootParameter.", "Device.LocalAgent.EndpointID", "true"))[0]
			number := row[strings.LastIndexByte(strings.TrimSuffix(row, "."), '.')+1:]
			alias := t.value(t.controllerRow(t.main) + "Alias")
			t.deleted(t.delResults(false, ctls+`[EndpointID=="`+mainID+`"&&Alias=="`+alias+`"].BootParameter.`+number)[0], row)
			gone(t, row)
		}},
		"1.34": {run: func(t *T) {
			t.made(subscription("del341"), subscription("del342"))
			all := t.rows(subs + "*.")
			t.deleted(t.delResults(false, subs+"*.")[0], all...)
			t.want(len(t.rows(subs+"*.")) == 0, "rows are left")
		}},
		"1.35": {run: func(t *T) {
			table := t.controllerRow(t.main) + "BootParameter."
			rows := t.made(bootParameter(table, "Device.LocalAgent.EndpointID", "true"), bootParameter(table, "Device.LocalAgent.UpTime", "true"),
				bootParameter(table, "Device.LocalAgent.SoftwareVersion", "false"))
			t.deleted(t.delResults(false, table+"[Enable==true].")[0], rows[:2]...)
			gone(t, rows[:2]...)
			t.holds(rows[2]+"Enable", "false")
		}},
		"1.90": {run: func(t *T) {
			t.made(subscription("del90"))
			path := subs + "[Enable==false]."
			t.want(len(t.rows(path)) == 0, "the bench has a disabled Subscription")
			t.deleted(t.delResults(false, path)[0])
		}},
	}
}
