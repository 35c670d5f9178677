package conform

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Verdict on one check.
type Verdict string

// The verdicts. A check without a Reason is Pass or Fail only; the others always say why.
const (
	Pass          Verdict = "pass"
	Fail          Verdict = "fail"
	NotApplicable Verdict = "not applicable" // the device does not have what the check is about, and may do without
	NotShown      Verdict = "not shown"      // it applies, but this run had no way to show it
)

// Verdicts in the order of reports.
var Verdicts = []Verdict{Pass, Fail, NotApplicable, NotShown}

// Check is one row of a catalogue.
type Check struct {
	ID    string `json:"id"`
	Area  string `json:"area"`
	Level string `json:"level"`           // as the catalogue has it: M, S, O, D
	Needs string `json:"needs,omitempty"` // what the bench must provide
	Title string `json:"title"`
}

// ParseCatalogue reads tab-separated rows of id, area, level, needs and title. The first row is the heading. Ids must be
// unique.
func ParseCatalogue(tsv string) ([]Check, error) {
	var out []Check
	seen := map[string]bool{}
	for i, line := range strings.Split(strings.TrimRight(tsv, "\n"), "\n") {
		f := strings.Split(line, "\t")
		if len(f) != 5 {
			return nil, fmt.Errorf("catalogue line %d: %d fields instead of 5", i+1, len(f))
		}
		if i == 0 {
			continue
		}
		if f[0] == "" || seen[f[0]] {
			return nil, fmt.Errorf("catalogue line %d: id %q is empty or there already", i+1, f[0])
		}
		seen[f[0]] = true
		out = append(out, Check{ID: f[0], Area: f[1], Level: f[2], Needs: f[3], Title: f[4]})
	}
	return out, nil
}

// Select keeps the checks whose id one of the comma-separated patterns matches (path.Match: SPV-03, GPN-*); an empty text
// keeps all. A pattern that matches nothing is an error.
func Select(all []Check, only string) ([]Check, error) {
	if only == "" {
		return all, nil
	}
	keep := map[string]bool{}
	for _, p := range strings.Split(only, ",") {
		found := false
		for _, c := range all {
			ok, err := path.Match(strings.TrimSpace(p), c.ID)
			if err != nil {
				return nil, fmt.Errorf("pattern %q: %w", p, err)
			}
			if ok {
				keep[c.ID], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("no check is called %q", p)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(c Check) bool { return !keep[c.ID] }), nil
}

// Result is the verdict on one check.
type Result struct {
	Check
	Verdict  Verdict  `json:"verdict"`
	Reason   string   `json:"reason,omitempty"`   // why it failed, does not apply or was not shown
	Observed []string `json:"observed,omitempty"` // evidence, oldest first
	Millis   int64    `json:"took_ms"`
}

// Report collects results. It is safe for concurrent use.
type Report struct {
	Name   string // of the catalogue, such as CWMP
	Target string // what was tested

	mu      sync.Mutex
	order   map[string]int
	started time.Time
	results []Result
}

// NewReport starts a report; results are listed in the order of the catalogue.
func NewReport(name, target string, catalogue []Check) *Report {
	r := &Report{Name: name, Target: target, order: map[string]int{}, started: time.Now()}
	for i, c := range catalogue {
		r.order[c.ID] = i
	}
	return r
}

// Add adds one result.
func (r *Report) Add(res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, res)
	slices.SortStableFunc(r.results, func(a, b Result) int { return cmp.Compare(r.order[a.ID], r.order[b.ID]) })
}

// Results in the order of the catalogue.
func (r *Report) Results() []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.results)
}

// Count returns how many results have each verdict.
func (r *Report) Count() map[Verdict]int {
	n := map[Verdict]int{}
	for _, res := range r.Results() {
		n[res.Verdict]++
	}
	return n
}

// Summary is the count as a sentence: "212 pass, 0 fail, 20 not applicable, 17 not shown".
func (r *Report) Summary() string {
	n := r.Count()
	var parts []string
	for _, v := range Verdicts {
		parts = append(parts, fmt.Sprintf("%d %s", n[v], v))
	}
	return strings.Join(parts, ", ")
}

// Err is nil only when there are results and none failed.
func (r *Report) Err() error {
	var failed []string
	for _, res := range r.Results() {
		if res.Verdict == Fail {
			failed = append(failed, res.ID)
		}
	}
	switch {
	case len(failed) > 0:
		return fmt.Errorf("%d of %d checks failed: %s", len(failed), len(r.Results()), strings.Join(failed, ", "))
	case len(r.Results()) == 0:
		return fmt.Errorf("no check was run")
	}
	return nil
}

// Line writes one result for people.
func Line(w io.Writer, res Result) error {
	text := res.Title
	if res.Reason != "" {
		text += ": " + res.Reason
	}
	_, err := fmt.Fprintf(w, "%-8s %-14s %s (%.1f s)\n", res.ID, res.Verdict, oneLine(text), float64(res.Millis)/1000)
	if err == nil && res.Verdict == Fail {
		for _, o := range res.Observed {
			if _, err = fmt.Fprintf(w, "%24s%s\n", "", oneLine(o)); err != nil {
				return err
			}
		}
	}
	return err
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Table writes all results for people, with the summary last.
func (r *Report) Table(w io.Writer) error {
	for _, res := range r.Results() {
		if err := Line(w, res); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%s %s: %s\n", r.Name, r.Target, r.Summary())
	return err
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{
		"catalogue": r.Name, "target": r.Target, "started": r.started.UTC().Format(time.RFC3339), "ok": r.Err() == nil,
		"count": r.Count(), "results": r.Results(),
	})
}

// Markdown writes a section for docs/conformance.md: the count, a table by area, and every result.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s: %s.\n", r.Name, r.Target, r.Summary())
	areas, byArea := []string{}, map[string]map[Verdict]int{}
	for _, res := range r.Results() {
		if byArea[res.Area] == nil {
			byArea[res.Area] = map[Verdict]int{}
			areas = append(areas, res.Area)
		}
		byArea[res.Area][res.Verdict]++
	}
	b.WriteString("\n| area | pass | fail | not applicable | not shown |\n|---|---|---|---|---|\n")
	for _, a := range areas {
		n := byArea[a]
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", a, n[Pass], n[Fail], n[NotApplicable], n[NotShown])
	}
	b.WriteString("\n| check | level | what | verdict | seen or reason |\n|---|---|---|---|---|\n")
	for _, res := range r.Results() {
		seen := res.Reason
		if seen == "" && len(res.Observed) > 0 {
			seen = res.Observed[len(res.Observed)-1]
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", res.ID, res.Level, cell(res.Title), res.Verdict, cell(seen))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// maxCell bounds a cell of the Markdown table, in bytes.
const maxCell = 240

func cell(s string) string {
	s = strings.ToValidUTF8(oneLine(s), "?")
	if len(s) > maxCell {
		s = strings.ToValidUTF8(s[:maxCell], "") + " ..."
	}
	return strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(s)
}
