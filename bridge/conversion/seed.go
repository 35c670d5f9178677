package conversion

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
)

// Bounds of what is kept of the residue; the counts tell of all of it.
const (
	MaxResidue      = 256 // rows: an ACS may well ask for everything at once
	maxResidueValue = 256 // bytes of a value
	maxResidueBytes = 200 << 10
)

// Bucket holds the summary under the key Summary.
const (
	Bucket  = "import"
	Summary = "summary"
)

// Report is what became of an import; it is kept as a record.
type Report struct {
	Status       string    `json:"status"` // Imported, Failed
	Error        string    `json:"error,omitempty"`
	Source       string    `json:"source"`
	Version      string    `json:"version"`
	Model        string    `json:"model"` // TR-181, TR-098
	Hash         string    `json:"hash"`
	Time         time.Time `json:"time"`
	Bootstrapped bool      `json:"bootstrapped"`
	Evidence     string    `json:"evidence"` // Flag, ParameterKey, Attributes, PendingOperations, None
	Values       int       `json:"values"`
	Rows         int       `json:"rows"`
	Attributes   int       `json:"attributes"`
	Pending      int       `json:"pending"`
	Residues     int       `json:"residues"` // all of them
	Residue      []Residue `json:"residue,omitempty"`
}

// Residue is what this device has no place for.
type Residue struct {
	Path   string `json:"path"` // as the file spells it
	Value  string `json:"value,omitempty"`
	Reason string `json:"reason"`
}

// Outcome is what an import gives to the CWMP head beside the tree. It is filled when the Seed is staged.
type Outcome struct {
	URL   string // the ACS that knows the device; "" if none does: BOOTSTRAP is due
	Known map[string]string
	Told  map[string]string
}

// evidence weighs what speaks for the ACS knowing this device: an Inform with BOOTSTRAP by mistake has the ACS provision everything
// anew. A flag counts as it stands; where there is none, whatever only an ACS can have done does.
func (f *File) evidence() (done bool, why string) {
	switch {
	case f.Bootstrapped == Yes:
		return true, "Flag"
	case f.Bootstrapped == No:
		return false, "Flag"
	case f.ParameterKey != "":
		return true, "ParameterKey"
	case len(f.Attrs) > 0:
		return true, "Attributes"
	case len(f.Transfers)+len(f.Schedules) > 0:
		return true, "PendingOperations"
	}
	return false, "None"
}

// Seed makes the Seed of a file. records is called at the end with the report and what the CWMP head needs; what it returns rides
// along. now is the time of the import.
func (f *File) Seed(now time.Time, records func(tx *store.Tx, r *Report, o *Outcome) ([]bridge.Record, error)) *bridge.Seed {
	s := &bridge.Seed{Ref: strings.TrimSpace(f.Source + " " + f.Version), Next: map[string]int{}, Attrs: map[string]store.Attr{}}
	old, told := map[string]string{}, map[string]string{} // path of this device -> path of the file, what the ACS knows
	var early []Residue
	// here gives a path of the file as this device spells it; "" is residue.
	here := func(path, value string) string {
		to, ok := f.translate(path)
		if !ok {
			early = append(early, Residue{Path: path, Value: value, Reason: noRename})
			return ""
		}
		old[to] = path
		return to
	}
	for _, row := range f.Rows {
		if to := here(row, ""); to != "" {
			s.Rows = append(s.Rows, to)
		}
	}
	for i := range f.Values {
		v := &f.Values[i]
		if to := here(v.Path, v.Value); to != "" {
			s.Values = append(s.Values, bridge.SeedValue{Path: to, Value: v.Value, Factory: v.Origin == "factory" || v.Origin == "dhcp"})
		}
	}
	if f.ParameterKey != "" {
		s.Values = append(s.Values, bridge.SeedValue{Path: parameterKey, Value: f.ParameterKey})
	}
	for table, n := range f.Next {
		if to := here(table, "next="+strconv.Itoa(n)); to != "" {
			s.Next[to] = n
		}
	}
	for path, a := range f.Attrs {
		if to := here(path, attrText(a)); to != "" {
			s.Attrs[to] = a
		}
	}
	for path, value := range f.Told {
		if to := here(path, value); to != "" {
			told[to] = value
		}
	}
	s.Finish = func(tx *store.Tx, left []bridge.SeedLeft) ([]bridge.Record, error) {
		r := f.report(now)
		r.Values, r.Attributes = len(s.Values), len(s.Attrs)
		o := &Outcome{Known: map[string]string{}, Told: map[string]string{}}
		residue := append([]Residue(nil), early...)
		for _, l := range left {
			value := l.Value
			switch {
			case l.Attrs:
				r.Attributes--
				value = attrText(s.Attrs[l.Path])
			case !strings.HasSuffix(l.Path, "."):
				r.Values--
			}
			if l.Live { // what the ACS was told last of it
				o.Known[l.Path] = l.Value
				continue
			}
			path := l.Path
			if from, ok := old[path]; ok {
				path = from
			}
			if l.Secret && !secret(path) {
				value = tx.Hash(path, value)
			}
			residue = append(residue, Residue{Path: path, Value: value, Reason: l.Reason[:min(len(l.Reason), maxResidueValue)]})
		}
		for path, value := range told {
			if _, stored := tx.Staged().Leaf(path); stored {
				o.Told[path] = value
			} else {
				o.Known[path] = value
			}
		}
		r.Rows = countRows(tx, s)
		r.keep(tx, residue)
		if r.Bootstrapped {
			if o.URL = f.BootstrapURL; o.URL == "" {
				l, _ := tx.Staged().Leaf(acsURL)
				o.URL = l.Value
			}
			if o.URL == "" {
				return nil, fmt.Errorf("import: the device was bootstrapped, but neither the file nor the configuration says by which ACS (%s)", acsURL)
			}
		}
		own, err := r.Record()
		if err != nil {
			return nil, err
		}
		more, err := records(tx, r, o)
		return append(more, own), err
	}
	return s
}

