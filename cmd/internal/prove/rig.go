package prove

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"twinspan/cmd/internal/agentproc"
	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
	"twinspan/usp/controller"
	"twinspan/usp/mtp/websocket"
)

// Who is who.
const (
	oui           = "00005E" // the OUI of documentation, RFC 9542
	agentEndpoint = "os::" + oui + "-PROVE1"
	deviceKey     = oui + "-Prove-PROVE1"
	controllerA   = "self::prove-a"
	controllerB   = "self::prove-b"
	crUser        = "acs"
	crPassword    = "prove-connection-request"
)

// patience bounds the wait for anything that must happen; a loaded machine needs some.
const patience = 30 * time.Second

// rows of clients that exist from the factory.
const clientRows = 40

// rig is one agent with its peers, which outlive it.
type rig struct {
	dir    string
	agent  *agentproc.Process
	acs    *acs.Server
	device *acs.Device
	a, b   *controller.Controller
	files  *httptest.Server // takes uploads
	crAddr string

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// rigOptions are what differs between the proofs.
type rigOptions struct {
	binary  string
	journal int    // entries; few of them make trimming frequent
	bridge  string // more of the [bridge] section
	phase   string
}

func newRig(ctx context.Context, o rigOptions) (_ *rig, err error) {
	dir, err := os.MkdirTemp("", "twinspan-prove-")
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(ctx)
	r := &rig{dir: dir, cancel: cancel, agent: &agentproc.Process{Binary: o.binary, Config: filepath.Join(dir, "agent.toml"), Data: filepath.Join(dir, "data")}}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	r.files = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, io.LimitReader(req.Body, 64<<20))
		w.WriteHeader(http.StatusCreated)
	}))
	if r.acs, err = acs.Start(acs.Config{MaxHold: patience}); err != nil {
		return nil, err
	}
	r.device = r.acs.Device(deviceKey)
	r.device.SetConnectionRequestAuth(crUser, crPassword)
	if r.crAddr, err = freeAddress(); err != nil {
		return nil, err
	}
	var ports [2]int
	for i, c := range []**controller.Controller{&r.a, &r.b} {
		id := []string{controllerA, controllerB}[i]
		if *c, ports[i], err = r.listen(run, id); err != nil {
			return nil, err
		}
	}
	return r, r.configure(o, ports)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// listen starts a Controller that the agent dials.
func (r *rig) listen(ctx context.Context, id string) (*controller.Controller, int, error) {
	wc := websocket.DefaultServerConfig()
	wc.Addr, wc.EndpointID, wc.AllowPlain = "127.0.0.1:0", id, true
	server, err := websocket.NewServer(wc)
	if err != nil {
		return nil, 0, err
	}
	c, err := controller.New(controller.Config{EndpointID: id, AgentID: agentEndpoint, Transport: server})
	if err != nil {
		return nil, 0, err
	}
	ended := make(chan error, 1)
	r.wg.Go(func() { ended <- c.Run(ctx) })
	for end := time.Now().Add(patience); server.Addr() == nil; {
		select {
		case err := <-ended:
			return nil, 0, fmt.Errorf("controller %s: %w", id, err)
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(end) {
			return nil, 0, fmt.Errorf("controller %s does not listen", id)
		}
	}
	return c, server.Addr().(*net.TCPAddr).Port, nil
}

func (r *rig) configure(o rigOptions, ports [2]int) error {
	if o.phase == "" {
		o.phase = "dual-cwmp"
	}
	policyFile := filepath.Join(r.dir, "policy.toml")
	if err := os.WriteFile(policyFile, []byte(policy), 0o600); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `data = %q
[device]
profile          = "gateway"
manufacturer     = "Example Networks"
manufacturer_oui = %q
product_class    = "Prove"
serial_number    = "PROVE1"
software_version = "1.0.0"
[bridge]
phase = %q
%s
[cwmp]
url                       = %q
allow_plaintext           = true
connection_request_listen = %q
periodic_inform_interval  = 3600
[usp]
endpoint_id     = %q
allow_plaintext = true
[limits]
journal_entries = %d
[log]
level = "info"
[max_rows]
"Device.Time.Client." = %d
"Device.NAT.PortMapping." = 1000
"Device.Users.User." = 100
[factory]
"Device.ManagementServer.ConnectionRequestUsername" = %q
"Device.ManagementServer.ConnectionRequestPassword" = %q
`, r.agent.Data, oui, o.phase, fmt.Sprintf("policy = %q\n", policyFile)+o.bridge, r.acs.URL(), r.crAddr, agentEndpoint, o.journal, clientRows, crUser, crPassword)
	for i := 1; i <= clientRows; i++ {
		fmt.Fprintf(&b, "\"%s%d.Enable\" = \"true\"\n", clients, i)
	}
	for i := 1; i <= fightRows; i++ {
		fmt.Fprintf(&b, "\"Device.DHCPv4.Server.Pool.%d.LeaseTime\" = \"3600\"\n", i)
	}
	for i, id := range []string{controllerA, controllerB} {
		fmt.Fprintf(&b, "[[usp.controller]]\nendpoint_id = %q\n[usp.controller.websocket]\nhost = \"127.0.0.1\"\nport = %d\npath = \"/usp\"\ntls = false\n", id, ports[i])
	}
	return os.WriteFile(r.agent.Config, []byte(b.String()), 0o600)
}

