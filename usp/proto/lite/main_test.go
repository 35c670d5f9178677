package main

import (
	"bytes"
	"os"
	"testing"
)

// TestCheckedIn: what is checked in is what lite makes of the reference.
func TestCheckedIn(t *testing.T) {
	for _, c := range []struct{ pkg, in, out string }{
		{"uspmsg", "../internal/refmsg/usp-msg.pb.go", "../../uspmsg/usp-msg.go"},
		{"usprecord", "../internal/refrecord/usp-record.pb.go", "../../usprecord/usp-record.go"},
	} {
		src, err := os.ReadFile(c.in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := rewrite(c.pkg, src)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(c.out)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from what is made of %s: run usp/proto/generate.sh", c.out, c.in)
		}
		if bytes.Contains(got, []byte("protobuf/")) || bytes.Contains(got, []byte("protoimpl")) {
			t.Errorf("%s still uses the runtime", c.pkg)
		}
	}
}
