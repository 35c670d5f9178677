package conformcwmp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
	"twinspan/cwmp/soap"
)

var tlsChecks = map[string]check{
	"TLS-03": {needs: []ability{canTrust}, world: world{noTime: true}, run: expiredCertificate},
	"TLS-06": {needs: []ability{canTrust}, run: func(ctx context.Context, b *bench) error {
		good, err := b.secure(leaf{ips: []net.IP{loopback}}, nil)
		if err != nil {
			return err
		}
		if _, err := b.moveTo(ctx, "https://127.0.0.1:"+good+"/acs", 5*time.Second); err != nil {
			return err
		}
		bad, err := b.secure(leaf{dns: []string{"localhost"}, commonName: "127.0.0.1"}, nil)
		if err != nil {
			return err
		}
		if _, err := b.moveTo(ctx, "https://127.0.0.1:"+bad+"/acs", 3*time.Second); err == nil {
			return errors.New("a certificate without the address was taken")
		}
		return nil
	}},
	"TLS-07": {needs: []ability{canTrust}, world: world{hosts: "127.0.0.1 acs.localhost"}, run: sanOverCN},
	"TLS-08": {needs: []ability{canTrust}, run: clientHello},
}

// expiredCertificate is run on a CPE that does not know the time; another one does.
func expiredCertificate(ctx context.Context, b *bench) error {
	port, err := b.secure(leaf{ips: []net.IP{loopback}, expired: true}, nil)
	if err != nil {
		return err
	}
	if _, err := b.moveTo(ctx, "https://127.0.0.1:"+port+"/acs", 5*time.Second); err != nil {
		return fmt.Errorf("a CPE that does not know the time refuses an expired certificate: %w", err)
	}
	bad, err := b.secure(leaf{dns: []string{"other.example"}, expired: true}, nil)
	if err != nil {
		return err
	}
	if _, err := b.moveTo(ctx, "https://127.0.0.1:"+bad+"/acs", 3*time.Second); err == nil {
		return errors.New("without the time a certificate with another name is taken, too")
	}
	b.observe("without the time: the expired certificate is taken, one with another name is not")
	knows, err := b.twin(ctx)
	if err != nil {
		return err
	}
	defer knows.close()
	if port, err = knows.secure(leaf{ips: []net.IP{loopback}, expired: true}, nil); err != nil {
		return err
	}
	if x, err := knows.moveTo(ctx, "https://127.0.0.1:"+port+"/acs", 3*time.Second); err == nil && x != nil {
		return errors.New("a CPE that knows the time took an expired certificate")
	}
	b.observe("with the time: the expired certificate is refused")
	return nil
}

func sanOverCN(ctx context.Context, b *bench) error {
	good, err := b.secure(leaf{dns: []string{"localhost"}, commonName: "other.example"}, nil)
	if err != nil {
		return err
	}
	if _, err := b.moveTo(ctx, "https://localhost:"+good+"/acs", 5*time.Second); err != nil {
		return err
	}
	d, wild := b.driver.(*agentDriver)
	wild = wild && d.world.hosts != ""
	if addrs, err := net.DefaultResolver.LookupHost(ctx, "acs.localhost"); wild || err == nil && len(addrs) > 0 && addrs[0] == "127.0.0.1" {
		port, err := b.secure(leaf{dns: []string{"*.localhost"}}, nil)
		if err != nil {
			return err
		}
		if _, err := b.moveTo(ctx, "https://acs.localhost:"+port+"/acs", 5*time.Second); err != nil {
			return fmt.Errorf("a wildcard that matches: %w", err)
		}
		wild = true
	}
	bad, err := b.secure(leaf{dns: []string{"other.example"}, commonName: "localhost"}, nil)
	if err != nil {
		return err
	}
	if _, err := b.moveTo(ctx, "https://localhost:"+bad+"/acs", 3*time.Second); err == nil {
		return errors.New("the common name was taken though the alternative names do not match")
	}
	if !wild {
		return notShown("the alternative name wins over the common name, seen; for the wildcard this machine has no host name below localhost")
	}
	return nil
}

