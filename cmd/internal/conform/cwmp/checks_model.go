package conformcwmp

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/cwmp/soap"
)

var nameChecks = map[string]check{
	"RPC-01": {run: listedMethods},
	"RPC-02": {run: func(ctx context.Context, b *bench) error { return b.unknownMethods(ctx, "X_Foo") }},
	"RPC-03": {run: func(ctx context.Context, b *bench) error {
		return b.unknownMethods(ctx, "GetQueuedTransfers", "SetVouchers", "GetOptions")
	}},
	"RPC-04": {run: func(_ context.Context, b *bench) error {
		for _, x := range b.tap.since(0) {
			if x.method() == "GetRPCMethods" {
				return nil // answered with names it does not know, and the session went on
			}
		}
		return notApplicable("the CPE does not ask the ACS for its methods")
	}},
	"RPC-05": {run: faultForm},
	"GPN-02": {run: func(ctx context.Context, b *bench) error {
		list, err := b.names(ctx, "", false)
		if err != nil {
			return err
		}
		b.observe("%d names", len(list))
		for _, want := range []string{b.root, b.root + "DeviceInfo.", b.root + "DeviceInfo.SerialNumber", b.ms("")} {
			if !listed(list, want) {
				return fmt.Errorf("%s is not listed", want)
			}
		}
		return nil
	}},
	"GPN-03": {run: func(ctx context.Context, b *bench) error {
		list, err := b.names(ctx, b.root, true)
		if err != nil {
			return err
		}
		for _, n := range list {
			if rest := strings.TrimSuffix(strings.TrimPrefix(n.Name, b.root), "."); rest == "" || strings.Contains(rest, ".") {
				return fmt.Errorf("%s is listed", n.Name)
			}
		}
		if len(list) < 2 {
			return fmt.Errorf("%d children", len(list))
		}
		return nil
	}},
	"GPN-04": {run: func(ctx context.Context, b *bench) error {
		list, err := b.names(ctx, b.root+"DeviceInfo.", false)
		if err != nil {
			return err
		}
		for _, n := range list {
			if !strings.HasPrefix(n.Name, b.root+"DeviceInfo.") {
				return fmt.Errorf("%s is listed", n.Name)
			}
		}
		if !listed(list, b.root+"DeviceInfo.") || !listed(list, b.root+"DeviceInfo.SerialNumber") {
			return errors.New("the object or a parameter of it is missing")
		}
		return nil
	}},
	"GPN-05": {run: func(ctx context.Context, b *bench) error {
		list, err := b.names(ctx, b.code(), false)
		if err != nil {
			return err
		}
		if len(list) != 1 || list[0].Name != b.code() || !list[0].Writable {
			return fmt.Errorf("the answer is %v", list)
		}
		return nil
	}},
	"GPN-06": {run: func(ctx context.Context, b *bench) error {
		_, err := b.names(ctx, b.code(), true)
		return b.wantFault(err, "a parameter with NextLevel", soap.InvalidArguments)
	}},
	"GPN-07": {run: func(ctx context.Context, b *bench) error {
		for _, path := range []string{b.root + "NoSuchThing", b.root + "NoSuchThing.", "Nothing."} {
			_, err := b.names(ctx, path, false)
			if err := b.wantFault(err, path, soap.InvalidParameterName); err != nil {
				return err
			}
		}
		return nil
	}},
	"GPN-08": {run: func(ctx context.Context, b *bench) error {
		_, err := b.names(ctx, b.root+"DeviceInfo", false)
		return b.wantFault(err, "DeviceInfo without dot", soap.InvalidParameterName)
	}},
	"GPN-09": {run: func(ctx context.Context, b *bench) error {
		table, err := b.emptyTable(ctx)
		if err != nil {
			return err
		}
		list, err := b.names(ctx, table, true)
		if err != nil {
			return err
		}
		if len(list) != 0 {
			return fmt.Errorf("%v", list)
		}
		if x := b.lastExchange("GetParameterNamesResponse"); !strings.Contains(string(x.Body), "[0]") {
			return errors.New("the empty list has no array of 0")
		}
		return nil
	}},
	"GPN-10": {run: rowsAndTables},
	"GPN-11": {run: func(ctx context.Context, b *bench) error {
		path := b.root + "IP.Interface.*."
		if err := b.need(ctx, b.root+"IP.Interface."); err != nil {
			return err
		}
		list, err := b.names(ctx, path, false)
		if err != nil {
			return b.wantFault(err, "a wildcard", soap.InvalidParameterName, soap.InvalidArguments)
		}
		b.observe("%d names", len(list))
		if len(list) == 0 {
			return errors.New("a wildcard matched nothing")
		}
		return nil
	}},
	"GPN-12": {run: func(ctx context.Context, b *bench) error {
		for _, path := range []string{b.ms(""), b.root + "Time.", b.root + "IP.Interface."} {
			if !b.has(ctx, path) {
				continue
			}
			list, err := b.names(ctx, path, false)
			if err != nil {
				return err
			}
			values, err := b.values(ctx, path)
			if err != nil {
				return err
			}
			var a, c []string
			for _, n := range list {
				if !strings.HasSuffix(n.Name, ".") {
					a = append(a, n.Name)
				}
			}
			for _, v := range values {
				c = append(c, v.Name)
			}
			slices.Sort(a)
			slices.Sort(c)
			if !slices.Equal(a, c) {
				return fmt.Errorf("below %s there are %d names and %d values", path, len(a), len(c))
			}
			b.observe("%s: %d leaves", path, len(a))
		}
		return nil
	}},
	"GPN-13": {run: writableIsTrue},
}

