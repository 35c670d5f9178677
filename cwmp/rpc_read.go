package cwmp

import (
	"context"
	"slices"
	"strings"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
)

// maxAnswer bounds the entries of one answer: memory, not the standard, sets the limit. Beyond it fault 9004.
const maxAnswer = 200_000

var errTooMany = datamodel.Fail(datamodel.Resources, "", "more entries than one answer can hold; ask for a smaller part")

// resolve finds what a name of the ACS means: the empty string is the top, a partial path ends in a dot, wildcards stand for
// instances (TR-069 3.6.2). One name may give several matches only with wildcards.
func resolve(v *bridge.View, name string) ([]datamodel.Match, error) {
	if strings.ContainsAny(name, "{}()!#") {
		return nil, datamodel.Fail(datamodel.NotSupported, name, "")
	}
	if len(name) > 256 {
		return nil, datamodel.Fail(datamodel.NotSupported, cut(name, 64), "longer than 256 characters")
	}
	want := datamodel.WantParam
	if name == "" || strings.HasSuffix(name, ".") {
		want = datamodel.WantObject // GPN-08: an object without its dot is an invalid name
	}
	return v.Resolve(name, datamodel.ResolvePolicy{Want: want, MissingIsError: true, AllowTable: true, CWMPAlias: true})
}

// wireType is the xsi:type of a parameter (TR-069 A.2.1).
func wireType(p *datamodel.Param) soap.Type {
	f := p.Facts(datamodel.CWMP)
	if f == nil || f.List {
		return soap.String
	}
	switch f.Type {
	case datamodel.TypeBoolean:
		return soap.Boolean
	case datamodel.TypeInt:
		return soap.Int
	case datamodel.TypeUnsignedInt:
		return soap.UnsignedInt
	case datamodel.TypeLong:
		return soap.Long
	case datamodel.TypeUnsignedLong:
		return soap.UnsignedLong
	case datamodel.TypeDecimal:
		return soap.Decimal
	case datamodel.TypeDateTime:
		return soap.DateTime
	case datamodel.TypeBase64:
		return soap.Base64
	case datamodel.TypeHexBinary:
		return soap.HexBinary
	}
	return soap.String
}

// appendValues reads one match: a parameter, or everything below an object or table.
func appendValues(ctx context.Context, v *bridge.View, sp *speller, m datamodel.Match, out []soap.ParameterValue) ([]soap.ParameterValue, error) {
	if m.Param != nil {
		value, err := v.Value(ctx, m)
		if err != nil {
			return out, err
		}
		return append(out, soap.ParameterValue{Name: sp.path(m.Path), Value: sp.value(m.Param, value), Type: wireType(m.Param)}), nil
	}
	var failed error
	err := v.Objects(m, 0, func(o datamodel.Match) bool {
		at := sp.path(o.Path)
		failed = v.Params(ctx, o, func(p *datamodel.Param, value string) bool {
			out = append(out, soap.ParameterValue{Name: at + p.Name, Value: sp.value(p, value), Type: wireType(p)})
			return len(out) <= maxAnswer
		})
		if len(out) > maxAnswer {
			failed = errTooMany
		}
		return failed == nil
	})
	if failed != nil {
		err = failed
	}
	return out, err
}

// getParameterValues answers with every leaf that the names stand for; one bad name fails the call (TR-069 A.3.2.2). GPV-05
func (s *session) getParameterValues(ctx context.Context, m *soap.GetParameterValues) (soap.Message, error) {
	if len(m.ParameterNames) == 0 { // GPV-09
		return nil, soap.NewFault(soap.InvalidArguments, "ParameterNames is empty")
	}
	v := s.shield.View()
	out := make([]soap.ParameterValue, 0, len(m.ParameterNames))
	sp := newSpeller(ctx, v)
	for _, name := range m.ParameterNames {
		ms, err := resolve(v, name)
		if err != nil {
			return nil, err
		}
		for _, match := range ms {
			if out, err = appendValues(ctx, v, sp, match, out); err != nil {
				return nil, err
			}
		}
		if len(out) > maxAnswer {
			return nil, errTooMany
		}
	}
	return &soap.GetParameterValuesResponse{Count: len(out), Values: slices.Values(out)}, nil
}

