package vendor

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/datamodel"
)

// Table is one table of the object. Its rows are read whenever somebody lists it; nothing of it is stored.
type Table struct {
	Name    string   // "Gate", or, in an object below, "Import.Residue"
	Key     string   // column that is its unique key
	Columns []string // all of them are strings but those in Numbers
	Most    int      // rows that are shown; 0: maxRows
	Rows    func() []Row
}

// Row of a Table. Number stays the same as long as the row means the same.
type Row struct {
	Number uint32
	Values []string // in the order of Columns
}

// maxRows bounds a table of the object: an ACS may well ask for everything at once.
const maxRows = 64

// Value is a single parameter of the object, or, with a dot in its name, of an object below it.
type Value struct {
	Name   string
	Number bool
	// Active: the ACS is told of a change by default, unless it says otherwise.
	Active bool
	Read   func() string
}

// Command is a USP command of the object. A CWMP command parameter of the name CWMP does the same with its value as the
// argument that is named first.
type Command struct {
	Name    string // without "()"
	Inputs  []string
	Outputs []string
	CWMP    string
	// Check refuses a CWMP write before it commits; may be nil.
	Check func(by datamodel.Caller, value string) error
	Run   func(ctx context.Context, by datamodel.Caller, args map[string]string) (map[string]string, error)
}

// Events are those that the object can send, with their arguments.
var events = map[string][]string{
	"PhaseChanged!": {"Phase", "Epoch", "From", "By", "Cause"}, "ConfirmRequired!": {"Phase", "Epoch", "By", "Seconds", "ID", "Revision", "Paths"},
	"RolledBack!": {"Phase", "Epoch", "From", "By", "Cause", "ID", "Revision", "Paths"}, "GateFailed!": {"Phase", "Epoch", "Gate"}, "RescueEntered!": {"Phase", "Epoch", "Cause"},
	"Conflict!": {"Path", "Loser", "Winner", "Rule", "Count"}, "OwnershipLost!": {"Owner", "By", "Revision", "Rule", "Count", "Paths"},
	"DriftDetected!": {"Path", "Kind", "ACSValue", "USPValue", "Since"}, "PolicyReloaded!": {"Name", "Hash", "Epoch", "Status", "Differ", "Error"},
}

func textFacts() *datamodel.Facts { return &datamodel.Facts{Type: datamodel.TypeString} }

func numberFacts() *datamodel.Facts { return &datamodel.Facts{Type: datamodel.TypeUnsignedLong} }

func argument(name string) datamodel.Argument {
	return datamodel.Argument{Name: name, Facts: textFacts()}
}

// extend makes the object's schema: values, tables, commands and events.
func extend(obj *datamodel.Object, o *Content) {
	add := func(obj *datamodel.Object, p *datamodel.Param) {
		p.Object = obj
		obj.Params = append(obj.Params, p)
	}
	// within finds where an element is, and makes the single object that it is in.
	within := func(path string) (*datamodel.Object, string) {
		below, rest, ok := strings.Cut(path, ".")
		if !ok {
			return obj, path
		}
		at := obj.Child(below)
		if at == nil {
			at = &datamodel.Object{Path: obj.Path + below + ".", Name: below, Parent: obj, Protocols: datamodel.Both, MinEntries: 1, MaxEntries: 1}
			obj.Children = append(obj.Children, at)
			sort.Slice(obj.Children, func(i, j int) bool { return obj.Children[i].Name < obj.Children[j].Name })
		}
		return at, rest
	}
	for _, v := range o.Values {
		at, name := within(v.Name)
		f := textFacts
		if v.Number {
			f = numberFacts
		}
		cwmp := f()
		if v.Active {
			cwmp.ActiveNotify = "forceDefaultEnabled"
		}
		add(at, datamodel.NewParam(name, cwmp, f()))
		sort.Slice(at.Params, func(i, j int) bool { return at.Params[i].Name < at.Params[j].Name }) // lookups search
	}
	for _, t := range o.Tables {
		at, name := within(t.Name)
		count := name + "NumberOfEntries"
		unsigned := func() *datamodel.Facts { return &datamodel.Facts{Type: datamodel.TypeUnsignedInt} }
		add(at, datamodel.NewParam(count, unsigned(), unsigned()))
		sort.Slice(at.Params, func(i, j int) bool { return at.Params[i].Name < at.Params[j].Name }) // lookups search
		row := &datamodel.Object{Path: at.Path + name + ".{i}.", Name: name, Parent: at, Multi: true, Protocols: datamodel.Both,
			MaxEntries: -1, NumEntries: count, Keys: []datamodel.UniqueKey{{Params: []string{t.Key}, Functional: true}}}
		for _, c := range t.Columns {
			add(row, datamodel.NewParam(c, textFacts(), textFacts()))
		}
		sort.Slice(row.Params, func(i, j int) bool { return row.Params[i].Name < row.Params[j].Name }) // lookups search
		at.Children = append(at.Children, row)
		sort.Slice(obj.Children, func(i, j int) bool { return obj.Children[i].Name < obj.Children[j].Name })
	}
	for _, c := range o.Commands {
		cmd := &datamodel.Command{Name: c.Name + "()", Object: obj}
		for _, in := range c.Inputs {
			cmd.Inputs = append(cmd.Inputs, argument(in))
		}
		for _, out := range c.Outputs {
			cmd.Outputs = append(cmd.Outputs, argument(out))
		}
		obj.Commands = append(obj.Commands, cmd)
		if c.CWMP != "" {
			f := textFacts()
			f.Access, f.Command, f.Hidden = datamodel.ReadWrite, true, true
			add(obj, datamodel.NewParam(c.CWMP, f, nil))
		}
	}
	for name, args := range events {
		e := &datamodel.Event{Name: name, Object: obj}
		for _, a := range args {
			e.Args = append(e.Args, argument(a))
		}
		obj.Events = append(obj.Events, e)
	}
	sort.Slice(obj.Params, func(i, j int) bool { return obj.Params[i].Name < obj.Params[j].Name })
	sort.Slice(obj.Children, func(i, j int) bool { return obj.Children[i].Name < obj.Children[j].Name })
	sort.Slice(obj.Commands, func(i, j int) bool { return obj.Commands[i].Name < obj.Commands[j].Name })
	sort.Slice(obj.Events, func(i, j int) bool { return obj.Events[i].Name < obj.Events[j].Name })
}

