package datamodel

import "testing"

func lookupSchema() *Schema {
	f := &Facts{}
	object := func(parent *Object, name string, multi bool) *Object {
		o := &Object{Name: name, Path: parent.Path + name + ".", Multi: multi, Parent: parent, Protocols: Both}
		if multi {
			o.Path += "{i}."
		}
		parent.Children = append(parent.Children, o)
		return o
	}
	root := &Object{Name: "Device", Path: "Device.", Protocols: Both}
	a := object(root, "A", true)
	sub := object(a, "Sub", true)
	object(root, "Single", false).Params = []*Param{NewParam("P", f, f)}
	sub.Params = []*Param{NewParam("P", f, nil), NewParam("Q", nil, f)}
	sub.Commands = []*Command{{Name: "Go()", Object: sub}}
	sub.Events = []*Event{{Name: "Gone!", Object: sub}}
	return NewSchema("Device", "1", root)
}

func TestLookup(t *testing.T) {
	s := lookupSchema()
	for _, c := range []struct {
		path, object, leaf string
		table              bool
	}{
		{"Device.", "Device.", "", false},
		{"Device.Single.", "Device.Single.", "", false},
		{"Device.Single.P", "Device.Single.", "P", false},
		{"Device.A.", "Device.A.{i}.", "", true},
		{"Device.A.{i}.", "Device.A.{i}.", "", false},
		{"Device.A.4294967295.", "Device.A.{i}.", "", false},
		{"Device.A.7.Sub.", "Device.A.{i}.Sub.{i}.", "", true},
		{"Device.A.7.Sub.{i}.P", "Device.A.{i}.Sub.{i}.", "P", false},
		{"Device.A.7.Sub.3.Q", "Device.A.{i}.Sub.{i}.", "Q", false},
		{"Device.A.7.Sub.3.Go()", "Device.A.{i}.Sub.{i}.", "Go()", false},
		{"Device.A.7.Sub.3.Gone!", "Device.A.{i}.Sub.{i}.", "Gone!", false},
	} {
		m, ok := s.Lookup(c.path)
		if !ok || m.Object.Path != c.object || m.Table != c.table || m.Path != c.path {
			t.Errorf("%s: %v %+v", c.path, ok, m)
			continue
		}
		leaf, set := "", 0
		if m.Param != nil {
			leaf, set = m.Param.Name, set+1
		}
		if m.Command != nil {
			leaf, set = m.Command.Name, set+1
		}
		if m.Event != nil {
			leaf, set = m.Event.Name, set+1
		}
		if leaf != c.leaf || set > 1 {
			t.Errorf("%s: leaf %q", c.path, leaf)
		}
	}
	for _, path := range []string{
		"", "Device", "device.", "Devices.", "Device.B.", "Device.Single", "Device.A", "Device.A.0.", "Device.A.01.",
		"Device.A.4294967296.", "Device.A.1", "Device.A.*.", "Device.A.[x].", "Device.A.{i}", "Device.A.P", "Device.Single.1.P",
		"Device.A.1.Sub.1.R", "Device.A.1.Sub.1.Go", "Device.A.1.Sub.1.Gone()", "Device..", "Device.Single..", "Device.A..",
	} {
		if m, ok := s.Lookup(path); ok {
			t.Errorf("%q is found: %+v", path, m)
		}
	}
	if _, ok := (*Schema)(nil).Lookup("Device."); ok {
		t.Error("nothing is found in no schema")
	}
}

func TestSplitParamAndSupportedPath(t *testing.T) {
	for _, c := range [][3]string{
		{"Device.A.1.B", "Device.A.1.", "B"}, {"Device.A.1.", "Device.A.1.", ""}, {"Device.Reboot()", "Device.", "Reboot()"},
		{"B", "", "B"}, {"", "", ""},
	} {
		if object, name := SplitParam(c[0]); object != c[1] || name != c[2] {
			t.Errorf("SplitParam(%q) = %q, %q", c[0], object, name)
		}
	}
	for path, want := range map[string]string{
		"Device.A.1.B":              "Device.A.{i}.B",
		"Device.A.1.":               "Device.A.{i}.",
		"Device.A.1.B.4294967295.C": "Device.A.{i}.B.{i}.C",
		"Device.A.{i}.B.2.C":        "Device.A.{i}.B.{i}.C",
		"Device.A.B":                "Device.A.B",
		"Device.IEEE8021x.1.X":      "Device.IEEE8021x.{i}.X",
		"Device.A.01.B":             "Device.A.01.B",
		"Device.A.6to4.B":           "Device.A.6to4.B",
		"Device.A.99999999999.B":    "Device.A.99999999999.B",
		"Device.A.1":                "Device.A.{i}",
		"":                          "",
	} {
		if got := SupportedPath(path); got != want {
			t.Errorf("SupportedPath(%q) = %q, expected %q", path, got, want)
		}
	}
	path := "Device.IP.Interface.{i}.Enable"
	if n := testing.AllocsPerRun(100, func() { SupportedPath(path) }); n != 0 {
		t.Errorf("SupportedPath of a supported path allocates %v times", n)
	}
}
