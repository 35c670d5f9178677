package house

import (
	"strings"
	"testing"

	"twinspan/bridge"
)

// TestCausalityTable keeps docs/causality.md equal to the table in the code.
func TestCausalityTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Who is told of what\n\nMade by `go test ./cmd/internal/house -run TestCausalityTable -update` from the table in `bridge/causality.go`.\n\n| Cause | The ACS sees | Controllers see |\n|---|---|---|\n")
	for i, c := range bridge.Causalities {
		if int(c.Cause) != i {
			t.Fatalf("row %d is that of cause %d", i, c.Cause)
		}
		b.WriteString("| " + c.Text + " | " + c.ACSText() + " | " + c.USPText() + " |\n")
	}
	compare(t, "docs/causality.md", b.String())
}
