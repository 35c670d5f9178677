package schemagen

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181/compact"
)

var types = []string{"testdata/types"}

func xmlRows(t testing.TB) []Row {
	t.Helper()
	cwmp, usp := XMLRoots("testdata/model")
	rows, err := ReadXML(cwmp, types, datamodel.CWMP, nil)
	if err != nil {
		t.Fatal(err)
	}
	uspRows, err := ReadXML(usp, types, datamodel.USP, nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(rows, uspRows...)
}

func tableRows(t testing.TB) []Row {
	t.Helper()
	rows, err := ReadTableFile("testdata/model.tsv")
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func compile(t testing.TB, rows []Row) []byte {
	t.Helper()
	s, err := Build("Device", "9.1", rows)
	if err != nil {
		t.Fatal(err)
	}
	data, err := compact.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestXMLAndTableGiveTheSame(t *testing.T) {
	err := Diff("table", tableRows(t), "xml", xmlRows(t), func(line string) { t.Error(line) })
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(compile(t, tableRows(t)), compile(t, xmlRows(t))) {
		t.Error("the compiled forms differ")
	}
}

func TestDiffSeesEverything(t *testing.T) {
	a, b := tableRows(t), tableRows(t)
	for i := range b {
		switch b[i].Path {
		case "Device.Net.Port.{i}.Number":
			b[i].Facts.Units = "pots"
		case "Device.RootDataModelVersion":
			b[i].Path = "Device.Version"
		}
	}
	var lines []string
	if err := Diff("a", a, "b", b, func(line string) { lines = append(lines, line) }); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 6 || !strings.Contains(lines[0], "constraints") { // twice each: CWMP and USP
		t.Errorf("differences:\n%s", strings.Join(lines, "\n"))
	}
}

func TestBuiltSchema(t *testing.T) {
	s, err := Build("Device", "9.1", xmlRows(t))
	if err != nil {
		t.Fatal(err)
	}
	param := func(path string, proto datamodel.Protocol) *datamodel.Facts {
		t.Helper()
		m, ok := s.Lookup(path)
		if !ok || m.Param == nil || m.Param.Facts(proto) == nil {
			t.Fatalf("%s is not there for %s", path, proto)
		}
		return m.Param.Facts(proto)
	}
	if f := param("Device.LocalAgent.Controller.{i}.Via", datamodel.CWMP); f.PathRef.Parents[0] != "Device.LocalAgent.Controller." {
		t.Errorf("a reference of Device.USPAgent. is not canonical: %v", f.PathRef.Parents)
	}
	if f := param("Device.ManagementServer.EnableCWMP", datamodel.USP); !f.FactoryOnly || f.Default != "true" {
		t.Errorf("EnableCWMP: %+v", f)
	}
	if m, _ := s.Lookup("Device.ManagementServer.Password"); m.Param.Protocols != datamodel.CWMP || !m.Param.Any().Secured {
		t.Error("Password is a CWMP secret")
	}
	if f := param("Device.Net.Port.{i}.Address", datamodel.USP); len(f.Patterns) != 2 || f.Patterns[1] != `([0-9]+\.){3}[0-9]+` {
		t.Errorf("entities in patterns: %q", f.Patterns)
	}
	if f := param("Device.Net.Port.{i}.LowerLayers", datamodel.USP); f.PathRef == nil || len(f.ListLen) != 1 || !f.HasDefault {
		t.Errorf("facets of the refined parameter are lost: %+v", f)
	}
	if _, ok := s.Lookup("Device.Net.Port.{i}.Old.Below"); ok {
		t.Error("what is below a deleted object is deleted")
	}
	m, ok := s.Lookup("Device.Net.Ping()")
	if !ok || !m.Command.Async || len(m.Command.Inputs) != 2 || len(m.Command.Outputs) != 4 {
		t.Fatalf("command %+v", m.Command)
	}
	if in := m.Command.Inputs[0]; in.Name != "Host" || !in.Facts.Mandatory || in.Facts.Access != datamodel.ReadWrite {
		t.Errorf("input %+v", in)
	}
	if !bytes.Equal(compile(t, RowsOf(s)), compile(t, xmlRows(t))) {
		t.Error("RowsOf loses something")
	}
}

func TestTableRoundTrip(t *testing.T) {
	rows, err := Canonical(xmlRows(t))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := WriteTable(&text, rows); err != nil {
		t.Fatal(err)
	}
	again, err := ReadTable(bytes.NewReader(text.Bytes()), "again")
	if err != nil {
		t.Fatal(err)
	}
	var second bytes.Buffer
	if err := WriteTable(&second, again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text.Bytes(), second.Bytes()) {
		t.Error("a table read and written again differs")
	}
}

func TestVendorExtension(t *testing.T) {
	base, err := Build("Device", "9.1", tableRows(t))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s, err := Import(&out, base, []string{"testdata/vendor.xml"}, types, datamodel.Both)
	if err != nil {
		t.Fatal(err)
	}
	m, ok := s.Lookup("Device.Net.X_EXAMPLE_Lamp.3.Port")
	if !ok || m.Param.Protocols != datamodel.Both || !slices.Equal(m.Param.Any().PathRef.Parents, []string{"Device.Net.Port."}) {
		t.Errorf("vendor table: %v %+v", ok, m.Param)
	}
	if m.Object.MaxEntries != 8 || len(m.Object.Keys) != 1 || !m.Object.Keys[0].Functional {
		t.Errorf("vendor object: %+v", m.Object)
	}
	if m, ok := s.Lookup("Device.Net.Port.1.X_EXAMPLE_Colour"); !ok || m.Param.Any().Default != "Red" {
		t.Error("vendor parameter in a standard object is missing")
	}
	if m, _ := s.Lookup("Device.Net.Port.1.Number"); m.Param.Any().Access != datamodel.ReadOnly || m.Param.Any().Units != "ports" {
		t.Errorf("refined standard parameter: %+v", m.Param.Any())
	}
	decoded, err := compact.Decode(out.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := decoded.Lookup("Device.LocalAgent.Controller.1.Via"); !ok {
		t.Error("the base is gone")
	}

	one, err := Import(&bytes.Buffer{}, base, []string{"testdata/vendor.xml"}, types, datamodel.USP)
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := one.Lookup("Device.Net.Port.1.X_EXAMPLE_Colour"); m.Param.Protocols != datamodel.USP {
		t.Error("an extension for USP alone shows in CWMP")
	}
	if m, _ := one.Lookup("Device.Net.Port.1.Number"); m.Param.Facts(datamodel.CWMP).Access != datamodel.ReadWrite {
		t.Error("an extension for USP alone changes CWMP")
	}
}

func TestPublishedFileNames(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "tr-999-1-2-0-part.xml", `<document><component name="C"><parameter name="Old"><syntax><string/></syntax></parameter></component></document>`)
	write(t, dir, "tr-999-1-2-10-part.xml", `<document><component name="C"><parameter name="New"><syntax><string/></syntax></parameter></component></document>`)
	write(t, dir, "tr-999-1-2-9-part.xml", `<document/>`)
	write(t, dir, "root.xml", `<document>
		<import file="tr-999-1-part.xml" spec="urn:broadband-forum-org:tr-999-1-2-part"><component name="C"/></import>
		<model name="M:1.2"><object name="Device." access="readOnly"><component ref="C"/></object></model></document>`)
	rows, err := ReadXML(filepath.Join(dir, "root.xml"), nil, datamodel.USP, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || rows[1].Path != "Device.New" {
		t.Errorf("rows %+v", rows)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestXMLErrorsNameTheLine(t *testing.T) {
	model := func(inside string) string {
		return "<document>\n<component name=\"Loop\"><component ref=\"Loop\"/></component>\n" +
			"<dataType name=\"Ring\" base=\"Ring\"/>\n<model name=\"M\">\n<object name=\"Device.\">\n" + inside + "\n</object></model></document>"
	}
	parameter := func(syntax string) string {
		return model(`<parameter name="P"><syntax>` + syntax + `</syntax></parameter>`)
	}
	for _, c := range []struct{ name, text, want string }{
		{"not XML", "Device.", "not a data-model document"},
		{"cut", "<document><model name=\"M\">", "unexpected EOF"},
		{"other document", "<html></html>", "not a data-model document"},
		{"no model", "<document></document>", "no model"},
		{"component", model(`<component ref="None"/>`), `root.xml:6: <component>: component "None" not found`},
		{"circle of components", model(`<component ref="Loop"/>`), "components contain each other"},
		{"base", model(`<parameter base="None"/>`), `base element "Device.None" does not exist`},
		{"twice", model(`<parameter name="P"><syntax><string/></syntax></parameter><parameter name="P"/>`), "defined twice"},
		{"access", model(`<parameter name="P" access="always"/>`), `unknown access "always"`},
		{"status", model(`<parameter name="P" status="maybe"/>`), `unknown status "maybe"`},
		{"entries", model(`<object name="T.{i}." maxEntries="-1"/>`), `maxEntries="-1" is not a number`},
		{"type", parameter(`<dataType ref="None"/>`), `data type "None" not found`},
		{"circle of types", parameter(`<dataType ref="Ring"/>`), "derived in a circle"},
		{"no type", parameter(`<float/>`), "has no type"},
		{"range", parameter(`<int><range minInclusive="low"/></int>`), `minInclusive="low" is not a number`},
		{"default", parameter(`<int/><default type="mine" value="3"/>`), `unknown kind of default "mine"`},
		{"import of a path", `<document><import file="../x.xml"><component name="C"/></import><model name="M"><component ref="C"/></model></document>`,
			"a plain file name is needed"},
		{"missing import", `<document><import file="x.xml"><component name="C"/></import><model name="M"><component ref="C"/></model></document>`,
			`imported file "x.xml" is in none of`},
		{"import circle", `<document><import file="root.xml"><component name="C"/></import><model name="M"><component ref="C"/></model></document>`,
			"imported in a circle"},
		{"base model", `<document><model name="M" base="N"></model></document>`, `base model "N" not found`},
		{"deep", strings.Repeat("<document>", 100), "64 levels"},
		{"unknown entity", `<document a="&lol;"/>`, "entity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "root.xml", c.text)
			_, err := ReadXML(filepath.Join(dir, "root.xml"), nil, datamodel.USP, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "root.xml") {
				t.Errorf("error %v, expected %s", err, c.want)
			}
		})
	}
}

func TestTableErrorsNameTheLine(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"cu\tDevice.", "2 columns"},
		{"x\tDevice.A\tparam\t\tstring\t\t\t\t\t", "unknown protocol"},
		{"\tDevice.A\tparam\t\tstring\t\t\t\t\t", "no protocol"},
		{"u\tDevice.A\tthing\t\tstring\t\t\t\t\t", "unknown kind"},
		{"u\tDevice.A\tparam\talways\tstring\t\t\t\t\t", "unknown access"},
		{"u\tDevice.A\tparam\t\tfloat\t\t\t\t\t", "unknown type"},
		{"u\tDevice.A()\tcommand\t\tlater\t\t\t\t\t", "sync or async"},
		{"u\tDevice.A\tparam\t\tstring\tsize=5\t\t\t\t", "has no .."},
		{"u\tDevice.A\tparam\t\tstring\tsize=a..b\t\t\t\t", "invalid syntax"},
		{"u\tDevice.A\tparam\t\tstring\tcolour=red\t\t\t\t", "unknown constraint"},
		{"u\tDevice.A\tparam\t\tstring\tpathRef=Device.\t\t\t\t", "strength:target:parents"},
		{"u\tDevice.A\tparam\t\tstring\t\tred\t\t\t", "has no kind"},
		{"u\tDevice.A\tparam\t\tstring\t\tmine=red\t\t\t", "unknown kind of default"},
		{"u\tDevice.A\tparam\t\tstring\t\t\t\tmaybe\t", "unknown status"},
		{"u\tDevice.A\tparam\t\tstring\t\t\t\t\tcolour=red", "unknown extra"},
		{"u\tDevice.A.\tobject\t\t\t\t\t\t\tminEntries=x", "invalid syntax"},
	} {
		_, err := ReadTable(strings.NewReader(tableHeader+"\n"+c.line+"\n"), "t.tsv")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "t.tsv:2") {
			t.Errorf("%q: error %v, expected %s", c.line, err, c.want)
		}
	}
}

func TestBuildErrors(t *testing.T) {
	root := "cu\tDevice.\tobject\treadOnly\t\t\t\t\t\t\n"
	for _, c := range []struct{ rows, want string }{
		{"cu\tDevice.A.\tobject\t\t\t\t\t\t\t\n", "no object Device. above it"},
		{"", "no object Device."},
		{root + "cu\tOther.A\tparam\t\tstring\t\t\t\t\t\n", "not below Device."},
		{root + "cu\tDevice.A.B\tparam\t\tstring\t\t\t\t\t\n", "no object Device.A."},
		{root + root, "described twice"},
		{root + "c\tDevice.Go()\tcommand\t\tsync\t\t\t\t\t\n", "commands exist in USP only"},
		{root + "u\tDevice.Go() input A\tinput\t\tstring\t\t\t\t\t\n", "no command Device.Go()"},
		{root + "u\tDevice.Go! arg A\teventarg\t\tstring\t\t\t\t\t\n", "no event Device.Go!"},
		{root + "c\tDevice.A\tparam\t\tstring\t\t\t\t\t\nu\tDevice.A\tparam\t\tint\t\t\t\t\t\n", "different types"},
		{root + "c\tDevice.A.\tobject\t\t\t\t\t\t\t\nu\tDevice.A.{i}.\tobject\t\t\t\t\t\t\t\n", "a table for one protocol"},
		{root + "u\tDevice.A.{i}.\tobject\t\t\t\t\t\t\tkeyF=Gone\n", "unique key parameter Gone"},
		{root + "u\tDevice.A.{i}.\tobject\t\t\t\t\t\t\tnumEntriesParameter=Gone\n", "parameter Gone does not exist above"},
		{root + "u\tDevice.A.{i}.\tobject\t\t\t\t\t\t\tenableParameter=Gone\n", "enable parameter Gone"},
		{root + "u\tDevice.A\tparam\t\tstring\tpathRef=weak:row:###.B.\t\t\t\t\n", "leads above the root"},
	} {
		rows, err := ReadTable(strings.NewReader(c.rows), "t.tsv")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Build("Device", "1", rows); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, expected %s", c.rows, err, c.want)
		}
	}
}

func FuzzReadTable(f *testing.F) {
	text, err := os.ReadFile("testdata/model.tsv")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := ReadTable(strings.NewReader(text), "t.tsv")
		if err != nil {
			return
		}
		s, err := Build("Device", "1", rows)
		if err != nil {
			return
		}
		data, err := compact.Encode(s)
		if err != nil {
			return
		}
		if _, err := compact.Decode(string(data), nil); err != nil {
			t.Fatalf("what was built cannot be decoded: %v", err)
		}
	})
}

