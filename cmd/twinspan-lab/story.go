package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// errNotReached marks steps behind one that failed.
var errNotReached = errors.New("not reached")

// step is one scene of a story. Do returns what was observed, in a sentence; an error means it was not.
type step struct {
	Actor string // who acts: ACS, controller A, agent, ...
	Title string
	Do    func(ctx context.Context, s *scene) error
}

// scene collects what a step observed; its lines appear indented below the step.
type scene struct {
	lines []string
	live  func(string)
}

// Observe adds a line of evidence.
func (s *scene) Observe(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	s.lines = append(s.lines, line)
	if s.live != nil {
		s.live(line)
	}
}

// stepResult is the record of one step for --json.
type stepResult struct {
	Step     int      `json:"step"`
	Actor    string   `json:"actor"`
	Title    string   `json:"title"`
	OK       bool     `json:"ok"`
	AtMillis int64    `json:"at_ms"`
	Millis   float64  `json:"took_ms"`
	Observed []string `json:"observed"`
	Error    string   `json:"error,omitempty"`
}

// story plays steps in order; after a failed one the rest is not reached.
type story struct {
	out   io.Writer // timeline for people; nil for none
	start time.Time
	color bool
}

func (st *story) paint(code, text string) string {
	if !st.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// play runs the steps, each within stepTimeout, and returns one result for each.
func (st *story) play(ctx context.Context, steps []step, stepTimeout time.Duration) []stepResult {
	results := make([]stepResult, 0, len(steps))
	failed := false
	for i, sp := range steps {
		began := time.Now()
		r := stepResult{Step: i + 1, Actor: sp.Actor, Title: sp.Title, AtMillis: began.Sub(st.start).Milliseconds()}
		if failed {
			r.Error = errNotReached.Error()
			results = append(results, r)
			continue
		}
		st.header(r)
		sc := &scene{live: st.line}
		err := runStep(ctx, sp, sc, stepTimeout)
		r.Millis = float64(time.Since(began).Microseconds()) / 1000
		r.Observed, r.OK = sc.lines, err == nil
		if err != nil {
			r.Error = err.Error()
			failed = true
			st.line(st.paint("31", "FAILED: "+r.Error))
		}
		results = append(results, r)
	}
	return results
}

func runStep(ctx context.Context, sp step, sc *scene, timeout time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the step itself broke: %v", p)
		}
	}()
	return sp.Do(ctx, sc)
}

func (st *story) header(r stepResult) {
	if st.out != nil {
		fmt.Fprintf(st.out, "%s %s %s\n", st.paint("2", fmt.Sprintf("%6.2fs", float64(r.AtMillis)/1000)), st.paint("1;36", fmt.Sprintf("%-13s", r.Actor)), r.Title)
	}
}

func (st *story) line(text string) {
	if st.out != nil {
		for _, l := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
			fmt.Fprintf(st.out, "%23s%s\n", "", l)
		}
	}
}

// verdict is nil only if every step was observed.
func verdict(results []stepResult) error {
	for _, r := range results {
		if !r.OK {
			return fmt.Errorf("step %d (%s: %s): %s", r.Step, r.Actor, r.Title, r.Error)
		}
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
