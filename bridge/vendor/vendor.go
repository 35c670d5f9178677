// Package vendor is the device maker's own object in the data model, Device.X_<VENDOR>_Migration.: what an operator wants to
// know of the bridge itself, by the standard means of either protocol. It adds the object to a schema and serves it:
//
//	prefix, err := vendor.Prefix("twinspan.example")   // X_TWINSPAN-EXAMPLE_
//	err = vendor.Extend(schema.Root(), prefix)          // before bridge.New
//	err = engine.AddProvider(vendor.New(engine, prefix))
//
// Phase and Revision are readable by both protocols; GetJournal() is a USP command, used by the command line. Values of secured
// parameters appear as salted hashes only, as in the journal itself, and what a Controller may not read does not appear to it.
package vendor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/bridge/policy"
	"twinspan/datamodel"
	"twinspan/store"
)

// MaxEntries bounds one answer of GetJournal().
const MaxEntries = 500

// Prefix makes the vendor prefix of TR-106 3.3 from a domain that the device maker owns: example.com -> X_EXAMPLE-COM_.
func Prefix(domain string) (string, error) {
	if domain == "" || strings.Trim(strings.ToLower(domain), "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return "", fmt.Errorf("vendor domain %q: letters, digits, dots and hyphens only", domain)
	}
	return "X_" + strings.ToUpper(strings.ReplaceAll(domain, ".", "-")) + "_", nil
}

// Content is what the object holds beside its own: what the bridge and the migration tell, made by the program that knows
// both. A table or command that is not there is not in the model.
type Content struct {
	Values   []Value
	Tables   []Table
	Commands []Command
	// Beside runs what a CWMP command parameter asked for, on a goroutine that somebody joins. Needed where a Command has
	// one.
	Beside func(fn func(ctx context.Context) error)
}

// Extend adds the object below root ("Device."). Not for concurrent use; a schema does not change once it is served.
func Extend(root *datamodel.Object, prefix string, content *Content) error {
	name := prefix + "Migration"
	if root.Child(name) != nil {
		return fmt.Errorf("the schema already has %s%s", root.Path, name)
	}
	obj := &datamodel.Object{Path: root.Path + name + ".", Name: name, Parent: root, Protocols: datamodel.Both, MinEntries: 1, MaxEntries: 1}
	most := int64(MaxEntries)
	one := int64(1)
	command := &datamodel.Command{Name: "GetJournal()", Object: obj, Inputs: []datamodel.Argument{
		{Name: "MaxEntries", Facts: &datamodel.Facts{Type: datamodel.TypeUnsignedInt, Range: []datamodel.Range{{Min: &one, Max: &most}}, Default: "20", HasDefault: true}},
		argument("Path"),
	}}
	for _, out := range []string{"Revision", "Time", "Writer", "Protocol", "Reference", "Kind", "Change.{i}.Path", "Change.{i}.Operation", "Change.{i}.OldValue", "Change.{i}.NewValue", "Change.{i}.Verdict", "Change.{i}.Rule"} {
		command.Outputs = append(command.Outputs, argument("Entry.{i}."+out))
	}
	obj.Commands = append([]*datamodel.Command{command}, arbitrationCommands(obj)...)
	guard := func() *datamodel.Facts {
		return &datamodel.Facts{Type: datamodel.TypeString, Access: datamodel.ReadWrite, Command: true}
	}
	for _, name := range []string{GuardParam, ConfirmParam} {
		p := datamodel.NewParam(name, guard(), guard())
		p.Object = obj
		obj.Params = append(obj.Params, p)
	}
	extend(obj, content)
	root.Children = append(root.Children, obj)
	sort.Slice(root.Children, func(i, j int) bool { return root.Children[i].Name < root.Children[j].Name })
	return nil
}

// Engine is what the object tells of; *bridge.Engine is one.
type Engine interface {
	Store() *store.Store
	arbitration
}

// Provider serves the object. Safe for concurrent use.
type Provider struct {
	engine  Engine
	path    string
	content *Content
	listed  []listing    // one for each of the tables
	policy  *policy.Live // nil: no policy file
}

var (
	_ datamodel.Provider  = (*Provider)(nil)
	_ datamodel.Commander = (*Provider)(nil)
	_ datamodel.Lister    = (*Provider)(nil)
	_ datamodel.Applier   = (*Provider)(nil)
)

// New makes the provider; the functions of content are called at every read, and only after the engine has started.
func New(e Engine, prefix string, content *Content) *Provider {
	return &Provider{engine: e, path: Path(prefix), content: content, listed: make([]listing, len(content.Tables))}
}

// Path of the object for a prefix.
func Path(prefix string) string { return "Device." + prefix + "Migration." }

