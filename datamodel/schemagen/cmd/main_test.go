package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const model, types = "../testdata/model", "../testdata/types"

func TestCompareEqualAndDifferent(t *testing.T) {
	var out bytes.Buffer
	err := run([]string{"-xml", model, "-import", types, "-table", "../testdata/model.tsv", "-compare"}, &out)
	if err != nil || out.String() != "equal\n" {
		t.Fatalf("%v: %s", err, out.String())
	}
	text, err := os.ReadFile("../testdata/model.tsv")
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.tsv")
	changed := strings.ReplaceAll(string(text), "units=ports", "units=pots")
	if err := os.WriteFile(other, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	err = run([]string{"-xml", model, "-import", types, "-table", other, "-compare"}, &out)
	if err == nil || err.Error() != "2 differences" || !strings.Contains(out.String(), "units=pots") {
		t.Errorf("%v: %s", err, out.String())
	}
	if err := run([]string{"-xml", model, "-import", types, "-table", other, "-compare", "-without-units"}, &out); err != nil {
		t.Error(err)
	}
}

func TestBothSourcesWriteTheSameFiles(t *testing.T) {
	dir := t.TempDir()
	files := map[string][]string{
		"xml":   {"-xml", model, "-import", types},
		"table": {"-table", "../testdata/model.tsv"},
	}
	for name, args := range files {
		args = append(args, "-model", "9.1", "-o", filepath.Join(dir, name+".bin"), "-write-table", filepath.Join(dir, name+".tsv"))
		if err := run(args, &bytes.Buffer{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, ending := range []string{".bin", ".tsv"} {
		a, err := os.ReadFile(filepath.Join(dir, "xml"+ending))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "table"+ending))
		if err != nil {
			t.Fatal(err)
		}
		if len(a) == 0 || !bytes.Equal(a, b) {
			t.Errorf("%s files differ (%d and %d bytes)", ending, len(a), len(b))
		}
	}
	if err := run([]string{"-table", filepath.Join(dir, "xml.tsv"), "-extension", "../testdata/vendor.xml", "-import", types,
		"-o", filepath.Join(dir, "vendor.bin")}, &bytes.Buffer{}); err != nil {
		t.Error(err)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{}, {"-table", "a", "-xml", "b"}, {"-compare", "-table", "a"}, {"-table", "/nonexistent"}, {"-xml", "/nonexistent"},
	} {
		if err := run(args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
