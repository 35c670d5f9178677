package usp

import (
	"slices"
	"strings"

	"twinspan/usp/uspmsg"
)

type (
	setResult   = uspmsg.SetResp_UpdatedObjectResult
	setInstance = uspmsg.SetResp_UpdatedInstanceResult
)

func setTests() map[string]test {
	one := func(partial bool) func(t *T) {
		return func(t *T) {
			row := t.made(subscription("set"))[0]
			res := t.setResults(partial, obj(row, req("NotifRetry", "true")))
			t.want(len(res) == 1, "%d results", len(res))
			i := t.updated(res[0], 1, "NotifRetry")[0]
			t.want(i.GetAffectedPath() == row, "affected_path %q instead of %q", i.GetAffectedPath(), row)
			t.want(len(i.GetParamErrs()) == 0 && i.GetUpdatedParams()["NotifRetry"] == "true", "%v", i)
			t.holds(row+"NotifRetry", "true")
		}
	}
	return map[string]test{
		"1.11": {run: one(false)},
		"1.12": {run: one(true)},
		"1.13": {run: func(t *T) {
			rows := t.made(subscription("set131"), subscription("set132"))
			res := t.setResults(false, obj(rows[0], req("NotifRetry", "true")), obj(rows[1], req("NotifRetry", "true")))
			t.want(len(res) == 2, "%d results", len(res))
			for i, r := range res {
				t.want(t.updated(r, 1, "NotifRetry")[0].GetAffectedPath() == rows[i], "results are not in the order of the request")
				t.holds(rows[i]+"NotifRetry", "true")
			}
		}},
		"1.14": {run: func(t *T) {
			row := t.made(subscription("set14"))[0]
			p := t.fault(t.set(t.main, false, obj(row, req("InvalidParameter", "true"))), 1, noParameter...)
			t.want(p[0].GetParamPath() == row+"InvalidParameter", "param_path %q", p[0].GetParamPath())
			t.want(t.get(row + "InvalidParameter")[0].GetErrCode() != 0, "the row has InvalidParameter now")
		}},
		"1.15": {run: func(t *T) {
			rows := t.made(subscription("set151"), subscription("set152"))
			p := t.fault(t.set(t.main, false, obj(rows[0], req("NotifRetry", "true")), obj(rows[1], req("InvalidParameter", "true"))), 1, noParameter...)
			t.want(p[0].GetParamPath() == rows[1]+"InvalidParameter", "param_path %q", p[0].GetParamPath())
			t.holds(rows[0]+"NotifRetry", "false")
		}},
		"1.16": {run: setSecondFails},
		"1.17": {run: setOptionalFails},
		"1.18": {run: func(t *T) {
			row := t.made(subscription("set18"))[0]
			path := subs + `[ID=="set18"&&Recipient=="` + t.value(row+"Recipient") + `"].`
			res := t.setResults(false, obj(path, req("NotifRetry", "true")))
			t.want(len(res) == 1 && res[0].GetRequestedPath() == path, "requested_path %q", res[0].GetRequestedPath())
			t.want(t.updated(res[0], 1, "NotifRetry")[0].GetAffectedPath() == row, "another row was set")
			t.holds(row+"NotifRetry", "true")
		}},
		"1.19": {run: func(t *T) {
			t.made(subscription("set191"), subscription("set192"))
			all := t.rows(subs + "*.")
			res := t.setResults(false, obj(subs+"*.", req("NotifRetry", "true")))
			t.want(len(res) == 1, "%d results for one wildcard", len(res))
			t.updated(res[0], len(all), "NotifRetry")
			for _, row := range all {
				t.holds(row+"NotifRetry", "true")
			}
		}},
		"1.20": {run: setWildcardFails},
		"1.21": {run: setWildcardFailsPartial},
		"1.22": {run: func(t *T) {
			rows := t.made(subscription("set221", req("NotifExpiration", "10")), subscription("set222", req("NotifExpiration", "5")))
			res := t.setResults(false, obj(subs+"[NotifExpiration<10].", req("NotifRetry", "true")))
			t.want(len(res) >= 1, "no result")
			// Rows of others may have no expiration (0) and match too: the plan's bench has none.
			i := res[0].GetOperStatus().GetOperSuccess().GetUpdatedInstResults()
			t.want(slices.ContainsFunc(i, func(r *setInstance) bool {
				return r.GetAffectedPath() == rows[1] && r.GetUpdatedParams()["NotifRetry"] == "true"
			}), "the matching row is not among %v", i)
			t.want(!slices.ContainsFunc(i, func(r *setInstance) bool { return r.GetAffectedPath() == rows[0] }), "a row that does not match was set")
			t.holds(rows[1]+"NotifRetry", "true")
			t.holds(rows[0]+"NotifRetry", "false")
		}},
		"1.23": {run: func(t *T) {
			res := t.setResults(false, obj(subs+`[Recipient=="Device.LocalAgent.Controller.7777"].`, req("NotifRetry", "true")))
			t.want(len(res) == 1, "%d results", len(res))
			t.updated(res[0], 0)
		}},
		"1.96": {run: func(t *T) {
			row := t.made(subscription("set96"))[0]
			t.fault(t.set(t.main, false, obj(row, req("ID", "new96"))), -1, frozen...)
			t.holds(row+"ID", "set96")
		}},
		"1.104": {run: func(t *T) {
			row := t.made(subscription("set104", req("Alias", "alias104")))[0]
			t.fault(t.set(t.main, false, obj(row, req("Alias", "other104"))), -1, frozen...)
			t.holds(row+"Alias", "alias104")
		}},
	}
}