// getParameterNames lists names (TR-069 A.3.2.3).
func (s *session) getParameterNames(ctx context.Context, m *soap.GetParameterNames) (soap.Message, error) {
	v := s.shield.View()
	ms, err := resolve(v, m.ParameterPath)
	if err != nil {
		return nil, err
	}
	n := namer{v: v, sp: newSpeller(ctx, v)}
	switch {
	case m.ParameterPath == "" && m.NextLevel: // the root object only
		n.add(ms[0])
	case !m.NextLevel:
		for _, match := range ms {
			n.below(match)
		}
	default:
		for _, match := range ms {
			if match.Param != nil { // GPN-06
				return nil, soap.NewFault(soap.InvalidArguments, "NextLevel asked for below a parameter")
			}
			n.children(match)
		}
	}
	if len(n.out) > maxAnswer {
		return nil, errTooMany
	}
	return &soap.GetParameterNamesResponse{Count: len(n.out), Names: slices.Values(n.out)}, nil
}

// namer gathers ParameterInfoStructs.
type namer struct {
	v   *bridge.View
	sp  *speller
	out []soap.ParameterInfo
}

func (n *namer) add(m datamodel.Match) {
	writable := false
	if m.Param != nil || m.Object.Multi { // a plain object is never writable
		writable = n.v.Writable(m)
	}
	n.out = append(n.out, soap.ParameterInfo{Name: n.sp.path(m.Path), Writable: writable})
}

func (n *namer) params(o datamodel.Match) {
	for _, p := range o.Object.Params {
		if p.Protocols.Has(datamodel.CWMP) {
			n.add(datamodel.Match{Path: o.Path + p.Name, Object: o.Object, Param: p})
		}
	}
}

// below lists m itself and everything under it. GPN-02, GPN-04
func (n *namer) below(m datamodel.Match) {
	if m.Param != nil { // GPN-05
		n.add(m)
		return
	}
	if m.Table {
		n.add(m)
	}
	n.v.Objects(m, 0, func(o datamodel.Match) bool {
		n.add(o)
		n.params(o)
		for _, c := range o.Object.Children {
			if c.Multi && c.Protocols.Has(datamodel.CWMP) {
				n.add(datamodel.Match{Path: childPath(o.Path, c), Object: c, Table: true})
			}
		}
		return len(n.out) <= maxAnswer
	})
}

// children lists what is directly under m, not m itself. GPN-03, GPN-09, GPN-10
func (n *namer) children(m datamodel.Match) {
	if m.Table {
		n.v.Objects(m, 1, func(row datamodel.Match) bool {
			n.add(row)
			return len(n.out) <= maxAnswer
		})
		return
	}
	n.params(m)
	for _, c := range m.Object.Children {
		if c.Protocols.Has(datamodel.CWMP) {
			n.add(datamodel.Match{Path: childPath(m.Path, c), Object: c, Table: c.Multi})
		}
	}
}

// childPath is the path of a child object or table in CWMP's spelling, from its parent's.
func childPath(parent string, c *datamodel.Object) string {
	if path, ok := datamodel.FromCanonical(datamodel.CWMP, canonicalPath(parent)+c.Name+"."); ok {
		return path
	}
	return parent + c.Name + "."
}

// getParameterAttributes lists the attributes of every leaf that the names stand for (TR-069 A.3.2.5). ATT-01, ATT-02
func (s *session) getParameterAttributes(ctx context.Context, m *soap.GetParameterAttributes) (soap.Message, error) {
	if len(m.ParameterNames) == 0 {
		return nil, soap.NewFault(soap.InvalidArguments, "ParameterNames is empty")
	}
	v := s.shield.View()
	var out []soap.ParameterAttribute
	sp := newSpeller(ctx, v)
	add := func(leaf datamodel.Match) {
		a := v.Attr(leaf)
		out = append(out, soap.ParameterAttribute{Name: sp.path(leaf.Path), Notification: notification(v, leaf), AccessList: a.AccessList})
	}
	for _, name := range m.ParameterNames {
		ms, err := resolve(v, name)
		if err != nil {
			return nil, err
		}
		for _, match := range ms {
			if match.Param != nil {
				add(match)
				continue
			}
			v.Objects(match, 0, func(o datamodel.Match) bool {
				for _, p := range o.Object.Params {
					if p.Protocols.Has(datamodel.CWMP) {
						add(datamodel.Match{Path: o.Path + p.Name, Object: o.Object, Param: p})
					}
				}
				return len(out) <= maxAnswer
			})
		}
		if len(out) > maxAnswer {
			return nil, errTooMany
		}
	}
	return &soap.GetParameterAttributesResponse{Count: len(out), Attributes: slices.Values(out)}, nil
}

