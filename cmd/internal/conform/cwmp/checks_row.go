package conformcwmp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/cwmp/soap"
)

var rowChecks = map[string]check{
	"ADD-01": {run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.table(ctx)
		if err != nil {
			return err
		}
		counter := strings.TrimSuffix(table, ".") + "NumberOfEntries"
		before, err := b.get(ctx, counter)
		if err != nil {
			return err
		}
		row, err := b.add(ctx, table, "K2")
		if err != nil {
			return err
		}
		if strings.HasSuffix(row, ".0.") {
			return errors.New("InstanceNumber is 0")
		}
		if _, err := b.get(ctx, row+leaf); err != nil {
			return err
		}
		if err := b.wantValue(ctx, b.ms("ParameterKey"), "K2"); err != nil {
			return err
		}
		n, err := strconv.Atoi(before)
		if err != nil {
			return err
		}
		return b.wantValue(ctx, counter, strconv.Itoa(n+1))
	}},
	"ADD-04": {limit: 90 * time.Second, run: func(ctx context.Context, b *bench) error {
		table, _, err := b.table(ctx)
		if err != nil {
			return err
		}
		for n := range 2000 {
			if _, err := b.add(ctx, table, ""); err != nil {
				b.observe("after %d rows", n)
				return b.wantFault(err, "one row too many", soap.ResourcesExceeded)
			}
		}
		return notShown("2,000 rows fit into %s", table)
	}},
	"ADD-05": {run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.table(ctx)
		if err != nil {
			return err
		}
		below := ""
		if parent := b.root + "DHCPv4.Server.Pool."; b.has(ctx, parent) { // a row with rows below
			table, below = parent, "Option."
			leaf = "Enable"
		}
		row, err := b.add(ctx, table, "")
		if err != nil {
			return err
		}
		if below != "" {
			if _, err := b.add(ctx, row+below, ""); err != nil {
				return err
			}
		}
		if err := b.del(ctx, row, "K3"); err != nil {
			return err
		}
		if err := b.wantValue(ctx, b.ms("ParameterKey"), "K3"); err != nil {
			return err
		}
		for _, p := range []string{row + leaf, row, row + below + "1."} {
			if b.has(ctx, p) {
				return fmt.Errorf("%s is still there", p)
			}
		}
		return nil
	}},
	"ADD-06": {run: func(ctx context.Context, b *bench) error {
		table, _, err := b.table(ctx)
		if err != nil {
			return err
		}
		for _, c := range []struct {
			what, path string
			codes      []soap.FaultCode
		}{
			{"an unknown row", table + "4711.", []soap.FaultCode{soap.InvalidParameterName}},
			{"a table", table, []soap.FaultCode{soap.InvalidArguments, soap.InvalidParameterName}},
			{"an object that is no row", b.root + "DeviceInfo.", []soap.FaultCode{soap.InvalidArguments, soap.InvalidParameterName, soap.RequestDenied}},
		} {
			if err := b.wantFault(b.del(ctx, c.path, ""), c.what, c.codes...); err != nil {
				return err
			}
		}
		if fixed := b.root + "Ethernet.Interface.1."; b.has(ctx, fixed) {
			if err := b.del(ctx, fixed, ""); err == nil {
				return errors.New("a fixed row was deleted")
			}
		}
		return nil
	}},
	"ADD-07": {run: func(ctx context.Context, b *bench) error {
		if err := b.set(ctx, "stays", b.code(), "x"); err != nil {
			return err
		}
		if _, err := b.add(ctx, b.root+"NoSuchTable.", "wrong"); err == nil {
			return errors.New("a row of an unknown table was added")
		}
		if err := b.del(ctx, b.root+"NoSuchTable.1.", "wrong"); err == nil {
			return errors.New("a row of an unknown table was deleted")
		}
		return b.wantValue(ctx, b.ms("ParameterKey"), "stays")
	}},
	"ADD-08": {needs: []ability{canUSP}, run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.table(ctx)
		if err != nil {
			return err
		}
		counter := strings.TrimSuffix(table, ".") + "NumberOfEntries"
		if err := b.notify(ctx, 2, counter); err != nil {
			return err
		}
		mark := b.tap.mark()
		// In the very session that began to watch the count: what is told is the change since then.
		if _, err := b.driver.Command(ctx, "add "+table); err != nil {
			return err
		}
		b.endSession(ctx)
		b.holdNext()
		x, err := b.inform(ctx, mark, "4 VALUE CHANGE", 5*time.Second)
		if err != nil {
			return err
		}
		v, ok := informValue(x.inform(), counter)
		b.observe("%s is reported as %q", counter, v)
		if !ok {
			return errors.New("the count is not reported")
		}
		list, err := b.values(ctx, table)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(p soap.ParameterValue) bool { return strings.HasSuffix(p.Name, "."+leaf) }) {
			return errors.New("the row is not seen")
		}
		return nil
	}},
	"ADD-09": {needs: []ability{canRestart}, run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.table(ctx)
		if err != nil {
			return err
		}
		var rows []string
		for range 3 {
			row, err := b.add(ctx, table, "")
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		if err := b.del(ctx, rows[1], ""); err != nil {
			return err
		}
		if err := b.set(ctx, "", rows[2]+leaf, "third"); err != nil {
			return err
		}
		if _, err := b.restart(ctx); err != nil {
			return err
		}
		if b.has(ctx, rows[1]) || !b.has(ctx, rows[0]) {
			return errors.New("the rows are others")
		}
		return b.wantValue(ctx, rows[2]+leaf, "third")
	}},
}

