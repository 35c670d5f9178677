package vendor

import (
	"context"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/bridge/policy"
	"twinspan/datamodel"
)

// GuardParam is the parameter by which a manager guards a change: REVISION or REVISION@PATH, in the same
// SetParameterValues or the same Set. It reads as empty.
const GuardParam = "IfRevision"

// ConfirmParam is the parameter by which a manager makes a change provisional: SECONDS or SECONDS@ID, in the same
// SetParameterValues or the same Set. It reads as empty.
const ConfirmParam = "ConfirmWithin"

// maxListed bounds one answer of ListOwners().
const maxListed = 100

// arbitration is what the commands need of the engine.
type arbitration interface {
	Schema() *datamodel.Schema
	PhaseNow() bridge.Phase
	AcquireLease(ctx context.Context, w bridge.Writer, paths []string, d time.Duration) (bridge.Lease, error)
	RenewLease(ctx context.Context, w bridge.Writer, id uint64, d time.Duration) (bridge.Lease, error)
	ReleaseLease(ctx context.Context, w bridge.Writer, id uint64) error
	Leases() []bridge.Lease
	Owners(prefix string, offset, limit int) ([]bridge.OwnedLeaf, bool)
	ReleaseOwnership(ctx context.Context, w bridge.Writer, path string) (int, error)
	Conflicts() []bridge.ConflictRow
	AcknowledgeConflict(id uint64) bool
	Frozen() []bridge.FrozenLeaf
	Thaw(path string) bool
}

// SetPolicy names the policy that ReloadPolicy() and its like are about. Before the engine starts.
func (p *Provider) SetPolicy(l *policy.Live) { p.policy = l }

// spec is one command: inputs and outputs as "Name:type", types s (string), n (number), S and N mandatory.
type spec struct{ name, in, out string }

var specs = []spec{
	{"AcquireLease()", "Paths:S Duration:N", "ID Expires"},
	{"RenewLease()", "ID:N Duration:N", "ID Expires"},
	{"ReleaseLease()", "ID:N", ""},
	{"ListLeases()", "", "Lease.{i}.ID Lease.{i}.Writer Lease.{i}.Paths Lease.{i}.Expires Lease.{i}.Contended"},
	{"ListOwners()", "Path:s Offset:n Limit:n", "More Owner.{i}.Path Owner.{i}.Writer Owner.{i}.Class Owner.{i}.Since Owner.{i}.CoWriters Owner.{i}.Rule"},
	{"ReleaseOwnership()", "Path:s", "Count"},
	{"ListConflicts()", "", "Conflict.{i}.ID Conflict.{i}.First Conflict.{i}.Last Conflict.{i}.Path Conflict.{i}.Loser Conflict.{i}.Winner " +
		"Conflict.{i}.Verdict Conflict.{i}.Rule Conflict.{i}.Count Conflict.{i}.Acknowledged Frozen.{i}.Path Frozen.{i}.Winner Frozen.{i}.Until"},
	{"AcknowledgeConflict()", "ID:N", ""},
	{"Thaw()", "Path:S", ""},
	{"ReloadPolicy()", "", "Entries Judged Differ Difference.{i}.Text Finding.{i}.Text"},
	{"SimulatePolicy()", "Text:S", "Entries Judged Differ Difference.{i}.Text Finding.{i}.Text"},
	{"ExplainPolicy()", "Path:S Writer:S", "Phase Class Rule OnConflict ConfirmWithin Queue Verdict Text Against.{i}.Owner Against.{i}.Verdict Against.{i}.Rule"},
}

// arbitrationCommands describes them for the schema.
func arbitrationCommands(obj *datamodel.Object) []*datamodel.Command {
	var out []*datamodel.Command
	for _, s := range specs {
		c := &datamodel.Command{Name: s.name, Object: obj}
		for _, a := range strings.Fields(s.in) {
			name, kind, _ := strings.Cut(a, ":")
			f := &datamodel.Facts{Type: datamodel.TypeString, Mandatory: kind == "S" || kind == "N"}
			if kind == "n" || kind == "N" {
				f.Type = datamodel.TypeUnsignedLong
			}
			c.Inputs = append(c.Inputs, datamodel.Argument{Name: name, Facts: f})
		}
		for _, a := range strings.Fields(s.out) {
			c.Outputs = append(c.Outputs, datamodel.Argument{Name: a, Facts: &datamodel.Facts{Type: datamodel.TypeString}})
		}
		out = append(out, c)
	}
	return out
}

