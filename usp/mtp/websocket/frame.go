package websocket

import (
	"encoding/binary"
	"math/rand/v2"
)

// Opcodes of RFC 6455 that we write.
const (
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xA
)

// appendFrame appends one final frame (R-WS.14a: never fragmented). Clients mask with a key from the runtime's
// ChaCha8 generator, which is seeded by the operating system and not predictable (RFC 6455 5.3).
func appendFrame(b []byte, op byte, payload []byte, mask bool) []byte {
	b = append(b, 0x80|op)
	var m byte
	if mask {
		m = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, m|byte(n))
	case n < 1<<16:
		b = append(b, m|126, byte(n>>8), byte(n))
	default:
		b = append(b, m|127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if !mask {
		return append(b, payload...)
	}
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], rand.Uint32())
	b = append(b, key[:]...)
	start := len(b)
	b = append(b, payload...)
	xor(b[start:], key)
	return b
}

// xor applies the mask, eight bytes at a time.
func xor(b []byte, key [4]byte) {
	k := binary.LittleEndian.Uint32(key[:])
	kk := uint64(k)<<32 | uint64(k)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^kk)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
}

// closePayload is the body of a close frame; the reason is cut to what a control frame holds, at a character's edge.
func closePayload(code int, reason string) []byte {
	if code == 0 {
		return nil
	}
	const most = 123
	for len(reason) > most {
		r := []rune(reason)
		if len(r) > most {
			r = r[:most+1]
		}
		reason = string(r[:len(r)-1])
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}
