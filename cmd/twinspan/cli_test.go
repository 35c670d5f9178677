package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestSplitLeavesSearchExpressionsAlone(t *testing.T) {
	for _, c := range []struct{ in, name, value string }{
		{`Device.Time.Enable=true`, "Device.Time.Enable", "true"},
		{`Device.IP.Interface.[Name=="eth0"].Enable=false`, `Device.IP.Interface.[Name=="eth0"].Enable`, "false"},
		{`A.B=x=y`, "A.B", "x=y"},
		{`A.B=`, "A.B", ""},
	} {
		name, value, err := split(c.in)
		if err != nil || name != c.name || value != c.value {
			t.Errorf("split(%q) = %q, %q, %v; want %q, %q", c.in, name, value, err, c.name, c.value)
		}
	}
	if _, _, err := split("Device.Time.Enable"); err == nil {
		t.Error("no = and no error")
	}
}

func TestJournalFromOutputArguments(t *testing.T) {
	got := journalFrom(map[string]string{
		"Entry.1.Revision": "7", "Entry.1.Writer": "cwmp", "Entry.1.Kind": "set",
		"Entry.1.Change.1.Path": "Device.A", "Entry.1.Change.1.Operation": "set", "Entry.1.Change.1.OldValue": "1", "Entry.1.Change.1.NewValue": "2",
		"Entry.2.Revision": "8", "Entry.2.Change.1.Path": "Device.B",
	})
	if len(got) != 2 || got[0].Revision != 7 || got[0].Writer != "cwmp" || len(got[0].Changes) != 1 || got[0].Changes[0].New != "2" || got[1].Changes[0].Path != "Device.B" {
		t.Errorf("%+v", got)
	}
}

func TestExitStatus(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no.sock")
	for _, c := range []struct {
		args []string
		want int
		text string
	}{
		{nil, exitUsage, "usage:"},
		{[]string{"frobnicate"}, exitUsage, "unknown command"},
		{[]string{"get"}, exitUsage, "a path is needed"},
		{[]string{"set", "Device.X"}, exitUsage, "NAME=VALUE"},
		{[]string{"get", "--nonsense", "x"}, exitUsage, "nonsense"},
		{[]string{"get", "--socket", missing, "Device."}, exitUnreachable, "cannot reach the agent"},
		{[]string{"store", "check", missing}, exitFailed, "no.sock"},
		{[]string{"run"}, exitUsage, "--config"},
		{[]string{"version"}, exitDone, ""},
	} {
		var out, errOut bytes.Buffer
		if got := dispatch(t.Context(), c.args, &out, &errOut); got != c.want || !strings.Contains(errOut.String(), c.text) {
			t.Errorf("%v: exit %d, %q; want %d and %q", c.args, got, errOut.String(), c.want, c.text)
		}
	}
}

func TestConfigErrorsNameFileKeyAndValue(t *testing.T) {
	for _, c := range []struct{ toml, want string }{
		{"[bridge]\nphase = \"sideways\"", `bridge.phase = "sideways": must be one of`},
		{"[bridge]\nfase = \"shadow\"", "unknown key bridge.fase"},
		{"[cwmp]\nurl = \"http://acs/\"", "cwmp.allow_plaintext"},
		{"[cwmp]\nbasic_over_http = true", "cwmp.allow_plaintext"},
		{"[cwmp]\nurl = \"ftp://acs/\"", "must be an http or https URL"},
		{"[cwmp]\nconnection_request_listen = \":77777\"", "cwmp.connection_request_listen"},
		{"[cwmp]\nconnection_request_listen = \"7547\"", "cwmp.connection_request_listen"},
		{"[cwmp]\ntimeout = \"soon\"", "soon"},
		{"[limits]\nsoap_bytes = 5", "limits.soap_bytes = 5: must be at least 32768"},
		{"[[usp.controller]]\nendpoint_id = \"self::a\"", "exactly one of mqtt and websocket"},
		{"[[usp.controller]]\nendpoint_id = \"self::a\"\n[usp.controller.mqtt]\nhost = \"b\"\ncontroller_topic = \"t\"", "usp.allow_plaintext"},
		{"[device]\nmanufacturer_oui = \"12\"", "6 upper-case hex digits"},
		{"data = ", "toml"},
		{"[[bridge.rule]]\non_conflict = \"last\"", "id and path are needed"},
	} {
		file := filepath.Join(t.TempDir(), "agent.toml")
		if err := os.WriteFile(file, []byte(c.toml), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadConfig(file)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: error %v, want %q and the file's name", c.toml, err, c.want)
		}
	}
}