// Name implements datamodel.Provider.
func (p *Provider) Name() string { return "vendor" }

// Serves implements datamodel.Provider.
func (p *Provider) Serves() []string {
	out := []string{p.path}
	for _, t := range p.content.Tables {
		out = append(out, p.path+t.Name+".{i}.")
	}
	for _, v := range p.content.Values {
		if below, _, ok := strings.Cut(v.Name, "."); ok && !slices.Contains(out, p.path+below+".") {
			out = append(out, p.path+below+".")
		}
	}
	return out
}

// Read implements datamodel.Provider.
func (p *Provider) Read(_ context.Context, obj datamodel.ObjectRef, params []string, yield func(name, value string)) error {
	below := strings.TrimPrefix(obj.Path, p.path)
	if strings.ContainsAny(below, "0123456789") {
		p.readRow(below, params, yield)
		return nil
	}
	for _, v := range p.content.Values {
		for _, name := range params {
			if below+name == v.Name {
				yield(name, v.Read())
			}
		}
	}
	return nil
}

// Commands implements datamodel.Commander.
func (p *Provider) Commands() []string {
	out := append(p.arbitrationPaths(), p.path+"GetJournal()")
	for _, c := range p.content.Commands {
		out = append(out, p.path+c.Name+"()")
	}
	return out
}

// Run implements datamodel.Commander.
func (p *Provider) Run(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	for i := range p.content.Commands {
		if c := &p.content.Commands[i]; p.path+c.Name+"()" == inv.Command {
			return c.Run(ctx, inv.By, inv.Args)
		}
	}
	if name := strings.TrimPrefix(inv.Command, p.path); name != "GetJournal()" {
		return p.arbitrate(ctx, name, inv)
	}
	return p.journal(ctx, inv)
}

func (p *Provider) journal(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	most, err := strconv.Atoi(inv.Args["MaxEntries"])
	if err != nil || most < 1 || most > MaxEntries {
		return nil, datamodel.Fail(datamodel.InvalidArgs, inv.Command, fmt.Sprintf("MaxEntries must be 1 to %d", MaxEntries))
	}
	entries, err := p.newest(ctx, most, inv.Args["Path"])
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for i, e := range entries {
		q := "Entry." + strconv.Itoa(i+1) + "."
		out[q+"Revision"] = strconv.FormatUint(e.Rev, 10)
		out[q+"Time"] = e.Time.UTC().Format(time.RFC3339Nano)
		out[q+"Writer"], out[q+"Protocol"], out[q+"Reference"], out[q+"Kind"] = e.Meta.Writer, e.Meta.Protocol, e.Meta.Ref, e.Meta.Kind
		for j, d := range e.Deltas {
			c := q + "Change." + strconv.Itoa(j+1) + "."
			out[c+"Path"], out[c+"Operation"], out[c+"OldValue"], out[c+"NewValue"] = d.Path, opName(d.Op), d.Old, d.New
			if d.Verdict != "" {
				out[c+"Verdict"], out[c+"Rule"] = d.Verdict, d.Rule
			}
		}
	}
	return out, nil
}

// newest returns the last `most` entries that touch something below prefix, oldest first, reduced to those lines.
func (p *Provider) newest(ctx context.Context, most int, prefix string) ([]store.Entry, error) {
	ring := make([]store.Entry, 0, most)
	by, _ := bridge.WriterFrom(ctx)
	now := p.engine.Store().Head()
	collect := func(e *store.Entry) bool {
		if e = by.Visible(now, e); e == nil {
			return ctx.Err() == nil
		}
		kept := *e
		if prefix != "" {
			kept.Deltas = nil
			for _, d := range e.Deltas {
				if strings.HasPrefix(d.Path, prefix) {
					kept.Deltas = append(kept.Deltas, d)
				}
			}
		}
		if len(kept.Deltas) > 0 {
			if len(ring) == most {
				copy(ring, ring[1:])
				ring = ring[:most-1]
			}
			ring = append(ring, kept)
		}
		return ctx.Err() == nil
	}
	db := p.engine.Store()
	for { // the ring may be trimmed between the question where it begins and the reading
		ring = ring[:0]
		err := db.Journal(db.JournalStart()-1, collect)
		if !errors.Is(err, store.ErrCursorGone) {
			return ring, errors.Join(err, ctx.Err())
		}
	}
}

func opName(op store.DeltaOp) string {
	switch op {
	case store.DeltaSet:
		return "set"
	case store.DeltaUnset:
		return "unset"
	case store.DeltaAddRow:
		return "add"
	case store.DeltaDeleteRow:
		return "delete"
	case store.DeltaAttr:
		return "attributes"
	case store.DeltaRefused:
		return "refused"
	case store.DeltaNote:
		return "note"
	}
	return "unknown"
}
