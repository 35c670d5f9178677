package datamodel

// ParsePath parses any path: object, parameter, command, event, search, supported ({i}) or CWMP partial path. The
// empty string is the empty path. Errors are *Error with PathSyntax and say at which byte and what was expected.
func ParsePath(s string) (Path, error) { panic("draft") }

// IsSearch reports whether the path has a wildcard or an expression anywhere.
func (p Path) IsSearch() bool { panic("draft") }

// ToCanonical rewrites a path text from the spelling of proto to the canonical one; FromCanonical is its inverse.
// Texts that need no rewriting are returned as they are without allocation. A path that exists only in the other
// protocol's spelling is returned with ok=false (Device.LocalAgent. over CWMP, Device.ManagementServer. over USP).
func ToCanonical(proto Protocol, path string) (canonical string, ok bool)   { panic("draft") }
func FromCanonical(proto Protocol, canonical string) (path string, ok bool) { panic("draft") }

// ToCanonicalValue and FromCanonicalValue rewrite reference values (PathRef parameters, lists included).
func ToCanonicalValue(proto Protocol, f *Facts, value string) string   { panic("draft") }
func FromCanonicalValue(proto Protocol, f *Facts, value string) string { panic("draft") }

// Canonical checks text against the facts and returns the canonical lexical form that is stored: true/false, decimal
// numbers without sign or leading zeros, dateTime in UTC, upper-case hex, lists without blanks after commas. Errors
// are *Error with InvalidType or InvalidValue and say which facet refused it. Safe for concurrent use; patterns are
// compiled once and cached.
func (f *Facts) Canonical(text string) (string, error) { panic("draft") }

// Compare compares two canonical values by type for the operators of search expressions.
func (f *Facts) Compare(op Op, value, constant string, quoted bool) (bool, error) { panic("draft") }

// Zero is the value of a parameter that has neither value nor default: "", "false", "0", "0001-01-01T00:00:00Z".
func (f *Facts) Zero() string { panic("draft") }

// Tree is the instantiated data model that Resolve reads, in canonical paths.
type Tree interface {
	// Instances returns the instance numbers of a table ("Device.IP.Interface.") in ascending order.
	Instances(table string) []uint32
	// HasInstance is Instances with one number asked for.
	HasInstance(table string, n uint32) bool
	// Value returns the current value of a parameter; for search expressions and references. Secured values that the
	// asker may not see are "".
	Value(p *Param, path string) (string, bool)
}

// ResolvePolicy is what the message at hand does with the corners of resolution.
type ResolvePolicy struct {
	// Want restricts what the path may name; 0 = anything.
	Want PathWant
	// Visible is asked for every object, parameter, command and event met; nil = all. An invisible element is treated
	// as not in the supported data model (R-GET.1).
	Visible func(instancePath string, kind PathKind) bool
	// EmptyIsError makes an unmatched search or a missing instance an error rather than an empty result.
	MissingIsError bool // a non-search path whose instance is missing: NoInstance error (else empty result)
	// AllowTable lets a path name a table itself (Get, GetInstances, Add).
	AllowTable bool
	// CWMPAlias reads [name] as an alias (TR-069 3.6.1).
	CWMPAlias bool
}

// PathWant is a set of PathKinds.
type PathWant uint8

const (
	WantObject PathWant = 1 << iota
	WantParam
	WantCommand
	WantEvent
)

// Match is one thing a path resolved to.
type Match struct {
	Path    string  // canonical instance path
	Object  *Object // the object, or the one that holds Param, Command or Event
	Table   bool    // Path is the table itself, not a row
	Param   *Param
	Command *Command
	Event   *Event
}

// Resolve finds what a parsed canonical path names for one protocol. Order: depth first, ascending instance numbers.
// Errors: NotSupported, NoInstance, NotTable, PathSyntax (operator or constant does not fit the type).
func Resolve(s *Schema, t Tree, proto Protocol, p Path, pol ResolvePolicy) ([]Match, error) {
	panic("draft")
}

// Lookup finds an instance or supported path ("Device.IP.Interface.1.Enable", "Device.IP.Interface.{i}.") in the
// schema only, in O(depth). Exactly one of the results beside obj is set for parameters, commands and events.
func (s *Schema) Lookup(path string) (m Match, ok bool) { panic("draft") }

// SplitParam splits "Device.A.1.B" into "Device.A.1." and "B".
func SplitParam(path string) (object, name string) { panic("draft") }

// SupportedPath replaces the instance numbers of an instance path: "Device.A.1.B" -> "Device.A.{i}.B".
func SupportedPath(instance string) string { panic("draft") }

// Profile is what one kind of device supports of the data model, read from TOML (configs/profiles).
type Profile struct {
	Name string `toml:"name"`
	// Supports lists canonical supported paths: "Device.IP." takes the subtree, "Device.Time.NTPServer1" one
	// parameter, a leading "-" takes something away again; the last match counts.
	Supports []string `toml:"supports"`
	// Factory are values after factory reset; they override the model's defaults. A path may name rows by number:
	// "Device.IP.Interface.1.Enable" creates row 1 at first start.
	Factory map[string]string `toml:"factory"`
	// Limits on rows: "Device.LocalAgent.Subscription." = 100.
	MaxRows map[string]int `toml:"max_rows"`
	// Providers by name, with free options for each.
	Providers map[string]map[string]any `toml:"providers"`
}

// Supported reports whether the profile takes an element in.
func (p *Profile) Supported(path string) bool { panic("draft") }
