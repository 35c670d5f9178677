package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAStoryStopsAtTheFirstStepThatWasNotObserved(t *testing.T) {
	var out strings.Builder
	st := &story{out: &out, start: time.Now()}
	ran := 0
	ok := func(context.Context, *scene) error { ran++; return nil }
	results := st.play(t.Context(), []step{
		{"ACS", "first", func(_ context.Context, s *scene) error { s.Observe("seen %d", 1); return ok(nil, s) }},
		{"agent", "second", func(context.Context, *scene) error { ran++; return errors.New("nothing came") }},
		{"agent", "third", ok},
	}, time.Second)
	if ran != 2 {
		t.Errorf("ran %d steps, want 2", ran)
	}
	if results[0].OK != true || results[1].OK || results[2].OK || results[2].Error != errNotReached.Error() {
		t.Errorf("results %+v", results)
	}
	if err := verdict(results); err == nil || !strings.Contains(err.Error(), "second") {
		t.Errorf("verdict %v, want the second step named", err)
	}
	for _, want := range []string{"first", "seen 1", "FAILED: nothing came"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("timeline lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "third") {
		t.Errorf("timeline shows a step that was not reached:\n%s", out.String())
	}
}

func TestAStepThatPanicsOrHangsFails(t *testing.T) {
	st := &story{start: time.Now()}
	for name, do := range map[string]func(context.Context, *scene) error{
		"panics": func(context.Context, *scene) error { panic("broken") },
		"hangs":  func(ctx context.Context, _ *scene) error { <-ctx.Done(); return ctx.Err() },
	} {
		if r := st.play(t.Context(), []step{{"x", name, do}}, 20*time.Millisecond); r[0].OK || r[0].Error == "" {
			t.Errorf("%s: %+v", name, r[0])
		}
	}
}