// Lists implements datamodel.Lister.
func (p *Provider) Lists() []string {
	var out []string
	for _, t := range p.content.Tables {
		out = append(out, p.path+t.Name+".")
	}
	return out
}

// listAge is how long the rows that were listed last serve reads of single rows. Who reads a row has listed its table just
// before, to know that it is there, and shall not have the table made anew for each of its rows.
const listAge = 100 * time.Millisecond

// listing is the rows of a table as they were listed last. Safe for concurrent use.
type listing struct {
	mu   sync.Mutex
	rows []Row
	at   time.Time
}

// of returns the rows of t, those of the last listing if they are not older than age.
func (l *listing) of(t *Table, age time.Duration) []Row {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.at.IsZero() || now.Sub(l.at) >= age {
		l.rows, l.at = t.rows(), now
	}
	return l.rows
}

// rows of a table, the newest ones when there are too many.
func (t *Table) rows() []Row {
	rows := t.Rows()
	sort.Slice(rows, func(i, j int) bool { return rows[i].Number < rows[j].Number })
	if most := max(t.Most, maxRows); len(rows) > most {
		rows = rows[len(rows)-most:]
	}
	return rows
}

func (p *Provider) table(name string) (*Table, *listing) {
	for i := range p.content.Tables {
		if p.content.Tables[i].Name == name {
			return &p.content.Tables[i], &p.listed[i]
		}
	}
	return nil, nil
}

// Instances implements datamodel.Lister.
func (p *Provider) Instances(_ context.Context, table string) ([]uint32, error) {
	t, listed := p.table(strings.TrimSuffix(strings.TrimPrefix(table, p.path), "."))
	if t == nil {
		return nil, fmt.Errorf("no table %s", table)
	}
	var out []uint32
	for _, r := range listed.of(t, 0) {
		out = append(out, r.Number)
	}
	return out, nil
}

// readRow reads one row; path is "Gate.2.".
func (p *Provider) readRow(path string, params []string, yield func(name, value string)) {
	path = strings.TrimSuffix(path, ".")
	at := strings.LastIndexByte(path, '.')
	n, err := strconv.ParseUint(path[at+1:], 10, 32)
	t, listed := p.table(path[:max(at, 0)])
	if t == nil || err != nil {
		return
	}
	for _, r := range listed.of(t, listAge) {
		if r.Number != uint32(n) {
			continue
		}
		for i, c := range t.Columns {
			for _, want := range params {
				if want == c && i < len(r.Values) {
					yield(c, r.Values[i])
				}
			}
		}
	}
}

// Applies implements datamodel.Applier: the CWMP command parameters.
func (p *Provider) Applies() []string {
	var out []string
	for _, c := range p.content.Commands {
		if c.CWMP != "" {
			out = append(out, p.path+c.CWMP)
		}
	}
	return out
}

func (p *Provider) commandOf(path string) *Command {
	for i := range p.content.Commands {
		if c := &p.content.Commands[i]; c.CWMP != "" && p.path+c.CWMP == path {
			return c
		}
	}
	return nil
}

// Prepare implements datamodel.Applier: what a command would refuse fails the SetParameterValues.
func (p *Provider) Prepare(_ context.Context, writes []datamodel.Write) error {
	for _, w := range writes {
		if c := p.commandOf(w.Path); c != nil && c.Check != nil {
			if err := c.Check(w.By, w.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// Apply implements datamodel.Applier. The commands may commit themselves and wait for providers, so that they run beside.
func (p *Provider) Apply(ctx context.Context, writes []datamodel.Write) error {
	for _, w := range writes {
		c := p.commandOf(w.Path)
		if c == nil {
			continue
		}
		args := map[string]string{}
		if len(c.Inputs) > 0 {
			args[c.Inputs[0]] = w.Value
		}
		p.content.Beside(func(ctx context.Context) error {
			_, err := c.Run(ctx, w.By, args)
			return err
		})
	}
	return ctx.Err()
}
