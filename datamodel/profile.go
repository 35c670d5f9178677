package datamodel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
)

// Profile is what one kind of device supports of the data model, read from TOML (configs/profiles). It is a plain
// value: read it from many goroutines, change it only before it is given to a loader.
type Profile struct {
	// Name of the profile, for people and logs.
	Name string `toml:"name"`
	// Supports lists canonical supported paths: "Device.IP." takes the subtree, "Device.Time.NTPServer1" one
	// parameter, "Device.Reboot()" one command, "Device.Boot!" one event; a leading "-" takes something away again;
	// the last match counts. Objects above something supported exist, without their own parameters.
	Supports []string `toml:"supports"`
	// Factory are values after factory reset; they override the model's defaults. A path may name rows by number:
	// "Device.IP.Interface.1.Enable" creates row 1 at first start.
	Factory map[string]string `toml:"factory"`
	// MaxRows limits rows: "Device.LocalAgent.Subscription." = 100. A table with {i} in the middle is limited per
	// parent row.
	MaxRows map[string]int `toml:"max_rows"`
	// Providers by name, with free options for each.
	Providers map[string]map[string]any `toml:"providers"`

	source string // file name for messages
}

// maxProfileBytes bounds a profile file; the largest sensible ones have a few kilobytes.
const maxProfileBytes = 1 << 20

// LoadProfile reads a profile from a TOML file of at most 1 MiB. Errors name the file and the key.
func LoadProfile(file string) (*Profile, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("device profile: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxProfileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("device profile %s: %w", file, err)
	}
	return parseProfile(data, file)
}

// ParseProfile reads a profile from TOML text. Unknown keys, wrong types and malformed paths are errors that name the
// key. Whether the paths exist is checked when a schema is loaded with the profile.
func ParseProfile(data []byte) (*Profile, error) { return parseProfile(data, "") }

func parseProfile(data []byte, source string) (*Profile, error) {
	p := &Profile{source: source}
	if len(data) > maxProfileBytes {
		return nil, p.fail("", fmt.Sprintf("larger than %d bytes", maxProfileBytes))
	}
	meta, err := toml.Decode(string(data), p)
	if err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return nil, p.fail(parse.LastKey, fmt.Sprintf("line %d: %s", parse.Position.Line, parse.Message))
		}
		return nil, p.fail("", err.Error())
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, p.fail(unknown[0].String(), "unknown key")
	}
	// The decoder leaves a map empty, without an error, where the file has something else than a table.
	for _, key := range meta.Keys() {
		table := len(key) == 1 && (key[0] == "factory" || key[0] == "max_rows" || key[0] == "providers") ||
			len(key) == 2 && key[0] == "providers"
		if table && meta.Type(key...) != "Hash" {
			return nil, p.fail(key.String(), "must be a table")
		}
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// Validate checks the form of the paths and the numbers, not whether the paths exist.
func (p *Profile) Validate() error {
	for i, s := range p.Supports {
		key := fmt.Sprintf("supports[%d]", i)
		path := strings.TrimPrefix(s, "-")
		if why := badProfilePath(path); why != "" {
			return p.fail(key, fmt.Sprintf("%q %s", s, why))
		}
		if SupportedPath(path) != path {
			return p.fail(key, fmt.Sprintf("%q names a row by number; write {i}", s))
		}
	}
	for _, path := range sortedKeys(p.Factory) {
		if why := badProfilePath(path); why != "" {
			return p.fail("factory."+quoteKey(path), why)
		}
		if strings.HasSuffix(path, ".") {
			return p.fail("factory."+quoteKey(path), "a value needs a parameter, not an object")
		}
	}
	for _, path := range sortedKeys(p.MaxRows) {
		key := "max_rows." + quoteKey(path)
		if why := badProfilePath(path); why != "" {
			return p.fail(key, why)
		}
		if !strings.HasSuffix(path, ".") || strings.HasSuffix(path, instanceSegment+".") {
			return p.fail(key, `a limit needs a table, for example "Device.IP.Interface."`)
		}
		if p.MaxRows[path] < 1 {
			return p.fail(key, fmt.Sprintf("%d rows: the limit must be at least 1", p.MaxRows[path]))
		}
	}
	return nil
}

// CheckAgainst reports the first entry of the profile that does not fit the schema loaded with it: a parameter or table
// that does not exist, a factory value that is not of its parameter's type or facets.
func (p *Profile) CheckAgainst(s *Schema) error {
	for _, path := range sortedKeys(p.Factory) {
		key := "factory." + quoteKey(path)
		m, ok := s.Lookup(path)
		if !ok || m.Param == nil {
			return p.fail(key, "no such parameter in the supported data model")
		}
		if strings.Contains(path, instanceSegment) {
			return p.fail(key, "name rows by number, not by {i}")
		}
		if _, err := m.Param.Any().Canonical(p.Factory[path]); err != nil {
			return p.fail(key, err.Error()) // the error never repeats the value
		}
	}
	for _, path := range sortedKeys(p.MaxRows) {
		if m, ok := s.Lookup(path); !ok || !m.Table {
			return p.fail("max_rows."+quoteKey(path), "no such table in the supported data model")
		}
	}
	return nil
}

func badProfilePath(path string) string {
	switch {
	case !strings.HasPrefix(path, "Device."):
		return `must start with "Device."`
	case strings.ContainsAny(path, " \t\r\n*[]=\""):
		return "must be a plain path without blanks, wildcards or expressions"
	case strings.Contains(path, ".."):
		return "has an empty path element"
	}
	return ""
}

// fail makes the message "device profile FILE: KEY: why".
func (p *Profile) fail(key, why string) error {
	var b strings.Builder
	b.WriteString("device profile")
	if p.source != "" {
		b.WriteString(" " + p.source)
	} else if p.Name != "" {
		b.WriteString(" " + p.Name)
	}
	if key != "" {
		b.WriteString(": " + key)
	}
	b.WriteString(": " + why)
	return errors.New(b.String())
}

func quoteKey(path string) string { return `"` + path + `"` }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
