package datamodel

import (
	"reflect"
	"strings"
	"testing"
)

func name(n string) Step        { return Step{Kind: StepName, Name: n} }
func inst(n uint32) Step        { return Step{Kind: StepInstance, N: n} }
func expr(c ...Comparison) Step { return Step{Kind: StepExpr, Expr: c} }

func TestParsePath(t *testing.T) {
	dev := name("Device")
	tests := []struct {
		in     string
		kind   PathKind
		steps  []Step
		search bool
	}{
		{"", ObjectPath, nil, false},
		{"Device.", ObjectPath, []Step{dev}, false},
		{"Device.IP.Interface.1.Enable", ParamPath, []Step{dev, name("IP"), name("Interface"), inst(1), name("Enable")}, false},
		{"Device.IP.Interface.4294967295.", ObjectPath, []Step{dev, name("IP"), name("Interface"), inst(4294967295)}, false},
		{"Device.Reboot()", CommandPath, []Step{dev, name("Reboot()")}, false},
		{"Device.Boot!", EventPath, []Step{dev, name("Boot!")}, false},
		{"Device.X_EXAMPLE-COM_Foo.", ObjectPath, []Step{dev, name("X_EXAMPLE-COM_Foo")}, false},
		{"Device.IP.Interface.*.Status", ParamPath, []Step{dev, name("IP"), name("Interface"), {Kind: StepAny}, name("Status")}, true},
		{"Device.IP.Interface.{i}.", ObjectPath, []Step{dev, name("IP"), name("Interface"), {Kind: StepTemplate}}, false},
		{"Device.IP.Interface.[cpe-wan.1].Enable", ParamPath,
			[]Step{dev, name("IP"), name("Interface"), {Kind: StepAlias, Name: "cpe-wan.1"}, name("Enable")}, false},
		{`A.[B=="x.y]&&z"].C`, ParamPath, []Step{name("A"),
			expr(Comparison{Param: []Step{name("B")}, Op: OpEq, Const: "x.y]&&z", Quoted: true}), name("C")}, true},
		{`A.[ B.C != true && D<=5&&E>-3 ].`, ObjectPath, []Step{name("A"), expr(
			Comparison{Param: []Step{name("B"), name("C")}, Op: OpNe, Const: "true"},
			Comparison{Param: []Step{name("D")}, Op: OpLe, Const: "5"},
			Comparison{Param: []Step{name("E")}, Op: OpGt, Const: "-3"})}, true},
		{`A.[L~="a%22b%2525"].`, ObjectPath, []Step{name("A"),
			expr(Comparison{Param: []Step{name("L")}, Op: OpHas, Const: `a"b%25`, Quoted: true})}, true},
		{`A.[B==""].`, ObjectPath, []Step{name("A"), expr(Comparison{Param: []Step{name("B")}, Op: OpEq, Quoted: true})}, true},
		{`A.[R#2+.S<2026-01-31T10:00:00Z].`, ObjectPath, []Step{name("A"), expr(Comparison{
			Param: []Step{{Kind: StepFollow, Name: "R", N: 2}, name("S")}, Op: OpLt, Const: "2026-01-31T10:00:00Z"})}, true},
		{"A.1.Ref+.B", ParamPath, []Step{name("A"), inst(1), {Kind: StepFollow, Name: "Ref", N: 1}, name("B")}, false},
		{"A.1.Ref#3+.", ObjectPath, []Step{name("A"), inst(1), {Kind: StepFollow, Name: "Ref", N: 3}}, false},
		{"A.1.Ref#*+.B", ParamPath, []Step{name("A"), inst(1), {Kind: StepFollow, Name: "Ref", N: 0}, name("B")}, true},
		{"Enable", ParamPath, []Step{name("Enable")}, false},
	}
	for _, tt := range tests {
		p, err := ParsePath(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if p.Kind != tt.kind || !reflect.DeepEqual(p.Steps, tt.steps) || p.String() != tt.in || p.IsSearch() != tt.search {
			t.Errorf("%s: kind %d search %v steps %+v", tt.in, p.Kind, p.IsSearch(), p.Steps)
		}
	}
}

func TestParsePathErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{".", "expected a name at byte 0, found '.'"},
		{"Device..", "byte 7, found '.'"},
		{"Device.IP.Interface.1", "a dot after an instance number at byte 21, found the end"},
		{"Device.IP.Interface.*", "a dot after a wildcard"},
		{"Device.IP.Interface.0.", "from 1 to 4294967295 without leading zeros at byte 20"},
		{"Device.IP.Interface.01.", "without leading zeros"},
		{"Device.IP.Interface.4294967296.", "from 1 to 4294967295"},
		{"Device.IP.Interface.1.2.", "a name after an instance number at byte 22"},
		{"Device.IP.Interface.1x.", "a dot or the end of the path at byte 21, found 'x'"},
		{"1.", "a name at byte 0"},
		{"Device.Reboot().", "() at the end of the path at byte 13"},
		{"Device.Reboot(", "() at the end"},
		{"Device.Boot!.", "the end of the path after an event name at byte 12"},
		{"Device.A.{j}.", "{i} at byte 9"},
		{"Device.A.{i}", "a dot after {i}"},
		{"Device.A.[]", "a parameter name at byte 10, found ']'"},
		{"Device.A.[1a].", "a parameter name at byte 10"},
		{"Device.A.[B=1].", "one of == != ~= <= >= < > at byte 11, found '='"},
		{"Device.A.[B==].", "a constant at byte 13"},
		{`Device.A.[B=="x].`, `a closing " at byte 17, found the end`},
		{`Device.A.[B=="x"&C==1].`, "&& or ] at byte 16"},
		{`Device.A.[B=="x"||C==1].`, "&& or ] at byte 16"},
		{`Device.A.[B==1`, "&& or ] at byte 14, found the end"},
		{`Device.A.[B.1.C==1].`, "a parameter name at byte 12, found '1'"},
		{`Device.A.[B+==1].`, "a dot after a followed reference at byte 12"},
		{"Device.A.Ref#0+.", "a reference number from 1 or *"},
		{"Device.A.Ref#+.", "a reference number from 1 or *"},
		{"Device.A.Ref#1.", "+ at byte 14"},
		{"Device.A.Ref+", "a dot after a followed reference"},
		{"Device.A b", "byte 8, found ' '"},
		{"Device.\xff", "byte 0xFF"},
		{strings.Repeat("A.", 65), "at most 64 elements"},
		{"A.[" + strings.Repeat("B==1&&", 16) + "B==1].", "at most 16 comparisons"},
		{strings.Repeat("A", MaxPathLen+1), "at most 1024 are accepted"},
	}
	for _, tt := range tests {
		_, err := ParsePath(tt.in)
		if ReasonOf(err) != PathSyntax || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: got %v, want ...%s...", tt.in, err, tt.want)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{
		"", "Device.", "Device.IP.Interface.1.Enable", "Device.IP.Interface.*.Status", "Device.Reboot()", "Device.Boot!",
		`Device.A.[B=="x.y]&&z%22"&&C.D>=-1].E`, "Device.A.{i}.", "Device.A.[alias-1].B", "A.1.Ref#*+.B", `A.[R+.S==true].`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			if ReasonOf(err) != PathSyntax {
				t.Fatalf("reason of %v", err)
			}
			return
		}
		if p.String() != s {
			t.Fatalf("raw text changed: %q", p.String())
		}
		// Writing the steps again must give a path with the same meaning.
		if len(writePath(p)) > MaxPathLen { // escapes made it longer than a path may be
			return
		}
		q, err := ParsePath(writePath(p))
		if err != nil {
			t.Fatalf("%q -> %q: %v", s, writePath(p), err)
		}
		if q.Kind != p.Kind || !reflect.DeepEqual(q.Steps, p.Steps) {
			t.Fatalf("%q -> %q: %+v != %+v", s, writePath(p), p.Steps, q.Steps)
		}
	})
}

