package store

import (
	"errors"
	"slices"
	"testing"
)

// TestStagedFollows: Staged changes with what is staged, View and a savepoint stay.
func TestStagedFollows(t *testing.T) {
	s, _ := openTest(t, Options{NoSync: true})
	must(t, s, func(tx *Tx) error {
		n, err := tx.AddRow("Device.A.")
		return errors.Join(err, tx.Set("Device.A.1.X", "old", 0), tx.Set("Device.Y", "old", 0), wantRow(n))
	})
	c := must(t, s, func(tx *Tx) error {
		tx.Expect(4)
		is := func(v *Version, want string) {
			t.Helper()
			if l, _ := v.Leaf("Device.A.1.X"); l.Value != want {
				t.Errorf("%q, want %q", l.Value, want)
			}
		}
		now := tx.Staged()
		is(now, "old")
		size := tx.Staging()
		err := errors.Join(tx.Set("Device.A.1.X", "old", 0))
		if tx.Staging() != size {
			t.Error("the identical value was staged")
		}
		err = errors.Join(err, tx.Set("Device.A.1.X", "one", 0))
		is(now, "one")
		kept, sp := tx.View(), tx.Savepoint()
		size = tx.Staging()
		err = errors.Join(err, tx.Set("Device.A.1.X", "two", 0), tx.Set("Device.New", "two", 0))
		is(now, "two")
		is(kept, "one")
		tx.RollbackTo(sp)
		is(now, "one")
		if tx.Staging() != size {
			t.Error("Staging after RollbackTo")
		}
		return errors.Join(err, tx.Set("Device.Y", "three", 0))
	})
	if got := dump(c.Version); !slices.Equal(got, dump(s.Head())) || c.Version.SubtreeRev("Device.New") != 0 {
		t.Error(got)
	}
	if l, _ := s.Head().Leaf("Device.A.1.X"); l.Value != "one" || l.Rev != c.Rev {
		t.Error(l)
	}
}

func wantRow(n uint32) error {
	if n != 1 {
		return errors.New("not the first row")
	}
	return nil
}

// TestLinesAndNotes: however often and in whatever order paths are set and annotated, the journal has one line for each, and the file
// what the tree has, secrets too.
func TestLinesAndNotes(t *testing.T) {
	note := func(path, verdict string) Note { return Note{Op: DeltaSet, Path: path, Verdict: verdict, Rule: "r"} }
	for name, fn := range map[string]func(tx *Tx) error{
		"in order": func(tx *Tx) error {
			err := errors.Join(tx.Set("Device.A", "1", 0), tx.Set("Device.B", "2", Secret), tx.Set("Device.C", "3", 0))
			tx.Note(note("Device.A", "a"))
			tx.Note(note("Device.B", "b"))
			tx.Note(note("Device.C", "c"))
			return err
		},
		"out of order": func(tx *Tx) error {
			err := errors.Join(tx.Set("Device.A", "1", 0), tx.Set("Device.B", "2", Secret), tx.Set("Device.C", "3", 0))
			tx.Note(note("Device.C", "c"))
			tx.Note(note("Device.A", "a"))
			tx.Note(Note{Op: DeltaNote, Path: "Device.A", Verdict: "n"})
			tx.Note(note("Device.B", "b"))
			return err
		},
		"twice": func(tx *Tx) error {
			err := errors.Join(tx.Set("Device.A", "0", 0), tx.Set("Device.B", "0", Secret), tx.Set("Device.A", "1", 0),
				tx.Set("Device.C", "3", 0), tx.Set("Device.B", "2", Secret))
			for _, p := range []string{"A", "B", "A", "C", "B"} {
				tx.Note(note("Device."+p, string(p[0]+'a'-'A')))
			}
			return err
		},
		"taken back": func(tx *Tx) error {
			err := errors.Join(tx.Set("Device.A", "1", 0))
			sp := tx.Savepoint()
			err = errors.Join(err, tx.Set("Device.B", "x", 0), tx.Set("Device.D", "x", 0))
			tx.RollbackTo(sp)
			err = errors.Join(err, tx.Set("Device.B", "2", Secret), tx.Set("Device.C", "3", 0))
			for _, p := range []string{"A", "B", "C"} {
				tx.Note(note("Device."+p, string(p[0]+'a'-'A')))
			}
			return err
		},
		"removed": func(tx *Tx) error {
			err := errors.Join(tx.Set("Device.A", "0", 0), tx.Unset("Device.A"), tx.Set("Device.B", "2", Secret),
				tx.Set("Device.C", "3", 0), tx.Set("Device.A", "1", 0))
			for _, p := range []string{"A", "B", "C"} {
				tx.Note(note("Device."+p, string(p[0]+'a'-'A')))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := openTest(t, Options{NoSync: true})
			must(t, s, set("Device.Before", "x"))
			c := must(t, s, fn)
			lines := slices.DeleteFunc(slices.Clone(c.Entry.Deltas), func(d Delta) bool { return d.Op == DeltaNote })
			if len(lines) != 3 {
				t.Fatal(c.Entry.Deltas)
			}
			for i, d := range lines {
				want := string(rune('a' + i))
				if d.Path != "Device."+string(rune('A'+i)) || d.Verdict != want || d.Rule != "r" || d.Old != "" || d.HadOld {
					t.Errorf("%+v", d)
				}
				if secret := d.Path == "Device.B"; d.Secret != secret || !secret && d.New != string(rune('1'+i)) ||
					secret && d.New != hashSecret(s.salt, d.Path, "2") {
					t.Errorf("%+v", d)
				}
			}
			want := dump(s.Head())
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if got := dump(reopenTest(t, path, Options{NoSync: true}).Head()); !slices.Equal(got, want) {
				t.Errorf("the file has %q, the tree had %q", got, want)
			}
		})
	}
}

// TestNearestAttr compares with asking for every path above.
func TestNearestAttr(t *testing.T) {
	s, _ := openTest(t, Options{NoSync: true})
	must(t, s, func(tx *Tx) error {
		_, err := tx.AddRow("Device.A.")
		return errors.Join(err, tx.Set("Device.A.1.B.X", "1", 0), tx.Set("Device.Z", "1", 0),
			tx.SetAttr("Device.", Attr{Notification: 1}),
			tx.SetAttr("Device.A.", Attr{Notification: -1, HasAccess: true, AccessList: []string{"Subscriber"}}),
			tx.SetAttr("Device.A.1.", Attr{Notification: 2, HasAccess: true}),
			tx.SetAttr("Device.A.1.B.X", Attr{Notification: 0, HasAccess: true, AccessList: []string{"Y"}}))
	})
	v := s.Head()
	for _, path := range []string{"Device.", "Device.Z", "Device.A.", "Device.A.1.", "Device.A.1.C", "Device.A.1.B.", "Device.A.1.B.X",
		"Device.A.1.B.Y", "Device.A.2.B", "Device.None.Of.These", "Device", ""} {
		want := Attr{Notification: -1}
		for at := path; at != ""; {
			a, ok := v.Attr(at)
			if ok && want.Notification < 0 {
				want.Notification = a.Notification
			}
			if ok && !want.HasAccess && a.HasAccess {
				want.HasAccess, want.AccessList = true, a.AccessList
			}
			if at[len(at)-1] == '.' {
				at = at[:len(at)-1]
			}
			at, _ = splitParam(at)
		}
		if got := v.NearestAttr(path); !sameAttr(got, want) {
			t.Errorf("%q: %+v, want %+v", path, got, want)
		}
	}
}
