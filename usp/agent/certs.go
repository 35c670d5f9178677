package agent

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp"
	"twinspan/usp/agent/trust"
	"twinspan/usp/mtp"
)

// Device.LocalAgent.Certificate. and what ControllerTrust.Credential. makes of it. The rows hold what the model has of a
// certificate; the certificate itself is a record beside the journal, named by its fingerprint and found by issuer and
// serial number, which are the unique key of the rows.

const (
	certPath       = "Device.LocalAgent.Certificate."
	trustPath      = "Device.LocalAgent.ControllerTrust."
	credentialPath = "Device.LocalAgent.ControllerTrust.Credential."
	certBucket     = "usp/certificates"
	// maxCertificates bounds the table, maxCertBytes one certificate.
	maxCertificates = 64
	maxCertBytes    = 16 << 10
)

var (
	errUntrusted = errors.New("the certificate is neither trusted nor the one that is stored for the Controller")
	errExpired   = errors.New("the certificate is not valid now")
)

// anchor is a trusted certificate: a CA, a broker's or a Controller's own.
type anchor struct {
	cert *x509.Certificate
	row  string // of Certificate, without final dot
	uses string // AllowedUses of its Credential, "" if it has none
	role []string
}

// anchors are the enabled certificates at one revision.
type anchors struct {
	certs, creds uint64
	pool         *x509.CertPool // those with a Credential
	byRaw        map[string]*anchor
	byRow        map[string]*anchor
	tofu         bool
}

// certTable caches anchors and verdicts. Safe for concurrent use.
type certTable struct {
	mu   sync.Mutex
	cur  *anchors
	seen map[*x509.Certificate]verdict // by the leaf of a connection
}

// verdict is what a certificate chain is worth. The zero value is a stranger's.
type verdict struct {
	trusted bool     // leads to a root of the configuration or to a Credential that allows more than the link
	link    bool     // at least good enough for the link
	broker  bool     // the Credential's holder may speak for others
	roles   []string // InheritedRole, rows without final dot
}

// issued is the unique key of a certificate's row.
func issued(c *x509.Certificate) (serial, issuer string) {
	return strings.ToUpper(c.SerialNumber.Text(16)), clipText(c.Issuer.String(), 256)
}