// setParameterAttributes stores attributes, all or nothing, in the order of the list (TR-069 A.3.2.4). ATT-11, ATT-16
func (s *session) setParameterAttributes(ctx context.Context, m *soap.SetParameterAttributes, ref string) (soap.Message, error) {
	if len(m.ParameterList) == 0 {
		return nil, soap.NewFault(soap.InvalidArguments, "ParameterList is empty")
	}
	v := s.shield.View()
	change := bridge.Change{Ref: ref, Atomic: true}
	for _, a := range m.ParameterList {
		if strings.Contains(a.Name, "*") { // TR-069 3.6.2: wildcards are for reading
			return nil, soap.NewFault(soap.InvalidParameterName, "no wildcards here")
		}
		ms, err := resolve(v, a.Name)
		if err != nil {
			return nil, objectFault(err)
		}
		if !a.NotificationChange && !a.AccessListChange { // ATT-05
			continue
		}
		set := &bridge.AttrChange{}
		if a.NotificationChange {
			if fault := notificationAllowed(v, ms, a); fault != nil {
				return nil, fault
			}
			n := int8(a.Notification)
			set.Notification = &n
		}
		if a.AccessListChange { // ATT-12: stored as given
			list := slices.Clone(a.AccessList)
			set.AccessList = &list
		}
		path := a.Name
		if path == "" {
			path = v.Schema().Root().Path
		}
		change.Ops = append(change.Ops, bridge.Op{Kind: bridge.OpAttr, Path: path, Attr: set})
	}
	if len(change.Ops) > 0 {
		res, err := s.shield.Apply(ctx, change)
		if err := changeError(res, err); err != nil {
			return nil, objectFault(err)
		}
		// What is watched from now on has the value it has now, not the one that the session brings about.
		if err := s.c.call(ctx, func() error { s.c.changes.adopt(ctx, s.c.takeIn(ctx)); return nil }); err != nil {
			return nil, err
		}
	}
	return &soap.SetParameterAttributesResponse{}, nil
}

// notificationAllowed refuses what this device will not do: lightweight notifications, if its profile has no list of supported
// protocols (ATT-09), and active notification of counters and uptimes, which would open a session or send a datagram at
// every look (ATT-06). Passive notification is never refused. ATT-07
func notificationAllowed(v *bridge.View, ms []datamodel.Match, a soap.SetAttribute) *soap.Fault {
	if _, ok := v.Schema().Lookup(msPath + "LightweightNotificationProtocolsUsed"); (!ok || !reachBuilt) && lightweight(int(a.Notification)) {
		return soap.NewFault(soap.NotificationRejected, "lightweight notifications are not supported: "+cut(a.Name, 200))
	}
	if !active(int(a.Notification)) && !lightActive(int(a.Notification)) {
		return nil
	}
	refused := ""
	check := func(p *datamodel.Param, path string) {
		if refused == "" && counter(p) {
			refused = path
		}
	}
	for _, m := range ms {
		if m.Param != nil {
			check(m.Param, m.Path)
			continue
		}
		v.Objects(m, 0, func(o datamodel.Match) bool {
			for _, p := range o.Object.Params {
				check(p, o.Path+p.Name)
			}
			return refused == ""
		})
	}
	if refused != "" {
		return soap.NewFault(soap.NotificationRejected, "active notification of a counter: "+cut(refused, 200))
	}
	return nil
}

// counter reports whether active notification of p may be denied and makes no sense.
func counter(p *datamodel.Param) bool {
	f := p.Facts(datamodel.CWMP)
	if f == nil || f.ActiveNotify != "canDeny" || f.Access != datamodel.ReadOnly {
		return false
	}
	switch f.Named {
	case "StatsCounter32", "StatsCounter64":
		return true
	}
	return p.Name == "UpTime" || p.Name == "Uptime" || p.Name == "LastChange"
}
