package soap

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzDecode: nothing panics; what decodes can be written; that text decodes again, and writes to the same text.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.xml"))
	if err != nil || len(files) == 0 {
		f.Fatal("no golden files", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(wrap(`<ns7:ID E:mustUnderstand="1">7</ns7:ID><ns7:HoldRequests>1</ns7:HoldRequests>`, spv))
	f.Add(wrap(``, `<E:Fault><faultcode>E:Client</faultcode><detail><ns7:Fault><FaultCode>1</FaultCode></ns7:Fault></detail></E:Fault>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = Decode(body, Options{Strict: true, Charset: "iso-8859-1"})
		env, err := Decode(body, Options{})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error of type %T", err)
			}
			if _, err := Append(nil, &Envelope{Body: e.Fault()}); err != nil {
				t.Fatalf("fault for %v: %v", e, err)
			}
			return
		}
		if _, unknown := env.Body.(*UnknownMethod); unknown {
			return
		}
		first, err := Append(nil, env)
		if err != nil {
			t.Fatalf("decoded, but not writable: %v", err)
		}
		again, err := Decode(first, Options{Limits: Limits{MaxBytes: 64 << 20, MaxElements: 1 << 20}})
		if err != nil {
			t.Fatalf("written, but not readable: %v\n%s", err, first)
		}
		second, err := Append(nil, again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("not stable: %v\n%s\n%s", err, first, second)
		}
	})
}
