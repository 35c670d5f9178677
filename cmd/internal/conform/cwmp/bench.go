package conformcwmp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

// acsUser is the name somebody may give the CPE for the ACS; any other does too.
const acsUser = "cpe"

// callPatience bounds one RPC; a CPE that needs longer on an idle network is broken.
const callPatience = 15 * time.Second

// bench is one CPE with the ACS, the tap and the file server around it.
type bench struct {
	driver   Driver
	acs      *acs.Server
	tap      *tap
	base     string // of the tap: http://host:port
	ca       *authority
	password string // of the CPE at the ACS
	crUser   string // of connection requests
	crPass   string

	mu    sync.Mutex
	dev   *acs.Device
	known chan struct{} // closed when dev is set
	hold  func()

	root     string // "Device." or "InternetGatewayDevice."
	types    map[string]soap.Type
	methods  []string
	observed []string
	files    *fileServer
	module   []byte                                    // a deployment unit for another CPE than ours
	twin     func(ctx context.Context) (*bench, error) // a second CPE of the same kind
}

// benchOptions are what the command line says about every bench.
type benchOptions struct {
	listen             string // address of the tap; "" is a free port of the loopback
	raw                bool   // leave the CPE as it starts: no session is held, nothing is set
	password           string // "": random
	plant, plantAnswer func(x *exchange)
	lenient            bool
	first              time.Duration // how long the first Inform may take
	module             []byte
}

// newBench starts everything and has the CPE's first session open when it returns, unless it is to stay raw.
func newBench(ctx context.Context, d Driver, o benchOptions) (_ *bench, err error) {
	b := &bench{driver: d, password: o.password, module: o.module, crUser: "acs", crPass: rand.Text(), known: make(chan struct{}), types: map[string]soap.Type{}}
	if b.password == "" {
		b.password = rand.Text()
	}
	defer func() {
		if err != nil {
			_ = b.close() // the first error is the one to tell
		}
	}()
	if b.ca, err = newAuthority(); err != nil {
		return nil, err
	}
	b.ca.lenient = o.lenient
	if b.acs, err = acs.Start(acs.Config{Strict: true, MaxHold: 2 * time.Minute}); err != nil {
		return nil, err
	}
	if b.tap, err = newTap(b.acs.URL()); err != nil {
		return nil, err
	}
	b.tap.plant, b.tap.plantAnswer = o.plant, o.plantAnswer
	b.tap.auth.password = b.password
	b.tap.setAuth("Digest", "MD5")
	if o.listen == "" {
		o.listen = "127.0.0.1:0"
	}
	if b.base, err = b.tap.listen(o.listen, nil); err != nil {
		return nil, err
	}
	b.meet(!o.raw)
	if err := d.Start(ctx, b.url(), acsUser, b.password, b.ca.file); err != nil {
		return nil, err
	}
	if o.raw {
		return b, nil
	}
	first, cancel := context.WithTimeout(ctx, o.first)
	defer cancel()
	select {
	case <-b.known:
	case <-first.Done():
		return nil, fmt.Errorf("no Inform came at %s; the CPE says: %s", b.url(), d.Log())
	}
	b.dev.SetConnectionRequestAuth(b.crUser, b.crPass)
	if err := b.set(first, "", b.ms("ConnectionRequestUsername"), b.crUser, b.ms("ConnectionRequestPassword"), b.crPass, b.ms("PeriodicInformEnable"), "false"); err != nil {
		return nil, fmt.Errorf("preparing the CPE: %w; it says: %s", err, d.Log())
	}
	return b, nil
}

// url is the ACS URL of the CPE.
func (b *bench) url() string { return b.base + "/acs" }

