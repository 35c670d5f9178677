package bridge

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"twinspan/datamodel"
	"twinspan/store"
)

func provisional(id string, ops ...Op) Change {
	c := whole(ops...)
	c.Confirm = &Confirm{ID: id, Within: time.Hour}
	return c
}

// TestConfirm: others are kept out of what waits, and only the same principal confirms, over a new connection.
func TestConfirm(t *testing.T) {
	r := newRig(t)
	r.do(mainC, provisional("c1", set("Device.Time.", "Enable", "true"), set("Device.DeviceInfo.", "ProvisioningCode", "x")))
	r.refuse(acs, whole(set("Device.Time.", "Enable", "false")), datamodel.Confirming)
	r.do(acs, whole(set("Device.IP.Interface.1.", "Enable", "true")))
	ctx := context.Background()
	if err := r.Confirm(ctx, acs, "c1", 0); datamodel.ReasonOf(err) != datamodel.Refused {
		t.Fatal(err)
	}
	if err := r.Confirm(ctx, mainC, "c1", 0); datamodel.ReasonOf(err) != datamodel.Refused {
		t.Fatalf("a confirmation over an old connection: %v", err)
	}
	fresh := mainC
	fresh.ConnectedAt = time.Now()
	if err := r.Confirm(ctx, fresh, "c1", 0); err != nil {
		t.Fatal(err)
	}
	if err := r.CancelConfirm(ctx, fresh, "c1"); datamodel.ReasonOf(err) != datamodel.NoInstance {
		t.Fatal(err)
	}
	r.is(mainC, "Device.Time.Enable", "true")
	if len(r.Windows()) != 0 {
		t.Fatal(r.Windows())
	}
}

// TestInverse: whatever a provisional change does, putting it back gives the tree from before, with all that others did
// elsewhere meanwhile.
func TestInverse(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		plain, both := newRig(t), newRig(t)
		before := rapid.IntRange(0, 3).Draw(rt, "pools")
		for range before {
			for _, r := range []*rig{plain, both} {
				r.do(mainC, whole(add("Device.DHCPv4.Server.Pool.", "Enable", "true", "LeaseTime", "60")))
			}
		}
		var ops []Op
		for range rapid.IntRange(1, 5).Draw(rt, "ops") {
			row := fmt.Sprintf("Device.DHCPv4.Server.Pool.%d.", rapid.IntRange(1, 3).Draw(rt, "row"))
			switch rapid.IntRange(0, 3).Draw(rt, "kind") {
			case 0:
				op := set(row, "LeaseTime", fmt.Sprint(rapid.IntRange(1, 9).Draw(rt, "lease")), "DomainName", "d")
				op.MissingOK = true
				ops = append(ops, op)
			case 1:
				op := del(row)
				op.MissingOK = true
				ops = append(ops, op)
			case 2:
				ops = append(ops, set("Device.Time.", "Enable", "true"))
			case 3:
				if before < 3 {
					before++
					ops = append(ops, add("Device.DHCPv4.Server.Pool.", "DomainName", "new"))
				}
			}
		}
		if len(ops) == 0 {
			return
		}
		both.do(mainC, provisional("p", ops...))
		for _, r := range []*rig{plain, both} { // others go on elsewhere
			r.do(acs, whole(set("Device.IP.Interface.1.", "Enable", "true"), set("Device.DeviceInfo.", "ProvisioningCode", "other")))
		}
		if len(both.Windows()) > 0 {
			if err := both.CancelConfirm(context.Background(), mainC, "p"); err != nil {
				rt.Fatal(err)
			}
		}
		if a, b := values(plain), values(both); a != b {
			rt.Fatalf("after putting back:\n%s\nwant:\n%s", b, a)
		}
	})
}

// values is every row and leaf, without revisions.
func values(r *rig) string {
	out := ""
	v := r.store.Head()
	v.Walk("", func(path string, l store.Leaf) bool {
		out += path + "=" + l.Value + "\n"
		return true
	})
	return out + fmt.Sprint(v.Instances("Device.DHCPv4.Server.Pool."))
}

// TestRestartRestoresFirst: a restart inside the window puts back before anything else.
func TestRestartRestoresFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	r, stop := killEngine(t, path)
	r.do(mainC, provisional("p", set("Device.Time.", "Enable", "true"), del("Device.IP.Interface.2.")))
	stop()
	r, stop = killEngine(t, path)
	defer stop()
	r.is(mainC, "Device.Time.Enable", "false")
	r.is(mainC, "Device.IP.Interface.2.Alias", "lan")
	if len(r.Windows()) != 0 {
		t.Fatal("the window is still open")
	}
}
