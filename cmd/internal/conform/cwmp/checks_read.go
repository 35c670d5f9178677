package conformcwmp

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"twinspan/cwmp/soap"
)

var readChecks = map[string]check{
	"GPV-02": {run: func(ctx context.Context, b *bench) error {
		list, err := b.values(ctx, b.ms(""))
		if err != nil {
			return err
		}
		for _, v := range list {
			if !strings.HasPrefix(v.Name, b.ms("")) || strings.HasSuffix(v.Name, ".") {
				return fmt.Errorf("%s is listed", v.Name)
			}
		}
		if len(list) < 5 {
			return fmt.Errorf("only %d values", len(list))
		}
		return nil
	}},
	"GPV-04": {run: func(ctx context.Context, b *bench) error {
		for _, n := range []string{b.root + "NoSuchThing", b.root + "NoSuchThing.", b.root + "DeviceInfo.NoSuchThing"} {
			_, err := b.values(ctx, n)
			if err := b.wantFault(err, n, soap.InvalidParameterName); err != nil {
				return err
			}
		}
		return nil
	}},
	"GPV-05": {run: func(ctx context.Context, b *bench) error {
		_, err := b.values(ctx, b.code(), b.root+"NoSuchThing", b.ms("URL"))
		return b.wantFault(err, "one of three unknown", soap.InvalidParameterName)
	}},
	"GPV-06": {run: func(ctx context.Context, b *bench) error {
		table, err := b.emptyTable(ctx)
		if err != nil {
			return err
		}
		list, err := b.values(ctx, table)
		if err == nil && len(list) != 0 {
			return fmt.Errorf("%d values of an empty table", len(list))
		}
		return err
	}},
	"GPV-07": {run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.table(ctx)
		if err != nil {
			return err
		}
		row, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		if _, err := b.get(ctx, row+leaf); err != nil {
			return err
		}
		if err := b.del(ctx, row, ""); err != nil {
			return err
		}
		_, err = b.get(ctx, row+leaf)
		return b.wantFault(err, "a deleted row", soap.InvalidParameterName)
	}},
	"GPV-08": {run: func(ctx context.Context, b *bench) error {
		list, err := b.values(ctx, b.code(), b.code())
		if err != nil {
			return err
		}
		b.observe("listed %d times", len(list))
		if len(list) < 1 || len(list) > 2 {
			return fmt.Errorf("listed %d times", len(list))
		}
		return nil
	}},
	"GPV-09": {run: func(ctx context.Context, b *bench) error {
		list, err := b.values(ctx)
		if err == nil {
			b.observe("%d values", len(list))
			if len(list) > 0 {
				return fmt.Errorf("%d values for no names", len(list))
			}
			return nil
		}
		return b.wantFault(err, "no names", soap.InvalidArguments)
	}},
	"GPV-10": {run: hiddenValues},
	"GPV-11": {run: func(ctx context.Context, b *bench) error {
		for _, n := range []string{"IP.Interface.1.Reset", "DHCPv4.Client.1.Renew", "WiFi.Reset"} {
			if v, err := b.get(ctx, b.root+n); err == nil {
				b.observe("%s is %q", n, v)
				if v != "0" && v != "false" {
					return fmt.Errorf("%s reads as %q", n, v)
				}
			}
		}
		if len(b.observed) == 0 {
			return notApplicable("the CPE has no command parameters")
		}
		return nil
	}},
	"GPV-12": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("PeriodicInformEnable")
		if err := b.set(ctx, "", b.ms("PeriodicInformInterval"), "86400"); err != nil {
			return err
		}
		spelling := ""
		for _, c := range []struct{ write, means string }{{"true", "1"}, {"0", "0"}, {"1", "1"}, {"false", "0"}} {
			if err := b.set(ctx, "", name, c.write); err != nil {
				return fmt.Errorf("writing %q: %w", c.write, err)
			}
			got, err := b.get(ctx, name)
			if err != nil {
				return err
			}
			form := "0/1"
			if len(got) > 1 {
				form = "false/true"
			}
			if strings.NewReplacer("true", "1", "false", "0").Replace(got) != c.means || spelling != "" && spelling != form {
				return fmt.Errorf("written %q, read %q", c.write, got)
			}
			spelling = form
		}
		b.observe("read as %s", spelling)
		return nil
	}},
	"GPV-14": {world: world{noTime: true}, run: func(ctx context.Context, b *bench) error {
		name := b.root + "DeviceInfo.FirstUseDate"
		if err := b.need(ctx, name); err != nil {
			return err
		}
		v, err := b.get(ctx, name)
		if err != nil {
			return err
		}
		at, err := soap.ParseTime(v)
		if err != nil {
			return fmt.Errorf("FirstUseDate is %q", v)
		}
		now := b.lastExchange("Inform").inform().CurrentTime
		b.observe("FirstUseDate %s, CurrentTime of the Inform %s", v, now.Format(time.RFC3339))
		// Unknown, or relative to the boot (TR-069 A.2.1): both are in the year 1.
		if at.UTC().Year() != 1 || now.UTC().Year() != 1 {
			return errors.New("a CPE that does not know the time tells an absolute one")
		}
		return nil
	}},
	"GPV-15": {run: binaryValues},
	"GPV-16": {run: func(ctx context.Context, b *bench) error {
		list, err := b.values(ctx, b.root)
		if err != nil {
			return err
		}
		n, biggest := 0, uint64(0)
		for _, v := range list {
			if v.Type == soap.UnsignedLong {
				n++
				u, err := strconv.ParseUint(v.Value, 10, 64)
				if err != nil {
					return fmt.Errorf("%s is %q", v.Name, v.Value)
				}
				biggest = max(biggest, u)
			}
			if strings.HasSuffix(v.Name, ".Stats.BytesSent") && v.Type != soap.UnsignedLong {
				return fmt.Errorf("%s has the type %s", v.Name, v.Type)
			}
		}
		b.observe("%d values of unsignedLong, the biggest is %d", n, biggest)
		if n == 0 {
			return notApplicable("no counter of 64 bits")
		}
		return nil
	}},
	"GPV-17": {run: func(ctx context.Context, b *bench) error {
		for _, text := range []string{`<a&b> "c" 'd'`, "Grüße, 日本", "two  blanks ", " leading"} {
			if err := b.set(ctx, "", b.code(), text); err != nil {
				return fmt.Errorf("%q: %w", text, err)
			}
			if err := b.wantValue(ctx, b.code(), text); err != nil {
				return err
			}
		}
		return nil
	}},
}