func TestRoleOfController(t *testing.T) {
	const row = "Device.LocalAgent.Controller.1.AssignedRole"
	for role, want := range map[string]string{
		"": "Device.LocalAgent.ControllerTrust.Role.1", "Full Access": "Device.LocalAgent.ControllerTrust.Role.1",
		"Device.LocalAgent.ControllerTrust.Role.1.": "Device.LocalAgent.ControllerTrust.Role.1", "Ful Access": "", "Device.LocalAgent.ControllerTrust.Role.9.": "",
	} {
		c := defaultConfig()
		c.USP.Controller = []ControllerConfig{{EndpointID: "self::a", Role: role, WebSocket: &WebSocketConfig{Host: "h", Port: 443, Path: "/usp", TLS: true}}}
		p, err := c.loadProfile()
		switch {
		case want == "":
			if err == nil || !strings.Contains(err.Error(), role) || !strings.Contains(err.Error(), "Full Access") {
				t.Errorf("%q: error %v", role, err)
			}
		case err != nil || p.Factory[row] != want:
			t.Errorf("%q: %v, error %v", role, p, err)
		}
	}
}

func TestExampleConfigurationsAreValid(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.toml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, f := range files {
		if _, err := loadConfig(f); err != nil {
			t.Error(err)
		}
	}
}

func TestASecretFileThatOthersCanReadIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readSecret(file); err != nil || got != "s3cret" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret(file); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error %v", err)
	}
}

func TestPolicyCheck(t *testing.T) {
	var out, errOut strings.Builder
	if got := dispatch(t.Context(), []string{"policy", "check", "../../configs/policies/operator-default.toml"}, &out, &errOut); got != exitDone {
		t.Fatalf("exit %d: %s", got, errOut.String())
	}
	if !strings.Contains(out.String(), `policy "operator-default", 4 rules`) || strings.Contains(out.String(), "warning") {
		t.Errorf("%s", out.String())
	}
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("version = 1\n[[rule]]\nid = 'a'\npath = 'Device.**.X'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := dispatch(t.Context(), []string{"policy", "check", bad}, &out, &errOut); got != exitFailed || !strings.Contains(errOut.String(), "** is allowed at the end only") {
		t.Errorf("exit %d: %s", got, errOut.String())
	}
	if got := dispatch(t.Context(), []string{"policy", "guess"}, &out, &errOut); got != exitUsage {
		t.Errorf("exit %d", got)
	}
}

// configs/agent.toml explains every key.
func TestExampleExplainsEveryKey(t *testing.T) {
	text, err := os.ReadFile("../../configs/agent.toml")
	if err != nil {
		t.Fatal(err)
	}
	var keys func(typ reflect.Type)
	keys = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			keys(typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				key := typ.Field(i).Tag.Get("toml")
				if key == "" {
					continue
				}
				if !regexp.MustCompile(`(?m)^(# )?` + key + ` *=|^(# )?\[+([a-z_]+\.)*` + key + `[.\]]`).Match(text) {
					t.Errorf("%s of %s is not explained", key, typ)
				}
				keys(typ.Field(i).Type)
			}
		}
	}
	keys(reflect.TypeFor[Config]())
}
