package usp

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/cmd/internal/conform"
	"twinspan/usp/mtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const agentID = "os::00005E-CONFORM1"

var agentBinary = struct {
	once sync.Once
	path string
	err  error
}{}

// buildAgent builds the real agent once for all tests.
func buildAgent(t *testing.T) string {
	t.Helper()
	agentBinary.once.Do(func() {
		agentBinary.path = filepath.Join(t.TempDir(), "twinspan")
		out, err := exec.Command("go", "build", "-o", agentBinary.path, "twinspan/cmd/twinspan").CombinedOutput()
		if err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	})
	return agentBinary.path
}

func run(t *testing.T, cfg Config) *conform.Report {
	t.Helper()
	cfg.AgentID, cfg.Dir, cfg.Quick = agentID, t.TempDir(), true
	report, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := report.Table(&b); err != nil {
		t.Fatal(err)
	}
	t.Log(b.String())
	return report
}

func TestAgent(t *testing.T) {
	binary := buildAgent(t)
	t.Run("ws", func(t *testing.T) {
		pass := 0
		for _, r := range run(t, Config{MTP: "ws", Agent: Process(binary), Only: "1.*"}).Results() {
			if r.Verdict == conform.Fail {
				t.Errorf("%s: %s %s", r.ID, r.Verdict, r.Reason)
			}
			if r.Verdict == conform.Pass {
				pass++
			}
		}
		if pass < 94 {
			t.Errorf("only %d tests passed", pass)
		}
	})
	t.Run("mosquitto", func(t *testing.T) { // over TLS
		if _, err := exec.LookPath("mosquitto"); err != nil && os.Getenv("TWINSPAN_NO_PEERS") == "1" {
			t.Skip("mosquitto is not installed, and TWINSPAN_NO_PEERS=1 excuses it")
		}
		if err := run(t, Config{MTP: "mqtt", Broker: Mosquitto, Agent: Process(binary), Only: "1.1,1.52,1.61,2.9,11.12"}).Err(); err != nil {
			t.Error(err)
		}
	})
	t.Run("another agent", func(t *testing.T) { otherAgent(t, binary) })
	t.Run("planted faults", func(t *testing.T) { plantedFaults(t, binary) })
}

// otherAgent drives an agent that the runner knows nothing of but a command.
func otherAgent(t *testing.T, binary string) {
	script := filepath.Join(t.TempDir(), "agent.sh")
	text := `
[ "$CONFORM_RESET" = 1 ] && rm -rf data
cat >agent.toml <<END
[device]
manufacturer_oui = "00005E"
[bridge]
phase = "usp-only"
[cwmp]
enabled = false
[usp]
endpoint_id = "$CONFORM_AGENT_ID"
allow_plaintext = true
[[usp.controller]]
endpoint_id = "$CONFORM_CONTROLLER_1_ID"
[usp.controller.websocket]
host = "$CONFORM_CONTROLLER_1_HOST"
port = $CONFORM_CONTROLLER_1_PORT
path = "/usp"
[[usp.controller]]
endpoint_id = "$CONFORM_CONTROLLER_2_ID"
[usp.controller.websocket]
host = "$CONFORM_CONTROLLER_2_HOST"
port = $CONFORM_CONTROLLER_2_PORT
path = "/usp"
END
exec "$1" run --config agent.toml --data "$PWD/data"
`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	verdicts := map[string]conform.Verdict{}
	for _, r := range run(t, Config{MTP: "ws", Agent: Command("sh " + script + " " + binary), Only: "1.1,1.61,7.9"}).Results() {
		verdicts[r.ID] = r.Verdict
	}
	if verdicts["1.1"] != conform.Pass || verdicts["1.61"] != conform.Pass || verdicts["7.9"] != conform.NotShown {
		t.Errorf("%v", verdicts)
	}
}

