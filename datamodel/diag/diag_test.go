package diag

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/datamodel"
	"twinspan/datamodel/providertest"
	"twinspan/datamodel/tr181"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loadSchema = sync.OnceValue(func() *datamodel.Schema {
	s, err := tr181.Load(nil)
	if err != nil {
		panic(err)
	}
	return s
})

// names is a resolver with a table.
type names map[string][]string

func (n names) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if host == "slow.test" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var out []netip.Addr
	for _, s := range n[host] {
		a := netip.MustParseAddr(s)
		if network == "ip4" && !a.Is4() || network == "ip6" && a.Is4() {
			continue
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, errors.New("no such host")
	}
	return out, nil
}

func (n names) LookupAddr(_ context.Context, addr string) ([]string, error) {
	for name, addrs := range n {
		if slices.Contains(addrs, addr) {
			return []string{name + "."}, nil
		}
	}
	return nil, errors.New("no name")
}

// provider makes one that resolves names by a table and does not wait.
func provider(t testing.TB, o Options) *Provider {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.names = names{"four.test": {"127.0.0.1"}, "six.test": {"::1"}, "both.test": {"::1", "127.0.0.1"}}
	p.pace = time.Millisecond
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// stored is a little tree.
func stored(kv ...string) func(string) string {
	return func(path string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == path {
				return kv[i+1]
			}
		}
		return ""
	}
}

func invocation(command string, kv ...string) datamodel.Invocation {
	inv := datamodel.Invocation{Command: command, Args: map[string]string{}}
	for i := 0; i < len(kv); i += 2 {
		inv.Args[kv[i]] = kv[i+1]
	}
	inv.Object = datamodel.ObjectRef{Path: command[:strings.LastIndexByte(command, '.')+1],
		Stored: stored("Device.IP.Interface.1.Name", "lo")}
	return inv
}

// runs runs a command that must not be an error, and checks that its output is that of the schema.
func runs(t *testing.T, p *Provider, command string, kv ...string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := p.Run(ctx, invocation(command, kv...))
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	checkOutput(t, command, out)
	return out
}

func checkOutput(t *testing.T, command string, out map[string]string) {
	t.Helper()
	m, ok := loadSchema().Lookup(command)
	if !ok || m.Command == nil {
		t.Fatalf("%s is no command", command)
	}
	for name, value := range out {
		i := slices.IndexFunc(m.Command.Outputs, func(a datamodel.Argument) bool { return a.Name == datamodel.SupportedPath(name) })
		if i < 0 {
			t.Errorf("%s: %s is no output argument", command, name)
		} else if canonical, err := m.Command.Outputs[i].Facts.Canonical(value); err != nil || canonical != value && m.Command.Outputs[i].Facts.Type != datamodel.TypeDateTime {
			t.Errorf("%s: %s = %q is not canonical: %q, %v", command, name, value, canonical, err)
		}
	}
}

// complete checks that every output argument of the schema is there.
func checkWhole(t *testing.T, command string, out map[string]string) {
	t.Helper()
	m, _ := loadSchema().Lookup(command)
	have := map[string]bool{}
	for name := range out {
		have[datamodel.SupportedPath(name)] = true
	}
	for _, a := range m.Command.Outputs {
		if !strings.HasSuffix(a.Name, ".") && !have[a.Name] {
			t.Errorf("%s: the output argument %s is missing", command, a.Name)
		}
	}
}

// fails runs a command that must be an error of a reason.
func fails(t *testing.T, p *Provider, want datamodel.Reason, command string, kv ...string) {
	t.Helper()
	out, err := p.Run(context.Background(), invocation(command, kv...))
	if err == nil || datamodel.ReasonOf(err) != want {
		t.Errorf("%s %v: got %v, %v, want %v", command, kv, out, err, want)
	}
}

func TestSuite(t *testing.T) {
	p := provider(t, Options{LogFiles: []LogFile{LogFileFrom("/etc/hostname")}, ConfigFiles: []ConfigFile{{Name: "config"}}})
	providertest.Run(t, providertest.Case{
		Provider: p, Schema: loadSchema(), MinValues: 28,
		Writes: []datamodel.Write{{Path: echoConfig + "EchoPlusEnabled", Value: "true"}},
		Runs:   []datamodel.Invocation{invocation("Device.SelfTestDiagnostics()")},
	})
}

