package datamodel

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
