package usp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"twinspan/usp/usprecord"
)

// errSignature says no more: a peer that forges learns nothing from it.
var errSignature = errors.New("usp: the record's signature does not hold")

// signedBytes is what mac_signature covers: the fields but the payload, by field number, without tags and lengths.
func signedBytes(r *usprecord.Record) []byte {
	b := make([]byte, 0, len(r.GetVersion())+len(r.GetToId())+len(r.GetFromId())+len(r.GetSenderCert())+44)
	b = append(b, r.GetVersion()...)
	b = append(b, r.GetToId()...)
	b = append(b, r.GetFromId()...)
	b = binary.BigEndian.AppendUint32(b, uint32(r.GetPayloadSecurity()))
	b = append(b, r.GetSenderCert()...)
	if s := r.GetSessionContext(); s != nil {
		for _, v := range [...]uint64{s.GetSessionId(), s.GetSequenceId(), s.GetExpectedId(), s.GetRetransmitId()} {
			b = binary.BigEndian.AppendUint64(b, v)
		}
		b = binary.BigEndian.AppendUint32(b, uint32(s.GetPayloadSarState()))
		b = binary.BigEndian.AppendUint32(b, uint32(s.GetPayloadrecSarState()))
	}
	return b
}

// VerifySignature checks mac_signature as an ECDSA P-256 signature of a SHA-256 sum in DER, by the holder of key. The
// payload is not covered by it, so that it proves less than the link it came over.
func VerifySignature(r *usprecord.Record, key crypto.PublicKey) error {
	k, ok := key.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() {
		return errSignature
	}
	sum := sha256.Sum256(signedBytes(r))
	if !ecdsa.VerifyASN1(k, sum[:], r.GetMacSignature()) {
		return errSignature
	}
	return nil
}

// SignRecord sets mac_signature. SenderCert is part of what is signed and must be set before.
func SignRecord(r *usprecord.Record, key crypto.Signer) (err error) {
	sum := sha256.Sum256(signedBytes(r))
	r.MacSignature, err = key.Sign(rand.Reader, sum[:], crypto.SHA256)
	return err
}