// policy lets the last one win where the lanes write, without an end: they are no fight.
const policy = `version = 1
name = "prove"
[defaults]
on_conflict = "priority"
[classes]
main = ["usp:self::prove-a", "usp:self::prove-b"]
user = ["cli"]
[order]
cwmp-only = ["acs", "user"]
shadow    = ["acs", "user"]
dual-cwmp = ["acs", "main", "user", "apps"]
dual-usp  = ["main", "acs", "user", "apps"]
usp-only  = ["main", "user", "apps"]
[[rule]]
id          = "last"
path        = "Device.{Time.Client,NAT.PortMapping,Users.User}.**"
on_conflict = "last"
damp        = false
[[rule]]
id          = "window"
path        = "Device.Time.Client.37.**"
on_conflict = "last"
damp        = false
confirm     = true
[limits]
commits_per_second = 0
`

// confirmRow is a row of clients whose changes want a confirmation: a crash before it takes them back.
const confirmRow = 37

func (r *rig) database() string { return filepath.Join(r.agent.Data, "twinspan.db") }
func (r *rig) socket() string   { return filepath.Join(r.agent.Data, "twinspan.sock") }

// close ends everything and removes the files.
func (r *rig) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = r.agent.Stop(ctx) // one that does not stop was killed
	r.cancel()
	r.wg.Wait()
	if r.acs != nil {
		r.acs.Close()
	}
	if r.files != nil {
		r.files.Close()
	}
	_ = os.RemoveAll(r.dir)
}

// up starts the agent and waits for both protocols. The ACS's session of the boot is held until release is called. It returns the
// Inform of the start.
func (r *rig) up(ctx context.Context) (release func(), boot acs.InformRecord, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	release = r.device.Hold()
	r.a.Forget()
	r.b.Forget()
	began := time.Now()
	if err = r.agent.Start(); err != nil {
		return release, boot, err
	}
	gone := r.agent.Done()
	watch, cancelWatch := context.WithCancel(ctx)
	defer cancelWatch()
	r.wg.Go(func() { // an agent that ends by itself is not waited for
		select {
		case <-gone:
			cancel()
		case <-watch.Done():
		}
	})
	wait := func() error {
		if boot, err = r.device.WaitEvent(ctx, began, "1 BOOT"); err != nil {
			return fmt.Errorf("no Inform with 1 BOOT: %w", err)
		}
		for name, c := range map[string]*controller.Controller{"A": r.a, "B": r.b} {
			if err := c.WaitConnect(ctx); err != nil {
				return fmt.Errorf("no connect record at Controller %s: %w", name, err)
			}
		}
		return nil
	}
	if err = wait(); err != nil {
		err = fmt.Errorf("%w; the agent's last words:\n%s", err, r.agent.Log(12))
	}
	return release, boot, err
}

// newSession ends the held session and asks for another.
func (r *rig) newSession(ctx context.Context, release *func()) error {
	(*release)()
	if err := r.device.WaitIdle(ctx, 0); err != nil {
		*release = r.device.Hold()
		return err
	}
	*release = r.device.Hold()
	for {
		err := r.device.ConnectionRequest(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// read gets what the judge wants to see from one Controller.
func readUSP(ctx context.Context, c *controller.Controller) (map[string]string, error) {
	return c.Get(ctx, clients, mappings, users)
}

// upload asks for a file and notes its key as owed. An answer that is lost owes nothing.
type uploads struct {
	r     *rig
	n     int
	asked int // acknowledged
	owed  map[string]bool
}

func (u *uploads) ask(ctx context.Context) error {
	u.n++
	key := fmt.Sprintf("upload-%d", u.n)
	_, err := u.r.device.Call(ctx, &soap.Upload{CommandKey: key, FileType: "2 Vendor Log File", URL: u.r.files.URL + "/" + key})
	var f *soap.Fault
	if errors.As(err, &f) {
		return nil // the queue is full
	}
	if err == nil {
		u.asked++
		u.owed[key] = true
	}
	return err
}

// settle strikes out what TransferComplete came for.
func (u *uploads) settle() {
	for _, t := range u.r.device.TransferCompletes() {
		delete(u.owed, t.CommandKey)
	}
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x7477696e)) }