func clipText(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// current returns the anchors of the newest version.
func (a *Agent) anchors() *anchors {
	v := a.store.Head()
	certs, creds := v.SubtreeRev(certPath), v.SubtreeRev(trustPath)
	t := &a.certs
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cur != nil && t.cur.certs == certs && t.cur.creds == creds {
		return t.cur
	}
	t.cur = a.readAnchors(v)
	t.cur.certs, t.cur.creds = certs, creds
	t.seen = nil
	return t.cur
}

func (a *Agent) readAnchors(v *store.Version) *anchors {
	out := &anchors{pool: x509.NewCertPool(), byRaw: map[string]*anchor{}, byRow: map[string]*anchor{}}
	r := reader{v: v, s: a.schema}
	out.tofu = r.flag(trustPath + "TOFUAllowed")
	type key struct{ serial, issuer string }
	byKey := map[key]*x509.Certificate{}
	v.Records(certBucket, func(_ string, der []byte) bool {
		if c, err := x509.ParseCertificate(der); err == nil {
			serial, issuer := issued(c)
			byKey[key{serial, issuer}] = c
		}
		return true
	})
	r.rows(certPath, func(_ uint32, row string) {
		c := byKey[key{r.str(row + "SerialNumber"), r.str(row + "Issuer")}]
		if c == nil || !r.flag(row+"Enable") {
			return
		}
		an := &anchor{cert: c, row: strings.TrimSuffix(row, ".")}
		out.byRaw[string(c.Raw)], out.byRow[an.row] = an, an
	})
	r.rows(credentialPath, func(_ uint32, row string) {
		an := out.byRow[strings.TrimSuffix(r.str(row+"Credential"), ".")]
		if an == nil || !r.flag(row+"Enable") {
			return
		}
		if an.uses = r.str(row + "AllowedUses"); an.uses == "" {
			an.uses = "MTP-only" // the least
		}
		if an.uses != "MTP-only" {
			an.role = trust.List(r.str(row + "Role"))
		}
		out.pool.AddCert(an.cert)
	})
	return out
}

// judge finds out what the certificate of a link is worth. // R-SEC.3, R-SEC.24
func (a *Agent) judge(chain []*x509.Certificate) verdict {
	if len(chain) == 0 {
		return verdict{}
	}
	an := a.anchors()
	t := &a.certs
	t.mu.Lock()
	v, known := t.seen[chain[0]]
	t.mu.Unlock()
	if known {
		return v
	}
	at := a.moment(chain)
	v = a.weigh(an, chain)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cur == an && at.IsZero() { // what was decided without a clock is decided again with one
		if t.seen == nil || len(t.seen) >= 64 { // it is only a cache
			t.seen = map[*x509.Certificate]verdict{}
		}
		t.seen[chain[0]] = v
	}
	return v
}

func (a *Agent) weigh(an *anchors, chain []*x509.Certificate) (v verdict) {
	opt := x509.VerifyOptions{Roots: an.pool, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		CurrentTime: a.moment(chain)}
	for _, c := range chain[1:] {
		opt.Intermediates.AddCert(c)
	}
	// The first trusted certificate above the leaf decides alone: the shortest chain ends at it. // R-SEC.25
	var first *anchor
	if chains, err := chain[0].Verify(opt); err == nil {
		best := slices.MinFunc(chains, func(x, y []*x509.Certificate) int { return len(x) - len(y) })
		first = an.byRaw[string(best[len(best)-1].Raw)]
	}
	if first != nil {
		v = verdict{link: true, trusted: first.uses != "MTP-only", broker: first.uses == "MTP-and-broker", roles: first.role}
	}
	if v.trusted {
		return v
	}
	opt.Roots = a.opt.Trust.Roots
	if _, err := chain[0].Verify(opt); err == nil && first == nil {
		v.trusted, v.link = true, true
	}
	return v
}

// pinned reports whether a link's certificate is stored for a Controller; any tells whether one is stored at all.
func (a *Agent) pinned(row string, chain []*x509.Certificate) (same, any bool) {
	if row == "" {
		return false, false
	}
	r := reader{v: a.store.Head(), s: a.schema}
	an := a.anchors()
	for _, ref := range trust.List(r.str(row + "Credential")) {
		any = true
		if c := an.byRow[ref]; c != nil && len(chain) > 0 && bytes.Equal(c.cert.Raw, chain[0].Raw) {
			same = true
		}
	}
	return same, any
}

// acceptLink decides about a certificate that does not lead to the configured roots, when a link is made. name is the
// host that the agent dialled, "" if the peer dialled. // R-SEC.22
func (a *Agent) acceptLink(chain []*x509.Certificate, name string) error {
	leaf := chain[0]
	v := a.judge(chain)
	known := false
	for _, eid := range namedBy(leaf) {
		c := a.controllers().byID[eid]
		if c == nil {
			continue
		}
		known = true
		if same, _ := a.pinned(c.row, chain); same {
			return a.validDates(leaf)
		}
	}
	switch {
	case v.link && (name == "" || known || leaf.VerifyHostname(name) == nil):
		return nil
	case name == "" && !known && a.anchors().tofu && a.trust.Untrusted(a.store.Head()) != "":
		return a.validDates(leaf) // trust on first use, for strangers that come to us only
	}
	return errUntrusted
}

// moment is when a chain has to be valid: zero, which is now, if the clock is known; else a moment when it can be.
func (a *Agent) moment(chain []*x509.Certificate) time.Time {
	if set := a.opt.Trust.ClockSet; set == nil || set() {
		return time.Time{}
	}
	return mtp.LatestStart(chain)
}

// validDates is what is left to check of a certificate that nobody vouches for. // R-SEC.20
func (a *Agent) validDates(c *x509.Certificate) error {
	if now := time.Now(); a.moment(nil).IsZero() && (now.Before(c.NotBefore) || now.After(c.NotAfter)) {
		return errExpired
	}
	return nil
}

// namedBy lists the Endpoint IDs in a certificate.
func namedBy(c *x509.Certificate) (ids []string) {
	for _, u := range c.URIs {
		const urn = "urn:bbf:usp:id:"
		if s := u.Scheme + ":" + u.Opaque; len(s) > len(urn) && strings.EqualFold(s[:len(urn)], urn) {
			ids = append(ids, s[len(urn):])
		}
	}
	return ids
}

// keepCertificate stores a certificate with its row and returns the row's path without final dot. // R-SEC.8
func (a *Agent) keepCertificate(ctx context.Context, c *x509.Certificate, alias string) (string, error) {
	a.certMu.Lock()
	defer a.certMu.Unlock()
	head := a.store.Head()
	serial, issuer := issued(c)
	r := reader{v: head, s: a.schema}
	row := ""
	r.rows(certPath, func(_ uint32, p string) {
		if r.str(p+"SerialNumber") == serial && r.str(p+"Issuer") == issuer {
			row = p
		}
	})
	print := fingerprint(c)
	if row != "" {
		if old, ok := head.Record(certBucket, print); ok && bytes.Equal(old, c.Raw) {
			return strings.TrimSuffix(row, "."), nil
		}
		return "", datamodel.Fail(datamodel.DuplicateKey, row, "another certificate of this issuer has the same serial number")
	}
	if len(head.Instances(certPath)) >= maxCertificates {
		return "", datamodel.Fail(datamodel.Resources, certPath, "the table is full")
	}
	settings := []bridge.Setting{{Name: "Enable", Value: "true", Required: true}, {Name: "SerialNumber", Value: serial, Required: true},
		{Name: "Issuer", Value: issuer, Required: true}}
	if alias != "" {
		settings = append(settings, bridge.Setting{Name: "Alias", Value: alias, Required: true})
	}
	res, err := a.engine.Apply(ctx, a.system, bridge.Change{Atomic: true, Ref: "certificate",
		Ops:     []bridge.Op{{Kind: bridge.OpAdd, Path: certPath, Settings: settings}},
		Records: []bridge.Record{{Bucket: certBucket, Key: print, Data: c.Raw}}})
	if err == nil {
		err = firstError(res)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(res.Outcomes[0].Objects[0].Path, "."), nil
}

func fingerprint(c *x509.Certificate) string {
	h := crypto.SHA256.New()
	h.Write(c.Raw)
	return hex.EncodeToString(h.Sum(nil))
}

// addCertificate is Device.LocalAgent.AddCertificate().
func (a *Agent) addCertificate(ctx context.Context, text, alias string) error {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(block.Bytes) > maxCertBytes || len(bytes.TrimSpace(rest)) > 0 {
		return datamodel.Fail(datamodel.InvalidArgs, localAgent+"AddCertificate()", "Certificate is not one X.509 certificate in PEM form")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return datamodel.Fail(datamodel.InvalidArgs, localAgent+"AddCertificate()", "Certificate cannot be read")
	}
	_, err = a.keepCertificate(ctx, c, alias)
	return err
}

// certOf finds the certificate of a row, enabled or not.
func (a *Agent) certOf(row string) *x509.Certificate {
	r := reader{v: a.store.Head(), s: a.schema}
	var found *x509.Certificate
	r.v.Records(certBucket, func(_ string, der []byte) bool {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return true
		}
		if serial, issuer := issued(c); serial == r.str(row+"SerialNumber") && issuer == r.str(row+"Issuer") {
			found = c
		}
		return found == nil
	})
	return found
}

// deleteCertificate is Certificate.{i}.Delete(): the row, what refers to it, and the certificate itself.
func (a *Agent) deleteCertificate(ctx context.Context, row string) error {
	a.certMu.Lock()
	defer a.certMu.Unlock()
	c := bridge.Change{Atomic: true, Ref: "certificate", Ops: []bridge.Op{{Kind: bridge.OpDelete, Path: row}}}
	if cert := a.certOf(row); cert != nil {
		c.Records = []bridge.Record{{Bucket: certBucket, Key: fingerprint(cert)}}
	}
	res, err := a.engine.Apply(ctx, a.system, c)
	if err == nil {
		err = firstError(res)
	}
	return err
}

// certFingerprint is Certificate.{i}.GetFingerprint().
func (a *Agent) certFingerprint(row, algorithm string) (map[string]string, error) {
	hashes := map[string]crypto.Hash{"SHA-1": crypto.SHA1, "SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}
	c, h := a.certOf(row), hashes[algorithm]
	if c == nil || h == 0 || !h.Available() {
		return nil, datamodel.Fail(datamodel.CommandFailed, row, "no fingerprint of this kind")
	}
	sum := h.New()
	sum.Write(c.Raw)
	return map[string]string{"Fingerprint": hex.EncodeToString(sum.Sum(nil))}, nil
}

// inherit writes InheritedRole of a Controller as its certificate says. // R-SEC.1a
func (a *Agent) inherit(ctx context.Context, row string, roles []string) error {
	r := reader{v: a.store.Head(), s: a.schema}
	want := strings.Join(roles, ",")
	if strings.Join(trust.List(r.str(row+"InheritedRole")), ",") == want {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.opt.Limits.RequestTime)
	defer cancel()
	res, err := a.engine.Apply(ctx, a.system, bridge.Change{Atomic: true, Ref: "inherited", Ops: []bridge.Op{{Kind: bridge.OpSet, Path: row,
		Settings: []bridge.Setting{{Name: "InheritedRole", Value: want, Required: true}}}}})
	if err == nil {
		err = firstError(res)
	}
	return err
}

// disinherit clears what was decided from certificates before the restart. // R-SEC.21
func (a *Agent) disinherit(ctx context.Context) error {
	c := bridge.Change{Ref: "inherited"}
	r := reader{v: a.store.Head(), s: a.schema}
	r.rows(controllerPath, func(n uint32, row string) {
		if r.str(row+"InheritedRole") != "" {
			c.Ops = append(c.Ops, bridge.Op{Kind: bridge.OpSet, Path: controllerPath + strconv.FormatUint(uint64(n), 10) + ".",
				Settings: []bridge.Setting{{Name: "InheritedRole"}}})
		}
	})
	if len(c.Ops) == 0 {
		return nil
	}
	_, err := a.engine.Apply(ctx, a.system, c)
	return err
}

// verifySignature checks mac_signature by the certificate that came with it, or else by the link's own. That certificate
// must name the sender and be trusted, or be stored for it, or be the one that the link proved. A record is never
// believed for its signature alone, since that does not cover the payload.
func (a *Agent) verifySignature(id mtp.Identity, rec *usp.Record) error {
	chain := id.Chain
	if text := rec.Raw.GetSenderCert(); len(text) > 0 {
		if chain = readChain(text); len(chain) == 0 {
			return errSignature
		}
	}
	if len(chain) == 0 || a.validDates(chain[0]) != nil {
		return errSignature
	}
	row := ""
	if c := a.controllers().byID[rec.From]; c != nil {
		row = c.row
	}
	stored, _ := a.pinned(row, chain)
	of := mtp.Identity{EndpointIDs: namedBy(chain[0]), Chain: chain}
	named := slices.Contains(of.EndpointIDs, rec.From) || namesHost(of, rec.From)
	linked := len(id.Chain) > 0 && bytes.Equal(id.Chain[0].Raw, chain[0].Raw)
	if !stored && (!named || !linked && !a.weigh(a.anchors(), chain).trusted) {
		return errSignature
	}
	return usp.VerifySignature(rec.Raw, chain[0].PublicKey)
}

// readChain reads up to four certificates in PEM form.
func readChain(text []byte) (chain []*x509.Certificate) {
	for len(text) > 0 && len(chain) < 4 {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil
		}
		chain = append(chain, c)
	}
	return chain
}
