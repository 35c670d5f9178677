package conform

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

const someChecks = "id\tarea\tlevel\tneeds\ttitle\nA-1\tA\tM\tacs\tfirst\nA-2\tA\tS\tacs\tsecond\nB-1\tB\tO\tacs+lan\tthird | <x>\n"

func TestCatalogue(t *testing.T) {
	all, err := ParseCatalogue(someChecks)
	if err != nil || len(all) != 3 || all[2].Needs != "acs+lan" {
		t.Fatalf("%v %v", all, err)
	}
	for _, bad := range []string{"id\tarea\n", someChecks + "A-1\tA\tM\tacs\tagain\n", someChecks + "short\n", someChecks + "\tA\tM\tacs\tno id\n"} {
		if _, err := ParseCatalogue(bad); err == nil {
			t.Errorf("accepted: %q", bad)
		}
	}
	for _, c := range []struct {
		only string
		want int
	}{{"", 3}, {"A-*", 2}, {"A-1, B-1", 2}, {"B-1", 1}, {"C-*", -1}, {"[", -1}} {
		got, err := Select(all, c.only)
		if (err != nil) != (c.want < 0) || err == nil && len(got) != c.want {
			t.Errorf("%q: %v %v", c.only, got, err)
		}
	}
}

func TestReport(t *testing.T) {
	all, err := ParseCatalogue(someChecks)
	if err != nil {
		t.Fatal(err)
	}
	r := NewReport("TEST", "a device", all)
	if r.Err() == nil {
		t.Error("an empty report is fine")
	}
	r.Add(Result{Check: all[2], Verdict: NotShown, Reason: "no LAN"})
	r.Add(Result{Check: all[0], Verdict: Pass, Observed: []string{"seen\nthat"}})
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	r.Add(Result{Check: all[1], Verdict: Fail, Reason: "wrong"})
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "A-2") {
		t.Error(err)
	}
	if got, want := r.Summary(), "1 pass, 1 fail, 0 not applicable, 1 not shown"; got != want {
		t.Errorf("%q", got)
	}
	if res := r.Results(); res[0].ID != "A-1" || res[2].ID != "B-1" {
		t.Errorf("order: %v", res)
	}
	var table, md, js bytes.Buffer
	if err := r.Table(&table); err != nil || strings.Count(table.String(), "\n") != 5 {
		t.Errorf("%v\n%s", err, &table)
	}
	if err := r.Markdown(&md); err != nil || !strings.Contains(md.String(), `| B-1 | O | third \| &lt;x> | not shown | no LAN |`) || !strings.Contains(md.String(), "| A | 1 | 1 | 0 | 0 |") {
		t.Errorf("%v\n%s", err, &md)
	}
	var back struct {
		OK      bool
		Count   map[string]int
		Results []Result
	}
	if err := r.JSON(&js); err != nil || json.Unmarshal(js.Bytes(), &back) != nil || back.OK || back.Count["pass"] != 1 || back.Results[1].Reason != "wrong" {
		t.Errorf("%v %+v", err, back)
	}
}
