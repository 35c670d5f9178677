package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

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