var aliasChecks = map[string]check{
	"ALI-01": {run: func(_ context.Context, b *bench) error {
		v, ok := informValue(b.lastExchange("Inform").inform(), b.ms("AliasBasedAddressing"))
		b.observe("AliasBasedAddressing %q", v)
		if !ok || !slices.Contains([]string{"0", "1", "true", "false"}, v) {
			return fmt.Errorf("AliasBasedAddressing is %q", v)
		}
		return nil
	}},
	"ALI-02": {run: func(ctx context.Context, b *bench) error {
		_, _, err := b.aliasRow(ctx)
		return err
	}},
	"ALI-03": {run: func(ctx context.Context, b *bench) error {
		table, _, err := b.aliasRow(ctx)
		if err != nil {
			return err
		}
		if err := b.set(ctx, "stays", b.code(), "x"); err != nil {
			return err
		}
		_, err = b.add(ctx, table+"[web1].", "again")
		if err := b.wantFault(err, "the same alias", soap.InvalidArguments, soap.InvalidParameterName); err != nil {
			return err
		}
		return b.wantValue(ctx, b.ms("ParameterKey"), "stays")
	}},
	"ALI-04": {run: func(ctx context.Context, b *bench) error {
		table, row, err := b.aliasRow(ctx)
		if err != nil {
			return err
		}
		for _, c := range []struct{ mode, want string }{{"InstanceNumber", row + "Alias"}, {"InstanceAlias", table + "[web1].Alias"}} {
			if b.has(ctx, b.ms("InstanceMode")) {
				if err := b.set(ctx, "", b.ms("InstanceMode"), c.mode); err != nil {
					return err
				}
			}
			list, err := b.values(ctx, table+"[web1].Alias")
			if err != nil {
				return err
			}
			if len(list) != 1 || list[0].Value != "web1" || list[0].Name != c.want {
				return fmt.Errorf("InstanceMode %s answers %v", c.mode, list)
			}
		}
		return nil
	}},
	"ALI-06": {run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.autoCreate(ctx, "true")
		if err != nil {
			return err
		}
		if _, err := b.setRaw(ctx, "", table+"[new1]."+leaf, "created"); err != nil {
			return err
		}
		return b.wantOne(ctx, table+"[new1]."+leaf, "created")
	}},
	"ALI-07": {run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.autoCreate(ctx, "false")
		if err != nil {
			return err
		}
		_, err = b.setRaw(ctx, "", table+"[new2]."+leaf, "created")
		if err := b.wantSetFault(err, "an unknown alias", map[string][]soap.FaultCode{table + "[new2]." + leaf: {soap.InvalidParameterName}}); err != nil {
			return err
		}
		return b.wantNoAlias(ctx, table, "new2")
	}},
	"ALI-08": {run: func(ctx context.Context, b *bench) error {
		table, leaf, err := b.autoCreate(ctx, "true")
		if err != nil {
			return err
		}
		if _, err = b.setRaw(ctx, "", table+"[new3]."+leaf, "created", b.root+"DeviceInfo.SerialNumber", "x"); err == nil {
			return errors.New("a read-only parameter was written")
		}
		return b.wantNoAlias(ctx, table, "new3")
	}},
	"ALI-10": {needs: []ability{canFresh}, run: func(ctx context.Context, b *bench) error {
		list, err := b.values(ctx, b.root)
		if err != nil {
			return err
		}
		before := map[string]string{}
		for _, v := range list {
			if strings.HasSuffix(v.Name, ".Alias") && v.Value != "" {
				before[v.Name] = v.Value
				if !strings.HasPrefix(v.Value, "cpe-") {
					return fmt.Errorf("%s is %q", v.Name, v.Value)
				}
			}
		}
		if len(before) == 0 {
			return notApplicable("no row with an Alias")
		}
		if _, err := b.restart(ctx); err != nil {
			return err
		}
		for name, want := range before {
			if got, err := b.get(ctx, name); err == nil && got != want {
				return fmt.Errorf("%s was %q and is %q", name, want, got)
			}
		}
		b.observe("%d aliases", len(before))
		return nil
	}},
}

