package discovery

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"twinspan/datamodel/dhcp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sub(first uint16, values ...string) []dhcp.SubOption {
	var out []dhcp.SubOption
	for i, v := range values {
		if v != "-" {
			out = append(out, dhcp.SubOption{Code: first + uint16(i), Value: []byte(v)})
		}
	}
	return out
}

func v43(t testing.TB, values ...string) []byte {
	b, err := dhcp.AppendV4(nil, sub(1, values...)...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func v125(t testing.TB, enterprise uint32, first uint16, values ...string) []byte {
	b, err := dhcp.AppendV4Vendor(nil, dhcp.VendorOption{Enterprise: enterprise, SubOptions: sub(first, values...)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func v17(t testing.TB, enterprise uint32, values ...string) []byte {
	b, err := dhcp.AppendV6Vendor(nil, dhcp.VendorOption{Enterprise: enterprise, SubOptions: sub(1, values...)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	const a, b = "http://a.example/", "https://b.example:7547/x?y"
	for name, c := range map[string]struct {
		in   dhcp.Options
		want Result
	}{
		"43":              {dhcp.Options{V4Encapsulated: v43(t, a, "p.1", "7", "3000")}, Result{a, "p.1", 7, 3000, "DHCPv4 option 43", ""}},
		"43 bare":         {dhcp.Options{V4Encapsulated: []byte(b + "\x00")}, Result{URL: b, Source: "DHCPv4 option 43"}},
		"125":             {dhcp.Options{V4Vendor: v125(t, 3561, 11, a, "p", "65535", "65535")}, Result{a, "p", 65535, 65535, "DHCPv4 option 125", ""}},
		"125 association": {dhcp.Options{V4Vendor: v125(t, 3561, 1, a, "p")}, Result{Source: "DHCPv4 option 125"}},
		"125 stranger":    {dhcp.Options{V4Vendor: v125(t, 9, 11, a)}, Result{Source: "DHCPv4 option 125"}},
		"17":              {dhcp.Options{V6Vendor: [][]byte{v17(t, 9, b), v17(t, 3561, a, "p")}}, Result{URL: a, ProvisioningCode: "p", Source: "DHCPv6 option 17"}},
		"125 before 43":   {dhcp.Options{V4Vendor: v125(t, 3561, 11, a), V4Encapsulated: v43(t, b)}, Result{URL: a, Source: "DHCPv4 option 125"}},
		"43 has the URL":  {dhcp.Options{V4Vendor: v125(t, 3561, 11, "-", "p"), V4Encapsulated: v43(t, b)}, Result{URL: b, Source: "DHCPv4 option 43"}},
		"only a code":     {dhcp.Options{V4Encapsulated: v43(t, "-", "p")}, Result{ProvisioningCode: "p", Source: "DHCPv4 option 43"}},
		"broken 125":      {dhcp.Options{V4Vendor: []byte{1}, V4Encapsulated: v43(t, b)}, Result{URL: b, Source: "DHCPv4 option 43"}},
		"bad values": {dhcp.Options{V4Encapsulated: v43(t, "ftp://a/", strings.Repeat("p", 65), "0", "999")},
			Result{Source: "DHCPv4 option 43", Refused: "URL, ProvisioningCode, retry minimum, retry multiplier"}},
		"one bad value": {dhcp.Options{V4Encapsulated: v43(t, a, "p\n", "-1", "70000")}, Result{URL: a, Source: "DHCPv4 option 43", Refused: "ProvisioningCode, retry minimum, retry multiplier"}},
		"user in URL":   {dhcp.Options{V4Encapsulated: v43(t, "http://u:p@a/")}, Result{Source: "DHCPv4 option 43", Refused: "URL"}},
		"nothing":       {dhcp.Options{}, Result{}},
	} {
		got, err := Decode(c.in)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	if _, err := Decode(dhcp.Options{V4Vendor: []byte{1}}); err == nil {
		t.Error("only a broken option")
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	broken, empty := write("broken", "opt43=z"), write("empty", "ip=1\n")
	good := write("good", "opt43=http://acs.example/\n")
	if r, err := Read(filepath.Join(dir, "none"), broken, empty, good); err != nil || r.URL != "http://acs.example/" {
		t.Error(r, err)
	}
	if _, err := Read(broken); err == nil {
		t.Error("broken file")
	}
	if r, err := Read(empty); err != nil || !r.Empty() {
		t.Error(r, err)
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var found []string
		w, err := New(Config{Files: []string{path}, Found: func(r Result) { mu.Lock(); found = append(found, r.URL); mu.Unlock() }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = w.Run(ctx) })
		for _, text := range []string{"", "opt43=http://a/", "opt43=http://a/\n", "opt43=z", "opt43=http://b/", ""} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(11 * time.Second)
			synctest.Wait()
		}
		cancel()
		wg.Wait()
		if got := strings.Join(found, " "); got != "http://a/ http://b/ " {
			t.Errorf("%q", got)
		}
	})
}

func TestValidate(t *testing.T) {
	found := func(Result) {}
	for name, c := range map[string]Config{
		"Files": {Found: found}, "Found": {Files: []string{"x"}}, "Every": {Files: []string{"x"}, Found: found, Every: -1},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(v43(f, "http://a/", "p", "5", "2000"), v125(f, 3561, 11, "http://a/"), v17(f, 3561, "http://a/"))
	f.Add([]byte("http://a/"), []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		r, err := Decode(dhcp.Options{V4Encapsulated: a, V4Vendor: b, V6Vendor: [][]byte{c}})
		if err != nil && !r.Empty() {
			t.Fatal("an error and a result")
		}
		if r.URL != "" && !usableURL(r.URL) || len(r.ProvisioningCode) > maxProvisioningCode || r.RetryMultiplier != 0 && r.RetryMultiplier < 1000 {
			t.Fatalf("%+v", r)
		}
	})
}
