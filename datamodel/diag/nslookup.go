package diag

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const errServerName = "Error_DNSServerNotResolved"

// maxAddresses of one result, as in the model.
const maxAddresses = 10

// Words of Result.{i}.Status.
const (
	lookupOK       = "Success"
	lookupNoServer = "Error_DNSServerNotAvailable"
	lookupNoName   = "Error_HostNameNotResolved"
	lookupTimeout  = "Error_Timeout"
)

// lookupResult is one repetition.
type lookupResult struct {
	status    string
	authority bool
	name      string // that the addresses belong to
	addrs     []netip.Addr
	took      time.Duration
	anyAnswer bool
}

// nsLookup is NSLookupDiagnostics(): addresses of both families, asked of one server.
func (p *Provider) nsLookup(ctx context.Context, r *run) error {
	host := r.args.host("HostName")
	timeout := r.args.millis("Timeout", 5*time.Second)
	repeat := int(r.args.number("NumberOfRepetitions", 1, 1, maxLookups))
	v, err := p.via(r)
	if err != nil {
		return err
	}
	servers, domain := p.servers()
	at, err := p.dnsServer(ctx, strings.TrimSpace(r.args.m["DNSServer"]), servers, v)
	if err != nil {
		return err
	}
	if domain != "" && !strings.Contains(host, ".") { // the current domain, unless the name is fully qualified
		host += "." + domain
	}
	name, err := dnsmessage.NewName(strings.TrimSuffix(host, ".") + ".")
	if err == nil {
		_, err = query(0, name, dnsmessage.TypeA)
	}
	if err != nil {
		r.args.fail("HostName", "is not a domain name")
		return r.args.err
	}
	good := 0
	for i := range repeat {
		res, err := p.ask(ctx, at, v, name, timeout)
		if err != nil {
			return err
		}
		if res.status == lookupOK {
			good++
		}
		res.row(r, "Result."+strconv.Itoa(i+1)+".", at.dst)
		r.number("SuccessCount", uint64(good))
		if i+1 < repeat {
			if err := sleep(ctx, p.pace); err != nil {
				return err
			}
		}
	}
	return nil
}

// dnsServer finds the server: by address or name, or that of the system.
func (p *Provider) dnsServer(ctx context.Context, server string, system []netip.Addr, v via) (path, error) {
	if server == "" {
		if len(system) == 0 {
			return path{}, status(errServerName, errors.New("the system has no DNS server"))
		}
		server = system[0].String()
	}
	at, err := p.find(ctx, server, v)
	var word *statusError
	if errors.As(err, &word) {
		switch {
		case word.word == errResolve:
			err = status(errServerName, word.err)
		case word.word == errNoRoute && at.dst.IsValid():
			return at, nil // each repetition will say that it is not available
		}
	}
	return at, err
}

func (res lookupResult) row(r *run, row string, server netip.Addr) {
	r.set(row+"Status", res.status)
	kind := "None"
	switch {
	case res.anyAnswer && res.authority:
		kind = "Authoritative"
	case res.anyAnswer:
		kind = "NonAuthoritative"
	}
	r.set(row+"AnswerType", kind)
	r.set(row+"HostNameReturned", res.name)
	addrs := make([]string, 0, len(res.addrs))
	for _, a := range res.addrs {
		addrs = append(addrs, a.String())
	}
	r.set(row+"IPAddresses", strings.Join(addrs, ","))
	r.set(row+"DNSServerIP", server.WithZone("").String())
	r.millis(row+"ResponseTime", res.took)
}

