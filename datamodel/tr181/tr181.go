package tr181

import (
	_ "embed"
	"fmt"
	"io"
	"os"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181/compact"
)

//go:embed device-2.19.bin
var device string

// maxFileBytes bounds a compiled model that is loaded from a file. TR-181 has 0.35 MB.
const maxFileBytes = 8 << 20

// Load decodes the embedded model restricted to p; a nil profile gives the whole model. Errors name the profile's file
// and key: a path in it that the model does not have.
func Load(p *datamodel.Profile) (*datamodel.Schema, error) { return load(device, p) }

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