func listed(list []soap.ParameterInfo, name string) bool {
	return slices.ContainsFunc(list, func(n soap.ParameterInfo) bool { return n.Name == name })
}

func listedMethods(ctx context.Context, b *bench) error {
	if err := b.needRPC(ctx, "GetRPCMethods"); err != nil {
		return err
	}
	for _, m := range []string{"SetParameterValues", "GetParameterValues", "GetParameterNames", "SetParameterAttributes", "GetParameterAttributes",
		"AddObject", "DeleteObject", "Reboot", "Download", "FactoryReset"} {
		if !slices.Contains(b.methods, m) {
			return fmt.Errorf("%s is not listed", m)
		}
	}
	b.observe("%s", strings.Join(b.methods, ", "))
	for _, m := range b.methods {
		if len(m) > 64 {
			return fmt.Errorf("a name of %d characters", len(m))
		}
		if m == "Reboot" || m == "FactoryReset" { // RB-01 and FR-01 show that they work
			continue
		}
		msg := soap.New(m)
		if msg == nil {
			continue // a vendor's own
		}
		// Without arguments most are refused, but not as unknown.
		if _, err := b.call(ctx, msg); faultCode(err) == soap.MethodNotSupported {
			return fmt.Errorf("%s is listed and answered by fault 9000", m)
		}
	}
	return nil
}

func (b *bench) unknownMethods(ctx context.Context, names ...string) error {
	if err := b.needRPC(ctx, "GetRPCMethods"); err != nil {
		return err
	}
	tried := 0
	for _, name := range names {
		if slices.Contains(b.methods, name) {
			b.observe("%s is listed", name)
			continue
		}
		tried++
		_, err := b.edited(ctx, &soap.GetRPCMethods{}, func(s string) string {
			s = strings.Replace(s, "<cwmp:GetRPCMethods/>", "<cwmp:GetRPCMethods></cwmp:GetRPCMethods>", 1)
			return strings.NewReplacer("<cwmp:GetRPCMethods>", "<cwmp:"+name+">"+arguments[name], "cwmp:GetRPCMethods", "cwmp:"+name).Replace(s)
		})
		if err := b.wantFault(err, name, soap.MethodNotSupported); err != nil {
			return err
		}
	}
	if tried == 0 {
		return notApplicable("the CPE lists them all")
	}
	return nil
}

// arguments of methods, so that nothing but the method is wrong.
var arguments = map[string]string{
	"SetVouchers": `<VoucherList xmlns:e="` + soap.NSEncoding + `" e:arrayType="e:base64[1]"><base64>eA==</base64></VoucherList>`,
	"GetOptions":  `<OptionName>x</OptionName>`,
}

