package schemagen

import (
	"slices"
	"strings"

	"twinspan/datamodel"
)

// syntax reads the type and facets of a parameter. Where it refines a base parameter, facets it does not mention stay:
// "<string/>" for a parameter with enumerations keeps them. The default and the flags of the syntax element itself are
// always stated anew.
func (x *xmlReader) syntax(s xmlScope, r *Row, n *xmlNode) error {
	old := r.Facts
	f := datamodel.Facts{
		Access: old.Access, Version: old.Version, Status: old.Status,
		ForcedInform: old.ForcedInform, Mandatory: old.Mandatory, ActiveNotify: old.ActiveNotify,
		ListLen: old.ListLen, ListSize: old.ListSize, Size: old.Size, Range: old.Range, Enum: old.Enum,
		Patterns: old.Patterns, PathRef: old.PathRef, EnumRef: old.EnumRef, Units: old.Units,
		Hidden: n.attr["hidden"] == "true", Secured: n.attr["secured"] == "true", Command: n.attr["command"] == "true",
	}
	r.DefaultKind = ""
	typed := false
	for _, c := range n.children {
		switch c.name {
		case "list":
			if err := listFacets(&f, c); err != nil {
				return err
			}
		case "default":
			kind := c.attr["type"]
			if !slices.Contains([]string{"object", "factory", "parameter", "implementation"}, kind) {
				return c.errorf("unknown kind of default %q", kind)
			}
			r.DefaultKind, f.Default = kind, c.attr["value"]
		case "dataType":
			name := c.attr["ref"]
			if name == "" { // an anonymous restriction of a type says base
				name = c.attr["base"]
			}
			if err := x.namedType(s.doc, &f, c, name, 0); err != nil {
				return err
			}
			typed = true
		default:
			typ := slices.Index(typeNames[:], c.name)
			if typ < 0 {
				continue
			}
			f.Type, typed = datamodel.Type(typ), true
			if err := facets(&f, c); err != nil {
				return err
			}
		}
	}
	if !typed {
		return n.errorf("%s has no type", r.Path)
	}
	if !f.List {
		f.ListLen, f.ListSize = nil, nil
	}
	if f.List && strings.HasPrefix(f.Default, "[") && strings.HasSuffix(f.Default, "]") {
		f.Default = f.Default[1 : len(f.Default)-1]
	}
	r.Facts = f
	return nil
}

// namedType applies a named type, its base types first, then the facets at use.
func (x *xmlReader) namedType(doc *xmlDocument, f *datamodel.Facts, use *xmlNode, name string, depth int) error {
	d, def, err := x.resolve(doc, "dataType", name)
	if err != nil {
		return err
	}
	if def == nil || depth > 8 {
		return use.errorf("data type %q not found, or derived in a circle", name)
	}
	if base := def.attr["base"]; base != "" {
		if err := x.namedType(d, f, def, base, depth+1); err != nil {
			return err
		}
	}
	for _, c := range def.children {
		if typ := slices.Index(typeNames[:], c.name); typ >= 0 {
			f.Type = datamodel.Type(typ)
			if err := facets(f, c); err != nil {
				return err
			}
		}
	}
	if def.attr["base"] != "" {
		if err := facets(f, def); err != nil {
			return err
		}
	}
	f.Named = def.attr["name"]
	if depth == 0 {
		return facets(f, use)
	}
	return nil
}

// facets reads the children of a type; each kind of facet found replaces that of the type it is derived from.
func facets(f *datamodel.Facts, n *xmlNode) error {
	var sizes, ranges []datamodel.Range
	var words []datamodel.EnumValue
	var patterns []string
	enumerated := false
	for _, c := range n.children {
		switch c.name {
		case "list":
			if err := listFacets(f, c); err != nil {
				return err
			}
		case "size":
			r, err := lengths(c, "minLength", "maxLength")
			if err != nil {
				return err
			}
			sizes = append(sizes, r)
		case "range":
			r, err := lengths(c, "minInclusive", "maxInclusive")
			if err != nil {
				return err
			}
			step, err := c.number("step")
			if err != nil {
				return err
			}
			if step != nil {
				r.Step = *step
			}
			ranges = append(ranges, r)
		case "enumeration":
			enumerated = true
			status := c.attr["status"]
			if status == "deleted" {
				continue
			}
			words = append(words, datamodel.EnumValue{
				Value: c.attr["value"], Optional: c.attr["optional"] == "true",
				Deprecated: status == "deprecated" || status == "obsoleted",
			})
		case "enumerationRef":
			f.EnumRef = c.attr["targetParam"]
		case "pattern":
			patterns = append(patterns, c.attr["value"])
		case "pathRef":
			f.PathRef = &datamodel.PathRef{
				Strong: c.attr["refType"] == "strong", Target: c.attr["targetType"],
				Parents: strings.Fields(c.attr["targetParent"]),
			}
		case "units":
			f.Units = c.attr["value"]
		}
	}
	if sizes != nil {
		f.Size = sizes
	}
	if ranges != nil {
		f.Range = ranges
	}
	if enumerated {
		f.Enum = words
	}
	if patterns != nil {
		f.Patterns = patterns
	}
	return nil
}

func listFacets(f *datamodel.Facts, n *xmlNode) error {
	f.List = true
	items, err := lengths(n, "minItems", "maxItems")
	if err != nil {
		return err
	}
	if n.attr["minItems"] != "" || n.attr["maxItems"] != "" || f.ListSize == nil {
		f.ListSize = []datamodel.Range{items}
	}
	sized := false
	for _, c := range n.children {
		if c.name == "size" {
			r, err := lengths(c, "minLength", "maxLength")
			if err != nil {
				return err
			}
			if !sized {
				f.ListLen, sized = nil, true
			}
			f.ListLen = append(f.ListLen, r)
		}
	}
	return nil
}

// lengths reads a range; lengths and counts that say no minimum have 0.
func lengths(n *xmlNode, least, most string) (datamodel.Range, error) {
	var r datamodel.Range
	var err error
	if r.Min, err = n.number(least); err != nil {
		return r, err
	}
	if r.Max, err = n.number(most); err != nil {
		return r, err
	}
	if r.Min == nil && least != "minInclusive" {
		r.Min = new(int64)
	}
	return r, nil
}
