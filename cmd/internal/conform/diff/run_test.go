package diff

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"twinspan/cmd/internal/conform"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTable(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "twinspan")
	if out, err := exec.Command("go", "build", "-o", binary, "twinspan/cmd/twinspan").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	report, err := Run(t.Context(), Config{Binary: binary, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := report.Table(&b); err != nil {
		t.Fatal(err)
	}
	t.Log(b.String())
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	if n := report.Count()[conform.Pass]; n < len(table) {
		t.Errorf("only %d of %d rows were compared", n, len(table))
	}
	t.Run("planted faults", func(t *testing.T) { plantedFaults(t, binary) })
}

// plantedFaults lets one face answer otherwise, or both alike where they should not, and wants the row red.
func plantedFaults(t *testing.T, binary string) {
	planted := map[string]struct{ face, label, outcome, reason string }{
		"get-parameter":  {"CWMP", "get", "ok Device.Time.LocalTimeZone=X", "CWMP"},
		"set-range":      {"USP", "set", "ok", "USP \"ok\""},
		"set-atomic":     {"CWMP", "state", "{row 1}.Servers=a.example", "state"},
		"add-full":       {"USP", "ninth", "ok", "ninth"},
		"delete-missing": {"CWMP", "delete", "ok", "declared"}, // the difference has gone
		"alias-bad":      {"", "state", "", "though a difference is declared"},
		"names":          {"", "Device.Time.", "unknown", "both say"},
	}
	var ids []string
	for id := range planted {
		ids = append(ids, id)
	}
	report, err := Run(t.Context(), Config{Binary: binary, Dir: t.TempDir(), Only: strings.Join(ids, ","), Alter: func(face, id, label, outcome string) string {
		if p := planted[id]; (p.face == "" || p.face == face) && p.label == label {
			return p.outcome
		}
		return outcome
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results() {
		if r.Verdict != conform.Fail || !strings.Contains(r.Reason, planted[r.ID].reason) {
			t.Errorf("%s: %s %s", r.ID, r.Verdict, r.Reason)
		}
	}
}