func TestWrongArguments(t *testing.T) {
	p := provider(t, Options{})
	for _, c := range [][]string{
		{"IPPing()", "Host", ""},
		{"IPPing()", "Host", "four.test", "NumberOfRepetitions", "1001"},
		{"IPPing()", "Host", "four.test", "Timeout", "3600001"},
		{"IPPing()", "Host", "four.test", "DataBlockSize", "65536"},
		{"IPPing()", "Host", "four.test", "DSCP", "64"},
		{"IPPing()", "Host", "four.test", "ProtocolVersion", "IPv5"},
		{"IPPing()", "Host", "four.test", "Interface", "Device.IP.Interface.9"},
		{"TraceRoute()", "Host", "four.test", "NumberOfTries", "4"},
		{"TraceRoute()", "Host", "four.test", "MaxHopCount", "65"},
		{"UDPEchoDiagnostics()", "Host", "four.test", "Port", "65536"},
		{"ServerSelectionDiagnostics()", "HostList", "", "Protocol", "ICMP"},
		{"ServerSelectionDiagnostics()", "HostList", "1,2,3,4,5,6,7,8,9,10,11", "Protocol", "ICMP"},
		{"ServerSelectionDiagnostics()", "HostList", "four.test", "Protocol", "TCP"},
		{"DownloadDiagnostics()", "DownloadURL", "gopher://four.test/"},
		{"DownloadDiagnostics()", "DownloadURL", "http://four.test:x/"},
		{"DownloadDiagnostics()", "DownloadURL", "http://four.test/", "NumberOfConnections", "9"},
		{"DownloadDiagnostics()", "DownloadURL", "http://four.test/", "TimeBasedTestDuration", "900", "TimeBasedTestMeasurementInterval", "1"},
		{"UploadDiagnostics()", "UploadURL", "http://four.test/"},
		{"UploadDiagnostics()", "UploadURL", "http://four.test/", "TestFileLength", "99999999999999"},
	} {
		fails(t, p, datamodel.InvalidArgs, ipDiag+c[0], c[1:]...)
	}
	fails(t, p, datamodel.InvalidArgs, dnsDiag+"NSLookupDiagnostics()", "HostName", "a..b", "DNSServer", "127.0.0.1")
	fails(t, p, datamodel.InvalidArgs, dnsDiag+"NSLookupDiagnostics()", "HostName", "a.b", "NumberOfRepetitions", "101")
	fails(t, p, datamodel.NotImplemented, ipDiag+"DownloadDiagnostics()", "DownloadURL", "ftp://four.test/x")
	fails(t, p, datamodel.NotSupported, "Device.Reboot()")
}

func TestLimitsOfRuns(t *testing.T) {
	p := provider(t, Options{MaxRuns: 1})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	started := make(chan struct{})
	p.names = blocking{started}
	go func() {
		_, err := p.Run(ctx, invocation(ipDiag+"IPPing()", "Host", "x.test"))
		done <- err
	}()
	<-started
	fails(t, p, datamodel.Resources, ipDiag+"IPPing()", "Host", "x.test")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// Close ends what runs and refuses more.
	p.names = blocking{started}
	go func() {
		_, err := p.Run(context.Background(), invocation(ipDiag+"IPPing()", "Host", "x.test"))
		done <- err
	}()
	<-started
	go p.Close()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	fails(t, p, datamodel.Resources, ipDiag+"IPPing()", "Host", "x.test")
}

// blocking resolves nothing until the context ends.
type blocking struct{ started chan struct{} }

func (b blocking) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	b.started <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}
func (blocking) LookupAddr(context.Context, string) ([]string, error) { return nil, errors.New("none") }

func TestTimeLimit(t *testing.T) {
	p := provider(t, Options{MaxTime: 50 * time.Millisecond})
	out := runs(t, p, ipDiag+"IPPing()", "Host", "slow.test")
	if out["Status"] != errOther { // IPPing has no word for it
		t.Errorf("got %v", out)
	}
}

func TestParseOptions(t *testing.T) {
	o, err := ParseOptions(map[string]any{"reset_interface": []any{"/bin/true", "x"}, "log_files": []any{"/var/log/messages"},
		"max_time": "5m", "max_bytes": int64(1000), "max_runs": int64(3), "spool": "/tmp"})
	if err != nil || o.MaxTime != 5*time.Minute || o.MaxBytes != 1000 || o.MaxRuns != 3 || len(o.LogFiles) != 1 ||
		!slices.Equal(o.ResetInterface, []string{"/bin/true", "x"}) || o.MaxTransferTime != 15*time.Minute {
		t.Errorf("%+v %v", o, err)
	}
	for key, v := range map[string]any{"reset_interface": "x", "reset_stats": []any{1}, "self_test": []any{""}, "max_time": "x",
		"max_transfer_time": "-1s", "max_bytes": int64(0), "max_runs": "1", "spool": 1, "other": 1,
		"log_files": []any{"a", "a"}} {
		if _, err := ParseOptions(map[string]any{key: v}); err == nil || !strings.Contains(err.Error(), "diag") {
			t.Errorf("%s=%v: %v", key, v, err)
		}
	}
}
