package cwmp

import (
	"strings"
	"testing"
	"time"

	"twinspan/bridge"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	e := &bridge.Engine{}
	for _, tt := range []struct {
		o    Options
		want string // "" = good
	}{
		{Options{Engine: e, DataDir: "x"}, ""},
		{Options{DataDir: "x"}, "Engine"},
		{Options{Engine: e}, "DataDir"},
		{Options{Engine: e, DataDir: "x", MaxBody: 1000}, "MaxBody is 1000"},
		{Options{Engine: e, DataDir: "x", ReplyTimeout: time.Second}, "ReplyTimeout is 1s"},
		{Options{Engine: e, DataDir: "x", ReplyTimeout: 2 * time.Hour}, "ReplyTimeout is 2h"},
		{Options{Engine: e, DataDir: "x", SessionLimit: time.Second}, "SessionLimit 1s is shorter than ReplyTimeout"},
	} {
		err := tt.o.validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: %v", tt.o, err)
		}
	}
}

// Close before Run, twice, and Run after it.
func TestCloseWithoutRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.ended(1)
	if err := r.cpe.Run(t.Context()); err == nil {
		t.Error("a second Run was allowed")
	}
	c, err := New(Options{Engine: mustEngine(t), DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("Run after Close was allowed")
	}
}