const (
	parameterKey = "Device.ManagementServer.ParameterKey"
	acsURL       = "Device.ManagementServer.URL"
	noRename     = "TR-098 has it elsewhere"
)

func (f *File) report(now time.Time) *Report {
	r := &Report{Status: "Imported", Source: f.Source, Version: f.Version, Model: "TR-181", Hash: f.Hash, Time: now.UTC().Round(0),
		Pending: len(f.Events) + len(f.Schedules) + len(f.Transfers)}
	if f.TR098 {
		r.Model = "TR-098"
	}
	r.Bootstrapped, r.Evidence = f.evidence()
	return r
}

// Delivered reports whether a Download brought the firmware that runs now.
func (f *File) Delivered() bool {
	for i := range f.Transfers {
		if f.Transfers[i].State == "delivered" {
			return true
		}
	}
	return false
}

// countRows counts the rows that a Seed names and the tree has.
func countRows(tx *store.Tx, s *bridge.Seed) int {
	rows := map[string]bool{}
	count := func(path string) {
		for i := strings.IndexByte(path, '.'); i >= 0; {
			if _, ok := tx.Staged().Row(path[:i+1]); ok {
				rows[path[:i+1]] = true
			}
			next := strings.IndexByte(path[i+1:], '.')
			if next < 0 {
				return
			}
			i += 1 + next
		}
	}
	for _, path := range s.Rows {
		count(path)
	}
	for _, v := range s.Values {
		count(v.Path)
	}
	return len(rows)
}

// keep takes the residue in, in order of its paths, as far as there is room.
func (r *Report) keep(tx *store.Tx, residue []Residue) {
	sort.Slice(residue, func(i, j int) bool { return residue[i].Path < residue[j].Path })
	r.Residues, r.Residue = len(residue), nil
	size := 0
	for _, left := range residue {
		if left.Value != "" && secret(left.Path) {
			left.Value = tx.Hash(left.Path, left.Value)
		}
		if n := len(r.Residue); n > 0 && r.Residue[n-1].Path == left.Path { // a value and attributes of one path
			last := &r.Residue[n-1]
			if left.Value != "" {
				last.Value = strings.TrimPrefix(last.Value+"; "+left.Value, "; ")
			}
			r.Residues--
			continue
		}
		if len(left.Value) > maxResidueValue {
			left.Value = left.Value[:maxResidueValue]
		}
		if size += len(left.Path) + 6*len(left.Value) + len(left.Reason) + 64; len(r.Residue) >= MaxResidue || size > maxResidueBytes {
			return
		}
		r.Residue = append(r.Residue, left)
	}
}

// Record is r as it is kept.
func (r *Report) Record() (bridge.Record, error) {
	data, err := json.Marshal(r)
	return bridge.Record{Bucket: Bucket, Key: Summary, Data: data}, err
}

// Kept reads the report of a database; nil if nothing was imported, or since a factory reset.
func Kept(v *store.Version) *Report {
	data, ok := v.Record(Bucket, Summary)
	if !ok {
		return nil
	}
	r := new(Report)
	if json.Unmarshal(data, r) != nil {
		return nil
	}
	return r
}

func attrText(a store.Attr) string {
	s := ""
	if a.Notification >= 0 {
		s = "notification=" + strconv.Itoa(int(a.Notification))
	}
	if a.HasAccess {
		s = strings.TrimSpace(s + " access=" + strings.Join(a.AccessList, ","))
	}
	return s
}

// secret tells by its name whether a parameter that this device does not know may hold a secret: rather one too many.
func secret(path string) bool {
	_, name := datamodel.SplitParam(path)
	name = strings.ToLower(name)
	for _, part := range [...]string{"pass", "key", "secret", "psk", "pin", "token", "credential", "private", "cert", "auth"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
