package tr181

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"twinspan/datamodel"
	"twinspan/datamodel/schemagen"
	"twinspan/datamodel/tr181/compact"
)

// unpacked is the embedded model, as the tests compare it.
var unpacked = func() string {
	text, err := device()
	if err != nil {
		panic(err)
	}
	return text
}()

const tableFile = "device-2.19.tsv"

func tableRows(t testing.TB) []schemagen.Row {
	t.Helper()
	rows, err := schemagen.ReadTableFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func compile(t testing.TB, rows []schemagen.Row) []byte {
	t.Helper()
	s, err := schemagen.Build("Device", "2.19", rows)
	if err != nil {
		t.Fatal(err)
	}
	data, err := compact.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestGeneratedFormIsCurrent is what "go generate && git diff --exit-code" would find.
func TestGeneratedFormIsCurrent(t *testing.T) {
	if !bytes.Equal(compile(t, tableRows(t)), []byte(unpacked)) {
		t.Fatalf("device-2.19.bin.z is not made from %s: run go generate ./datamodel/tr181", tableFile)
	}
}

func TestTableIsCanonical(t *testing.T) {
	rows, err := schemagen.Canonical(tableRows(t))
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := schemagen.WriteTable(&again, rows); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), have) {
		t.Errorf("%s changes when it is read and written again", tableFile)
	}
}

// TestXMLGivesTheSameForm compiles the Broadband Forum's own documents, which are not part of this repository. It runs
// where TWINSPAN_TR181_XML names the directory of tr-181-2-cwmp.xml and tr-181-2-usp.xml, and TWINSPAN_TR106_XML that
// of tr-106-types.xml; a synthetic pair is compared in schemagen on every machine.
func TestXMLGivesTheSameForm(t *testing.T) {
	dir := os.Getenv("TWINSPAN_TR181_XML")
	if dir == "" {
		t.Skip("TWINSPAN_TR181_XML does not name the Broadband Forum's XML, which may not be copied here")
	}
	cwmp, usp := schemagen.XMLRoots(dir)
	imports := []string{os.Getenv("TWINSPAN_TR106_XML")}
	rows, err := schemagen.ReadXML(cwmp, imports, datamodel.CWMP, nil)
	if err != nil {
		t.Fatal(err)
	}
	uspRows, err := schemagen.ReadXML(usp, imports, datamodel.USP, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows = append(rows, uspRows...)
	err = schemagen.Diff("table", tableRows(t), "xml", rows, func(line string) { t.Error(line) })
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(compile(t, rows), []byte(unpacked)) {
		t.Error("the compiled XML differs from the embedded model")
	}
}

func TestSchemaCanBeTakenApartAndBuiltAgain(t *testing.T) {
	if !bytes.Equal(compile(t, schemagen.RowsOf(loadAll(t))), []byte(unpacked)) {
		t.Error("the rows of the embedded model compile to something else")
	}
}

func TestVendorTableIsAdded(t *testing.T) {
	dir := t.TempDir()
	vendor := filepath.Join(dir, "vendor.tsv")
	text := "cu\tDevice.X_EXAMPLE_Fan.\tobject\treadOnly\t\t\t\t1.0\t\tminEntries=1; maxEntries=1\n" +
		"cu\tDevice.X_EXAMPLE_Fan.Speed\tparam\treadWrite\tunsignedInt\trange=0..100\tobject=40\t1.0\t\t\n" +
		"u\tDevice.X_EXAMPLE_Fan.Clean()\tcommand\t\tasync\t\t\t1.0\t\t\n"
	if err := os.WriteFile(vendor, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := schemagen.Import(&out, loadAll(t), []string{vendor}, nil, datamodel.Both); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "vendor.bin")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &datamodel.Profile{Name: "fan", Supports: []string{"Device.X_EXAMPLE_Fan."},
		Factory: map[string]string{"Device.X_EXAMPLE_Fan.Speed": "55"}}
	s, err := LoadFile(file, p)
	if err != nil {
		t.Fatal(err)
	}
	m, ok := s.Lookup("Device.X_EXAMPLE_Fan.Speed")
	if !ok || m.Param.Any().Default != "40" || m.Param.Protocols != datamodel.Both {
		t.Errorf("vendor parameter: %v %+v", ok, m.Param)
	}
	if m, ok := s.Lookup("Device.X_EXAMPLE_Fan.Clean()"); !ok || !m.Command.Async {
		t.Error("vendor command is missing")
	}
}
