package usp

import (
	"slices"
	"strings"

	"twinspan/usp/uspmsg"
)

type (
	getResult = uspmsg.GetResp_RequestedPathResult
	getObject = uspmsg.GetResp_ResolvedPathResult
	instance  = uspmsg.GetInstancesResp_CurrInstance
)

const local = "Device.LocalAgent."

func getTests() map[string]test {
	// search makes rows with these NotifExpiration values and wants those that match an expression.
	search := func(expr string, values []string, match ...int) func(t *T) {
		return func(t *T) {
			t.deleteAllSubscriptions()
			var objs []object
			for i, v := range values {
				objs = append(objs, subscription("get"+string(rune('a'+i)), req("NotifExpiration", v)))
			}
			rows := t.made(objs...)
			var want []string
			for _, i := range match {
				want = append(want, rows[i])
			}
			slices.Sort(want)
			got := t.rows(subs + "[" + expr + "].")
			t.want(slices.Equal(got, want), "[%s] gives %v instead of %v", expr, got, want)
		}
	}
	enabled := func(expr string, want int) func(t *T) {
		return func(t *T) {
			t.deleteAllSubscriptions()
			rows := t.made(subscription("get1"), obj(subs, req("ID", "get2"), req("Enable", "false"), req("NotifType", "ValueChange"), req("ReferenceList", local+"SoftwareVersion")))
			got := t.rows(subs + "[" + expr + "].")
			t.want(len(got) == 1 && got[0] == rows[want], "[%s] gives %v instead of %s", expr, got, rows[want])
		}
	}
	nothing := func(path string) func(t *T) {
		return func(t *T) {
			t.deleteAllSubscriptions()
			t.ok(t.get(path)[0], 0)
		}
	}
	return map[string]test{
		"1.36": {run: func(t *T) {
			o := t.ok(t.get(local + "EndpointID")[0], 1)[0]
			t.object(o, local, "EndpointID")
			t.want(o.GetResultParams()["EndpointID"] == t.cfg.AgentID, "EndpointID %q", o.GetResultParams()["EndpointID"])
		}},
		"1.37": {run: func(t *T) {
			res := t.get(local+"EndpointID", local+"SoftwareVersion")
			t.object(t.ok(res[0], 1)[0], local, "EndpointID")
			t.object(t.ok(res[1], 1)[0], local, "SoftwareVersion")
		}},
		"1.38": {run: func(t *T) {
			row := t.made(subscription("get38"))[0]
			res := t.get(local+"EndpointID", row+"Enable")
			t.object(t.ok(res[0], 1)[0], local, "EndpointID")
			t.object(t.ok(res[1], 1)[0], row, "Enable")
		}},
		"1.39": {run: func(t *T) {
			t.made(subscription("get39"))
			t.tree(t.get(local)[0])
		}},
		"1.40": {run: func(t *T) {
			row := t.made(subscription("get40"))[0]
			o := t.ok(t.get(row)[0], -1)
			t.want(len(o) >= 1, "nothing resolved")
			t.object(o[0], row)
			for _, more := range o[1:] {
				t.want(strings.HasPrefix(more.GetResolvedPath(), row), "%s is not below %s", more.GetResolvedPath(), row)
			}
		}},
		"1.41": {run: func(t *T) {
			t.fits(t.get(local + "InvalidParameter")[0].GetErrCode(), append(noParameter, 7016))
		}},
		"1.42": {run: func(t *T) {
			res := t.get(local+"EndpointID", local+"InvalidParameter")
			t.object(t.ok(res[0], 1)[0], local, "EndpointID")
			t.fits(res[1].GetErrCode(), append(noParameter, 7016))
		}},
		"1.43": {run: func(t *T) {
			row := t.made(subscription("get43"))[0]
			t.object(t.ok(t.get(subs + `[ID=="get43"&&Recipient=="` + t.value(row+"Recipient") + `"].Enable`)[0], 1)[0], row, "Enable")
		}},
		"1.44": {run: func(t *T) {
			t.made(subscription("get441"), subscription("get442"))
			res := t.ok(t.get(subs + "*.Enable")[0], -1)
			t.want(len(res) >= 2, "%d rows", len(res))
			for _, o := range res {
				t.want(numeric.MatchString(o.GetResolvedPath()), "resolved_path %q", o.GetResolvedPath())
				t.object(o, o.GetResolvedPath(), "Enable")
			}
		}},
		"1.45": {run: func(t *T) {
			rows := t.made(subscription("get451"), subscription("get452"))
			got := t.ok(t.get(subs + "*.")[0], -1)
			for _, row := range rows {
				i := slices.IndexFunc(got, func(o *getObject) bool { return o.GetResolvedPath() == row })
				t.want(i >= 0, "%s is missing", row)
				for _, name := range []string{"Enable", "ID", "NotifType", "ReferenceList", "Recipient", "NotifRetry", "Persistent"} {
					_, there := got[i].GetResultParams()[name]
					t.want(there, "%s lacks %s", row, name)
				}
			}
		}},
		"1.46": {run: enabled("Enable==true", 0)},
		"1.47": {run: enabled("Enable!=true", 1)},
		"1.48": {run: search("NotifExpiration>10", []string{"10", "20"}, 1)},
		"1.49": {run: search("NotifExpiration<10", []string{"5", "10"}, 0)},
		"1.50": {run: search("NotifExpiration>=10", []string{"5", "10", "20"}, 1, 2)},
		"1.51": {run: search("NotifExpiration<=10", []string{"5", "10", "20"}, 0, 1)},
		"1.66": {run: func(t *T) {
			for _, i := range t.instances(true, ctls)[0].GetCurrInsts() {
				t.want(strings.Count(i.GetInstantiatedObjPath(), ".") == 4, "%s is no direct row", i.GetInstantiatedObjPath())
			}
		}},
		"1.67": {run: func(t *T) {
			direct, nested := 0, 0
			for _, i := range t.instances(false, ctls)[0].GetCurrInsts() {
				if strings.Count(i.GetInstantiatedObjPath(), ".") == 4 {
					direct++
				} else {
					nested++
				}
			}
			t.want(direct >= 1 && nested >= 1, "%d rows of the table and %d below", direct, nested)
		}},
		"1.68": {run: func(t *T) {
			mtps := local + "MTP."
			if t.cfg.MTP == "ws" && len(t.rows(mtps+"*.")) == 0 {
				t.made(obj(mtps, req("Enable", "false")))
			}
			for _, r := range t.instances(true, ctls, mtps) {
				t.want(len(r.GetCurrInsts()) >= 1, "%s has no rows", r.GetRequestedPath())
			}
		}},
		"1.70": {run: func(t *T) {
			res := t.instances(true, ctls+"*.MTP.")
			t.want(slices.ContainsFunc(res[0].GetCurrInsts(), func(i *instance) bool {
				return strings.HasPrefix(i.GetInstantiatedObjPath(), ctls) && strings.Contains(i.GetInstantiatedObjPath(), ".MTP.")
			}), "no Controller.{i}.MTP.{i} among %v", res[0].GetCurrInsts())
		}},
		"1.71": {run: func(t *T) {
			row := t.controllerRow(t.main)
			made := t.made(bootParameter(row+"BootParameter.", local+"EndpointID", "true"))[0]
			res := t.instances(true, ctls+`[Alias=="`+t.value(row+"Alias")+`"].BootParameter.`)
			t.want(slices.ContainsFunc(res[0].GetCurrInsts(), func(i *instance) bool { return i.GetInstantiatedObjPath() == made }), "%s is not listed", made)
		}},
		"1.82": {run: nothing(subs + "[Enable==true].")},
		"1.83": {run: func(t *T) {
			res := t.instances(true, ctls+`[Alias=="no-such-alias"].BootParameter.`)
			t.want(len(res[0].GetCurrInsts()) == 0, "instances: %v", res[0].GetCurrInsts())
		}},
		"1.86": {run: func(t *T) {
			t.deleteAllSubscriptions()
			t.made(obj(subs, req("ID", "get86"), req("Enable", "false"), req("NotifType", "ValueChange"), req("ReferenceList", local+"SoftwareVersion")))
			t.ok(t.get(subs + "[Enable==true].")[0], 0)
		}},
		"1.87": {run: nothing(subs)},
		"1.89": {run: getDepth},
	}
}

