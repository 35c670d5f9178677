//go:build !omit_reach

package cwmp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/connreq/udp"
	"twinspan/cwmp/connreq/xmpp"
	"twinspan/cwmp/internal/xmpptest"
	"twinspan/cwmp/lwnotif"
	"twinspan/cwmp/soap"
)

// live reads what the data model shows now, as the ACS would see it.
func (r *rig) live(name string) string {
	r.t.Helper()
	v := r.engine.View(acsWriter)
	ms, err := resolve(v, name)
	if err != nil || len(ms) != 1 {
		r.t.Fatalf("%s: %v %v", name, ms, err)
	}
	value, err := v.Value(r.ctx(), ms[0])
	if err != nil {
		r.t.Fatal(err)
	}
	return value
}

// told gives a value that an Inform carries, "" without.
func told(i *acs.InformRecord, name string) string {
	value, _ := i.Value(name)
	return value
}

// called runs an RPC in a session of its own and waits for the session's end.
func (r *serverRig) called(m soap.Message) (answer soap.Message, err error) {
	r.t.Helper()
	n := r.dev.Sessions()
	done := make(chan struct{})
	go func() { answer, err = r.dev.Call(r.ctx(), m); close(done) }()
	for r.dev.Queued() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := r.dev.ConnectionRequest(r.ctx()); err != nil {
		r.t.Fatal(err)
	}
	<-done
	r.idle(n + 1)
	return answer, err
}

