package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
)

// issuer makes certificates.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serials int64

// issue makes a certificate below i (nil: self-signed), a CA without Endpoint ID.
func (i *issuer) issue(t *testing.T, name, eid string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serials++
	tpl := &x509.Certificate{SerialNumber: big.NewInt(serials), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if eid != "" {
		tpl.URIs = []*url.URL{{Scheme: "urn", Opaque: "bbf:usp:id:" + eid}}
	} else {
		tpl.IsCA, tpl.BasicConstraintsValid, tpl.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	parent, signer := tpl, key
	if i != nil {
		parent, signer = i.cert, i.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t: t, cert: cert, key: key}
}

// shown is what a transport tells of a peer that it could not verify.
func (i *issuer) shown(above ...*issuer) mtp.Identity {
	id := mtp.Identity{Encrypted: true, Unverified: true, EndpointIDs: namedBy(i.cert), Fingerprint: fingerprint(i.cert), Chain: []*x509.Certificate{i.cert}}
	for _, c := range above {
		id.Chain = append(id.Chain, c.cert)
	}
	return id
}

func (i *issuer) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
}

func (c *ctl) result(command string, args map[string]string) *uspmsg.OperateResp_OperationResult {
	c.t.Helper()
	m := c.ask(&uspmsg.Request{ReqType: &uspmsg.Request_Operate{Operate: &uspmsg.Operate{Command: command, CommandKey: "k", SendResp: true, InputArgs: args}}})
	res := m.GetBody().GetResponse().GetOperateResp().GetOperationResults()
	if len(res) != 1 {
		c.t.Fatalf("%s: %v", command, m)
	}
	return res[0]
}

const credTable = "Device.LocalAgent.ControllerTrust.Credential."

// trustCA adds a certificate and its Credential.
func trustCA(r *rig, i *issuer, alias, uses, role string) (cert, cred string) {
	r.t.Helper()
	if res := r.c1.result("Device.LocalAgent.AddCertificate()", map[string]string{"Alias": alias, "Certificate": i.pem()}); res.GetCmdFailure() != nil {
		r.t.Fatal(res)
	}
	for _, p := range r.c1.Get(1, `Device.LocalAgent.Certificate.[Alias=="`+alias+`"].`) {
		cert = p.ResolvedPathResults[0].ResolvedPath
	}
	return cert, r.c1.mustAdd(create(credTable, "!Enable", "true", "!Credential", cert, "!AllowedUses", uses, "!Role", role))[0]
}

func private(_ *datamodel.Profile, o *Options) { o.Trust.Roots = x509.NewCertPool() }

// Controllers get the Roles of the first trusted CA above them, and lose them with it. R-SEC.25, R-SEC.4
func TestInheritedRole(t *testing.T) {
	r := newRig(t, limited, private)
	root := (*issuer)(nil).issue(t, "root", "")
	sub := root.issue(t, "sub", "")
	leaf := sub.issue(t, "leaf", "self::new")
	direct := root.issue(t, "direct", "self::direct")
	p := newRawPeer(t, r.agent, false, leaf.shown(sub), 701)
	if p.answered("self::new", agentID) {
		t.Fatal("an unknown CA is trusted")
	}
	_, rootCred := trustCA(r, root, "root", "MTP-and-USP", roleTable+"2")
	subCert, _ := trustCA(r, sub, "sub", "MTP-and-USP", roleTable+"1")
	inherited := func(eid string) string {
		v, _ := r.c1.get1(`Device.LocalAgent.Controller.[EndpointID=="` + eid + `"].InheritedRole`)
		return v
	}
	if !p.answered("self::new", agentID) || inherited("self::new") != roleTable+"1" {
		t.Errorf("Role %q", inherited("self::new"))
	}
	d := newRawPeer(t, r.agent, false, direct.shown(), 702)
	if !d.answered("self::direct", agentID) || inherited("self::direct") != roleTable+"2" {
		t.Errorf("Role %q", inherited("self::direct"))
	}
	if p.answered("self::direct", agentID) || d.answered(c1ID, agentID) {
		t.Error("a certificate speaks for another")
	}
	// Credentials are evaluated live: without the CA in between, the root decides.
	if res := r.c1.result(subCert+"Delete()", nil); res.GetCmdFailure() != nil {
		t.Fatal(res)
	}
	if _, ok := r.store.Head().Record(certBucket, fingerprint(sub.cert)); ok {
		t.Error("the certificate is kept without its row")
	}
	if !p.answered("self::new", agentID) || inherited("self::new") != roleTable+"2" {
		t.Errorf("Role %q", inherited("self::new"))
	}
	r.restart() // R-SEC.21
	if inherited("self::new") != "" {
		t.Errorf("Role %q after the restart", inherited("self::new"))
	}
	p = newRawPeer(t, r.agent, false, leaf.shown(sub), 703)
	if !p.answered("self::new", agentID) || inherited("self::new") != roleTable+"2" {
		t.Errorf("Role %q", inherited("self::new"))
	}
	r.c1.Set(false, set(rootCred, "!AllowedUses", "MTP-only"))
	if p.answered("self::new", agentID) {
		t.Error("a certificate for the link only is enough for records")
	}
	r.c1.Set(false, set(rootCred, "!AllowedUses", "MTP-and-USP", "!Enable", "false"))
	if p.answered("self::new", agentID) {
		t.Error("a disabled Credential counts")
	}
}

// A broker may speak for Controllers if its Credential says so.
func TestTrustedBroker(t *testing.T) { // R-SEC.26
	r := newRig(t, private)
	ca := (*issuer)(nil).issue(t, "brokers", "")
	id := ca.issue(t, "broker", "self::broker").shown()
	id.Broker = true
	p := newRawPeer(t, r.agent, false, id, 711)
	if p.answered(c2ID, agentID) {
		t.Fatal("a broker nobody trusts")
	}
	_, cred := trustCA(r, ca, "brokers", "MTP-and-broker", "")
	if !p.answered(c2ID, agentID) || p.answered("self::nobody", agentID) {
		t.Error("a trusted broker")
	}
	r.c1.Set(false, set(cred, "!AllowedUses", "MTP-and-USP"))
	if p.answered(c2ID, agentID) {
		t.Error("a CA of Controllers vouches for a broker")
	}
}

// A self-signed certificate is good for the Controller that it is stored for, and for no other.
func TestStoredCertificate(t *testing.T) {
	r := newRig(t, private, func(p *datamodel.Profile, _ *Options) { p.Factory[trustPath+"TOFUAllowed"] = "true" })
	own := (*issuer)(nil).issue(t, "two", c2ID)
	p := newRawPeer(t, r.agent, false, own.shown(), 721)
	if p.answered(c2ID, agentID) {
		t.Fatal("a self-signed certificate takes a known Controller over")
	}
	if res := r.c1.result("Device.LocalAgent.AddCertificate()", map[string]string{"Alias": "two", "Certificate": own.pem()}); res.GetCmdFailure() != nil {
		t.Fatal(res)
	}
	r.c1.Set(false, set("Device.LocalAgent.Controller.2.", "!Credential", "Device.LocalAgent.Certificate.1"))
	if !p.answered(c2ID, agentID) {
		t.Error("the stored certificate is refused")
	}
	if other := (*issuer)(nil).issue(t, "two", c2ID); newRawPeer(t, r.agent, false, other.shown(), 722).answered(c2ID, agentID) {
		t.Error("another certificate of the same name is taken")
	}
	for _, text := range []string{"", "nonsense", own.pem() + own.pem(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if res := r.c1.result("Device.LocalAgent.AddCertificate()", map[string]string{"Certificate": text}); res.GetCmdFailure() == nil {
			t.Errorf("%.20q is taken", text)
		}
	}
	if n := len(r.store.Head().Instances(certPath)); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

// A signature that is there must hold, also on a link that would do without. TP-469 2.7
func TestSignedRecords(t *testing.T) {
	r := newRig(t, private)
	ca := (*issuer)(nil).issue(t, "ca", "")
	one, other, self := ca.issue(t, "one", c1ID), ca.issue(t, "two", c2ID), (*issuer)(nil).issue(t, "self", c1ID)
	trustCA(r, ca, "ca", "MTP-and-USP", roleTable+"1")
	get := &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device.LocalAgent.EndpointID"}}}}
	for i, k := range []struct {
		name   string
		cert   *issuer // that comes along
		signer *issuer
		link   mtp.Identity
		spoil  bool
		answer bool
	}{
		{"good", one, one, mtp.Identity{Local: true}, false, true},
		{"good, on the link of the same certificate", nil, one, one.shown(), false, true},
		{"spoilt", one, one, mtp.Identity{Local: true}, true, false},
		{"spoilt, on a good link", one, one, one.shown(), true, false},
		{"of another key", one, other, one.shown(), false, false},
		{"of another Controller", other, other, mtp.Identity{Local: true}, false, false},
		{"self-signed", self, self, mtp.Identity{Local: true}, false, false},
		{"without a certificate", nil, one, mtp.Identity{Local: true}, false, false},
		{"good, on a link that proves nothing", one, one, mtp.Identity{Encrypted: true}, false, false},
	} {
		rec := messageRecord(t, c1ID, get)
		if k.cert != nil {
			rec.SenderCert = []byte(k.cert.pem())
		}
		if err := usp.SignRecord(rec, k.signer.key); err != nil {
			t.Fatal(err)
		}
		if k.spoil {
			rec.MacSignature[len(rec.MacSignature)-1] ^= 1
		}
		p := newRawPeer(t, r.agent, false, k.link, uint64(731+i))
		p.send(encode(t, rec))
		if got := p.heard(c1ID); got != k.answer {
			t.Errorf("%s: answered %v", k.name, got)
		}
	}
}

// A program of this device does not get the Roles that a remote Controller has by its certificate.
func TestInternalControllerIsNoRemoteOne(t *testing.T) {
	r := newRig(t, limited, private, func(_ *datamodel.Profile, o *Options) { o.ServiceSocket = &ServiceListener{Path: "x"} })
	root := (*issuer)(nil).issue(t, "root", "")
	trustCA(r, root, "root", "MTP-and-USP", roleTable+"1")
	if p := newRawPeer(t, r.agent, false, root.issue(t, "leaf", "self::remote").shown(), 701); !p.answered("self::remote", agentID) {
		t.Fatal("the remote Controller is refused")
	}
	c := r.agent.controllers().byID["self::remote"]
	if c == nil {
		t.Fatal("no row")
	}
	if s, err := r.agent.internal(c); err == nil {
		t.Errorf("an impostor is believed: %+v", s)
	}
	if s, err := r.agent.internal(nil); err != nil || !s.internal {
		t.Errorf("a new one: %+v %v", s, err)
	}
}
