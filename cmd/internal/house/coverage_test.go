package house

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"sort"
	"strings"
	"testing"
)

// idPattern finds requirement ids beside the lines that enforce them.
var idPattern = regexp.MustCompile(`\b(R-[A-Z0-9]{2,5}\.[0-9]+[a-z]?|TR-069 (?:[0-9A-Z]+\.)+[0-9]+|TP-469 [0-9]+\.[0-9]+)\b`)

// TestCoverageTable makes docs/coverage.md: which requirement stands beside which code, and which tests name it.
func TestCoverageTable(t *testing.T) {
	code, tests := map[string]map[string]bool{}, map[string]map[string]bool{}
	note := func(m map[string]map[string]bool, id, file string) {
		if m[id] == nil {
			m[id] = map[string]bool{}
		}
		m[id][file] = true
	}
	for _, f := range sources(t) {
		if f.pkg == "cmd/internal/house" {
			continue
		}
		for _, group := range f.ast.Comments {
			for _, id := range idPattern.FindAllString(group.Text(), -1) {
				if f.test {
					note(tests, id, f.path)
				} else {
					note(code, id, f.path)
				}
			}
		}
	}
	gist := requirements(t)
	for id := range code {
		if _, known := gist[id]; strings.HasPrefix(id, "R-") && !known {
			t.Errorf("%v names %s, which TR-369 1.4.1 does not have", keys(code[id]), id)
		}
	}

	var b strings.Builder
	b.WriteString("# Requirements beside the code\n\nMade by `go test ./cmd/internal/house -run TestCoverageTable -update` from the ids in comments. An id stands beside the line that\nenforces it; a requirement without a row here is not claimed.\n")
	for _, part := range []struct{ title, prefix string }{{"USP (TR-369 1.4.1)", "R-"}, {"CWMP (TR-069 Amendment 6)", "TR-069"}, {"USP test plan (TP-469 1.4.0)", "TP-469"}} {
		var ids []string
		for id := range code {
			if strings.HasPrefix(id, part.prefix) {
				ids = append(ids, id)
			}
		}
		for id := range tests {
			if strings.HasPrefix(id, part.prefix) && code[id] == nil {
				ids = append(ids, id)
			}
		}
		sort.Slice(ids, func(i, j int) bool { return natural(ids[i]) < natural(ids[j]) })
		fmt.Fprintf(&b, "\n## %s\n\n", part.title)
		if part.prefix == "R-" {
			must, have := 0, 0
			for id, g := range gist {
				if g.level == "MUST" && g.who != "controller" {
					must++
					if code[id] != nil || tests[id] != nil {
						have++
					}
				}
			}
			fmt.Fprintf(&b, "%d of the %d MUST requirements on agents are named.\n\n", have, must)
		}
		b.WriteString("| id | what | code | tests |\n|---|---|---|---|\n")
		for _, id := range ids {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", id, strings.ReplaceAll(gist[id].text, "|", "\\|"), strings.Join(keys(code[id]), " "), strings.Join(keys(tests[id]), " "))
		}
	}
	compare(t, "docs/coverage.md", b.String())
}

type requirement struct{ level, who, text string }

// requirements reads the list of TR-369 requirements, in our own words.
func requirements(t *testing.T) map[string]requirement {
	t.Helper()
	data, err := os.ReadFile("testdata/usp-requirements.tsv")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]requirement{}
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		f := strings.Split(line, "\t")
		if i == 0 {
			continue
		}
		if len(f) != 5 {
			t.Fatalf("line %d has %d columns", i+1, len(f))
		}
		out[f[0]] = requirement{level: f[2], who: f[3], text: f[4]}
	}
	return out
}

func keys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, path.Clean(k))
	}
	sort.Strings(out)
	return out
}

var digits = regexp.MustCompile(`[0-9]+`)

// natural makes numbers sort by value: R-GET.10 after R-GET.2.
func natural(s string) string {
	return digits.ReplaceAllStringFunc(s, func(d string) string { return fmt.Sprintf("%06s", d) })
}