// meet watches for the first Inform to learn who the CPE is, and holds that session.
func (b *bench) meet(hold bool) {
	b.tap.onBefore(func(x *exchange) bool {
		m := x.inform()
		if m == nil {
			return false
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.dev != nil {
			return false
		}
		b.root = "Device."
		for _, p := range m.ParameterList {
			if strings.HasPrefix(p.Name, "InternetGatewayDevice.") {
				b.root = "InternetGatewayDevice."
			}
		}
		b.dev = b.acs.Device(acs.DeviceKey(m.DeviceID))
		if hold {
			b.hold = b.dev.Hold()
		}
		close(b.known)
		return false
	})
}

// meetNow is meet for a raw bench: it waits for the first Inform.
func (b *bench) meetNow(ctx context.Context) error {
	select {
	case <-b.known:
		return nil
	case <-ctx.Done():
		return errNothingCame
	}
}

func (b *bench) close() error {
	var errs []error
	b.mu.Lock()
	if b.hold != nil {
		b.hold()
		b.hold = nil
	}
	b.mu.Unlock()
	errs = append(errs, b.driver.Close())
	if b.files != nil {
		b.files.close()
	}
	if b.tap != nil {
		b.tap.clearHooks()
		b.tap.close()
	}
	if b.acs != nil {
		b.acs.Close()
	}
	if b.ca != nil {
		errs = append(errs, b.ca.close())
	}
	return errors.Join(errs...)
}

// observe notes what was seen, as evidence.
func (b *bench) observe(format string, args ...any) {
	b.observed = append(b.observed, fmt.Sprintf(format, args...))
}

// ms is a parameter of ManagementServer.
func (b *bench) ms(name string) string { return b.root + "ManagementServer." + name }

// code is the free text that every CPE lets an ACS write.
func (b *bench) code() string { return b.root + "DeviceInfo.ProvisioningCode" }

// endSession lets the session end, and waits until none is open.
func (b *bench) endSession(ctx context.Context) {
	b.mu.Lock()
	if b.hold != nil {
		b.hold()
		b.hold = nil
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = b.dev.WaitIdle(ctx, 0) // a session that was cut never ends in order
}

// holdNext keeps the next sessions open.
func (b *bench) holdNext() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hold == nil {
		b.hold = b.dev.Hold()
	}
}

// newSession ends the current session and opens one by a connection request; it returns the exchange of its Inform. The
// session stays open.
func (b *bench) newSession(ctx context.Context) (*exchange, error) {
	b.endSession(ctx)
	b.holdNext()
	mark := b.tap.mark()
	if err := b.request(ctx); err != nil {
		return nil, err
	}
	x, err := b.tap.waitInform(ctx, mark, nil)
	if err != nil {
		return nil, fmt.Errorf("no session after a connection request: %w", err)
	}
	return x, nil
}

// request makes one connection request; while the CPE limits their rate, it waits.
func (b *bench) request(ctx context.Context) error {
	wait, began := time.Second, time.Now()
	for {
		status, err := b.connect(ctx, b.crUser, b.crPass)
		switch {
		case err != nil:
			return err
		case status == http.StatusOK || status == http.StatusNoContent:
			return nil
		case status == http.StatusUnauthorized && time.Since(began) < time.Second: // the session that set the credentials is just over
			wait = 20 * time.Millisecond
		case status != http.StatusServiceUnavailable:
			return fmt.Errorf("connection request answered %d", status)
		}
		select {
		case <-ctx.Done():
			return errors.New("connection requests are answered 503 all the time")
		case <-time.After(wait):
		}
	}
}

func (b *bench) connect(ctx context.Context, user, password string) (int, error) {
	url, err := b.crURL()
	if err != nil {
		return 0, err
	}
	return acs.ConnectionRequest(ctx, url, user, password)
}

// crURL is the newest ConnectionRequestURL the CPE told.
func (b *bench) crURL() (string, error) {
	url := ""
	for _, x := range b.tap.since(0) {
		if m := x.inform(); m != nil {
			for _, p := range m.ParameterList {
				if strings.HasSuffix(p.Name, ".ManagementServer.ConnectionRequestURL") {
					url = p.Value
				}
			}
		}
	}
	if url == "" {
		return "", notShown("no Inform had a ConnectionRequestURL")
	}
	return url, nil
}

// call sends one RPC in the open session.
func (b *bench) call(ctx context.Context, m soap.Message) (soap.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	answer, err := b.dev.Call(ctx, m)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%s was not answered within %v", m.Method(), callPatience)
	}
	return answer, err
}

// edited sends one RPC whose envelope edit changes on its way.
func (b *bench) edited(ctx context.Context, m soap.Message, edit func(text string) string) (soap.Message, error) {
	var once sync.Once
	remove := b.tap.onAfter(func(x *exchange) bool {
		if x.reply() == m.Method() {
			once.Do(func() { x.RespBody = []byte(edit(string(x.RespBody))) })
		}
		return false
	})
	defer remove()
	return b.call(ctx, m)
}

// lastExchange is the newest message of the CPE with a method.
func (b *bench) lastExchange(method string) *exchange {
	list := b.tap.since(0)
	for _, x := range slices.Backward(list) {
		if x.method() == method {
			return x
		}
	}
	return nil
}

