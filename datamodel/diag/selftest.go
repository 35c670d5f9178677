package diag

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"time"

	"twinspan/datamodel"
)

// hookTime bounds a hook; hookOutput what of its output is kept.
const (
	hookTime   = 60 * time.Second
	checkTime  = 20 * time.Second
	hookOutput = 4 << 10
)

// hook runs a program with more arguments and returns the start of what it printed. The error tells how it ended.
func hook(ctx context.Context, argv []string, more ...string) (string, error) {
	out := &head{}
	c := exec.CommandContext(ctx, argv[0], append(append([]string(nil), argv[1:]...), more...)...)
	c.Stdout, c.Stderr = out, out
	killAll(c)
	c.WaitDelay = 2 * time.Second // for children that keep the output open
	err := c.Run()
	return out.b.String(), err
}

// head keeps the first bytes.
type head struct{ b bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	if room := hookOutput - h.b.Len(); room > 0 {
		h.b.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// resetInterface is Reset() of an IP interface.
func (p *Provider) resetInterface(ctx context.Context, r *run) error {
	return p.reset(ctx, r, p.o.ResetInterface)
}

// resetStats is Stats.Reset() of an interface.
func (p *Provider) resetStats(ctx context.Context, r *run) error {
	return p.reset(ctx, r, p.o.ResetStats)
}

func (p *Provider) reset(ctx context.Context, r *run, argv []string) error {
	name := ifname(r.inv)
	switch {
	case len(argv) == 0:
		return datamodel.Fail(datamodel.NotImplemented, r.inv.Command, "no program for it is configured")
	case name == "" || strings.HasPrefix(name, "-") || strings.ContainsAny(name, "/ \x00"):
		return failed(r.inv, "the interface has no name of the system")
	}
	if out, err := hook(ctx, argv, name); err != nil {
		p.log.Warn("reset hook failed", "interface", name, "error", err, "output", out)
		return errors.Join(ctx.Err(), &datamodel.Error{Reason: datamodel.CommandFailed, Path: r.inv.Command, Text: "the program failed", Err: err})
	}
	return nil
}

// selfTest is SelfTestDiagnostics(). The test is complete when every check ran; Results says PASS or FAIL first.
func (p *Provider) selfTest(ctx context.Context, r *run) error {
	checks := []Check{{"storage", p.checkStorage}, {"loopback", checkLoopback}, {"clock", checkClock}}
	checks = append(checks, p.o.Checks...)
	var report []string
	verdict := "PASS"
	note := func(name string, err error) {
		line := name + ": ok"
		if err != nil {
			verdict = "FAIL"
			line = name + ": " + err.Error()
		}
		report = append(report, line)
	}
	for _, c := range checks {
		limited, cancel := context.WithTimeout(ctx, checkTime)
		err := c.Run(limited)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		note(c.Name, err)
	}
	if len(p.o.SelfTest) > 0 {
		out, err := hook(ctx, p.o.SelfTest)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return status(errInternal, err) // it could not be started
		}
		line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
		switch {
		case err != nil && line != "":
			note("device", errors.New(line))
		case line != "":
			report = append(report, "device: "+line)
		default:
			note("device", err)
		}
	}
	r.set("Results", printable(verdict+"; "+strings.Join(report, "; "), maxResults))
	return nil
}

// printable makes a text fit for the data model.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0xFFFE || r == 0xFFFF {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	for i := range s {
		if most == 0 {
			return s[:i]
		}
		most--
	}
	return s
}

// checkStorage writes, syncs and reads back.
func (p *Provider) checkStorage(context.Context) error {
	f, err := p.spool()
	if err != nil {
		return err
	}
	defer f.Close()
	want := make([]byte, 64<<10)
	rand.Read(want) //nolint:errcheck // never fails
	if _, err := f.Write(want); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, int64(len(want))+1))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("what was written reads back differently")
	}
	return nil
}

// checkLoopback sends a packet to ourselves.
func checkLoopback(context.Context) error {
	var first error
	for _, ip := range []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback} {
		err := loop(ip)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func loop(ip net.IP) error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: ip})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	want := []byte("self test")
	if _, err := c.WriteTo(want, c.LocalAddr()); err != nil {
		return err
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err == nil && !bytes.Equal(b[:n], want) {
		err = errors.New("another packet came back")
	}
	return err
}

// firstYear is before this program was written: a clock that shows less was never set.
const firstYear = 2025

func checkClock(context.Context) error {
	if y := time.Now().Year(); y < firstYear {
		return fmt.Errorf("the clock shows the year %d", y)
	}
	return nil
}
