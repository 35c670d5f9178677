package cwmp

import (
	"context"
	"strings"
	"sync/atomic"

	"twinspan/datamodel"
)

// provider makes the live half of Device.ManagementServer. appear, and refuses settings that could never work before they
// are committed. It is called from the bridge's goroutines and shares only the atomic URL with the CPE.
type provider struct {
	forced map[string]bool
	url    atomic.Pointer[string] // ConnectionRequestURL
}

// fixedValues are parameters that say what this CPE can do.
var fixedValues = map[string]string{
	"AliasBasedAddressing":       "true",
	"InstanceWildcardsSupported": "true",
	"HTTPCompressionSupported":   "GZIP,Deflate",
}

func newProvider(s *datamodel.Schema) *provider {
	p := &provider{forced: map[string]bool{}}
	for _, name := range forcedInform(s) {
		p.forced[name] = true
	}
	empty := ""
	p.url.Store(&empty)
	return p
}

// Name implements datamodel.Provider.
func (p *provider) Name() string { return writerName }

// Serves implements datamodel.Provider.
func (p *provider) Serves() []string {
	out := []string{msPath + "ConnectionRequestURL"}
	for name := range fixedValues {
		out = append(out, msPath+name)
	}
	return out
}

// Read implements datamodel.Provider.
func (p *provider) Read(_ context.Context, obj datamodel.ObjectRef, params []string, yield func(name, value string)) error {
	if obj.Path != msPath {
		return nil
	}
	for _, name := range params {
		if name == "ConnectionRequestURL" {
			yield(name, *p.url.Load())
		} else if value, ok := fixedValues[name]; ok {
			yield(name, value)
		}
	}
	return nil
}

// Applies implements datamodel.Applier.
func (p *provider) Applies() []string {
	return []string{msPath + "URL", msPath + "HeartbeatPolicy.ReportingInterval", msPath + "InformParameter.{i}.ParameterName", msPath + "InformParameter.{i}.EventList"}
}

// Prepare refuses an ACS URL that is none, InformParameter rows that the standard forbids (IPT-04), and a heartbeat that is too fast.
func (p *provider) Prepare(_ context.Context, writes []datamodel.Write) error {
	for _, w := range writes {
		if w.Deleted || w.Added {
			continue
		}
		name := strings.TrimPrefix(w.Path, msPath)
		switch {
		case name == "HeartbeatPolicy.ReportingInterval":
			if err := checkHeartbeat(w.Path, w.Value); err != nil {
				return err
			}
		case name == "URL":
			if err := checkACSURL(w.Value); err != nil {
				return err
			}
		case strings.HasSuffix(name, ".ParameterName"):
			if p.forced[w.Value] {
				return datamodel.Fail(datamodel.InvalidValue, w.Path, "the parameter is in every Inform already")
			}
		case strings.HasSuffix(name, ".EventList"):
			for code := range strings.SplitSeq(w.Value, ",") {
				if strings.TrimSpace(code) == evValueChange {
					return datamodel.Fail(datamodel.InvalidValue, w.Path, "4 VALUE CHANGE cannot be listed")
				}
			}
		}
	}
	return nil
}

// Apply implements datamodel.Applier: the CPE follows the journal instead.
func (p *provider) Apply(context.Context, []datamodel.Write) error { return nil }
