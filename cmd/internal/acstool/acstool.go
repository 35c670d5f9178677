package acstool

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

// maxLine bounds one line of input, in bytes.
const maxLine = 1 << 20

// errQuit ends the input.
var errQuit = errors.New("quit")

// tool is one running ACS with the device that commands go to. Used from one goroutine.
type tool struct {
	acs     *acs.Server
	device  *acs.Device // nil: the first that shows up
	out     io.Writer
	patient time.Duration
	crUser  string
	crPass  string
	types   map[string]soap.Type // of parameters, as learnt by reading
	release func()               // ends the hold of the session, nil: none is held
}

// texts collects repeated string options.
type texts []string

func (t *texts) String() string     { return strings.Join(*t, "; ") }
func (t *texts) Set(s string) error { *t = append(*t, s); return nil }

// Run is the command: it starts the ACS, carries out commands from -e, a script or in, and stops. Lines of in are read by a
// goroutine that ends with in or with the process, since reading a terminal cannot be interrupted.
func Run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	fs := flag.NewFlagSet("acs", flag.ContinueOnError)
	fs.SetOutput(out)
	var commands texts
	fs.Var(&commands, "e", "carry out this `COMMAND` and end; may be given several times")
	script := fs.String("script", "", "carry out the lines of this `FILE` and end")
	listen := fs.String("listen", "127.0.0.1:7547", "address to listen on")
	path := fs.String("path", "/acs", "path of the ACS URL")
	user := fs.String("user", "", "user name of devices; empty: no authentication")
	password := fs.String("password", "", "password of devices; empty with --user: a random one is made and shown")
	basic := fs.Bool("basic", false, "ask for Basic instead of Digest")
	secure := fs.Bool("tls", false, "HTTPS; without --cert with a certificate made now, written to --cert-out")
	cert := fs.String("cert", "", "PEM `FILE` of the certificate")
	key := fs.String("key", "", "PEM `FILE` of its key")
	certOut := fs.String("cert-out", "", "write the certificate made now to this `FILE`, for the device to trust")
	crUser := fs.String("cr-user", "", "user name of connection requests")
	crPass := fs.String("cr-password", "", "password of connection requests")
	timeout := fs.Duration("timeout", 60*time.Second, "how long a command waits for the device")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; commands are given with -e", fs.Arg(0))
	}
	cfg := acs.Config{Address: *listen, Path: *path, Username: *user, Password: *password, MaxHold: 25 * time.Second}
	if *user != "" {
		cfg.Auth = acs.Digest
		if *basic {
			cfg.Auth = acs.Basic
		}
		if *password == "" {
			cfg.Password = rand.Text()
			fmt.Fprintf(out, "password of %s: %s\n", *user, cfg.Password)
		}
	}
	if *secure || *cert != "" {
		c, err := certificate(*cert, *key, *certOut, *listen)
		if err != nil {
			return err
		}
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12}
	}
	server, err := acs.Start(cfg)
	if err != nil {
		return err
	}
	defer server.Close()
	t := &tool{acs: server, out: out, patient: *timeout, crUser: *crUser, crPass: *crPass, types: map[string]soap.Type{}}
	defer t.end(ctx)
	fmt.Fprintf(out, "laboratory ACS at %s (not for production)\n", server.URL())
	switch {
	case *script != "":
		f, err := os.Open(*script)
		if err != nil {
			return err
		}
		defer f.Close()
		return t.script(ctx, f)
	case len(commands) > 0:
		return t.script(ctx, strings.NewReader(strings.Join(commands, "\n")))
	}
	return t.interactive(ctx, in)
}

// script stops at the first error.
func (t *tool) script(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		switch err := t.line(ctx, lines.Text()); {
		case errors.Is(err, errQuit):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", firstWord(lines.Text()), err)
		}
	}
	return lines.Err()
}

// firstWord names a command without its arguments, which may hold secrets.
func firstWord(line string) string {
	if f := strings.Fields(line); len(f) > 0 {
		return f[0]
	}
	return ""
}

// interactive goes on after errors until the input ends.
func (t *tool) interactive(ctx context.Context, in io.Reader) error {
	fmt.Fprintln(t.out, "help lists the commands")
	lines := make(chan string)
	ended := make(chan error, 1)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // see Run
		s := bufio.NewScanner(in)
		s.Buffer(nil, maxLine)
		for s.Scan() {
			select {
			case lines <- s.Text():
			case <-stop:
				return
			}
		}
		ended <- s.Err()
	}()
	for {
		fmt.Fprint(t.out, "acs> ")
		select {
		case <-ctx.Done():
			fmt.Fprintln(t.out)
			return nil
		case err := <-ended:
			fmt.Fprintln(t.out)
			return err
		case line := <-lines:
			switch err := t.line(ctx, line); {
			case errors.Is(err, errQuit):
				return nil
			case err != nil:
				fmt.Fprintln(t.out, "error:", err)
			}
		}
	}
}

// certificate loads one, or makes one for the address listened on.
func certificate(certFile, keyFile, outFile, listen string) (tls.Certificate, error) {
	if certFile != "" {
		return tls.LoadX509KeyPair(certFile, keyFile)
	}
	if outFile == "" {
		return tls.Certificate{}, errors.New("--tls without --cert needs --cert-out, or no device could trust the certificate")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "twinspan laboratory ACS"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		t.IPAddresses = append(t.IPAddresses, ip)
	} else if host != "" && ip == nil {
		t.DNSNames = append(t.DNSNames, host)
	}
	if name, err := os.Hostname(); err == nil {
		t.DNSNames = append(t.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := os.WriteFile(outFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
