package uds

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// TLV types of a frame.
const (
	tlvHandshake = 1 // Endpoint ID. R-UDS.12
	tlvError     = 2 // text for people. R-UDS.13
	tlvRecord    = 3 // R-UDS.14
)

const (
	headerSize = 8 // sync and length. R-UDS.7
	tlvSize    = 5 // type and length. R-UDS.10, R-UDS.11
	// frameSlack is what a frame may hold beside the largest record: its TLV header and other, small TLVs.
	frameSlack = 4096
	maxText    = 1024 // longest handshake or error text in bytes
)

var sync4 = [4]byte{0x5f, 0x55, 0x53, 0x50} // "_USP". R-UDS.8

// errFrame means that the peer's bytes are no frame. R-UDS.24
var errFrame = errors.New("invalid frame")

// appendFrame appends a frame of one TLV. R-UDS.6, R-UDS.9
func appendFrame(b []byte, typ byte, value []byte) []byte {
	b = append(b, sync4[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(tlvSize+len(value)))
	b = append(b, typ)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

// readFrame reads one frame and returns what follows its header, in memory of its own. A length over most is refused
// before memory is spent on it.
func readFrame(r io.Reader, most int) ([]byte, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	if [4]byte(h[:4]) != sync4 {
		return nil, fmt.Errorf("%w: no sync bytes", errFrame)
	}
	n := binary.BigEndian.Uint32(h[4:])
	if n < tlvSize || uint64(n) > uint64(most) {
		return nil, fmt.Errorf("%w: length %d is not within %d and %d", errFrame, n, tlvSize, most)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return body, nil
}

// nextTLV cuts the first TLV off body.
func nextTLV(body []byte) (typ byte, value, rest []byte, err error) {
	if len(body) < tlvSize {
		return 0, nil, nil, fmt.Errorf("%w: %d bytes are no TLV", errFrame, len(body))
	}
	n := binary.BigEndian.Uint32(body[1:tlvSize])
	if uint64(n) > uint64(len(body)-tlvSize) {
		return 0, nil, nil, fmt.Errorf("%w: TLV of %d bytes in a frame with %d left", errFrame, n, len(body)-tlvSize)
	}
	end := tlvSize + int(n)
	return body[0], body[tlvSize:end:end], body[end:], nil
}
