package cwmp

import (
	"context"
	"slices"
	"strconv"
	"testing"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
	"twinspan/store"
)

const (
	portTable = "Device.NAT.PortMapping."
	portCount = "Device.NAT.PortMappingNumberOfEntries"
)

// addRow commits a row of portTable below the session layer, so that nothing else happens than the commit.
func (r *rig) addRow(w bridge.Writer) {
	r.t.Helper()
	if _, err := r.engine.Apply(r.ctx(), w, bridge.Change{Atomic: true, Ops: []bridge.Op{{Kind: bridge.OpAdd, Path: portTable}}}); err != nil {
		r.t.Fatalf("%s adds a row: %v", w.Name, err)
	}
}

var controller = bridge.Writer{Name: "usp:self::ctl", Protocol: datamodel.USP, Class: "main"}

// next waits for a session after n and gives its Inform.
func (r *rig) next(n int) *soap.Inform {
	r.t.Helper()
	r.ended(n + 1)
	return inform(r.acs.session(n))
}

// The ACS's own rows are known before the follower has seen their commits: the owner is busy when they are made, and looks at
// once.
func TestOwnRowsBeforeTheFollower(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.notify(portCount, 2)
	var own, foreign []string
	err := r.cpe.call(r.ctx(), func() error {
		look := func() []string {
			job := r.cpe.freeze(context.Background())
			r.cpe.changes.thaw(false)
			r.cpe.queue.thaw()
			return job.changed
		}
		r.addRow(acsWriter)
		own = look()
		r.addRow(controller)
		foreign = look()
		return nil
	})
	if err != nil || len(own) > 0 || !slices.Equal(foreign, []string{portCount}) {
		t.Errorf("told of own rows %v, of others' %v; %v", own, foreign, err)
	}
}

// A power cut after the ACS's commit and before anything that follows from it: the ACS is not told of its own row, and is told
// of what others did.
func TestOwnRowsBeforeACrash(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.notify(portCount, 2)
	r.cpe.Close()
	r.addRow(acsWriter)
	n := r.acs.count()
	r.restart()
	if got := eventCodes(r.next(n)); !slices.Equal(got, []string{"1 BOOT"}) {
		t.Errorf("after the ACS's own row: %v", got)
	}
	r.cpe.Close()
	r.addRow(controller)
	r.addRow(acsWriter)
	n = r.acs.count()
	r.restart()
	m := r.next(n)
	if v, _ := informed(m, portCount); v != "3" || !slices.Equal(eventCodes(m), []string{"1 BOOT", "4 VALUE CHANGE"}) {
		t.Errorf("after a Controller's row: %q %v", v, eventCodes(m))
	}
}

// A passive change that waits keeps the position in the journal back: the ACS's own rows after it are read again at the next
// start, and not counted again.
func TestOwnRowsAreCountedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.notify(zonePath, 1)
	r.notify(portCount, 2)
	r.acs.script(func(i int, env *soap.Envelope) (int, *soap.Envelope, bool) {
		if env == nil && i == 1 { // after the Inform, so that it waits for the next session
			r.sys(zonePath, "B")
		}
		return 0, nil, false
	})
	if _, ok := r.rpc(&soap.AddObject{ObjectName: portTable}).(*soap.AddObjectResponse); !ok {
		t.Fatal("no row")
	}
	r.acs.script(nil)
	n := r.acs.count()
	for _, want := range [][]string{{"1 BOOT", "4 VALUE CHANGE"}, {"1 BOOT"}} {
		r.restart()
		m := r.next(n)
		if _, told := informed(m, portCount); told || !slices.Equal(eventCodes(m), want) {
			t.Errorf("after a restart: %v, the number of rows among it: %v", eventCodes(m), told)
		}
		n = r.acs.count()
	}
}

// What becomes watched and is changed in one session has the value of before as known: the ACS is told of what its own write
// brought about.
func TestWatchedAndChangedInOneSession(t *testing.T) {
	t.Parallel()
	const status = "Device.IP.Interface.2.Status"
	r := newRig(t, nil, nil)
	n := r.acs.count() + 1
	r.run(&soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: status, NotificationChange: true, Notification: 2}}},
		&soap.SetParameterValues{ParameterList: values("Device.IP.Interface.2.Enable", "true")})
	r.wait("the status to be told", func() bool {
		for i := n; i < r.acs.count(); i++ {
			if v, ok := informed(inform(r.acs.session(i)), status); ok && v == "Up" {
				return true
			}
		}
		return false
	})
}

// A journal that no longer reaches back to where the ACS was told costs no change: values say who wrote them last.
func TestTrimmedJournal(t *testing.T) {
	t.Parallel()
	const other = "Device.ManagementServer.CWMPRetryIntervalMultiplier" // no Inform carries it by itself
	r := newRig(t, nil, nil)
	r.notify(zonePath, 2)
	r.notify(other, 2)
	r.ended(r.acs.count())
	n := r.acs.count()
	r.stop()
	s, err := store.Open(r.file, store.Options{NoSync: true, JournalEntries: 3})
	if err != nil {
		t.Fatal(err)
	}
	write := func(writer, path, value string) {
		t.Helper()
		if _, err := s.Update(t.Context(), store.Meta{Writer: writer, Kind: "set"}, func(tx *store.Tx) error { return tx.Set(path, value, 0) }); err != nil {
			t.Fatal(err)
		}
	}
	write("usp:self::ctl", zonePath, "missed")
	write("usp:self::ctl", other, "1500")
	write("cwmp", other, "2000")
	for i := range 8 {
		write("usp:self::ctl", "Device.ManagementServer.PeriodicInformInterval", strconv.Itoa(i+1000))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r.journal = 3
	r.start()
	r.ended(n + 1)
	m := inform(r.acs.session(n))
	if v, ok := informed(m, zonePath); !ok || v != "missed" || !slices.Contains(eventCodes(m), "4 VALUE CHANGE") {
		t.Errorf("%q %v of %v", v, ok, eventCodes(m))
	}
	if v, ok := informed(m, other); ok {
		t.Errorf("the ACS is told its own %s = %q", other, v)
	}
}