// plantedFaults makes the agent lie, in messages and below them, and wants the runner to see it. Runs wait more than they
// work, so there are more of them at a time than processors.
func plantedFaults(t *testing.T, binary string) {
	type planted struct {
		name, id string
		cfg      Config
		hit      *atomic.Bool
	}
	var all []planted
	for _, f := range faults {
		for _, id := range f.ids {
			hit := new(atomic.Bool)
			alter := func(tr mtp.Transport) mtp.Transport { return &liar{Transport: tr, lie: f.lie, hit: hit} }
			all = append(all, planted{f.name, id, Config{MTP: "ws", Alter: alter}, hit})
		}
	}
	all = append(all, planted{"signatures that are not checked", "2.7", Config{MTP: "ws", Alter: func(tr mtp.Transport) mtp.Transport { return unsigned{tr} }}, nil},
		planted{"dates that are not checked", "2.8", Config{MTP: "mqtt", Agent: func(dir string) Agent { return timeless{Process(binary)(dir)} }}, nil})
	for _, f := range lowFaults {
		all = append(all, planted{f.name, f.id, Config{MTP: f.mtp, packets: f.packets, frames: f.frames}, nil})
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 6)
	for _, f := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(f.id+" "+f.name, func(t *testing.T) {
				if f.cfg.Agent == nil {
					f.cfg.Agent = Process(binary)
				}
				f.cfg.Only, f.cfg.Features, f.cfg.patience = f.id, DefaultFeatures+",30", 3*time.Second
				res := run(t, f.cfg).Results()
				if f.hit != nil && !f.hit.Load() {
					t.Error("nothing was altered")
				}
				if len(res) != 1 || res[0].Verdict != conform.Fail {
					t.Errorf("the runner did not see it: %+v", res)
				}
			})
		})
	}
	wg.Wait()
}

func TestCatalogueIsComplete(t *testing.T) {
	all, err := Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	levels, ids := map[string]int{}, map[string]bool{}
	for _, c := range all {
		levels[c.Level]++
		ids[c.ID] = true
	}
	// The plan has 230 headings: 83 mandatory, 128 conditional, 17 deprecated, 2 empty.
	if len(all) != 230 || levels["M"] != 83 || levels["C"] != 128 || levels["D"] != 17 || levels["P"] != 2 {
		t.Errorf("%d checks: %v", len(all), levels)
	}
	for id := range tests {
		if !ids[id] {
			t.Errorf("procedure %s has no row in the catalogue", id)
		}
	}
	for id := range notShown {
		if !ids[id] || tests[id].run != nil {
			t.Errorf("%s has a procedure, or is not in the catalogue", id)
		}
	}
}

func TestFeatures(t *testing.T) {
	got, err := features("1-3, 12,2.6")
	if err != nil || len(got) != 5 || !got["2"] || !got["12"] || !got["2.6"] {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"", "x", "3-1", "0", "1-", "1-100", "2.99"} {
		if _, err := features(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestJudge(t *testing.T) {
	all, err := Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	claimed, _ := features("3,36,2.7")
	for _, c := range []struct{ id, mtp, verdict, reason string }{
		{"1.69", "ws", "not applicable", "without a procedure"},
		{"5.1", "ws", "not applicable", "deprecated"},
		{"11.2", "ws", "not applicable", "another MTP"},
		{"7.1", "mqtt", "not applicable", "another MTP"},
		{"1.10", "ws", "not applicable", "feature 31"},
		{"9.10", "ws", "not applicable", "feature 10, 30"},
		{"2.6", "ws", "not applicable", "feature 24"},
		{"2.7", "ws", "not shown", "runner configures"}, // named itself, so that it applies
		{"1.54", "ws", "not shown", "quick"},
		{"1.78", "ws", "not applicable", "feature 7"},
		{"1.1", "ws", "", ""},
		{"11.1", "mqtt", "", ""}, // 35 or 36
	} {
		row, err := conform.Select(all, c.id)
		if err != nil {
			t.Fatal(err)
		}
		res, ok := judge(row[0], claimed, &Config{MTP: c.mtp, Quick: true, Agent: Command("")})
		if ok != (c.verdict == "") || !ok && (string(res.Verdict) != c.verdict || !strings.Contains(res.Reason, c.reason)) {
			t.Errorf("%s over %s: %v %s %s", c.id, c.mtp, ok, res.Verdict, res.Reason)
		}
	}
}