// ask asks for A and AAAA at once and waits for both, or the timeout. An error is the end of ctx or one of the machine.
func (p *Provider) ask(ctx context.Context, at path, v via, name dnsmessage.Name, timeout time.Duration) (lookupResult, error) {
	d := net.Dialer{Timeout: timeout, Control: markSocket(v)}
	if at.src.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.src, 0))
	}
	start := time.Now()
	server := netip.AddrPortFrom(at.dst, p.dnsPort).String()
	c, err := d.DialContext(ctx, "udp", server)
	if err != nil {
		return noServer(ctx, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	types := [2]dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
	var ids [2]uint16
	var random [4]byte
	rand.Read(random[:]) //nolint:errcheck // never fails
	ids[0] = binary.BigEndian.Uint16(random[:])
	ids[1] = ids[0] ^ (binary.BigEndian.Uint16(random[2:]) | 1) // another one
	if err := c.SetDeadline(start.Add(timeout)); err != nil {
		return noServer(ctx, err)
	}
	for i, t := range types {
		q, err := query(ids[i], name, t)
		if err != nil {
			return lookupResult{}, status(errInternal, err)
		}
		if _, err := c.Write(q); err != nil {
			return noServer(ctx, err)
		}
	}
	var got [2]*dnsAnswer
	var took time.Duration
	buf := make([]byte, 1<<16)
	for got[0] == nil || got[1] == nil {
		n, err := c.Read(buf)
		if err != nil {
			if got[0] == nil && got[1] == nil {
				return noServer(ctx, err)
			}
			break // one answer is better than none
		}
		for i := range got {
			a, err := decodeAnswer(buf[:n], ids[i], name, types[i])
			if err != nil || got[i] != nil {
				continue // of somebody else, or damaged
			}
			if a.truncated {
				if whole, err := p.askTCP(ctx, d, server, ids[i], name, types[i], start.Add(timeout)); err == nil {
					a = whole
				}
			}
			got[i] = a
			took = time.Since(start)
		}
	}
	if ctx.Err() != nil {
		return lookupResult{}, ctx.Err()
	}
	return summary(got, took), nil
}

// noServer is the result when nothing came back.
func noServer(ctx context.Context, err error) (lookupResult, error) {
	var late net.Error
	switch {
	case ctx.Err() != nil:
		return lookupResult{}, ctx.Err()
	case errors.Is(err, syscall.ECONNREFUSED), unreachable(err):
		return lookupResult{status: lookupNoServer}, nil
	case errors.As(err, &late) && late.Timeout():
		return lookupResult{status: lookupTimeout}, nil
	}
	return lookupResult{status: errOther}, nil
}

// summary joins the answers; nil is one that did not come.
func summary(got [2]*dnsAnswer, took time.Duration) lookupResult {
	res := lookupResult{took: took, anyAnswer: true, authority: true}
	refused, missing := false, true
	for _, a := range got {
		if a == nil {
			continue
		}
		res.authority = res.authority && a.authoritative
		switch a.code {
		case dnsmessage.RCodeSuccess, dnsmessage.RCodeNameError:
		case dnsmessage.RCodeRefused, dnsmessage.RCodeNotImplemented:
			refused, missing = true, false
		default:
			missing = false
		}
		if len(a.addrs) > 0 && res.name == "" {
			res.name = strings.TrimSuffix(a.name, ".")
		}
		res.addrs = append(res.addrs, a.addrs...)
	}
	res.addrs = res.addrs[:min(len(res.addrs), maxAddresses)]
	switch {
	case len(res.addrs) > 0:
		res.status = lookupOK
	case missing:
		res.status = lookupNoName
	case refused:
		res.status = lookupNoServer
	default:
		res.status = errOther
	}
	if res.status == lookupNoServer || res.status == errOther {
		res.anyAnswer = false
	}
	return res
}

func query(id uint16, name dnsmessage.Name, t dnsmessage.Type) ([]byte, error) {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: t, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

// dnsAnswer is what one message says.
type dnsAnswer struct {
	code          dnsmessage.RCode
	authoritative bool
	truncated     bool
	name          string // owner of the addresses, at the end of aliases
	addrs         []netip.Addr
}

// maxRecords bounds the records of one answer that are looked at.
const maxRecords = 256

// decodeAnswer reads the answer to one question. An error means that it is not that.
func decodeAnswer(b []byte, id uint16, name dnsmessage.Name, t dnsmessage.Type) (*dnsAnswer, error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		return nil, err
	}
	if !h.Response || h.ID != id {
		return nil, errors.New("not the answer to this question")
	}
	a := &dnsAnswer{code: h.RCode, authoritative: h.Authoritative, truncated: h.Truncated}
	q, err := p.Question()
	if errors.Is(err, dnsmessage.ErrSectionDone) && h.RCode != dnsmessage.RCodeSuccess {
		return a, nil // some servers leave the question out when they refuse
	}
	if err != nil {
		return nil, err
	}
	if q.Type != t || q.Class != dnsmessage.ClassINET || !strings.EqualFold(q.Name.String(), name.String()) {
		return nil, errors.New("the answer is to another question")
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, err
	}
	owner := name.String()
	for range maxRecords {
		rh, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return nil, err
		}
		if !strings.EqualFold(rh.Name.String(), owner) || rh.Class != dnsmessage.ClassINET {
			if err := p.SkipAnswer(); err != nil {
				return nil, err
			}
			continue
		}
		switch {
		case rh.Type == dnsmessage.TypeCNAME:
			var r dnsmessage.CNAMEResource
			if r, err = p.CNAMEResource(); err == nil {
				owner = r.CNAME.String()
			}
		case rh.Type == t && t == dnsmessage.TypeA:
			var r dnsmessage.AResource
			if r, err = p.AResource(); err == nil {
				a.addrs = append(a.addrs, netip.AddrFrom4(r.A))
			}
		case rh.Type == t && t == dnsmessage.TypeAAAA:
			var r dnsmessage.AAAAResource
			if r, err = p.AAAAResource(); err == nil {
				a.addrs = append(a.addrs, netip.AddrFrom16(r.AAAA).Unmap())
			}
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return nil, err
		}
	}
	a.name = owner
	return a, nil
}

// askTCP repeats a question whose answer was too long for one packet.
func (p *Provider) askTCP(ctx context.Context, d net.Dialer, server string, id uint16, name dnsmessage.Name, t dnsmessage.Type, until time.Time) (*dnsAnswer, error) {
	if u, ok := d.LocalAddr.(*net.UDPAddr); ok {
		d.LocalAddr = &net.TCPAddr{IP: u.IP, Zone: u.Zone}
	}
	d.Deadline = until
	c, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := c.SetDeadline(until); err != nil {
		return nil, err
	}
	q, err := query(id, name, t)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, fmt.Errorf("answer over TCP: %w", err)
	}
	return decodeAnswer(b, id, name, t)
}

// systemServers are the DNS servers and the first search domain of the system.
func systemServers() ([]netip.Addr, string) {
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return nil, ""
	}
	defer f.Close()
	return parseResolvConf(io.LimitReader(f, 1<<16))
}

func parseResolvConf(r io.Reader) (servers []netip.Addr, domain string) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && len(servers) < 8 {
				servers = append(servers, a)
			}
		case "domain", "search":
			domain = strings.Trim(f[1], ".")
		}
	}
	return servers, domain
}