func faultForm(ctx context.Context, b *bench) error {
	_, err := b.get(ctx, b.root+"NoSuchThing")
	if err := b.wantFault(err, "an unknown name", soap.InvalidParameterName); err != nil {
		return err
	}
	x := b.lastExchange("Fault")
	text := string(x.Body)
	for what, pattern := range map[string]string{
		"faultcode Client or Server": `<faultcode>([A-Za-z0-9_-]+:)?(Client|Server)</faultcode>`,
		"faultstring CWMP fault":     `<faultstring>CWMP fault</faultstring>`,
		"detail with cwmp:Fault":     `(?s)<detail>\s*<[A-Za-z0-9_-]+:Fault[ >].*<FaultCode>9005</FaultCode>\s*<FaultString>`,
	} {
		if !regexp.MustCompile(pattern).MatchString(text) {
			return fmt.Errorf("the fault has no %s: %s", what, text)
		}
	}
	if x.Method != "POST" || !x.Envelope.Header.HasID {
		return errors.New("the fault has no ID")
	}
	return nil // that the ID is the request's was asked by the ACS
}

// emptyTable finds a table without rows.
func (b *bench) emptyTable(ctx context.Context) (string, error) {
	list, err := b.names(ctx, b.root, false)
	if err != nil {
		return "", err
	}
	row := regexp.MustCompile(`\.[0-9]+\.`)
	for i, n := range list {
		if !n.Writable || !strings.HasSuffix(n.Name, ".") || row.MatchString(n.Name) {
			continue
		}
		if i+1 < len(list) && strings.HasPrefix(list[i+1].Name, n.Name) {
			continue
		}
		b.observe("%s is empty", n.Name)
		return n.Name, nil
	}
	return "", notApplicable("there is no empty table")
}

func parentOf(path string) string {
	path = strings.TrimSuffix(path, ".")
	return path[:strings.LastIndex(path, ".")+1]
}

func rowsAndTables(ctx context.Context, b *bench) error {
	table, _, err := b.table(ctx)
	if err != nil {
		return err
	}
	row, err := b.add(ctx, table, "")
	if err != nil {
		return err
	}
	list, err := b.names(ctx, table, true)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(list, func(n soap.ParameterInfo) bool { return n.Name == row }); i < 0 || !list[i].Writable {
		return fmt.Errorf("the row %s is missing or not writable", row)
	}
	above, err := b.names(ctx, parentOf(table), true)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(above, func(n soap.ParameterInfo) bool { return n.Name == table }); i < 0 || !above[i].Writable {
		return fmt.Errorf("the table %s is missing or not writable", table)
	}
	return b.del(ctx, row, "")
}

func writableIsTrue(ctx context.Context, b *bench) error {
	// What can be written without an effect: these objects hold settings of the management itself.
	list, err := b.names(ctx, b.ms(""), true)
	if err != nil {
		return err
	}
	info, err := b.names(ctx, b.root+"DeviceInfo.", true)
	if err != nil {
		return err
	}
	risky := []string{"URL", "Username", "Password", "DelayReboot", "ScheduleReboot", "EnableCWMP", "ConnectionRequestUsername", "ConnectionRequestPassword"}
	writable, fixed := 0, 0
	for _, n := range append(list, info...) {
		name := n.Name[strings.LastIndex(n.Name, ".")+1:]
		if strings.HasSuffix(n.Name, ".") || slices.Contains(risky, name) {
			continue
		}
		v, err := b.get(ctx, n.Name)
		if err != nil {
			return err
		}
		err = b.set(ctx, "", n.Name, v)
		switch {
		case n.Writable && err != nil && !refusedValue(err):
			return fmt.Errorf("%s is listed as writable: %w", n.Name, err)
		case n.Writable:
			writable++
		default:
			var f *soap.Fault
			if !errors.As(err, &f) || len(f.SetParameterValuesFault) != 1 || f.SetParameterValuesFault[0].FaultCode != soap.NonWritableParameter {
				return fmt.Errorf("%s is listed as not writable: %v", n.Name, outcome(err))
			}
			fixed++
		}
	}
	b.observe("%d parameters taken, %d refused with 9008", writable, fixed)
	return nil
}