func FuzzReadXML(f *testing.F) {
	for _, name := range []string{"model/part.xml", "model/tr-181-2-usp.xml", "vendor.xml", "types/tr-106-types.xml"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	file := filepath.Join(f.TempDir(), "root.xml")
	f.Fuzz(func(t *testing.T, text string) {
		root, err := parseXML(strings.NewReader(text), file)
		if err != nil {
			return
		}
		if root.name != "document" {
			t.Fatal("accepted without a document")
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		rows, err := ReadXML(file, types, datamodel.USP, nil)
		if err == nil {
			_, _ = Build("Device", "1", rows) // any error will do
		}
	})
}

func TestVendorRootOnTopOfTheStandards(t *testing.T) {
	rows, err := ReadXML("testdata/vendor-usp.xml", []string{"testdata/model", "testdata/types"}, datamodel.USP, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Build("Device", "9.1", rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"Device.X_EXAMPLE_Slot.1.Alias", "Device.Net.Port.1.Alias"} {
		m, ok := s.Lookup(path)
		if !ok || m.Param.Any().Access != datamodel.WriteOnceReadOnly || m.Param.Any().Named != "Alias" {
			t.Errorf("%s: %v %+v", path, ok, m.Param)
		}
	}
	if _, ok := s.Lookup("Device.X_EXAMPLE_Slot.1.Eject()"); !ok {
		t.Error("the vendor's command is missing")
	}
}
