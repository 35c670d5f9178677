package conversion

import (
	"os"
	"strings"
	"testing"
)

func lines(s ...string) string { return strings.Join(s, "\n") + "\n" }

var head = lines("twinspan-import 1", "source x", "model tr181", "bootstrapped yes")

func TestParseTakesTheExample(t *testing.T) {
	data, err := os.ReadFile("../../configs/old.import")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Values) != 12 || len(f.Transfers) != 1 || f.Transfers[0].Type != "1 Firmware Upgrade Image" || f.Next["Device.NAT.PortMapping."] != 12 ||
		f.Attrs["Device.NAT.PortMapping.7.ExternalPort"].Notification != 1 || f.ParameterKey != "subscriber-2024-11" {
		t.Errorf("%+v", f)
	}
	for i := range data { // cut off anywhere but before the newline after end
		if _, err := Parse(data[:i]); err == nil && i < len(data)-1 {
			t.Fatalf("cut off after %d bytes it was taken", i)
		}
	}
}

func TestParseTexts(t *testing.T) {
	f, err := Parse([]byte(head + `value Device.A.B "a \"q\" # \\ \u00e4 \x41"   # comment` + "\r\n" + `value Device.A.C bare origin=dhcp` + "\n" + `attr Device.A. notification=2 access=` + "\nend"))
	if err != nil {
		t.Fatal(err)
	}
	if f.Values[0].Value != "a \"q\" # \\ ä A" || f.Values[1].Value != "bare" || f.Values[1].Origin != "dhcp" {
		t.Errorf("%+v", f.Values)
	}
	if a := f.Attrs["Device.A."]; a.Notification != 2 || !a.HasAccess || len(a.AccessList) != 0 {
		t.Errorf("%+v", a)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "end",
		"source x\n":           "line 1: the first line",
		"twinspan-import 2\n":  "line 1: the first line",
		head:                   "not whole",
		head + "end\nrow D.1.": "line 6: text after end",
		"twinspan-import 1\nsource x\nmodel tr181\nend\n":                   "bootstrapped must be there",
		head + "model tr098\nend\n":                                         "line 5: model is there twice",
		head + "value InternetGatewayDevice.X y\nend\n":                     "does not begin with Device.",
		head + "value Device.A.B x\nvalue Device.A.B y\nend\n":              "line 6: value Device.A.B is there twice",
		head + "value Device.A. x\nend\n":                                   "not a parameter",
		head + "value Device.A.{i}.B x\nend\n":                              "not an instance path",
		head + "value Device..B x\nend\n":                                   "empty element",
		head + "value Device.A \"x\nend\n":                                  "closing quote",
		head + "value Device.A \"x\"y\nend\n":                               "right after a closing quote",
		head + "value Device.A \"\\q\"\nend\n":                              "closing quote",
		head + "attr Device.A notification=7\nend\n":                        "line 5: \"notification=7\"",
		head + "attr Device.A notification=-1\nend\n":                       "line 5: ",
		head + "row Device.A.1\nend\n":                                      "does not end in a dot",
		head + "next Device.A. 0\nend\n":                                    "next wants",
		head + "event \"0 BOOTSTRAP\"\nend\n":                               "event wants",
		head + "event \"M Reboot\"\nend\n":                                  "an M event has a key",
		head + "schedule-inform k 0001-01-01T00:00:00Z\nend\n":              "not a known time",
		head + "download k delivered fault=9010\nend\n":                     "without a fault",
		head + "download k queued\nend\n":                                   "has type= and url=",
		head + "schedule-download k queued type=a url=b\nend\n":             "cannot be taken over",
		head + "download k done fault=1\nend\n":                             "9000 to 9899",
		head + "download k done color=red\nend\n":                           "color",
		head + "parameter-key " + strings.Repeat("x", 33) + "\nend\n":       "more than 32 characters",
		head + "dance\nend\n":                                               "line 5: unknown statement",
		head + strings.Repeat("event \"2 PERIODIC\"\n", 65) + "end\n":       "more than 64 events",
		head + strings.Repeat("download k done\n", 17) + "end\n":            "at most 16 transfers",
		head + strings.Repeat("dance\n", 1) + "\xff":                        "UTF-8",
		head + "value Device." + strings.Repeat("A.", 40) + "B x\nend\n":    "too long",
		head + "value Device.A " + strings.Repeat("x", 1<<20+1) + "\nend\n": "more than 1048576 bytes",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want %q", text, err, want)
		}
	}
	if _, err := Parse(make([]byte, MaxFile+1)); err == nil {
		t.Error("a file that is too large was taken")
	}
}

func TestTranslate(t *testing.T) {
	f := &File{TR098: true}
	for from, to := range map[string]string{
		"InternetGatewayDevice.ManagementServer.URL":                          "Device.ManagementServer.URL",
		"InternetGatewayDevice.Time.LocalTimeZoneName":                        "Device.Time.LocalTimeZone",
		"InternetGatewayDevice.Time.LocalTimeZone":                            "",
		"InternetGatewayDevice.User.3.Password":                               "Device.Users.User.3.Password",
		"InternetGatewayDevice.User.3.":                                       "Device.Users.User.3.",
		"InternetGatewayDevice.UserInterface.TextColor":                       "",
		"InternetGatewayDevice.UserInterface.PasswordRequired":                "Device.UserInterface.PasswordRequired",
		"InternetGatewayDevice.Layer3Forwarding.Forwarding.2.DestIPAddress":   "Device.Routing.Router.1.IPv4Forwarding.2.DestIPAddress",
		"InternetGatewayDevice.Layer3Forwarding.Forwarding.2.Interface":       "",
		"InternetGatewayDevice.Layer3Forwarding.Forwarding.":                  "Device.Routing.Router.1.IPv4Forwarding.",
		"InternetGatewayDevice.WANDevice.1.WANDSLInterfaceConfig.Enable":      "",
		"InternetGatewayDevice.LANDevice.1.WLANConfiguration.1.KeyPassphrase": "",
		"InternetGatewayDevice.":                                              "Device.",
	} {
		if got, ok := f.translate(from); got != to || ok != (to != "") {
			t.Errorf("%s: %q %v, want %q", from, got, ok, to)
		}
	}
}

// Every leaf that TR-098 hides, and those of clients that name a secret otherwise, are recognised by name.
func TestSecrets(t *testing.T) {
	for _, name := range []string{"ConfigPassword", "ConnectionRequestPassword", "DevicePassword", "FileTransferPassword", "KeyPassphrase", "Password", "PreSharedKey", "STUNPassword",
		"WEPKey", "X_PSK", "WPSPin", "AccessToken", "SharedSecret"} {
		if !secret("InternetGatewayDevice.A.1." + name) {
			t.Errorf("%s does not count as a secret", name)
		}
	}
	if secret("InternetGatewayDevice.Password.1.SSID") {
		t.Error("an SSID counts as a secret")
	}
}

func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("../../configs/old.import")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(head + "attr Device.A notification=1 access=\"a,b\"\nend\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err != nil {
			return
		}
		if len(file.Transfers) > MaxTransfers || len(file.Events) > MaxEvents || len(file.Values) > MaxLines {
			t.Error("more than the limits")
		}
		for _, v := range file.Values {
			file.translate(v.Path)
		}
	})
}
