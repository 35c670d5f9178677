package linux

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinspan/datamodel"
	"twinspan/datamodel/providertest"
	"twinspan/datamodel/tr181"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var fixtureTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600))

// fixture is a provider of the machine in testdata/host, or of a copy of it that a test may change.
func fixture(t *testing.T, root string, change func(*Options)) *Provider {
	t.Helper()
	o := Options{
		Root: root, Leases: "var/dhcp.leases", ManufacturerOUI: "00163E",
		Now: func() time.Time { return fixtureTime },
		IPv4: func(name string) ([]netip.Prefix, error) {
			return map[string][]netip.Prefix{
				"lo":   {netip.MustParsePrefix("127.0.0.1/8")},
				"eth0": {netip.MustParsePrefix("192.0.2.5/24"), netip.MustParsePrefix("192.0.2.6/32")},
				"lan":  {netip.MustParsePrefix("192.168.0.1/24")},
				"wg0":  {netip.MustParsePrefix("10.0.0.2/0")},
			}[name], nil
		},
	}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func schema(t *testing.T) *datamodel.Schema {
	t.Helper()
	s, err := tr181.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSuiteFixture(t *testing.T) {
	p := fixture(t, "testdata/host", nil)
	p.synced = func() (bool, error) { return true, nil }
	providertest.Run(t, providertest.Case{Provider: p, Schema: schema(t), MinValues: 100})
}

// TestSuiteMachine runs the suite on the machine that the tests run on, whatever it is.
func TestSuiteMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no procfs to read on " + runtime.GOOS)
	}
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	providertest.Run(t, providertest.Case{Provider: p, Schema: schema(t), MinValues: 20})
	if p.watch != nil && p.Changed() == nil {
		t.Error("no hints although there is a socket")
	}
}

// stored is the tree of a bridge: rows numbered from 11, so that number and order differ.
var stored = map[string]string{
	"Device.Ethernet.Interface.11.Name":              "eth0",
	"Device.Ethernet.Interface.12.Name":              "eth1",
	"Device.Ethernet.Interface.13.Name":              "gone0",
	"Device.Ethernet.Interface.14.Name":              "../../../../etc",
	"Device.IP.Interface.11.Name":                    "eth0",
	"Device.IP.Interface.12.Name":                    "lo",
	"Device.IP.Interface.13.Name":                    "lan",
	"Device.IP.Interface.14.Name":                    "wg0",
	"Device.IP.Interface.15.Name":                    "eth0",
	"Device.IP.Interface.15.LowerLayers":             "Device.Ethernet.Interface.99",
	"Device.IP.Interface.11.IPv4Address.3.IPAddress": "192.0.2.5",
	"Device.IP.Interface.11.IPv4Address.4.IPAddress": "198.51.100.1",
	"Device.IP.Interface.11.IPv6Address.1.IPAddress": "2001:db8::5",
	"Device.IP.Interface.11.IPv6Address.2.IPAddress": "2001:db8::abcd:ef01:2345:6789",
	"Device.IP.Interface.11.IPv6Address.3.IPAddress": "2001:db8::99",
	"Device.IP.Interface.11.IPv6Address.4.IPAddress": "fe80::200:ff:fe00:1",
}

func read(t *testing.T, p *Provider, path string) string {
	t.Helper()
	object, name := datamodel.SplitParam(path)
	got := "-"
	err := p.Read(t.Context(), datamodel.ObjectRef{Path: object, Stored: func(s string) string { return stored[s] }}, []string{name},
		func(_, v string) { got = v })
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return got
}

