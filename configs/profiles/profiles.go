// Package profiles holds the device profiles that come with twinspan, so that the agent runs without extra files.
//
//	p, err := profiles.Load("gateway")            // built in
//	p, err := profiles.Load("/etc/twinspan/our-box.toml") // a device maker's own
//
// A profile says which part of TR-181 a device supports, its factory values and its providers; the comments in
// gateway.toml explain the form, datamodel.Profile describes every key. To make one, copy the nearest built-in file.
// The names gateway, minimal and full stay; what gateway supports grows with the program.
package profiles

import (
	"embed"
	"fmt"
	"strings"

	"twinspan/datamodel"
)

//go:embed *.toml
var files embed.FS

// Names lists the built-in profiles.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil { // the embedded folder always exists
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".toml"))
	}
	return names
}

// Load returns a built-in profile by its name, or reads the file when the name has a slash or ends in ".toml".
func Load(nameOrFile string) (*datamodel.Profile, error) {
	if strings.ContainsRune(nameOrFile, '/') || strings.HasSuffix(nameOrFile, ".toml") {
		return datamodel.LoadProfile(nameOrFile)
	}
	data, err := files.ReadFile(nameOrFile + ".toml")
	if err != nil {
		return nil, fmt.Errorf("device profile %q: not built in (there are %s); a file needs a slash or .toml",
			nameOrFile, strings.Join(Names(), ", "))
	}
	return datamodel.ParseProfile(data)
}