func (p *Provider) arbitrationPaths() []string {
	var out []string
	for _, s := range specs {
		out = append(out, p.path+s.name)
	}
	return out
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// arbitrate carries out one of the commands for the writer in ctx.
func (p *Provider) arbitrate(ctx context.Context, name string, inv datamodel.Invocation) (map[string]string, error) {
	w, ok := bridge.WriterFrom(ctx)
	if !ok {
		return nil, datamodel.Fail(datamodel.Internal, inv.Command, "nobody asks")
	}
	arg := inv.Args
	num := func(key string) uint64 {
		n, _ := strconv.ParseUint(arg[key], 10, 64) // an unsignedLong by the schema
		return n
	}
	out := map[string]string{}
	switch name {
	case "AcquireLease()", "RenewLease()":
		d := time.Duration(min(num("Duration"), 1<<20)) * time.Second
		var l bridge.Lease
		var err error
		if name == "RenewLease()" {
			l, err = p.engine.RenewLease(ctx, w, num("ID"), d)
		} else {
			l, err = p.engine.AcquireLease(ctx, w, splitList(arg["Paths"]), d)
		}
		if err != nil {
			return nil, err
		}
		out["ID"], out["Expires"] = number(l.ID), stamp(l.Expires)
	case "ReleaseLease()":
		return out, p.engine.ReleaseLease(ctx, w, num("ID"))
	case "ListLeases()":
		for i, l := range p.engine.Leases() {
			q := "Lease." + strconv.Itoa(i+1) + "."
			out[q+"ID"], out[q+"Writer"], out[q+"Paths"] = number(l.ID), l.Writer, strings.Join(l.Paths, ",")
			out[q+"Expires"], out[q+"Contended"] = stamp(l.Expires), strconv.FormatBool(l.Contended)
		}
	case "ListOwners()":
		p.owners(out, arg["Path"], int(min(num("Offset"), 1<<30)), int(num("Limit")))
	case "ReleaseOwnership()":
		n, err := p.engine.ReleaseOwnership(ctx, w, arg["Path"])
		if err != nil {
			return nil, err
		}
		out["Count"] = strconv.Itoa(n)
	case "ListConflicts()":
		p.conflicts(out)
	case "AcknowledgeConflict()":
		if !p.engine.AcknowledgeConflict(num("ID")) {
			return nil, datamodel.Fail(datamodel.InvalidArgs, inv.Command, "no such conflict")
		}
	case "Thaw()":
		if w.Class != bridge.ClassUser && w.Class != bridge.ClassACS && w.Class != bridge.ClassMain {
			return nil, datamodel.Fail(datamodel.Denied, inv.Command, "not for class "+w.Class)
		}
		if !p.engine.Thaw(arg["Path"]) {
			return nil, datamodel.Fail(datamodel.InvalidArgs, inv.Command, "nothing is frozen there")
		}
	default:
		return p.policyCommand(ctx, name, inv)
	}
	return out, nil
}

func splitList(s string) []string {
	var out []string
	for _, item := range strings.Split(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

func (p *Provider) owners(out map[string]string, path string, offset, limit int) {
	if limit <= 0 || limit > maxListed {
		limit = maxListed
	}
	list, more := p.engine.Owners(path, offset, limit)
	for i, o := range list {
		q := "Owner." + strconv.Itoa(i+1) + "."
		var co []string
		for _, c := range o.CoOwners {
			co = append(co, c.Writer)
		}
		out[q+"Path"], out[q+"Writer"], out[q+"Class"], out[q+"Since"] = o.Path, o.Writer, o.Class, number(o.Rev)
		out[q+"CoWriters"], out[q+"Rule"] = strings.Join(co, ","), o.Rule
	}
	out["More"] = strconv.FormatBool(more)
}

func (p *Provider) conflicts(out map[string]string) {
	for i, c := range p.engine.Conflicts() {
		q := "Conflict." + strconv.Itoa(i+1) + "."
		out[q+"ID"], out[q+"First"], out[q+"Last"], out[q+"Path"] = number(c.ID), stamp(c.First), stamp(c.Last), c.Path
		out[q+"Loser"], out[q+"Winner"], out[q+"Verdict"], out[q+"Rule"] = c.Loser, c.Winner, c.Verdict, c.Rule
		out[q+"Count"], out[q+"Acknowledged"] = number(c.Count), strconv.FormatBool(c.Acknowledged)
	}
	for i, f := range p.engine.Frozen() {
		q := "Frozen." + strconv.Itoa(i+1) + "."
		out[q+"Path"], out[q+"Winner"], out[q+"Until"] = f.Path, f.Winner, stamp(f.Until)
	}
}

// policyCommand carries out what is about the policy file.
func (p *Provider) policyCommand(ctx context.Context, name string, inv datamodel.Invocation) (map[string]string, error) {
	if p.policy == nil {
		return nil, datamodel.Fail(datamodel.NotImplemented, inv.Command, "no policy file is configured")
	}
	out := map[string]string{}
	if name == "ExplainPolicy()" {
		return p.explain(out, inv)
	}
	var report policy.Report
	var findings []policy.Finding
	var err error
	if name == "ReloadPolicy()" {
		report, findings, err = p.policy.Reload(ctx)
	} else {
		report, findings, err = p.policy.Try(inv.Args["Text"])
	}
	if err != nil {
		return nil, &datamodel.Error{Reason: datamodel.CommandFailed, Path: inv.Command, Text: err.Error()}
	}
	out["Entries"], out["Judged"], out["Differ"] = strconv.Itoa(report.Entries), strconv.Itoa(report.Judged), strconv.Itoa(report.Differ)
	for i, d := range report.First {
		out["Difference."+strconv.Itoa(i+1)+".Text"] = d.String()
	}
	for i, f := range findings {
		out["Finding."+strconv.Itoa(i+1)+".Text"] = f.String()
	}
	return out, nil
}

func (p *Provider) explain(out map[string]string, inv datamodel.Invocation) (map[string]string, error) {
	path := inv.Args["Path"]
	if !strings.HasPrefix(path, "Device.") { // a resource
		class, v := p.policy.Policy().ExplainResource(p.engine.PhaseNow(), path, inv.Args["Writer"], bridge.ClassOf(inv.Args["Writer"]))
		out["Phase"], out["Class"], out["Rule"], out["Verdict"], out["Text"] = string(p.engine.PhaseNow()), class, v.Rule, v.Kind.String(), v.Text
		out["Queue"] = strconv.Itoa(v.Queue)
		return out, nil
	}
	if c, ok := datamodel.ToCanonical(datamodel.USP, path); ok {
		path = c
	}
	if _, ok := p.engine.Schema().Lookup(path); !ok {
		return nil, datamodel.Fail(datamodel.InvalidArgs, inv.Command, "no such path: "+path)
	}
	writer := inv.Args["Writer"]
	x := p.policy.Policy().Explain(p.engine.PhaseNow(), path, writer, bridge.ClassOf(writer))
	out["Phase"], out["Class"], out["Rule"] = string(x.Phase), x.Class, x.Rule.ID
	out["OnConflict"], out["Verdict"], out["Text"] = string(x.Rule.OnConflict), x.Fresh.Kind.String(), x.Fresh.Text
	if x.Within > 0 {
		out["ConfirmWithin"] = strconv.Itoa(int(x.Within.Seconds()))
	}
	for i, f := range x.Against {
		q := "Against." + strconv.Itoa(i+1) + "."
		out[q+"Owner"], out[q+"Verdict"], out[q+"Rule"] = f.Owner, f.Verdict.Kind.String(), f.Verdict.Rule
	}
	return out, nil
}
