package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"twinspan/store"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

// TestPartialThatCameToNothing: with allow_partial one operation fails by itself, and then the disk has no room for the rest. The other
// operation must not be told that it succeeded.
func TestPartialThatCameToNothing(t *testing.T) {
	r := newRig(t)
	r.stop()
	small, err := store.Open(filepath.Join(t.TempDir(), "small.db"), store.Options{MaxSize: 512 << 10, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	r.store = small
	r.start()
	r.c1.waitUp()
	for n, full := 0, 0; full < 3; n++ {
		_, err := small.Update(context.Background(), store.Meta{Writer: "filler"}, func(tx *store.Tx) error {
			return tx.Set(fmt.Sprintf("Device.X_Fill.P%d", n), strings.Repeat("x", 1000), 0)
		})
		if err != nil {
			full++
		}
		if err != nil && !errors.Is(err, store.ErrFull) {
			t.Fatal(err)
		}
	}
	rows := []*uspmsg.Add_CreateObject{create("Device.IP.Interface.", "!MaxMTUSize", "no number")}
	for i := range 300 {
		rows = append(rows, create(subPath, "!ID", fmt.Sprintf("%d-%s", i, strings.Repeat("x", 50)), "!NotifType", "ValueChange", "!ReferenceList", "Device.DeviceInfo.SerialNumber"))
	}
	m := r.c1.Add(true, rows...)
	if n := len(small.Head().Instances(subPath)); n > 0 {
		t.Fatalf("%d rows were committed: the test tests nothing", n)
	}
	if code := m.GetBody().GetError().GetErrCode(); code != usp.CodeResourcesExceeded {
		t.Errorf("error code %d, want %d; %d results", code, usp.CodeResourcesExceeded, len(m.GetBody().GetResponse().GetAddResp().GetCreatedObjResults()))
	}
}
