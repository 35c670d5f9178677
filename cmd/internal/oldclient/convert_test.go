package oldclient

import (
	"slices"
	"strings"
	"testing"

	"twinspan/bridge/conversion"
)

const easyUCI = `
config local
	option enable '1'
	option port 7547
	option username cr-user
	option password 'cr pass'   # of connection requests
	option provisioning_code ''

config acs
	option url http://192.0.2.1:8080/openacs/acs?a=1
	option username "easy"
	option password 'it'\''s'
	option parameter_key 'PK 1'
	option periodic_enable '1'
	option periodic_interval '100'
	option periodic_time '2024-01-01T03:07:11Z'

config device
	option software_version new

config notifications
	list passive 'Device.DeviceInfo.'
	list active 'Device.Time.NTPServer1'
	list none 'InternetGatewayDevice.X'
`

const easyBackup = `<backup_file><cwmp><acs_url>http://192.0.2.1:8080/openacs/acs?a=1</acs_url><software_version>old</software_version>
<transfer_complete><command_key>fw 1</command_key><fault_code>0</fault_code><fault_string></fault_string><start_time>2026-11-22T05:00:00+0000</start_time><complete_time>0001-01-01T00:00:00Z</complete_time><method_id>3</method_id></transfer_complete>
<event><event_number>13</event_number><event_key>fw 1</event_key><event_method_id>3</event_method_id></event>
<event><event_number>7</event_number><event_method_id>3</event_method_id></event>
<event><event_number>11</event_number><event_key>rb</event_key></event>
<transfer_complete><command_key>up</command_key><fault_code>9011</fault_code><fault_string>Upload failure</fault_string><start_time>2026-11-22T05:00:00Z</start_time><complete_time>2026-11-22T05:01:00Z</complete_time><method_id>4</method_id></transfer_complete>
<event><event_number>14</event_number><event_key>up</event_key><event_method_id>4</event_method_id></event>
<download><command_key>later</command_key><file_type>3 Vendor Configuration File</file_type><url>http://f.example/c&amp;d</url><username>u</username><password>p"w</password><file_size>77</file_size><time_execute>1795000000</time_execute></download>
</cwmp></backup_file>`