// stunServer answers Binding Requests on a real socket; the client reaches it through an address that is not its own, so
// that it sees a NAT: an outer socket for each source.
func stunBehindNAT(t *testing.T) (server net.Addr, seen func() []*udp.Message) {
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var messages []*udp.Message
	outer := map[string]net.PacketConn{}
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := inner.ReadFrom(buf)
			if err != nil {
				return
			}
			m, err := udp.Decode(buf[:n])
			if err != nil {
				continue
			}
			mu.Lock()
			messages = append(messages, m)
			out := outer[from.String()]
			if out == nil {
				if out, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
					mu.Unlock()
					return
				}
				outer[from.String()] = out
				wg.Go(func() { // what comes to the outer address goes on to the source
					buf := make([]byte, 2048)
					for {
						n, _, err := out.ReadFrom(buf)
						if err != nil {
							return
						}
						_, _ = inner.WriteTo(buf[:n], from)
					}
				})
			}
			mu.Unlock()
			raw, err := (&udp.Message{Type: udp.BindingResponse, Transaction: m.Transaction, Mapped: out.LocalAddr().(*net.UDPAddr).AddrPort()}).Encode("")
			if err == nil {
				_, _ = inner.WriteTo(raw, from)
			}
		}
	})
	t.Cleanup(func() {
		inner.Close()
		mu.Lock()
		for _, c := range outer {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return inner.LocalAddr(), func() []*udp.Message { mu.Lock(); defer mu.Unlock(); return append([]*udp.Message(nil), messages...) }
}

// The ACS switches STUN on, learns the outer address from a value change, and wakes the CPE through the NAT.
func TestReachUDPThroughNAT(t *testing.T) {
	t.Parallel()
	stun, seen := stunBehindNAT(t)
	_, port, _ := net.SplitHostPort(stun.String())
	// Its own free port: the rig's is known to be free for TCP only.
	r := newServerRig(t, acs.Config{}, func(o *Options) { o.UDPListen = "127.0.0.1:0" }, map[string]string{"Device.ManagementServer.ConnectionRequestUsername": "acs ü"})
	r.dev.SetConnectionRequestAuth("acs ü", "knock")
	r.idle(1)
	if got := r.live(msPath + "SupportedConnReqMethods"); got != "HTTP,STUN,XMPP" {
		t.Error(got)
	}
	// Without STUN the local address is listened on (TR-181 UDPConnectionRequestAddress).
	if got := r.live(msPath + "UDPConnectionRequestAddress"); !strings.HasPrefix(got, "127.0.0.1:") || r.live(msPath+"NATDetected") != "false" {
		t.Error(got)
	}
	if _, err := r.called(&soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: msPath + "UDPConnectionRequestAddress", NotificationChange: true, Notification: 2}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.called(&soap.SetParameterValues{ParameterList: values(msPath+"STUNServerAddress", "127.0.0.1", msPath+"STUNServerPort", port,
		msPath+"STUNUsername", "cpe01", msPath+"STUNPassword", "stun secret", msPath+"STUNMinimumKeepAlivePeriod", "30",
		msPath+"STUNMaximumKeepAlivePeriod", "30", msPath+"STUNEnable", "true")}); err != nil {
		t.Fatal(err)
	}
	inform, err := r.dev.WaitInform(r.ctx(), func(i *acs.InformRecord) bool {
		return i.HasEvent("4 VALUE CHANGE") && strings.HasPrefix(told(i, msPath+"UDPConnectionRequestAddress"), "127.0.0.1:")
	})
	if err != nil {
		t.Fatal(err)
	}
	address := told(&inform, msPath+"UDPConnectionRequestAddress")
	if r.live(msPath+"NATDetected") != "true" || r.live(msPath+"STUNPassword") != "" {
		t.Error("NATDetected is false, or the password is shown")
	}
	first := seen()[0]
	if !first.Binding || first.Username != "cpe01" || !first.Proved("stun secret") {
		t.Errorf("%+v", first)
	}
	r.wait("the end of the session", func() bool { return r.dev.WaitIdle(r.ctx(), r.dev.Sessions()) == nil })
	n := r.dev.Sessions()
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := udp.Request{Timestamp: uint64(time.Now().Unix()), ID: 1, User: "acs ü", Cnonce: "c"}
	_, _ = conn.Write(ask.Encode(address, "wrong"))
	for range 3 { // STUN-04
		_, _ = conn.Write(ask.Encode(address, "knock"))
	}
	r.idle(n + 1)
	if last, _ := r.dev.LastInform(); !last.HasEvent("6 CONNECTION REQUEST") {
		t.Errorf("%+v", last)
	}
	time.Sleep(100 * time.Millisecond)
	if got := r.dev.Sessions(); got != n+1 {
		t.Errorf("%d sessions for three copies", got-n)
	}
	r.sys(msPath+"STUNEnable", "false")
	r.wait("the local address", func() bool { return r.live(msPath+"NATDetected") == "false" })
	r.sys(msPath+"EnableCWMP", "false") // no requests are heard any more
	r.wait("the end of listening", func() bool { return r.live(msPath+"UDPConnectionRequestAddress") == "" })
	r.clean()
}

// The ACS makes an XMPP connection, names it, and wakes the CPE over a real server.
func TestReachXMPP(t *testing.T) {
	t.Parallel()
	cert, pool := xmpptest.Certificate(t, xmpptest.Domain)
	host, port := xmpptest.Prosody(t, cert, "c2s_require_encryption = true")
	r := newServerRig(t, acs.Config{}, func(o *Options) { o.RootCAs = pool }, nil)
	r.idle(1)
	const row = "Device.XMPP.Connection.1."
	if m, err := r.called(&soap.AddObject{ObjectName: "Device.XMPP.Connection."}); err != nil || m.(*soap.AddObjectResponse).InstanceNumber != 1 {
		t.Fatal(m, err)
	}
	if got := r.live(row + "Status"); got != "Disabled" {
		t.Error(got)
	}
	if _, err := r.called(&soap.AddObject{ObjectName: row + "Server."}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.called(&soap.SetParameterValues{ParameterList: values(row+"Username", "cpe1", row+"Domain", xmpptest.Domain, row+"Resource", "cwmp",
		row+"Password", xmpptest.Password, row+"UseTLS", "true", row+"ServerConnectAlgorithm", "ServerTable", row+"ServerRetryInitialInterval", "1",
		row+"Server.1.ServerAddress", host, row+"Server.1.Port", strconv.Itoa(port), row+"Server.1.Enable", "true", row+"Enable", "true",
		msPath+"ConnReqAllowedJabberIDs", "acs@"+xmpptest.Domain)}); err != nil {
		t.Fatal(err)
	}
	if got := r.live(row + "Status"); got != "Dormant" {
		t.Error(got)
	}
	if _, err := r.called(&soap.SetParameterValues{ParameterList: values(msPath+"ConnReqXMPPConnection", strings.TrimSuffix(row, "."))}); err != nil {
		t.Fatal(err)
	}
	// ConnReqJabberID is active by default: the ACS is told.
	inform, err := r.dev.WaitInform(r.ctx(), func(i *acs.InformRecord) bool { return told(i, msPath+"ConnReqJabberID") != "" })
	if err != nil {
		t.Fatal(err)
	}
	jid := told(&inform, msPath+"ConnReqJabberID")
	if jid != "cpe1@"+xmpptest.Domain+"/cwmp" || r.live(row+"Status") != "Enabled" || r.live(row+"TLSEstablished") != "true" || r.live(row+"JabberID") != jid {
		t.Errorf("%s %s", jid, r.live(row+"Status"))
	}
	if r.live(row+"Stats.TransmittedMessages") == "0" || strings.HasPrefix(r.live(row+"LastChangeDate"), "0001") {
		t.Error("statistics")
	}
	r.wait("the end of the session", func() bool { return r.dev.WaitIdle(r.ctx(), r.dev.Sessions()) == nil })
	cfg := xmpp.Config{Username: "acs", Domain: xmpptest.Domain, Resource: "console", Password: xmpptest.Password, UseTLS: true,
		TLS: &tls.Config{RootCAs: pool}, Servers: []xmpp.Target{{Host: host, Port: port}}}
	var refused *xmpp.RefusedError
	if err := xmpp.Ask(r.ctx(), cfg, jid, "acs", "wrong"); !errors.As(err, &refused) || refused.Condition != "not-authorized" {
		t.Error(err)
	}
	n := r.dev.Sessions()
	if err := xmpp.Ask(r.ctx(), cfg, jid, "acs", "knock"); err != nil {
		t.Fatal(err)
	}
	r.idle(n + 1)
	if last, _ := r.dev.LastInform(); !last.HasEvent("6 CONNECTION REQUEST") {
		t.Errorf("%+v", last)
	}
	r.sys(msPath+"ConnReqAllowedJabberIDs", "boss@"+xmpptest.Domain) // followed without a new connection
	r.wait("the list", func() bool {
		return errors.As(xmpp.Ask(r.ctx(), cfg, jid, "acs", "knock"), &refused) && refused.Condition == "service-unavailable"
	})
	r.sys(row+"Password", "wrong")
	r.wait("the failure", func() bool { return r.live(row+"Status") == "Error_AuthenticationFailure" })
	r.sys(row+"Domain", "no@domain")
	r.wait("the refusal", func() bool { return r.live(row+"Status") == "Error_Misconfigured" })
	r.sys(row+"Enable", "false")
	r.wait("the end", func() bool { return r.live(row+"Status") == "Disabled" && r.live(msPath+"ConnReqJabberID") == "" })
	if _, err := r.called(&soap.SetParameterValues{ParameterList: values(row+"ServerConnectAlgorithm", "WebSocket")}); err == nil {
		t.Error("WebSocket was taken")
	}
	r.clean()
}

// LWN-01, LWN-02
func TestLightweightNotification(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	receive := func(wait time.Duration) *lwnotif.Message {
		_ = conn.SetReadDeadline(time.Now().Add(wait))
		buf := make([]byte, lwnotif.MaxMessage)
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return nil
		}
		m, err := lwnotif.Parse(buf[:n])
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
	r := newServerRig(t, acs.Config{}, nil, map[string]string{msPath + "UDPLightweightNotificationPort": port})
	r.idle(1)
	const stored, liveOne, plain = "Device.IP.Interface.1.Enable", "Device.IP.Interface.1.Status", "Device.IP.Interface.2.Enable"
	set := func(name string, n int) soap.SetAttribute {
		return soap.SetAttribute{Name: name, NotificationChange: true, Notification: n}
	}
	if _, err := r.called(&soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{set(stored, 5), set(liveOne, 3), set(plain, 6)}}); err != nil {
		t.Fatal(err)
	}
	r.usp(stored, "false")
	if m := receive(200 * time.Millisecond); m != nil { // LWN-02
		t.Errorf("%+v", m)
	}
	if _, err := r.called(&soap.SetParameterValues{ParameterList: values(msPath+"LightweightNotificationProtocolsUsed", "UDP")}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(150 * time.Millisecond) // the live value becomes known
	n := r.dev.Sessions()
	r.usp(stored, "true") // and Status follows, passive
	m := receive(3 * time.Second)
	if m == nil || !m.Signed("secret") || m.User != "cpe" || m.Device != (lwnotif.Device{OUI: "00D09E", ProductClass: "Box", SerialNumber: "SN 1"}) ||
		m.Params[len(m.Params)-1] != (lwnotif.Param{Name: stored, Type: "xsd:boolean", Value: "true"}) {
		t.Fatalf("%+v", m)
	}
	time.Sleep(1100 * time.Millisecond) // Status was compared, and waits for the next active one
	r.usp(plain, "true")
	m = receive(3 * time.Second)
	names := map[string]string{}
	if m != nil {
		for _, p := range m.Params {
			names[p.Name] = p.Value
		}
	}
	if names[plain] != "true" || len(m.Params) > 1 && names[liveOne] != "Up" {
		t.Errorf("%+v", m)
	}
	if got := r.dev.Sessions(); got != n {
		t.Errorf("%d sessions", got-n)
	}
	// 6 is also passive: the next Inform carries it, and not the one with 5.
	if _, err := r.called(&soap.SetParameterValues{ParameterList: values(stored, "false")}); err != nil {
		t.Fatal(err)
	}
	if last, _ := r.dev.LastInform(); told(&last, plain) != "true" || told(&last, stored) != "" {
		t.Errorf("%+v", last)
	}
	if m := receive(200 * time.Millisecond); m != nil && strings.Contains(fmt.Sprint(m.Params), stored) { // the ACS's own change
		t.Errorf("%+v", m)
	}
	if _, err := r.called(&soap.SetParameterValues{ParameterList: values(msPath+"LightweightNotificationProtocolsUsed", "HTTP")}); err == nil {
		t.Error("another protocol was taken")
	}
	r.clean()
}

// DISC-01, DISC-05, DISC-06: what DHCP offers is taken where nobody has spoken, left where an ACS has, and taken again when
// nobody answers for long.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lease")
	offer := func(url string) {
		text := fmt.Sprintf("opt43=01%02x%x0204702d3231030231320404%x\n", len(url), url, "3000")
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	second := newACS(t)
	r := newRig(t, func(o *Options) { o.DiscoveryFiles, o.DiscoveryEvery = []string{file}, 20*time.Millisecond }, map[string]string{
		msPath + "URL": "", "Device.DeviceInfo.ProvisioningCode": "factory"})
	offer(r.acs.srv.URL)
	r.ended(1)
	first := inform(r.acs.session(0))
	if got := strings.Join(eventCodes(first), ","); !strings.Contains(got, "0 BOOTSTRAP") {
		t.Error(got)
	}
	if got := r.live("Device.DeviceInfo.ProvisioningCode"); got != "p-21" {
		t.Error(got)
	}
	if r.live(msPath+"CWMPRetryMinimumWaitInterval") != "12" || r.live(msPath+"CWMPRetryIntervalMultiplier") != "3000" {
		t.Error("retry parameters")
	}
	// Another offer is followed, because the URL came from DHCP.
	offer(second.srv.URL)
	r.wait("a session with the second ACS", func() bool { return second.count() > 0 })
	// The second ACS names the first one: its word stands against DHCP. DISC-05
	second.mu.Lock()
	second.queue = append(second.queue, &soap.SetParameterValues{ParameterList: values(msPath+"URL", r.acs.srv.URL+"/acs")})
	second.mu.Unlock()
	before := r.acs.count()
	r.cpe.requested()
	r.wait("a session with the first ACS", func() bool { return r.acs.count() > before })
	r.ended(before + 1)
	seen := second.count()
	offer(second.srv.URL + "/other")
	time.Sleep(200 * time.Millisecond)
	if got := r.live(msPath + "URL"); got != r.acs.srv.URL+"/acs" {
		t.Error(got)
	}
	if second.count() != seen {
		t.Error("DHCP won against the ACS")
	}
	// Nobody answers any more: after some failures the offer counts. DISC-06
	r.acs.script(func(int, *soap.Envelope) (int, *soap.Envelope, bool) { return 500, nil, true })
	if err := r.cpe.call(r.ctx(), func() error { r.cpe.failures = discoverAfter - 1; return nil }); err != nil {
		t.Fatal(err)
	}
	r.cpe.requested()
	r.wait("the offer", func() bool { return r.live(msPath+"URL") == second.srv.URL+"/other" })
	r.wait("a session with the second ACS", func() bool { return second.count() > seen })
}

func TestReachOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{UDPListen: "nonsense"}, {DiscoveryFiles: make([]string, 9)}, {DiscoveryEvery: -1}} {
		if o.checkReach() == nil {
			t.Errorf("%+v", o)
		}
	}
	r := newServerRig(t, acs.Config{}, func(o *Options) { o.UDPListen = "off" }, nil)
	r.idle(1)
	if got := r.live(msPath + "SupportedConnReqMethods"); got != "HTTP,XMPP" || r.live(msPath+"UDPConnectionRequestAddress") != "" {
		t.Error(got)
	}
}