func clientHello(ctx context.Context, b *bench) error {
	var mu sync.Mutex
	var name string
	var versions []uint16
	port, err := b.secure(leaf{dns: []string{"localhost"}}, func(h *tls.ClientHelloInfo) {
		mu.Lock()
		defer mu.Unlock()
		name, versions = h.ServerName, h.SupportedVersions
	})
	if err != nil {
		return err
	}
	if _, err := b.moveTo(ctx, "https://localhost:"+port+"/acs", 5*time.Second); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	b.observe("server_name %q, versions %x", name, versions)
	if name != "localhost" {
		return fmt.Errorf("server_name is %q", name)
	}
	for _, v := range versions {
		if v < tls.VersionTLS12 {
			return fmt.Errorf("version %x is offered", v)
		}
	}
	return nil
}

var versionChecks = map[string]check{
	"VER-01": {run: func(_ context.Context, b *bench) error {
		list := b.lastExchange("Inform").Envelope.Header.SupportedCWMPVersions
		b.observe("SupportedCWMPVersions %s", strings.Join(list, ","))
		if len(list) == 0 || list[0] != "1.0" || list[len(list)-1] != "1.4" {
			return fmt.Errorf("SupportedCWMPVersions is %v", list)
		}
		return nil
	}},
	"VER-02": {run: func(ctx context.Context, b *bench) error {
		x, err := b.informAnswer(ctx, swap("</soap-env:Header>", `<cwmp:UseCWMPVersion soap-env:mustUnderstand="1">1.2</cwmp:UseCWMPVersion></soap-env:Header>`))
		if err != nil {
			return err
		}
		if _, err := b.get(ctx, b.code()); err != nil {
			return err
		}
		for _, e := range b.tap.since(b.after(x)) {
			for _, newer := range []string{"SessionTimeout", "SupportedCWMPVersions", "UseCWMPVersion"} {
				if bytes.Contains(e.Body, []byte(newer)) {
					return fmt.Errorf("%s has %s after 1.2 was agreed on", e.method(), newer)
				}
			}
		}
		return nil
	}},
	"VER-03": {run: func(ctx context.Context, b *bench) error {
		b.endSession(ctx)
		b.tap.onAfter(func(x *exchange) bool {
			x.RespBody = bytes.ReplaceAll(x.RespBody, []byte(soap.NSCWMP12), []byte(soap.NSCWMP10))
			return false
		})
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		if _, err := b.get(ctx, b.code()); err != nil {
			return err
		}
		for _, e := range b.tap.since(b.after(x)) {
			if e.Envelope != nil && e.Envelope.Namespace != soap.NSCWMP10 {
				return fmt.Errorf("%s has the namespace %s", e.method(), e.Envelope.Namespace)
			}
		}
		return nil
	}},
	"VER-04": {run: func(ctx context.Context, b *bench) error {
		b.tap.onAfter(func() hook {
			var once sync.Once
			return func(x *exchange) bool {
				if x.inform() != nil {
					once.Do(func() {
						swap("</soap-env:Header>", `<cwmp:UseCWMPVersion soap-env:mustUnderstand="1">9.9</cwmp:UseCWMPVersion></soap-env:Header>`)(x)
					})
				}
				return false
			}
		}())
		return b.retried(ctx, nil, time.Second, 2*time.Second, true)
	}},
	"VER-06": {run: func(_ context.Context, b *bench) error {
		ns := b.lastExchange("Inform").Envelope.Namespace
		b.observe("%s", ns)
		switch ns {
		case soap.NSCWMP10, soap.NSCWMP11, soap.NSCWMP12:
			return nil
		}
		return fmt.Errorf("the namespace is %s", ns)
	}},
}