// values reads parameters.
func (b *bench) values(ctx context.Context, names ...string) ([]soap.ParameterValue, error) {
	m, err := b.call(ctx, &soap.GetParameterValues{ParameterNames: names})
	if err != nil {
		return nil, explain(err)
	}
	r, ok := m.(*soap.GetParameterValuesResponse)
	if !ok {
		return nil, fmt.Errorf("GetParameterValues was answered by %s", m.Method())
	}
	for _, v := range r.ParameterList {
		b.types[v.Name] = v.Type
	}
	return r.ParameterList, nil
}

// get reads one parameter.
func (b *bench) get(ctx context.Context, name string) (string, error) {
	list, err := b.values(ctx, name)
	if err != nil {
		return "", err
	}
	if len(list) != 1 || list[0].Name != name {
		return "", fmt.Errorf("GetParameterValues of %s answered %d values", name, len(list))
	}
	return list[0].Value, nil
}

// set writes parameters, given as name, value, name, value, ..., with the types the CPE reports.
func (b *bench) set(ctx context.Context, key string, pairs ...string) error {
	var ask []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if _, ok := b.types[pairs[i]]; !ok {
			ask = append(ask, pairs[i])
		}
	}
	if len(ask) > 0 {
		if _, err := b.values(ctx, ask...); err != nil {
			return fmt.Errorf("reading the types: %w", err)
		}
	}
	_, err := b.setRaw(ctx, key, pairs...)
	return err
}

// setRaw writes without looking first; a type that is not known is string.
func (b *bench) setRaw(ctx context.Context, key string, pairs ...string) (status int, err error) {
	m := &soap.SetParameterValues{ParameterKey: key}
	for i := 0; i+1 < len(pairs); i += 2 {
		t, ok := b.types[pairs[i]]
		if !ok {
			t = soap.String
		}
		m.ParameterList = append(m.ParameterList, soap.ParameterValue{Name: pairs[i], Value: pairs[i+1], Type: t})
	}
	answer, err := b.call(ctx, m)
	if err != nil {
		return 0, explain(err)
	}
	r, ok := answer.(*soap.SetParameterValuesResponse)
	if !ok {
		return 0, fmt.Errorf("SetParameterValues was answered by %s", answer.Method())
	}
	return r.Status, nil
}

// names is GetParameterNames.
func (b *bench) names(ctx context.Context, path string, next bool) ([]soap.ParameterInfo, error) {
	m, err := b.call(ctx, &soap.GetParameterNames{ParameterPath: path, NextLevel: next})
	if err != nil {
		return nil, explain(err)
	}
	r, ok := m.(*soap.GetParameterNamesResponse)
	if !ok {
		return nil, fmt.Errorf("GetParameterNames was answered by %s", m.Method())
	}
	return r.ParameterList, nil
}

// has tells whether the CPE has a path; an object ends in a dot.
func (b *bench) has(ctx context.Context, path string) bool {
	_, err := b.names(ctx, path, false)
	return err == nil
}

// need is notApplicable unless the CPE has all paths.
func (b *bench) need(ctx context.Context, paths ...string) error {
	for _, p := range paths {
		if !b.has(ctx, p) {
			return notApplicable("the CPE has no %s", p)
		}
	}
	return nil
}

// needRPC is notApplicable unless GetRPCMethods lists the method.
func (b *bench) needRPC(ctx context.Context, method string) error {
	if b.methods == nil {
		m, err := b.call(ctx, &soap.GetRPCMethods{})
		if err != nil {
			return err
		}
		b.methods = m.(*soap.GetRPCMethodsResponse).MethodList
	}
	if !slices.Contains(b.methods, method) {
		return notApplicable("GetRPCMethods does not list the optional %s", method)
	}
	return nil
}

// add makes a row and returns its path.
func (b *bench) add(ctx context.Context, table, key string) (string, error) {
	m, err := b.call(ctx, &soap.AddObject{ObjectName: table, ParameterKey: key})
	if err != nil {
		return "", explain(err)
	}
	r, ok := m.(*soap.AddObjectResponse)
	if !ok {
		return "", fmt.Errorf("AddObject was answered by %s", m.Method())
	}
	return fmt.Sprintf("%s%d.", table, r.InstanceNumber), nil
}

func (b *bench) del(ctx context.Context, row, key string) error {
	_, err := b.call(ctx, &soap.DeleteObject{ObjectName: row, ParameterKey: key})
	return explain(err)
}