func convert(t *testing.T, client, uci, backup string, o Options) *conversion.File {
	t.Helper()
	text, err := Convert(client, []byte(uci), []byte(backup), o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := conversion.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}

func values(f *conversion.File) map[string]string {
	out := map[string]string{}
	for _, v := range f.Values {
		out[v.Path] = v.Value
	}
	return out
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for path, v := range want {
		if got[path] != v {
			t.Errorf("%s = %q, want %q", path, got[path], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d values, want %d: %v", len(got), len(want), got)
	}
}

func TestEasycwmp(t *testing.T) {
	f := convert(t, Easycwmp, easyUCI, easyBackup, Options{Version: "1.8"})
	same(t, values(f), map[string]string{
		"Device.ManagementServer.URL": "http://192.0.2.1:8080/openacs/acs?a=1", "Device.ManagementServer.Username": "easy", "Device.ManagementServer.Password": "it's",
		"Device.ManagementServer.PeriodicInformEnable": "true", "Device.ManagementServer.PeriodicInformInterval": "100", "Device.ManagementServer.PeriodicInformTime": "2024-01-01T03:07:11Z",
		"Device.ManagementServer.ConnectionRequestUsername": "cr-user", "Device.ManagementServer.ConnectionRequestPassword": "cr pass", "Device.DeviceInfo.SoftwareVersion": "old",
	})
	if f.Bootstrapped != conversion.Yes || f.BootstrapURL != "http://192.0.2.1:8080/openacs/acs?a=1" || f.ParameterKey != "PK 1" {
		t.Errorf("%s %q %q", f.Bootstrapped, f.BootstrapURL, f.ParameterKey)
	}
	if len(f.Attrs) != 2 || f.Attrs["Device.DeviceInfo."].Notification != 1 || f.Attrs["Device.Time.NTPServer1"].Notification != 2 {
		t.Errorf("attributes %v", f.Attrs)
	}
	if !slices.Equal(f.Events, []conversion.Event{{Code: "M Reboot", Key: "rb"}}) {
		t.Errorf("events %v", f.Events)
	}
	if len(f.Transfers) != 3 || f.Transfers[0].Key != "fw 1" || f.Transfers[0].Kind != "download" || f.Transfers[0].State != "delivered" || f.Transfers[1].State != "done" || f.Transfers[0].Start.IsZero() || !f.Transfers[0].End.IsZero() ||
		f.Transfers[1].Kind != "upload" || f.Transfers[1].Fault != 9011 || f.Transfers[2].State != "queued" || f.Transfers[2].Secret != `p"w` || f.Transfers[2].Size != 77 {
		t.Errorf("transfers %+v", f.Transfers)
	}
	if f := convert(t, Easycwmp, easyUCI, strings.Replace(easyBackup, "<cwmp>", "<cwmp><event><event_number>0</event_number></event>", 1), Options{}); f.Bootstrapped != conversion.No {
		t.Errorf("BOOTSTRAP still waits, and the file says %s", f.Bootstrapped)
	}
	if f := convert(t, Easycwmp, easyUCI, "", Options{}); f.Bootstrapped != conversion.Unknown {
		t.Errorf("no backup, and the file says %s", f.Bootstrapped)
	}
}

const icwmpUCI = `config 'cwmp' 'acs'
	option 'url' ''
	option 'userid' '$OUI-$SER'
	option 'passwd' 'secret'
	option 'periodic_inform_enable' 'true'
	option 'periodic_inform_interval' '1800'
	option 'periodic_inform_time' '1704078431'
	option 'ParameterKey' 'k'
	option 'dhcp_discovery' 'enable'
	option retry_min_wait_interval '5'
config 'cwmp' 'cpe'
	option 'userid' 'cr'
	option 'passwd' 'crp'
	option provisioning_code 'pc'
config notifications
	list active_lw 'InternetGatewayDevice.DeviceInfo.ProvisioningCode'
`

const icwmpBackup = `<cwmp><acs><url>https://acs.example/</url></acs>
<queue_event><index>12</index><id>1</id><command_key>rb</command_key></queue_event>
<schedule_inform><command_key>si</command_key><time>4070908800</time></schedule_inform>
<transfer_complete><command_key>fw</command_key><start_time>2026-11-22T05:00:00Z</start_time><complete_time>2026-11-22T05:01:00Z</complete_time><old_software_version>1.0</old_software_version><fault_code>0</fault_code><type>0</type></transfer_complete>
<change_du_state><command_key>du</command_key></change_du_state></cwmp>`

func TestIcwmp(t *testing.T) {
	f := convert(t, Icwmp, icwmpUCI, icwmpBackup, Options{TR098: true})
	const ms = "InternetGatewayDevice.ManagementServer."
	same(t, values(f), map[string]string{
		ms + "Password": "secret", ms + "PeriodicInformEnable": "true", ms + "PeriodicInformInterval": "1800", ms + "PeriodicInformTime": "2024-01-01T03:07:11Z",
		ms + "CWMPRetryMinimumWaitInterval": "5", ms + "ConnectionRequestUsername": "cr", ms + "ConnectionRequestPassword": "crp",
		"InternetGatewayDevice.DeviceInfo.ProvisioningCode": "pc", "InternetGatewayDevice.DeviceInfo.SoftwareVersion": "1.0",
	})
	if f.Bootstrapped != conversion.Yes || f.BootstrapURL != "https://acs.example/" || f.ParameterKey != "k" || len(f.Schedules) != 1 || len(f.Events) != 1 || len(f.Transfers) != 1 ||
		f.Attrs["InternetGatewayDevice.DeviceInfo.ProvisioningCode"].Notification != 5 {
		t.Errorf("%+v", f)
	}
}

func TestConvertRefuses(t *testing.T) {
	for _, c := range []struct{ client, uci, backup string }{
		{"other", easyUCI, ""}, {Easycwmp, "nonsense", ""}, {Easycwmp, "config local\n", ""}, {Easycwmp, "config acs\n\toption url 'x", ""},
		{Easycwmp, easyUCI, easyBackup[:len(easyBackup)/2]}, {Easycwmp, easyUCI, "<other/>"}, {Icwmp, easyUCI, ""},
		{Easycwmp, easyUCI, "<cwmp><download/></cwmp>"}, {Icwmp, icwmpUCI, "<cwmp><schedule_inform/></cwmp>"}, {Icwmp, icwmpUCI, "<cwmp><transfer_complete/></cwmp>"},
	} {
		if text, err := Convert(c.client, []byte(c.uci), []byte(c.backup), Options{}); err == nil {
			t.Errorf("%s: %.40q %.40q gave\n%s", c.client, c.uci, c.backup, text)
		}
	}
}

func FuzzConvert(f *testing.F) {
	f.Add(easyUCI, easyBackup, true)
	f.Add(icwmpUCI, icwmpBackup, false)
	f.Fuzz(func(t *testing.T, uci, backup string, easy bool) {
		client := Icwmp
		if easy {
			client = Easycwmp
		}
		if _, err := Convert(client, []byte(uci), []byte(backup), Options{}); err != nil {
			return
		}
	})
}
