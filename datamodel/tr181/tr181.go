package tr181

import (
	"compress/flate"
	_ "embed"
	"fmt"
	"io"
	"os"
	"strings"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181/compact"
)

// packed is the compiled model in DEFLATE: a third of its size, in a program whose size is paid for by every device.
//
//go:embed device-2.19.bin.z
var packed string

// device unpacks the embedded model; the schema's texts point into it.
func device() (string, error) {
	var b strings.Builder
	b.Grow(unpackedBytes)
	if _, err := io.Copy(&b, flate.NewReader(strings.NewReader(packed))); err != nil {
		return "", fmt.Errorf("embedded data model: %w", err)
	}
	return b.String(), nil
}

// unpackedBytes is about what the embedded model has unpacked.
const unpackedBytes = 349_000

// maxFileBytes bounds a compiled model that is loaded from a file. TR-181 has 0.35 MB.
const maxFileBytes = 8 << 20

// Load decodes the embedded model restricted to p; a nil profile gives the whole model. Errors name the profile's file
// and key: a path in it that the model does not have.
func Load(p *datamodel.Profile) (*datamodel.Schema, error) {
	text, err := device()
	if err != nil {
		return nil, err
	}
	return load(text, p)
}

// LoadFile is Load for a compiled model in a file of at most 8 MiB, made by "twinspan schema import" or by the
// generator. A damaged file, one of another form and one without a "Device." root are errors.
func LoadFile(file string, p *datamodel.Profile) (*datamodel.Schema, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("compiled data model: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("compiled data model %s: %w", file, err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("compiled data model %s: larger than %d bytes", file, maxFileBytes)
	}
	text := string(data)
	if err := compact.Check(text); err != nil {
		return nil, fmt.Errorf("compiled data model %s: %w", file, err)
	}
	s, err := load(text, p)
	if err != nil {
		return nil, fmt.Errorf("compiled data model %s: %w", file, err)
	}
	return s, nil
}

func load(data string, p *datamodel.Profile) (*datamodel.Schema, error) {
	sel := p.Selector()
	s, err := compact.Decode(data, sel)
	if err != nil {
		return nil, err
	}
	if s.Root().Path != "Device." {
		return nil, fmt.Errorf("the root is %q, not \"Device.\"", s.Root().Path)
	}
	if p == nil {
		return s, nil
	}
	if err := sel.Unmatched(); err != nil {
		return nil, err
	}
	if err := p.CheckAgainst(s); err != nil {
		return nil, err
	}
	return s, nil
}
