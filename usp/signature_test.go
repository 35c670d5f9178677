package usp

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"testing"

	"twinspan/usp/usprecord"
	"twinspan/usp/wire"
)

func TestSignature(t *testing.T) {
	rec := &usprecord.Record{Version: "1.4", ToId: "os::a", FromId: "self::b", SenderCert: []byte("C"), PayloadSecurity: usprecord.Record_TLS12,
		RecordType: &usprecord.Record_SessionContext{SessionContext: &usprecord.SessionContextRecord{SessionId: 2, SequenceId: 3, ExpectedId: 4, RetransmitId: 5,
			PayloadSarState: usprecord.SessionContextRecord_BEGIN, PayloadrecSarState: usprecord.SessionContextRecord_COMPLETE}}}
	want := "312e34" + "6f733a3a61" + "73656c663a3a62" + "00000001" + "43" + "0000000000000002" + "0000000000000003" + "0000000000000004" + "0000000000000005" + "00000001" + "00000003"
	if got := hex.EncodeToString(signedBytes(rec)); got != want {
		t.Errorf("signed\n%s, want\n%s", got, want)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := SignRecord(rec, key); err != nil {
		t.Fatal(err)
	}
	if err := VerifySignature(rec, key.Public()); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(r *usprecord.Record){
		"from":      func(r *usprecord.Record) { r.FromId = "self::c" },
		"to":        func(r *usprecord.Record) { r.ToId = "os::b" },
		"sequence":  func(r *usprecord.Record) { r.GetSessionContext().SequenceId++ },
		"signature": func(r *usprecord.Record) { r.MacSignature[8] ^= 1 },
		"none":      func(r *usprecord.Record) { r.MacSignature = nil },
	} {
		b, err := wire.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		bad := new(usprecord.Record)
		if err := wire.Unmarshal(b, bad); err != nil {
			t.Fatal(err)
		}
		change(bad)
		if VerifySignature(bad, key.Public()) == nil {
			t.Errorf("%s: changed and believed", name)
		}
	}
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	long, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	for _, k := range []any{other.Public(), long.Public(), ed, nil} {
		if VerifySignature(rec, k) == nil {
			t.Errorf("%T is taken", k)
		}
	}
}
