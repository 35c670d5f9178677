package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"twinspan/cmd/internal/agentproc"
	"twinspan/cwmp/acs"
	"twinspan/usp/controller"
	"twinspan/usp/mtp/mqtt"
	"twinspan/usp/mtp/websocket"
	"twinspan/usp/uspmsg"
)

// stepTimeout bounds one step of the sandbox's story.
const stepTimeout = 20 * time.Second

// Who is who in the sandbox.
const (
	sandboxOUI     = "00005E" // the OUI of documentation, RFC 9542
	sandboxClass   = "Sandbox"
	agentEndpoint  = "os::" + sandboxOUI + "-SANDBOX1"
	controllerA    = "self::controller-a"
	controllerB    = "self::controller-b"
	topicA         = "usp/controller/a"
	topicAgent     = "usp/agent/sandbox"
	connReqUser    = "acs"
	provisionedKey = "provisioning-1"
)

// sandbox is the whole laboratory in one process, but for the agent, which is the real binary.
type sandbox struct {
	dir    string
	agent  *agentproc.Process
	broker *broker
	// brokerGone: a step has closed it.
	brokerGone bool
	acs        *acs.Server
	device     *acs.Device
	// connReqPassword is made anew for every sandbox.
	connReqPassword string
	connReqPort     int
	caFile          string // of the ACS's certificate; the migration story only

	a, b     *controller.Controller
	notifyA  chan *uspmsg.Notify
	notifyB  chan *uspmsg.Notify
	wsServer *websocket.Server

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func runSandbox(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	agentPath := fs.String("agent", "", "agent binary, default: next to this program")
	asJSON := fs.Bool("json", false, "print the result of every step as JSON")
	which := fs.String("story", "main", "main, or migration: the whole way from CWMP to USP, with what can go wrong")
	keep := fs.Bool("keep", false, "leave everything running afterwards and say how to poke it")
	if err := fs.Parse(args); err != nil {
		return err
	}
	binary, err := agentproc.Find(*agentPath)
	if err != nil {
		return err
	}
	st := &story{start: time.Now()}
	if !*asJSON {
		st.out = os.Stdout
		if fi, err := os.Stdout.Stat(); err == nil && fi.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" {
			st.color = true
		}
	}
	if *which != "main" && *which != "migration" {
		return fmt.Errorf("--story %q: there are main and migration", *which)
	}
	sb, err := openSandbox(ctx, binary, *which == "migration")
	if err != nil {
		return err
	}
	defer sb.close(*keep)
	steps := sb.steps()
	if *which == "migration" {
		steps = sb.migrationSteps()
	}
	results := st.play(ctx, steps, stepTimeout)
	err = verdict(results)
	if *asJSON {
		if jerr := writeJSON(os.Stdout, map[string]any{"ok": err == nil, "took_ms": time.Since(st.start).Milliseconds(), "steps": results}); jerr != nil {
			return jerr
		}
	}
	if err != nil {
		if st.out != nil {
			fmt.Fprintf(st.out, "\nlast lines of the agent's log:\n%s\n", sb.agent.Log(30))
		}
		return err
	}
	if st.out != nil {
		fmt.Fprintf(st.out, "\nevery one of %d steps was observed, in %.1f s\n", len(results), time.Since(st.start).Seconds())
	}
	if *keep {
		return sb.keep(ctx, os.Stdout)
	}
	return nil
}