func hiddenValues(ctx context.Context, b *bench) error {
	secret := regexp.MustCompile(`\.(Password|ConnectionRequestPassword|STUNPassword|ConfigPassword|KeyPassphrase|PreSharedKey|SAEPassphrase)$`)
	if err := b.set(ctx, "", b.ms("ConnectionRequestPassword"), b.crPass); err != nil {
		return err
	}
	list, err := b.values(ctx, b.root)
	if err != nil {
		return err
	}
	n := 0
	for _, v := range list {
		if secret.MatchString(v.Name) {
			n++
			if v.Value != "" || v.Type != soap.String && v.Type != soap.HexBinary {
				return fmt.Errorf("%s reads as %d characters of type %s", v.Name, len(v.Value), v.Type)
			}
		}
	}
	b.observe("%d secrets read as empty text", n)
	if n < 2 {
		return fmt.Errorf("only %d secrets were found", n)
	}
	return nil
}

func binaryValues(ctx context.Context, b *bench) error {
	list, err := b.values(ctx, b.root)
	if err != nil {
		return err
	}
	n := 0
	for _, v := range list {
		switch v.Type {
		case soap.Base64:
			if _, err := base64.StdEncoding.DecodeString(v.Value); err != nil {
				return fmt.Errorf("%s is %q", v.Name, v.Value)
			}
		case soap.HexBinary:
			if _, err := hex.DecodeString(v.Value); err != nil {
				return fmt.Errorf("%s is %q", v.Name, v.Value)
			}
		default:
			continue
		}
		n++
	}
	b.observe("%d binary values", n)
	if n > 0 {
		return nil
	}
	// A row of DHCP options has a binary value that can be written.
	table := b.root + "DHCPv4.Server.Pool."
	if err := b.need(ctx, table); err != nil {
		return err
	}
	pool, err := b.add(ctx, table, "")
	if err != nil {
		return err
	}
	option, err := b.add(ctx, pool+"Option.", "")
	if err != nil {
		return err
	}
	if err := b.set(ctx, "", option+"Value", "00ff10"); err != nil {
		return err
	}
	values, err := b.values(ctx, option+"Value")
	if err != nil {
		return err
	}
	b.observe("written 00ff10, read %q of type %s", values[0].Value, values[0].Type)
	if values[0].Type != soap.HexBinary || !strings.EqualFold(values[0].Value, "00ff10") {
		return fmt.Errorf("written 00ff10, read %q of type %s", values[0].Value, values[0].Type)
	}
	return nil
}