func TestValues(t *testing.T) {
	p := fixture(t, "testdata/host", nil)
	p.link = func(name string) (linkSettings, error) {
		if name == "eth0" {
			return linkSettings{duplex: "Auto", mbit: -1}, nil
		}
		return linkSettings{}, errors.New("not supported")
	}
	page := int64(os.Getpagesize())
	for path, want := range map[string]string{
		"DeviceInfo.UpTime":                            "93784",
		"DeviceInfo.Manufacturer":                      "Example Linux", // the vendor in DMI is a placeholder
		"DeviceInfo.ManufacturerOUI":                   "00163E",
		"DeviceInfo.ModelName":                         "Gateway 3000",
		"DeviceInfo.SerialNumber":                      "SN-0001",
		"DeviceInfo.HardwareVersion":                   "rev B",
		"DeviceInfo.SoftwareVersion":                   "23.05",
		"DeviceInfo.ProductClass":                      "-",
		"DeviceInfo.MemoryStatus.Total":                "254976",
		"DeviceInfo.MemoryStatus.Free":                 "120500",
		"DeviceInfo.ProcessStatus.CPUUsage":            "15",
		"DeviceInfo.ProcessStatus.Process.1.PID":       "1",
		"DeviceInfo.ProcessStatus.Process.1.Command":   "/sbin/init",
		"DeviceInfo.ProcessStatus.Process.1.Size":      unsigned32(300 * page / 1024),
		"DeviceInfo.ProcessStatus.Process.1.CPUTime":   "2000",
		"DeviceInfo.ProcessStatus.Process.1.State":     "Sleeping",
		"DeviceInfo.ProcessStatus.Process.1.Priority":  "20",
		"DeviceInfo.ProcessStatus.Process.42.Command":  "odd) name (x",
		"DeviceInfo.ProcessStatus.Process.42.Priority": "0",
		"DeviceInfo.ProcessStatus.Process.7.State":     "Idle",
		"DeviceInfo.ProcessStatus.Process.9.PID":       "-",
		"DeviceInfo.ProcessStatus.Process.8.PID":       "-",
		"Time.CurrentLocalTime":                        "2026-03-01T12:00:00+01:00",
		"Time.Status":                                  "-",
		"IP.IPv6Capable":                               "true",

		"Ethernet.Interface.11.Enable":                       "true",
		"Ethernet.Interface.11.Status":                       "Up",
		"Ethernet.Interface.11.Upstream":                     "true",
		"Ethernet.Interface.11.MACAddress":                   "02:00:00:00:00:01",
		"Ethernet.Interface.11.CurrentBitRate":               "1000",
		"Ethernet.Interface.11.DuplexMode":                   "Auto",
		"Ethernet.Interface.11.MaxBitRate":                   "-1",
		"Ethernet.Interface.12.DuplexMode":                   "-",
		"Ethernet.Interface.11.CurrentDuplexMode":            "Full",
		"Ethernet.Interface.11.Name":                         "-", // stored
		"Ethernet.Interface.11.Stats.BytesReceived":          "12884901988",
		"Ethernet.Interface.11.Stats.ErrorsReceived":         "500", // wrapped at 32 bits
		"Ethernet.Interface.11.Stats.Collisions":             "12884902888",
		"Ethernet.Interface.11.Stats.UnicastPacketsReceived": "-",
		"Ethernet.Interface.11.LastChange":                   "93784", // one change of the carrier since the start
		"Ethernet.Interface.12.LastChange":                   "0",
		"Ethernet.Interface.12.Enable":                       "false",
		"Ethernet.Interface.12.Status":                       "Down",
		"Ethernet.Interface.12.CurrentBitRate":               "0",
		"Ethernet.Interface.12.Upstream":                     "false",
		"Ethernet.Interface.13.Status":                       "NotPresent",
		"Ethernet.Interface.13.Stats.BytesSent":              "-",
		"Ethernet.Interface.14.MACAddress":                   "-",

		"IP.Interface.11.Type":                          "Normal",
		"IP.Interface.11.MaxMTUSize":                    "1500",
		"IP.Interface.11.LowerLayers":                   "Device.Ethernet.Interface.11",
		"IP.Interface.11.Stats.BytesSent":               "12884902088",
		"IP.Interface.11.IPv4Enable":                    "true",
		"IP.Interface.11.IPv6Enable":                    "true",
		"IP.Interface.13.IPv6Enable":                    "false",
		"IP.IPv6Status":                                 "Enabled",
		"IP.Interface.12.Type":                          "Loopback",
		"IP.Interface.12.Status":                        "Up",
		"IP.Interface.12.MaxMTUSize":                    "65535",
		"IP.Interface.12.LowerLayers":                   "-",
		"IP.Interface.13.LowerLayers":                   "-",
		"IP.Interface.14.Type":                          "Tunnel",
		"IP.Interface.14.Status":                        "Unknown",
		"IP.Interface.15.LowerLayers":                   "-", // a manager wrote it
		"IP.Interface.11.IPv4Address.3.Status":          "Enabled",
		"IP.Interface.11.IPv4Address.4.Status":          "Disabled",
		"IP.Interface.11.IPv6Address.1.IPAddressStatus": "Preferred",
		"IP.Interface.11.IPv6Address.1.Origin":          "DHCPv6",
		"IP.Interface.11.IPv6Address.2.IPAddressStatus": "Deprecated",
		"IP.Interface.11.IPv6Address.2.Origin":          "AutoConfigured",
		"IP.Interface.11.IPv6Address.3.IPAddressStatus": "Invalid",
		"IP.Interface.11.IPv6Address.3.Origin":          "-",
		"IP.Interface.11.IPv6Address.4.Status":          "Enabled",
	} {
		if got := read(t, p, "Device."+path); got != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
}

func TestRows(t *testing.T) {
	p := fixture(t, "testdata/host", nil)
	rows, err := p.Rows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		text := strings.TrimSuffix(strings.TrimPrefix(r.Table, "Device."), "Interface.") + r.Values["Name"]
		for _, s := range r.Sub {
			text += " " + s.Values["IPAddress"]
			if m := s.Values["SubnetMask"]; m != "" {
				text += "/" + m
			}
		}
		got = append(got, text)
	}
	want := []string{
		"Ethernet.eth0", "Ethernet.eth1",
		"IP.eth0 192.0.2.5/255.255.255.0 192.0.2.6/255.255.255.255 fe80::200:ff:fe00:1 2001:db8::5 2001:db8::abcd:ef01:2345:6789",
		"IP.lan 192.168.0.1/255.255.255.0",
		"IP.lo 127.0.0.1/255.0.0.0 ::1",
		"IP.wg0 10.0.0.2/0.0.0.0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestIgnore(t *testing.T) {
	p := fixture(t, "testdata/host", func(o *Options) { o.Ignore = []string{"*"} })
	if rows, err := p.Rows(t.Context()); err != nil || len(rows) != 0 {
		t.Error(rows, err)
	}
	if _, err := New(Options{Root: "testdata/host", Ignore: []string{"["}}); err == nil {
		t.Error("a bad pattern was taken")
	}
	if _, err := New(Options{Root: "testdata/nothing"}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// copyHost copies the fixture, so that a test can change files.
func copyHost(t *testing.T) string {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/host")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCPUUsage(t *testing.T) {
	root, now := copyHost(t), fixtureTime
	p := fixture(t, root, func(o *Options) { o.Now = func() time.Time { return now } })
	write := func(line string) {
		if err := os.WriteFile(filepath.Join(root, "proc/stat"), []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get := func() string { return read(t, p, "Device.DeviceInfo.ProcessStatus.CPUUsage") }
	if got := get(); got != "15" {
		t.Errorf("since the start: %s", got)
	}
	write("cpu  1090 0 500 8010 500 0 0 0 0 0\n") // 90 busy of 100
	now = now.Add(100 * time.Millisecond)
	if got := get(); got != "15" {
		t.Errorf("too early: %s", got)
	}
	now = now.Add(time.Second)
	if got := get(); got != "90" {
		t.Errorf("over a second: %s", got)
	}
	write("cpu garbage\n")
	if got := get(); got != "-" {
		t.Errorf("garbage: %s", got)
	}
}

func TestHosts(t *testing.T) {
	root, now := copyHost(t), fixtureTime
	p := fixture(t, root, func(o *Options) { o.Now = func() time.Time { return now } })
	list := func(table string) []uint32 {
		ns, err := p.Instances(t.Context(), table)
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	arp := func(lines ...string) {
		text := "IP address HW type Flags HW address Mask Device\n" + strings.Join(lines, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(root, "proc/net/arp"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(hostTab); !slices.Equal(got, []uint32{1, 2}) {
		t.Fatal(got)
	}
	for name, want := range map[string]string{
		"1.PhysAddress": "AA:BB:CC:00:00:10", "1.IPAddress": "192.168.0.10", "1.Active": "true", "1.HostName": "laptop",
		"1.InterfaceType": "Other", "1.Layer3Interface": "Device.IP.Interface.13", "1.Layer1Interface": "-",
		"1.ActiveLastChange": datamodel.UnknownTime, "2.Active": "false", "2.HostName": "", "1.IPv4Address.2.IPAddress": "192.168.0.12",
	} {
		if got := read(t, p, hostTab+name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got := list(hostTab + "1.IPv4Address."); !slices.Equal(got, []uint32{1, 2}) {
		t.Error(got)
	}
	// 11 leaves, 14 comes, 10 keeps its number and loses its first address.
	now = now.Add(time.Minute)
	arp("192.168.0.14 0x1 0x2 aa:bb:cc:00:00:14 * lan", "192.168.0.12 0x1 0x0 AA:BB:CC:00:00:10 * lan")
	if got := list(hostTab); !slices.Equal(got, []uint32{1, 3}) {
		t.Error(got)
	}
	if got := list(hostTab + "1.IPv4Address."); !slices.Equal(got, []uint32{2}) {
		t.Error(got)
	}
	if a, b := read(t, p, hostTab+"1.Active"), read(t, p, hostTab+"1.ActiveLastChange"); a != "false" || b != "2026-03-01T11:01:00Z" {
		t.Error(a, b)
	}
	// 11 comes back: a number that meant another host before is not used again.
	arp("192.168.0.11 0x1 0x2 aa:bb:cc:00:00:11 * lan")
	if got := list(hostTab); !slices.Equal(got, []uint32{4}) {
		t.Error(got)
	}
	only := fixture(t, "testdata/host", func(o *Options) { o.HostInterfaces = []string{"eth*"} })
	if got, _ := only.Instances(t.Context(), hostTab); len(got) != 0 {
		t.Error(got)
	}
}

func TestPrepare(t *testing.T) {
	p := fixture(t, "testdata/host", nil)
	read(t, p, "Device.IP.Interface.11.Status") // the bridge shows what it lets write
	read(t, p, "Device.Ethernet.Interface.11.Status")
	for _, tt := range []struct {
		w  datamodel.Write
		ok bool
	}{
		{datamodel.Write{Path: "Device.IP.Interface.11.Enable", Value: "true"}, true},
		{datamodel.Write{Path: "Device.IP.Interface.11.Enable", Value: "false"}, false},
		{datamodel.Write{Path: "Device.IP.Interface.11.MaxMTUSize", Value: "1500"}, true},
		{datamodel.Write{Path: "Device.IP.Interface.11.MaxMTUSize", Value: "1400"}, false},
		{datamodel.Write{Path: "Device.IP.Interface.11.IPv6Enable", Value: "false"}, false},
		{datamodel.Write{Path: "Device.IP.IPv4Enable", Value: "true"}, true},
		{datamodel.Write{Path: "Device.IP.IPv4Enable", Value: "false"}, false},
		{datamodel.Write{Path: "Device.Ethernet.Interface.11.Enable", Value: "true"}, true},
		{datamodel.Write{Path: "Device.Ethernet.Interface.11.Enable", Value: "false"}, false},
		{datamodel.Write{Path: "Device.Ethernet.Interface.99.Enable", Value: "true"}, false},
		{datamodel.Write{Path: "Device.IP.Interface.11.IPv4Address.4.", Added: true}, false},
		{datamodel.Write{Path: "Device.IP.Interface.11.IPv4Address.3.", Deleted: true}, false},
		{datamodel.Write{Path: "Device.IP.Interface.11.IPv4Address.3.IPAddress", Value: "192.0.2.99"}, false},
		{datamodel.Write{Path: "Device.IP.Interface.11.IPv4Address.3.Alias", Value: "wan"}, true},
	} {
		err := p.Prepare(t.Context(), []datamodel.Write{tt.w})
		if (err == nil) != tt.ok || err != nil && datamodel.ReasonOf(err) != datamodel.NotImplemented {
			t.Errorf("%+v: %v", tt.w, err)
		}
	}
}

func TestLastChange(t *testing.T) {
	root, now := copyHost(t), fixtureTime
	p := fixture(t, root, func(o *Options) { o.Now = func() time.Time { return now } })
	operstate := func(s string) {
		if err := os.WriteFile(filepath.Join(root, "sys/class/net/eth0/operstate"), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get := func() string { return read(t, p, "Device.IP.Interface.11.LastChange") }
	get()
	operstate("down")
	if _, err := p.Rows(t.Context()); err != nil { // what a hint leads to
		t.Fatal(err)
	}
	now = now.Add(90 * time.Second)
	if got := get(); got != "90" {
		t.Errorf("down for %s s", got)
	}
	operstate("up")
	if got := get(); got != "0" {
		t.Errorf("up for %s s", got)
	}
}

func TestTimeStatus(t *testing.T) {
	p := fixture(t, "testdata/host", nil)
	var ok bool
	var err error
	p.synced = func() (bool, error) { return ok, err }
	if got := read(t, p, "Device.Time.Status"); got != "Unsynchronized" {
		t.Error(got)
	}
	ok = true
	if got := read(t, p, "Device.Time.Status"); got != "Synchronized" {
		t.Error(got)
	}
	err = errors.New("no")
	if got := read(t, p, "Device.Time.Status"); got != "Error" {
		t.Error(got)
	}
	stored["Device.Time.Enable"] = "false"
	defer delete(stored, "Device.Time.Enable")
	if got := read(t, p, "Device.Time.Status"); got != "Disabled" {
		t.Error(got)
	}
}

func TestParseOptions(t *testing.T) {
	o, err := ParseOptions(map[string]any{"manufacturer": "Acme", "manufacturer_oui": "00163E", "root": "/host",
		"ignore": []any{"x*"}, "host_interfaces": []any{}})
	if err != nil || o.Manufacturer != "Acme" || o.Root != "/host" || !slices.Equal(o.Ignore, []string{"x*"}) || o.HostInterfaces == nil {
		t.Errorf("%+v %v", o, err)
	}
	for _, bad := range []map[string]any{{"manufacturer": 1}, {"nonsense": ""}, {"ignore": "x"}, {"ignore": []any{1}}, {"ignore": []any{"["}}} {
		if _, err := ParseOptions(bad); err == nil || !strings.HasPrefix(err.Error(), "linux: ") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{" ab\x00\x01c\n": "abc", "äöüß": "äöü", "a\xffb": "ab", "": ""} {
		if got := clip(in, 3); got != want {
			t.Errorf("%q -> %q", in, got)
		}
	}
}