// refusedValue accepts a writable parameter whose present (empty) value is not one to be set, as the model has many.
func refusedValue(err error) bool {
	var f *soap.Fault
	return errors.As(err, &f) && len(f.SetParameterValuesFault) == 1 && f.SetParameterValuesFault[0].FaultCode == soap.InvalidParameterValue
}

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
	"GPV-14": {run: func(ctx context.Context, b *bench) error {
		name := b.root + "DeviceInfo.FirstUseDate"
		if err := b.need(ctx, name); err != nil {
			return err
		}
		v, err := b.get(ctx, name)
		if err != nil {
			return err
		}
		if _, err := soap.ParseTime(v); err != nil {
			return fmt.Errorf("FirstUseDate is %q", v)
		}
		return notShown("FirstUseDate is %q here; a CPE that does not know the time cannot be made from outside", v)
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

var writeChecks = map[string]check{
	"SPV-02": {run: func(ctx context.Context, b *bench) error {
		for _, key := range []string{"some-key", ""} {
			if err := b.set(ctx, key, b.code(), "x"+key); err != nil {
				return err
			}
			if err := b.wantValue(ctx, b.ms("ParameterKey"), key); err != nil {
				return err
			}
		}
		return nil
	}},
	"SPV-03": {run: func(ctx context.Context, b *bench) error {
		fixed := b.root + "DeviceInfo.SerialNumber"
		return b.nothingChanges(ctx, map[string][]soap.FaultCode{fixed: {soap.NonWritableParameter}}, b.code(), "changed", fixed, "changed")
	}},
	"SPV-04": {run: func(ctx context.Context, b *bench) error {
		unknown, number := b.root+"NoSuchThing", b.ms("PeriodicInformInterval")
		return b.nothingChanges(ctx, map[string][]soap.FaultCode{unknown: {soap.InvalidParameterName}, number: {soap.InvalidParameterType}},
			b.code(), "changed", unknown, "x", number, "no number")
	}},
	"SPV-06": {run: func(ctx context.Context, b *bench) error {
		before, err := b.get(ctx, b.code())
		if err != nil {
			return err
		}
		_, err = b.setRaw(ctx, "twice", b.code(), "one", b.code(), "two")
		if err := b.wantFault(err, "the same name twice", soap.InvalidArguments); err != nil {
			return err
		}
		return b.wantValue(ctx, b.code(), before)
	}},
	"SPV-09": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("PeriodicInformEnable")
		for _, text := range []string{"TRUE", "yes", "2"} {
			if err := b.wantSetFault(b.set(ctx, "", name, text), "boolean "+text, map[string][]soap.FaultCode{name: {soap.InvalidParameterValue}}); err != nil {
				return err
			}
		}
		return nil
	}},
	"SPV-10": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("PeriodicInformInterval")
		for _, c := range []struct{ write, read string }{{"+500", "500"}, {"00700", "700"}, {" 900 ", "900"}} {
			if err := b.set(ctx, "", name, c.write); err != nil {
				return fmt.Errorf("%q: %w", c.write, err)
			}
			if err := b.wantValue(ctx, name, c.read); err != nil {
				return err
			}
		}
		return b.wantSetFault(b.set(ctx, "", name, "-1"), "-1", map[string][]soap.FaultCode{name: {soap.InvalidParameterType, soap.InvalidParameterValue}})
	}},
	"SPV-11": {run: func(ctx context.Context, b *bench) error {
		name := b.ms("")
		_, err := b.setRaw(ctx, "", name, "x")
		return b.wantSetFault(err, "a partial path", map[string][]soap.FaultCode{name: {soap.InvalidParameterName}})
	}},
	"SPV-14": {run: inconsistent},
	"SPV-16": {run: func(ctx context.Context, b *bench) error {
		status, err := b.setRaw(ctx, "", b.code(), "later")
		if err != nil {
			return err
		}
		if _, err := b.newSession(ctx); err != nil {
			return err
		}
		if err := b.wantValue(ctx, b.code(), "later"); err != nil {
			return err
		}
		if status == 0 {
			return notApplicable("no parameter was found that is answered with Status 1")
		}
		return nil
	}},
	"SPV-17": {run: func(ctx context.Context, b *bench) error {
		if err := b.set(ctx, "", b.code(), "same"); err != nil {
			return err
		}
		if err := b.notify(ctx, 2, b.code()); err != nil {
			return err
		}
		if err := b.set(ctx, "", b.code(), "same"); err != nil {
			return err
		}
		mark := b.tap.mark()
		b.endSession(ctx)
		if err := b.quiet(ctx, mark, 1500*time.Millisecond); err != nil {
			return err
		}
		x, err := b.newSession(ctx)
		if err != nil {
			return err
		}
		if hasEvent(x.inform(), "4 VALUE CHANGE") {
			return errors.New("the ACS was told of its own value")
		}
		return nil
	}},
	"SPV-19": {run: consequence},
	"SPV-20": {needs: []ability{canRestart}, run: func(ctx context.Context, b *bench) error {
		if err := b.set(ctx, "durable", b.code(), "durable"); err != nil {
			return err
		}
		if _, err := b.restart(ctx); err != nil { // power off right after the answer, in the session
			return err
		}
		if err := b.wantValue(ctx, b.ms("ParameterKey"), "durable"); err != nil {
			return err
		}
		return b.wantValue(ctx, b.code(), "durable")
	}},
	"SPV-21": {run: func(ctx context.Context, b *bench) error {
		table, _, err := b.table(ctx)
		if err != nil {
			return err
		}
		one, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		two, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		if err := b.need(ctx, one+"Alias"); err != nil {
			return err
		}
		if err := b.set(ctx, "", one+"Alias", "conform-1"); err != nil {
			return err
		}
		return b.wantSetFault(b.set(ctx, "", two+"Alias", "conform-1"), "a duplicate Alias", map[string][]soap.FaultCode{two + "Alias": {soap.InvalidParameterValue}})
	}},
	"SPV-22": {run: func(ctx context.Context, b *bench) error {
		table := b.root + "NAT.PortMapping."
		if err := b.need(ctx, table, b.root+"IP.Interface."); err != nil {
			return err
		}
		row, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		err = b.set(ctx, "", row+"Interface", b.root+"IP.Interface.4711")
		b.observe("a reference to a row that is not there: %s", outcome(err))
		if err != nil {
			return b.wantSetFault(err, "a reference to nothing", map[string][]soap.FaultCode{row + "Interface": {soap.InvalidParameterValue}})
		}
		return nil
	}},
	"SPV-23": {run: strongReference},
	"SPV-24": {run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.table(ctx)
		if err != nil {
			return err
		}
		var pairs []string
		for len(pairs) < 2*500 {
			row, err := b.add(ctx, table, "")
			if faultCode(err) == soap.ResourcesExceeded {
				break
			}
			if err != nil {
				return err
			}
			list, err := b.names(ctx, row, true)
			if err != nil {
				return err
			}
			for _, n := range list {
				if name := n.Name[strings.LastIndex(n.Name, ".")+1:]; n.Writable && name != "Alias" && name != "Enable" && !strings.HasSuffix(n.Name, ".") {
					v, err := b.get(ctx, n.Name)
					if err != nil {
						return err
					}
					if name == leaf {
						v = fmt.Sprintf("entry-%d", len(pairs))
					}
					if v == "" { // the model may ask for another value than the one of a fresh row
						continue
					}
					pairs = append(pairs, n.Name, v)
				}
			}
		}
		status, err := b.setRaw(ctx, "many", pairs...)
		b.observe("%d parameters in one request: %s, Status %d", len(pairs)/2, outcome(err), status)
		if len(pairs) < 1000 {
			b.observe("the CPE has no room for more rows")
		}
		if err != nil && faultCode(err) != soap.ResourcesExceeded {
			return err
		}
		return nil
	}},
}

