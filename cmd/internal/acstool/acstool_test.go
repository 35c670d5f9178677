package acstool

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	conformcwmp "twinspan/cmd/internal/conform/cwmp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// agent builds the agent and runs it until the test ends, pointed at url; ca may be empty.
func agent(t *testing.T, binary, url, ca string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`[device]
serial_number = "TOOL"
[cwmp]
url = %q
password_file = %q
allow_plaintext = true
connection_request_listen = %q
[cwmp.tls]
ca_file = %q
[usp]
enabled = false
[factory]
"Device.ManagementServer.Username" = "cpe"
"Device.ManagementServer.ConnectionRequestUsername" = "cr"
"Device.ManagementServer.ConnectionRequestPassword" = "cr-secret"
"Device.ManagementServer.CWMPRetryMinimumWaitInterval" = "1"
"Device.ManagementServer.CWMPRetryIntervalMultiplier" = "1000"
`, url, filepath.Join(dir, "password"), freeAddress(t), ca)
	if err := os.WriteFile(filepath.Join(dir, "agent.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--config", filepath.Join(dir, "agent.toml"), "--data", filepath.Join(dir, "data"))
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // gone already: fine
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the agent says:\n%s", &log)
		}
	})
}

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "twinspan-acs-test-")
	if err != nil {
		return "", err
	}
	return conformcwmp.BuildAgent(dir)
})

func agentBinary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs the agent")
	}
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

func TestScript(t *testing.T) {
	binary := agentBinary(t)
	defer os.RemoveAll(filepath.Dir(binary))
	address := freeAddress(t)
	agent(t, binary, "http://"+address+"/acs", "")
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(`# a whole visit
wait
devices
use TOOL
inform
rpcs
get Device.DeviceInfo.SerialNumber Device.ManagementServer.ConnectionRequestUsername
set Device.DeviceInfo.ProvisioningCode="two words" Device.ManagementServer.PeriodicInformInterval=4000 key=K1
get Device.DeviceInfo.ProvisioningCode Device.ManagementServer.ParameterKey
names Device.Time. next
setattr Device.DeviceInfo.ProvisioningCode 2
attrs Device.DeviceInfo.ProvisioningCode
add Device.NAT.PortMapping. key=K2
del Device.NAT.PortMapping.1.
download 3 http://127.0.0.1:1/x key=D1 user=u password=never-shown
wait 7 TRANSFER COMPLETE
sleep 300ms
transfers
schedule 1 S1
wait M ScheduleInform
history 3
violations
reboot R1
wait M Reboot
quit
get this is not reached
`), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Run(t.Context(), []string{"--listen", address, "--user", "cpe", "--password", "secret", "--cr-user", "cr", "--cr-password", "cr-secret",
		"--timeout", "15s", "--script", script}, nil, &out)
	text := out.String()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{"not for production", "6 CONNECTION REQUEST", "AddObject\n", "SerialNumber = TOOL", "Username = cr\n", "ProvisioningCode = two words", "ParameterKey = K1",
		"applied", "Device.Time.Client.", "2 Device.DeviceInfo.ProvisioningCode", "Device.NAT.PortMapping.1.\n", `"D1"`, "fault 9015", "M ScheduleInform (S1)", "M Reboot (R1)"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(text, "never-shown") || strings.Contains(text, "cr-secret") {
		t.Error("a password is shown")
	}
	if t.Failed() {
		t.Log(text)
	}

	// Over HTTPS with a certificate made by the tool, commands given one by one, a fault at the end.
	address = freeAddress(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if _, err := certificate("", "", ca, address); err != nil { // so that the agent finds the file; the tool writes its own
		t.Fatal(err)
	}
	out.Reset()
	ready := make(chan error, 1)
	go func() {
		ready <- Run(t.Context(), []string{"--listen", address, "--tls", "--cert-out", ca, "--user", "cpe", "--password", "secret", "--timeout", "15s",
			"-e", "wait", "-e", "get Device.ManagementServer.URL", "-e", "set Device.DeviceInfo.SerialNumber=x Device.NoSuchThing=1", "-e", "devices"}, nil, &out)
	}()
	for { // the certificate is there once the port is open
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	agent(t, binary, "https://"+address+"/acs", ca)
	err = <-ready
	if err == nil || !strings.Contains(err.Error(), "SerialNumber: 9008") || !strings.Contains(err.Error(), "NoSuchThing: 9005") {
		t.Errorf("the fault is told as %v", err)
	}
	if !strings.Contains(out.String(), "URL = https://") {
		t.Errorf("%s", &out)
	}
}

func TestInteractive(t *testing.T) {
	var out bytes.Buffer
	in := strings.NewReader("help\nnonsense\nget\n'open\n\n# note\ndevices\nquit\n")
	if err := Run(t.Context(), []string{"--listen", "127.0.0.1:0", "--user", "cpe"}, in, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"password of cpe: ", "FactoryReset", `unknown command "nonsense"`, "usage: get NAME...", "quote is not closed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
	// The end of the input ends the tool too.
	if err := Run(t.Context(), []string{"--listen", "127.0.0.1:0"}, strings.NewReader(""), io.Discard); err != nil {
		t.Fatal(err)
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{{"stray"}, {"--tls"}, {"--cert", "/nowhere"}, {"--script", "/nowhere"}, {"--listen", "nonsense"}, {"--listen", "127.0.0.1:0", "-e", "nonsense"},
		{"--listen", "127.0.0.1:0", "--timeout", "10ms", "-e", "get Device."}} {
		if err := Run(t.Context(), args, strings.NewReader(""), io.Discard); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		`a  b	c`: {"a", "b", "c"}, `x="a b" 'c"d' e\ f`: {"x=a b", `c"d`, "e f"}, `"" ''`: {"", ""}, ``: nil, `"a\"b" 'a\b'`: {`a"b`, `a\b`},
	} {
		got, err := split(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q %v", line, got, err)
		}
	}
	for _, line := range []string{`"a`, `'`, `a\`} {
		if _, err := split(line); err == nil {
			t.Errorf("%s: no error", line)
		}
	}
}