// failedInstance checks the one instance of an oper_failure: its path and its one parameter.
func (t *T) failedInstances(r *setResult, param string, codes ...uint32) []string {
	f := r.GetOperStatus().GetOperFailure()
	t.want(f != nil, "%s: no oper_failure", r.GetRequestedPath())
	t.fits(f.GetErrCode(), append(objectFailed, codes...))
	t.want(len(f.GetUpdatedInstFailures()) > 0, "no updated_inst_failures")
	var paths []string
	for _, i := range f.GetUpdatedInstFailures() {
		t.want(numeric.MatchString(i.GetAffectedPath()), "affected_path %q", i.GetAffectedPath())
		t.want(len(i.GetParamErrs()) == 1 && i.GetParamErrs()[0].GetParam() == param, "param_errs of %s: %v", i.GetAffectedPath(), i.GetParamErrs())
		t.fits(i.GetParamErrs()[0].GetErrCode(), codes)
		paths = append(paths, i.GetAffectedPath())
	}
	return paths
}

func setSecondFails(t *T) {
	rows := t.made(subscription("set161"), subscription("set162"))
	res := t.setResults(true, obj(rows[0], req("NotifRetry", "true")), obj(rows[1], req("InvalidParameter", "true")))
	t.want(len(res) == 2, "%d results", len(res))
	t.updated(res[0], 1, "NotifRetry")
	got := t.failedInstances(res[1], "InvalidParameter", noParameter...)
	t.want(len(got) == 1 && got[0] == rows[1], "affected_path %v instead of %s", got, rows[1])
	t.holds(rows[0]+"NotifRetry", "true")
}

func setOptionalFails(t *T) {
	row := t.made(subscription("set17"))[0]
	res := t.setResults(true, obj(row, req("NotifRetry", "true"), opt("InvalidParameter", "true")))
	t.want(len(res) == 1, "%d results", len(res))
	i := t.updated(res[0], 1, "NotifRetry")[0]
	t.want(len(i.GetParamErrs()) == 1 && i.GetParamErrs()[0].GetParam() == "InvalidParameter", "param_errs: %v", i.GetParamErrs())
	t.fits(i.GetParamErrs()[0].GetErrCode(), noParameter)
	t.holds(row+"NotifRetry", "true")
}

func setWildcardFails(t *T) {
	t.made(subscription("set201"), subscription("set202"))
	p := t.fault(t.set(t.main, false, obj(subs+"*.", req("InvalidParameter", "true"))), -1, noParameter...)
	for _, e := range p {
		row, ok := strings.CutSuffix(e.GetParamPath(), "InvalidParameter")
		t.want(ok && numeric.MatchString(row), "param_path %q is not a full path by instance number", e.GetParamPath())
		t.want(t.get(e.GetParamPath())[0].GetErrCode() != 0, "%s exists now", e.GetParamPath())
	}
}

func setWildcardFailsPartial(t *T) {
	rows := t.made(subscription("set211"), subscription("set212"))
	res := t.setResults(true, obj(subs+"*.", req("Enable", "InvalidValue")))
	t.want(len(res) == 1, "%d results for one wildcard", len(res))
	t.failedInstances(res[0], "Enable", badValue...)
	for _, row := range rows {
		t.holds(row+"Enable", "true")
	}
}

// deleteAllSubscriptions empties the table, as tests of empty tables need it.
func (t *T) deleteAllSubscriptions() {
	t.delResults(true, subs+"*.")
	rows := t.rows(subs + "*.")
	t.want(len(rows) == 0, "the Subscription table still has %v", rows)
}