// writePath writes a path from its steps: the test's own inverse of the parser.
func writePath(p Path) string {
	var b strings.Builder
	for i, st := range p.Steps {
		if i > 0 {
			b.WriteByte('.')
		}
		writeStep(&b, st)
	}
	if len(p.Steps) > 0 && p.Kind == ObjectPath {
		b.WriteByte('.')
	}
	return b.String()
}

func writeStep(b *strings.Builder, st Step) {
	switch st.Kind {
	case StepName:
		b.WriteString(st.Name)
	case StepInstance:
		b.WriteString(utoa(st.N))
	case StepAny:
		b.WriteByte('*')
	case StepTemplate:
		b.WriteString("{i}")
	case StepAlias:
		b.WriteString("[" + st.Name + "]")
	case StepFollow:
		b.WriteString(st.Name + "#")
		if st.N == 0 {
			b.WriteString("*+")
		} else {
			b.WriteString(utoa(st.N) + "+")
		}
	case StepExpr:
		b.WriteByte('[')
		for i, c := range st.Expr {
			if i > 0 {
				b.WriteString("&&")
			}
			for j, s := range c.Param {
				if j > 0 {
					b.WriteByte('.')
				}
				writeStep(b, s)
			}
			b.WriteString(c.Op.String())
			if c.Quoted {
				b.WriteString(`"` + strings.NewReplacer("%", "%25", `"`, "%22").Replace(c.Const) + `"`)
			} else {
				b.WriteString(c.Const)
			}
		}
		b.WriteByte(']')
	}
}

func utoa(n uint32) string {
	if n == 0 {
		return "0"
	}
	var d []byte
	for ; n > 0; n /= 10 {
		d = append([]byte{byte('0' + n%10)}, d...)
	}
	return string(d)
}