// instances asks GetInstances and checks that every result is in order.
func (t *T) instances(firstLevel bool, paths ...string) []*uspmsg.GetInstancesResp_RequestedPathResult {
	m := t.ask(t.main, &uspmsg.Request{ReqType: &uspmsg.Request_GetInstances{GetInstances: &uspmsg.GetInstances{ObjPaths: paths, FirstLevelOnly: firstLevel}}})
	res := t.response(m).GetGetInstancesResp().GetReqPathResults()
	t.want(len(res) == len(paths), "%d results for %d paths", len(res), len(paths))
	for i, r := range res {
		t.want(r.GetRequestedPath() == paths[i], "requested_path %q instead of %q", r.GetRequestedPath(), paths[i])
		t.want(r.GetErrCode() == 0, "%s: err_code %d %s", r.GetRequestedPath(), r.GetErrCode(), r.GetErrMsg())
		for _, c := range r.GetCurrInsts() {
			t.want(numeric.MatchString(c.GetInstantiatedObjPath()), "instantiated_obj_path %q", c.GetInstantiatedObjPath())
			for k := range c.GetUniqueKeys() {
				t.want(!strings.Contains(k, "."), "unique key %q of %s is not relative", k, c.GetInstantiatedObjPath())
			}
		}
	}
	return res
}

// tree checks a whole subtree: one result for each object, none twice.
func (t *T) tree(r *getResult) map[string]bool {
	seen := map[string]bool{}
	for _, o := range t.ok(r, -1) {
		t.want(!seen[o.GetResolvedPath()], "%s came twice", o.GetResolvedPath())
		seen[o.GetResolvedPath()] = true
		t.want(strings.HasPrefix(o.GetResolvedPath(), r.GetRequestedPath()), "%s is not below %s", o.GetResolvedPath(), r.GetRequestedPath())
	}
	t.want(seen[local], "%s itself is missing", local)
	return seen
}

func getDepth(t *T) {
	row := t.made(subscription("get89"))[0]
	at := func(depth uint32) map[string]bool {
		seen := t.tree(t.getMsg(t.main, depth, local)[0])
		t.see("max_depth %d: %d objects", depth, len(seen))
		return seen
	}
	one, two, all := at(1), at(2), at(0)
	t.want(len(one) == 1, "max_depth 1 gives %d objects", len(one))
	t.want(two[row], "max_depth 2 lacks the row %s", row)
	for p := range two {
		rest := strings.Split(strings.TrimSuffix(strings.TrimPrefix(p, local), "."), ".")
		sub := len(rest) == 1 || len(rest) == 2 && strings.Trim(rest[1], "0123456789") == ""
		t.want(sub, "max_depth 2 holds %s", p)
	}
	deeper := false
	for p := range all {
		deeper = deeper || strings.Contains(p, ".MTP.") && strings.HasPrefix(p, ctls)
	}
	t.want(len(all) > len(two) && deeper, "max_depth 0 gives %d objects", len(all))
}
