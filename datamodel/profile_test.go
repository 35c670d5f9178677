package datamodel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseProfile(t *testing.T) {
	p, err := ParseProfile([]byte(`
name = "box"
supports = ["Device.IP.", "-Device.IP.Interface.{i}.Stats."]
[factory]
"Device.IP.Interface.1.Enable" = "true"
[max_rows]
"Device.IP.Interface." = 8
"Device.IP.Interface.{i}.IPv4Address." = 4
[providers.linux]
root = "/"
`))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "box" || len(p.Supports) != 2 || p.Factory["Device.IP.Interface.1.Enable"] != "true" ||
		p.MaxRows["Device.IP.Interface."] != 8 || p.Providers["linux"]["root"] != "/" {
		t.Errorf("profile %+v", p)
	}
}

func TestProfileErrorsNameKeyAndFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "box.toml")
	for _, c := range []struct{ text, want string }{
		{`nmae = "box"`, "nmae: unknown key"},
		{"[providers]\nlinux = 3", "providers.linux: must be a table"},
		{"factory = 3", "factory: must be a table"},
		{"max_rows = [1]", "max_rows: must be a table"},
		{`supports = "Device."`, "supports"},
		{`supports = ["Device.", 7]`, "supports"},
		{`supports = ["IP."]`, `supports[0]: "IP." must start with "Device."`},
		{`supports = ["Device.", "-Device.IP.Interface.1."]`, `supports[1]: "-Device.IP.Interface.1." names a row`},
		{`supports = ["Device.IP.Interface.*."]`, "supports[0]"},
		{`supports = [""]`, "supports[0]"},
		{`supports = ["Device..IP"]`, "empty path element"},
		{"[factory]\n\"Device.IP.\" = \"x\"", `factory."Device.IP.": a value needs a parameter`},
		{"[factory]\n\"IP.X\" = \"x\"", `factory."IP.X"`},
		{"[factory]\n\"Device.X\" = 3", "factory"},
		{"[max_rows]\n\"Device.IP.Interface\" = 3", `max_rows."Device.IP.Interface"`},
		{"[max_rows]\n\"Device.IP.Interface.{i}.\" = 3", "a limit needs a table"},
		{"[max_rows]\n\"Device.IP.Interface.\" = 0", "must be at least 1"},
		{"name = ", "line 1"},
		{strings.Repeat("#", maxProfileBytes+1), "larger than"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadProfile(file)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%.60q: error %v, expected %s", c.text, err, c.want)
		}
	}
	if _, err := LoadProfile(file + ".none"); err == nil || !strings.Contains(err.Error(), "box.toml.none") {
		t.Errorf("missing file: %v", err)
	}
}

func TestSupportedLastMatchCounts(t *testing.T) {
	p := &Profile{Supports: []string{
		"Device.IP.",
		"-Device.IP.Interface.",
		"Device.IP.Interface.{i}.Stats.",
		"-Device.IP.Interface.{i}.Stats.Reset()",
		"Device.IP.Interface.{i}.Enable",
		"-Device.IP.Interface.{i}.Enable",
		"Device.IP.Interface.{i}.Enable",
		"Device.Time.Client.{i}.Status",
		"Device.Hosts.Host.",
		"-Device.Hosts.",
		"Device.Boot!",
	}}
	for path, want := range map[string]bool{
		"Device.IP.IPv4Capable":                   true,
		"Device.IP.Interface.{i}.Name":            false,
		"Device.IP.Interface.{i}.Stats.BytesSent": true,
		"Device.IP.Interface.12.Stats.BytesSent":  true,
		"Device.IP.Interface.{i}.Stats.Reset()":   false,
		"Device.IP.Interface.{i}.Stats.":          true,
		"Device.IP.Interface.{i}.Enable":          true,
		"Device.IP.Interface.":                    true, // above something supported
		"Device.IP.Interface.{i}.IPv4Address.":    false,
		"Device.Time.":                            true,
		"Device.Time.Client.":                     true,
		"Device.Time.Client.{i}.":                 true,
		"Device.Time.Status":                      false,
		"Device.Hosts.":                           false, // taken away after its child
		"Device.Hosts.Host.{i}.":                  false,
		"Device.Boot!":                            true,
		"Device.Boot":                             false,
		"Device.":                                 true,
		"Device.IPsec.":                           false,
		"Device.IP.Interface.{i}.StatsX":          false,
	} {
		if got := p.Supported(path); got != want {
			t.Errorf("Supported(%s) = %v", path, got)
		}
	}
	if !(*Profile)(nil).Supported("Device.Anything") {
		t.Error("no profile supports everything")
	}
	if (&Profile{}).Supported("Device.IP.") {
		t.Error("an empty profile supports nothing")
	}
}

func TestUnmatchedPatternIsAnError(t *testing.T) {
	p := &Profile{Name: "box", Supports: []string{"Device.A.", "Device.B", "Device.A.", "-Device.C."}}
	sel := p.Selector()
	sel.Keep("Device.", "")
	sel.Keep("Device.A.{i}.", "X")
	sel.Keep("Device.", "B")
	err := sel.Unmatched()
	if err == nil || !strings.Contains(err.Error(), `box: supports[3]: "-Device.C."`) {
		t.Errorf("error %v", err)
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add([]byte(`name = "a"` + "\n" + `supports = ["Device.IP.", "-Device.IP.X"]`))
	f.Add([]byte("[factory]\n\"Device.X\" = \"1\"\n[max_rows]\n\"Device.T.\" = 1\n[providers.a]\nb = [1]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProfile(data)
		if err != nil {
			return
		}
		for _, s := range p.Supports {
			p.Supported(strings.TrimPrefix(s, "-"))
		}
	})
}