// nothingChanges wants a refused SetParameterValues that blames the right ones and changes neither the first parameter nor the
// ParameterKey.
func (b *bench) nothingChanges(ctx context.Context, blamed map[string][]soap.FaultCode, pairs ...string) error {
	if err := b.set(ctx, "before", pairs[0], "before"); err != nil {
		return err
	}
	for name := range blamed {
		if _, err := b.get(ctx, name); err != nil && faultCode(err) != soap.InvalidParameterName { // learns the type
			return err
		}
	}
	_, err := b.setRaw(ctx, "after", pairs...)
	if err := b.wantSetFault(err, "one that must fail", blamed); err != nil {
		return err
	}
	if err := b.wantValue(ctx, pairs[0], "before"); err != nil {
		return err
	}
	return b.wantValue(ctx, b.ms("ParameterKey"), "before")
}

func inconsistent(ctx context.Context, b *bench) error {
	table := b.root + "DHCPv4.Server.Pool."
	if err := b.need(ctx, table); err != nil {
		return err
	}
	pool, err := b.add(ctx, table, "")
	if err != nil {
		return err
	}
	if err := b.set(ctx, "ok", pool+"MinAddress", "192.0.2.10", pool+"MaxAddress", "192.0.2.20"); err != nil {
		return err
	}
	err = b.set(ctx, "bad", pool+"MinAddress", "192.0.2.30", pool+"MaxAddress", "192.0.2.5")
	if err == nil {
		b.observe("a pool with MinAddress above MaxAddress is taken: the model does not forbid it")
		// Two rows with the same unique key are inconsistent on every CPE.
		other, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		if err := b.need(ctx, pool+"Alias"); err != nil {
			return err
		}
		err = b.set(ctx, "bad", pool+"Alias", "conform-x", other+"Alias", "conform-x")
		if err := b.wantFault(err, "two rows with one Alias", soap.InvalidArguments, soap.InternalError); err != nil {
			return err
		}
		v, err := b.get(ctx, pool+"Alias")
		if err == nil && v == "conform-x" {
			return errors.New("half of it was applied")
		}
		return err
	}
	if err := b.wantFault(err, "MinAddress above MaxAddress", soap.InvalidArguments, soap.InternalError); err != nil {
		return err
	}
	if err := b.wantValue(ctx, b.ms("ParameterKey"), "ok"); err != nil {
		return err
	}
	return b.wantValue(ctx, pool+"MinAddress", "192.0.2.10")
}

