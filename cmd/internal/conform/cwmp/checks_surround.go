package conformcwmp

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// surroundChecks change what is around the CPE: its network and what DHCP tells it.
var surroundChecks = map[string]check{
	"CR-14": {world: world{network: ipv4Network}, limit: 100 * time.Second, run: newAddress},
	"CR-19": {world: world{network: ipv6Network}, run: func(ctx context.Context, b *bench) error {
		if err := b.alive(ctx); err != nil { // by a connection request
			return err
		}
		url, err := b.crURL()
		if err != nil {
			return err
		}
		b.observe("%s", url)
		if !strings.HasPrefix(url, "http://[fd54:7773:") {
			return fmt.Errorf("ConnectionRequestURL is %q", url)
		}
		return nil
	}},
	"DISC-04": {world: world{lease: true}, limit: time.Minute, run: discovered},
	"DISC-05": {world: world{lease: true}, limit: time.Minute, run: acsOverDHCP},
	"DISC-06": {world: world{lease: true}, limit: 90 * time.Second, run: discoveredAnew},
	"DIA-08": {world: world{network: farNetwork}, run: func(ctx context.Context, b *bench) error {
		d, err := b.ours()
		if err != nil {
			return err
		}
		object := b.diag("TraceRoute")
		if err := b.wantState(ctx, []string{"Error_MaxHopCountExceeded"}, object, "Host", d.net.far, "MaxHopCount", "2", "NumberOfTries", "1", "Timeout", "2000"); err != nil {
			return err
		}
		if err := b.wantValue(ctx, object+"RouteHopsNumberOfEntries", "2"); err != nil {
			return err
		}
		if err := b.wantState(ctx, finished, object, "MaxHopCount", "5"); err != nil {
			return err
		}
		return b.wantValue(ctx, object+"RouteHopsNumberOfEntries", "3")
	}},
}

func newAddress(ctx context.Context, b *bench) error {
	d, err := b.ours()
	if err != nil {
		return err
	}
	before, err := b.crURL()
	if err != nil {
		return err
	}
	b.endSession(ctx)
	mark := b.tap.mark()
	address, err := d.net.move()
	if err != nil {
		return err
	}
	x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 75*time.Second)
	if err != nil {
		return err
	}
	v, _ := informValue(x.inform(), b.ms("ConnectionRequestURL"))
	b.observe("%s became %s", before, v)
	if !strings.Contains(v, "//"+address+":") || v == before {
		return fmt.Errorf("ConnectionRequestURL is %q", v)
	}
	_, err = b.newSession(ctx)
	return err
}

// option17 is what odhcp6c leaves of a DHCPv6 vendor option of the Broadband Forum: URL, provisioning code, retry times.
func option17(url, code, minimum, multiplier string) string {
	raw := []byte{0, 0, 0x0d, 0xe9} // 3561
	for i, text := range []string{url, code, minimum, multiplier} {
		raw = append(raw, 0, byte(i+1), byte(len(text)>>8), byte(len(text)))
		raw = append(raw, text...)
	}
	return "OPTION_17=" + hex.EncodeToString(raw)
}

// offer lets the DHCP client leave an offer; mark is before it.
func (b *bench) offer(ctx context.Context, path, code string) (mark int, err error) {
	d, err := b.ours()
	if err != nil {
		return 0, err
	}
	mark = b.tap.mark()
	return mark, d.lease(option17(b.base+path, code, "12", "3000"))
}

// at waits for an Inform at a path.
func (b *bench) at(ctx context.Context, mark int, path string, patience time.Duration) (*exchange, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	x, err := b.tap.wait(ctx, mark, func(x *exchange) bool { return x.inform() != nil && !x.refused && x.Path == path })
	if err != nil {
		return nil, fmt.Errorf("no Inform at %s within %v", path, patience)
	}
	return x, b.tap.answered(ctx, x)
}