// openSandbox starts everything but the agent.
func openSandbox(ctx context.Context, binary string, migrate bool) (_ *sandbox, err error) {
	dir, err := os.MkdirTemp("", "twinspan-sandbox-")
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(ctx)
	sb := &sandbox{dir: dir, cancel: cancel, connReqPassword: rand.Text(), notifyA: make(chan *uspmsg.Notify, 4096), notifyB: make(chan *uspmsg.Notify, 4096)}
	sb.agent = &agentproc.Process{Binary: binary, Config: filepath.Join(dir, "agent.toml"), Data: filepath.Join(dir, "data")}
	defer func() {
		if err != nil {
			sb.close(false)
		}
	}()
	if sb.broker, err = startBroker(); err != nil {
		return nil, err
	}
	ac := acs.Config{Auth: acs.Digest, Username: "cpe", Password: sb.connReqPassword, MaxHold: 15 * time.Second}
	if migrate { // a rescue goes to https only
		if ac.TLS, sb.caFile, err = selfSigned(dir); err != nil {
			return nil, err
		}
	}
	if sb.acs, err = acs.Start(ac); err != nil {
		return nil, err
	}
	if sb.connReqPort, err = freePort(); err != nil {
		return nil, err
	}
	if err := sb.startControllers(run); err != nil {
		return nil, err
	}
	return sb, sb.writeConfig()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// startControllers brings A up on the broker and lets B listen for the agent's WebSocket.
func (sb *sandbox) startControllers(ctx context.Context) error {
	mc := mqtt.Default()
	mc.Broker = fmt.Sprintf("mqtt://%s:%d", sb.broker.Host, sb.broker.Port)
	mc.EndpointID, mc.ResponseTopic = controllerA, topicA
	ta, err := mqtt.NewClient(mc)
	if err != nil {
		return err
	}
	if sb.a, err = controller.New(controller.Config{EndpointID: controllerA, AgentID: agentEndpoint, Transport: ta, OnNotify: into(sb.notifyA)}); err != nil {
		return err
	}
	wc := websocket.DefaultServerConfig()
	wc.Addr, wc.EndpointID, wc.AllowPlain = "127.0.0.1:0", controllerB, true
	if sb.wsServer, err = websocket.NewServer(wc); err != nil {
		return err
	}
	if sb.b, err = controller.New(controller.Config{EndpointID: controllerB, AgentID: agentEndpoint, Transport: sb.wsServer, OnNotify: into(sb.notifyB)}); err != nil {
		return err
	}
	for _, c := range []*controller.Controller{sb.a, sb.b} {
		sb.wg.Go(func() { _ = c.Run(ctx) }) // ends with the sandbox's context; its error is an unreachable agent, which the steps see
	}
	return nil
}

// into keeps the newest notifications; a step that waits for one drains first.
func into(ch chan *uspmsg.Notify) func(*uspmsg.Notify) {
	return func(n *uspmsg.Notify) {
		select {
		case ch <- n:
		default: // nobody reads: the story is past it
		}
	}
}

// writeConfig gives the agent what a device maker would: identity, ACS, and two rules for the story. USP is not configured at all.
func (sb *sandbox) writeConfig() error {
	password := filepath.Join(sb.dir, "acs.password")
	if err := os.WriteFile(password, []byte(sb.connReqPassword), 0o600); err != nil {
		return err
	}
	text := fmt.Sprintf(`data = %q
[device]
profile          = "gateway"
manufacturer     = "Example Networks"
manufacturer_oui = %q
product_class    = %q
serial_number    = "SANDBOX1"
software_version = "1.0.0"
[bridge]
phase = "dual-cwmp"
commits_per_second = 0
[[bridge.rule]]
id          = "first-come"
path        = "Device.Time.Client.3.Servers"
on_conflict = "yield"
[cwmp]
url                       = %q
username                  = "cpe"
password_file             = %q
allow_plaintext           = true
connection_request_listen = "127.0.0.1:%d"
periodic_inform_interval  = 3600
[usp]
endpoint_id     = %q
allow_plaintext = true
trust_broker = true
[log]
level = "info"
[max_rows]
"Device.Users.User." = 100000
[factory]
"Device.Time.Client.1.Enable" = "true"
"Device.Time.Client.2.Enable" = "true"
"Device.Time.Client.3.Enable" = "true"
"Device.Time.Client.4.Enable" = "true"
"Device.ManagementServer.ConnectionRequestUsername" = %q
"Device.ManagementServer.ConnectionRequestPassword" = %q
`, sb.agent.Data, sandboxOUI, sandboxClass, sb.acs.URL(), password, sb.connReqPort, agentEndpoint, connReqUser, sb.connReqPassword)
	if sb.caFile != "" {
		text = strings.Replace(text, `phase = "dual-cwmp"`, `phase = "shadow"`, 1) + fmt.Sprintf("[cwmp.tls]\nca_file = %q\n", sb.caFile) + migrationPace
		text = strings.Replace(text, `"Device.Time.Client.4.Enable" = "true"`, "\"Device.Time.Client.4.Enable\" = \"true\"\n\"Device.Time.Client.5.Enable\" = \"true\"", 1)
	}
	return os.WriteFile(sb.agent.Config, []byte(text), 0o600)
}

// socket is where the agent's command line listens.
func (sb *sandbox) socket() string { return filepath.Join(sb.agent.Data, "twinspan.sock") }

// close ends everything that was started; the directory goes too, unless it is to be kept.
func (sb *sandbox) close(keep bool) {
	stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = sb.agent.Stop(stop) // an agent that does not stop was killed; the last step reports how it ends
	sb.cancel()
	sb.wg.Wait()
	if sb.acs != nil {
		sb.acs.Close()
	}
	if sb.broker != nil && !sb.brokerGone {
		_ = sb.broker.Close()
	}
	if !keep {
		_ = os.RemoveAll(sb.dir)
	}
}

// keep leaves the laboratory running until the context ends.
func (sb *sandbox) keep(ctx context.Context, out io.Writer) error {
	if sb.agent.Exited() {
		if err := sb.agent.Start(); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, `
The sandbox is still running; Ctrl-C ends it. In another terminal:

  export TWINSPAN_SOCKET=%s
  %[2]s get Device.DeviceInfo.
  %[2]s watch Device.Time.
  %[2]s set Device.Time.Client.1.Servers=ntp.example.net     # refused: the ACS owns it
  %[2]s journal -n 5

ACS      %s
broker   mqtt://%s:%d, the agent's topic is %s
files    %s
`, sb.socket(), sb.agent.Binary, sb.acs.URL(), sb.broker.Host, sb.broker.Port, topicAgent, sb.dir)
	<-ctx.Done()
	return nil
}

// errNothingCame is returned when an awaited message did not arrive in time.
var errNothingCame = errors.New("nothing came in time")

// awaitNotify returns the first notification that fits.
func awaitNotify(ctx context.Context, ch <-chan *uspmsg.Notify, fits func(*uspmsg.Notify) bool) (*uspmsg.Notify, error) {
	for {
		select {
		case n := <-ch:
			if fits(n) {
				return n, nil
			}
		case <-ctx.Done():
			return nil, errNothingCame
		}
	}
}