// consequence switches connection requests off: the ACS causes the change of ConnectionRequestURL, but did not write it.
func consequence(ctx context.Context, b *bench) error {
	name := b.ms("ConnectionRequestURL")
	if err := b.need(ctx, b.ms("HTTPConnectionRequestEnable")); err != nil {
		return err
	}
	if err := b.notify(ctx, 2, name); err != nil {
		return err
	}
	mark := b.tap.mark()
	if err := b.set(ctx, "", b.ms("HTTPConnectionRequestEnable"), "false"); err != nil {
		return err
	}
	b.endSession(ctx)
	x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 5*time.Second)
	if err != nil {
		return err
	}
	v, ok := informValue(x.inform(), name)
	b.observe("ConnectionRequestURL is reported as %q", v)
	if !ok || v != "" {
		return fmt.Errorf("ConnectionRequestURL is reported as %q", v)
	}
	return nil
}

func strongReference(ctx context.Context, b *bench) error {
	pool, access := b.root+"IP.Interface.", b.root+"NAT.InterfaceSetting."
	if err := b.need(ctx, pool, access); err != nil {
		return err
	}
	target, err := b.add(ctx, pool, "")
	if err != nil {
		return notApplicable("no row of IP.Interface. can be added: %v", err)
	}
	row, err := b.add(ctx, access, "")
	if err != nil {
		return err
	}
	if err := b.set(ctx, "", row+"Interface", strings.TrimSuffix(target, ".")); err != nil {
		return err
	}
	if err := b.del(ctx, target, ""); err != nil {
		return err
	}
	return b.wantValue(ctx, row+"Interface", "")
}