func discovered(ctx context.Context, b *bench) error {
	b.endSession(ctx)
	b.holdNext()
	mark, err := b.offer(ctx, "/offered", "from dhcp")
	if err != nil {
		return err
	}
	x, err := b.at(ctx, mark, "/offered", 25*time.Second)
	if err != nil {
		return notApplicable("the CPE does not follow DHCP: %v", err)
	}
	if !hasEvent(x.inform(), "0 BOOTSTRAP") {
		return fmt.Errorf("the first Inform at the discovered ACS has %s", events(x.inform()))
	}
	b.observe("%s at the discovered URL", events(x.inform()))
	for name, want := range map[string]string{b.ms("URL"): b.base + "/offered", b.code(): "from dhcp", b.ms("CWMPRetryMinimumWaitInterval"): "12", b.ms("CWMPRetryIntervalMultiplier"): "3000"} {
		if err := b.wantValue(ctx, name, want); err != nil {
			return err
		}
	}
	return nil
}

func acsOverDHCP(ctx context.Context, b *bench) error {
	mark := b.tap.mark()
	if err := b.set(ctx, "", b.ms("URL"), b.base+"/chosen"); err != nil {
		return err
	}
	b.endSession(ctx)
	b.holdNext()
	if _, err := b.at(ctx, mark, "/chosen", 10*time.Second); err != nil {
		return err
	}
	b.endSession(ctx)
	mark, err := b.offer(ctx, "/offered", "from dhcp")
	if err != nil {
		return err
	}
	// Nobody has set the provisioning code: that it is taken shows that the offer was read.
	for began := time.Now(); ; {
		if _, err := b.newSession(ctx); err != nil {
			return err
		}
		v, err := b.get(ctx, b.code())
		if err != nil {
			return err
		}
		if v == "from dhcp" {
			break
		}
		if time.Since(began) > 25*time.Second {
			return notApplicable("the CPE does not look at DHCP")
		}
		b.endSession(ctx)
		if err := pause(ctx, 6*time.Second); err != nil { // slower than connection requests are limited
			return err
		}
	}
	for _, x := range b.tap.since(mark) {
		if x.Path != "/chosen" {
			return fmt.Errorf("a message went to %s", x.Path)
		}
	}
	b.observe("the offered provisioning code was taken, the URL was not")
	return b.wantValue(ctx, b.ms("URL"), b.base+"/chosen")
}

func discoveredAnew(ctx context.Context, b *bench) error {
	if err := b.fastRetry(ctx); err != nil {
		return err
	}
	mark := b.tap.mark()
	if err := b.set(ctx, "", b.ms("URL"), b.base+"/dead"); err != nil {
		return err
	}
	refused := 0
	b.tap.onBefore(func(x *exchange) bool {
		if x.Path != "/dead" {
			return false
		}
		refused++ // one CPE, one session at a time
		unavailable(x)
		return true
	})
	b.endSession(ctx)
	b.holdNext()
	if _, err := b.tap.wait(ctx, mark, func(x *exchange) bool { return x.Path == "/dead" }); err != nil {
		return errors.New("the CPE does not try the URL it was given")
	}
	mark, err := b.offer(ctx, "/offered", "from dhcp")
	if err != nil {
		return err
	}
	x, err := b.at(ctx, mark, "/offered", 75*time.Second)
	if err != nil {
		return fmt.Errorf("an ACS that does not answer is kept for ever: %w", err)
	}
	b.observe("after %d refused messages the offer was followed: %s", refused, events(x.inform()))
	if refused < 3 {
		return fmt.Errorf("the ACS's URL was given up after %d messages", refused)
	}
	if !hasEvent(x.inform(), "0 BOOTSTRAP") {
		return fmt.Errorf("the first Inform at the discovered ACS has %s", events(x.inform()))
	}
	return b.wantValue(ctx, b.ms("URL"), b.base+"/offered")
}