// needAlias is notApplicable unless AliasBasedAddressing is true.
func (b *bench) needAlias(ctx context.Context) error {
	v, err := b.get(ctx, b.ms("AliasBasedAddressing"))
	if err != nil {
		return notApplicable("there is no AliasBasedAddressing")
	}
	if v != "1" && v != "true" {
		return notApplicable("AliasBasedAddressing is %s", v)
	}
	return nil
}

func (b *bench) aliasRow(ctx context.Context) (table, row string, err error) {
	if err := b.needAlias(ctx); err != nil {
		return "", "", err
	}
	if table, _, err = b.table(ctx); err != nil {
		return "", "", err
	}
	if row, err = b.add(ctx, table+"[web1].", ""); err != nil {
		return "", "", err
	}
	// add appended the number to the path with the alias.
	number := row[len(table)+len("[web1]."):]
	row = table + number
	return table, row, b.wantValue(ctx, row+"Alias", "web1")
}

func (b *bench) autoCreate(ctx context.Context, on string) (table, leaf string, err error) {
	if err := b.needAlias(ctx); err != nil {
		return "", "", err
	}
	if err := b.need(ctx, b.ms("AutoCreateInstances")); err != nil {
		return "", "", err
	}
	if err := b.set(ctx, "", b.ms("AutoCreateInstances"), on); err != nil {
		return "", "", notApplicable("AutoCreateInstances cannot be %s: %v", on, err)
	}
	return b.table(ctx)
}

func (b *bench) wantOne(ctx context.Context, name, want string) error {
	list, err := b.values(ctx, name)
	if err != nil {
		return err
	}
	if len(list) != 1 || list[0].Value != want {
		return fmt.Errorf("%s reads as %v", name, list)
	}
	return nil
}

func (b *bench) wantNoAlias(ctx context.Context, table, alias string) error {
	list, err := b.values(ctx, table)
	if err != nil {
		return err
	}
	for _, v := range list {
		if strings.HasSuffix(v.Name, ".Alias") && v.Value == alias {
			return errors.New("the row was made")
		}
	}
	return nil
}
