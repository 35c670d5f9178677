package proto

import (
	"bufio"
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"twinspan/usp/proto/internal/refmsg"
	"twinspan/usp/proto/internal/refrecord"
)

// TestWireFormat compares the generated code with testdata/fields.tsv in both directions: nothing missing, nothing more,
// every number and type equal. The table was taken from the standard's own schema, not from our files.
func TestWireFormat(t *testing.T) {
	want := readFacts(t)
	got := map[string]bool{}
	for _, f := range []protoreflect.FileDescriptor{refmsg.File_usp_msg_proto, refrecord.File_usp_record_proto} {
		describe(f.Messages(), got)
	}
	var diff []string
	for l := range want {
		if !got[l] {
			diff = append(diff, "missing: "+l)
		}
	}
	for l := range got {
		if !want[l] {
			diff = append(diff, "not in the standard: "+l)
		}
	}
	sort.Strings(diff)
	for _, d := range diff {
		t.Error(d)
	}
	if len(want) < 250 {
		t.Errorf("the table has only %d lines", len(want))
	}
}

func readFacts(t *testing.T) map[string]bool {
	f, err := os.Open("testdata/fields.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	facts := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if l := s.Text(); !strings.HasPrefix(l, "#") {
			facts[l] = true
		}
	}
	return facts
}

func describe(ms protoreflect.MessageDescriptors, out map[string]bool) {
	line := func(a ...any) {
		out[strings.TrimSuffix(fmt.Sprintf(strings.Repeat("%v\t", len(a)), a...), "\t")] = true
	}
	for i := range ms.Len() {
		m := ms.Get(i)
		if m.IsMapEntry() {
			continue
		}
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			typ, label := f.Kind().String(), "single"
			switch {
			case f.IsMap():
				typ, label = f.MapKey().Kind().String()+","+f.MapValue().Kind().String(), "map"
			case f.Message() != nil:
				typ = string(f.Message().FullName())
			case f.Enum() != nil:
				typ = string(f.Enum().FullName())
			}
			if f.IsList() {
				label = "repeated"
			}
			if o := f.ContainingOneof(); o != nil {
				label = "oneof " + string(o.Name())
			}
			line(m.FullName(), f.Name(), f.Number(), typ, label)
		}
		if m.Fields().Len() == 0 {
			line(m.FullName(), "-", 0, "empty", "-")
		}
		for j := range m.Enums().Len() {
			e := m.Enums().Get(j)
			for k := range e.Values().Len() {
				line(e.FullName(), e.Values().Get(k).Name(), e.Values().Get(k).Number(), "enum", "value")
			}
		}
		describe(m.Messages(), out)
	}
}