// rowTables are tables an ACS may add to on most CPEs, with a leaf of text in each row.
var rowTables = []struct{ table, leaf string }{
	{"NAT.PortMapping.", "Description"}, {"Time.Client.", "Servers"}, {"DNS.Relay.Forwarding.", "DNSServer"}, {"Users.User.", "Username"},
	{"LANDevice.1.Hosts.Host.", "HostName"},
}

// table finds one.
func (b *bench) table(ctx context.Context) (table, leaf string, err error) {
	for _, t := range rowTables {
		if b.has(ctx, b.root+t.table) {
			return b.root + t.table, t.leaf, nil
		}
	}
	return "", "", notApplicable("no table is known where rows can be added")
}

// textLeaves are free texts without a notification of their own on most CPEs.
var textLeaves = []string{"Time.Client.1.Servers", "Time.NTPServer1", "Time.Server.1.Hostname", "Time.LocalTimeZone"}

// text finds one.
func (b *bench) text(ctx context.Context) (string, error) {
	for _, t := range textLeaves {
		if b.has(ctx, b.root+t) {
			return b.root + t, nil
		}
	}
	return "", notApplicable("no free text is known whose notification can be set")
}

// attributes reads them by name.
func (b *bench) attributes(ctx context.Context, names ...string) (map[string]soap.ParameterAttribute, error) {
	m, err := b.call(ctx, &soap.GetParameterAttributes{ParameterNames: names})
	if err != nil {
		return nil, explain(err)
	}
	r, ok := m.(*soap.GetParameterAttributesResponse)
	if !ok {
		return nil, fmt.Errorf("GetParameterAttributes was answered by %s", m.Method())
	}
	out := map[string]soap.ParameterAttribute{}
	for _, a := range r.ParameterList {
		out[a.Name] = a
	}
	return out, nil
}

// notify sets the notification of parameters or partial paths.
func (b *bench) notify(ctx context.Context, level int, names ...string) error {
	m := &soap.SetParameterAttributes{}
	for _, n := range names {
		m.ParameterList = append(m.ParameterList, soap.SetAttribute{Name: n, NotificationChange: true, Notification: level})
	}
	_, err := b.call(ctx, m)
	return explain(err)
}

// local is a change by the LAN side.
func (b *bench) local(ctx context.Context, settings ...string) error {
	if !has(b.driver, canLocal) {
		return notShown("needs %s", canLocal)
	}
	if err := b.driver.Local(ctx, settings...); err != nil {
		return fmt.Errorf("changing %v locally: %w", settings, err)
	}
	return nil
}

// restart cuts the power; the next session is held.
func (b *bench) restart(ctx context.Context) (*exchange, error) {
	if !has(b.driver, canRestart) {
		return nil, notShown("needs %s", canRestart)
	}
	b.holdNext()
	mark := b.tap.mark()
	if err := b.driver.Restart(ctx); err != nil {
		return nil, err
	}
	x, err := b.tap.waitInform(ctx, mark, nil)
	if err != nil {
		return nil, fmt.Errorf("no Inform after the restart: %w", err)
	}
	return x, nil
}

// inform waits for the next Inform after mark with an event.
func (b *bench) inform(ctx context.Context, mark int, event string, patience time.Duration) (*exchange, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	x, err := b.tap.waitInform(ctx, mark, func(m *soap.Inform) bool { return hasEvent(m, event) })
	if err != nil {
		return nil, fmt.Errorf("no Inform with %q within %v", event, patience)
	}
	return x, nil
}

// quiet fails if an Inform comes within d after mark.
func (b *bench) quiet(ctx context.Context, mark int, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if x, err := b.tap.waitInform(ctx, mark, nil); err == nil {
		return fmt.Errorf("an Inform came that should not: %s", events(x.inform()))
	}
	return nil
}

func hasEvent(m *soap.Inform, code string) bool {
	return slices.ContainsFunc(m.Event, func(e soap.Event) bool { return e.EventCode == code })
}

func events(m *soap.Inform) string {
	var out []string
	for _, e := range m.Event {
		text := e.EventCode
		if e.CommandKey != "" {
			text += "(" + e.CommandKey + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func informValue(m *soap.Inform, name string) (string, bool) {
	for _, p := range m.ParameterList {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// wantValue compares one parameter.
func (b *bench) wantValue(ctx context.Context, name, want string) error {
	got, err := b.get(ctx, name)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s is %q instead of %q", name, got, want)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
