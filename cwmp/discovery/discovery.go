package discovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel/dhcp"
)

// Limits of the values, from the parameters that they go to.
const (
	maxURL              = 2048
	maxProvisioningCode = 64
	maxFiles            = 8
)

// Result is what the access network offers; zero values are absent.
type Result struct {
	URL              string
	ProvisioningCode string
	RetryMinimum     uint32 // CWMPRetryMinimumWaitInterval, seconds: 1 to 65535
	RetryMultiplier  uint32 // CWMPRetryIntervalMultiplier: 1000 to 65535
	Source           string // "DHCPv4 option 125", "DHCPv6 option 17", "DHCPv4 option 43"
	// Refused says which values were left out, and why; without the values.
	Refused string
}

// Empty reports whether nothing is offered.
func (r Result) Empty() bool {
	return r.URL == "" && r.ProvisioningCode == "" && r.RetryMinimum == 0 && r.RetryMultiplier == 0
}

// Decode finds the offer in raw options. A malformed option is an error only when no other one offers anything.
func Decode(o dhcp.Options) (Result, error) {
	var best Result
	var failed error
	take := func(source string, list []dhcp.SubOption, first uint16) {
		r := values(source, list, first)
		if best.URL == "" && (r.URL != "" || best.Empty() && (!r.Empty() || best.Refused == "")) {
			best = r
		}
	}
	if o.V4Vendor != nil { // TR-069 3.1, DISC-03: sub-options 11-14; 1-6 are the device-gateway association
		list, err := dhcp.ParseV4Vendor(o.V4Vendor)
		failed = errors.Join(failed, err)
		take("DHCPv4 option 125", list.Of(dhcp.BroadbandForum), 11)
	}
	for _, raw := range o.V6Vendor { // DISC-04
		v, err := dhcp.ParseV6Vendor(raw)
		failed = errors.Join(failed, err)
		if err == nil && v.Enterprise == dhcp.BroadbandForum {
			take("DHCPv6 option 17", v.SubOptions, 1)
		}
	}
	if o.V4Encapsulated != nil { // DISC-01, DISC-02
		list, err := bareURL(o.V4Encapsulated), error(nil)
		if list == nil {
			list, err = dhcp.ParseV4(o.V4Encapsulated)
		}
		failed = errors.Join(failed, err)
		take("DHCPv4 option 43", list, 1)
	}
	if !best.Empty() {
		return best, nil
	}
	if failed != nil {
		return Result{}, fmt.Errorf("discovery: %w", failed)
	}
	return best, nil
}

// bareURL recognises an option 43 that is the URL itself. No encoded list begins like this: code 104 ("h") with 116 bytes.
func bareURL(raw []byte) []dhcp.SubOption {
	if s := string(raw); strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") {
		return []dhcp.SubOption{{Code: 1, Value: raw}}
	}
	return nil
}

// values takes the four sub-options from number first on.
func values(source string, list []dhcp.SubOption, first uint16) Result {
	r := Result{Source: source}
	refuse := func(what string) {
		if r.Refused != "" {
			r.Refused += ", "
		}
		r.Refused += what
	}
	present := func(code uint16) bool {
		for _, s := range list {
			if s.Code == code {
				return true
			}
		}
		return false
	}
	text := func(code uint16, what string) string {
		if !present(code) {
			return ""
		}
		t, ok := dhcp.Text(list, code)
		if !ok {
			refuse(what)
		}
		return strings.TrimSpace(t)
	}
	number := func(code uint16, what string, low uint64) uint32 {
		t := text(code, what)
		if t == "" {
			return 0
		}
		n, err := strconv.ParseUint(t, 10, 16)
		if err != nil || n < low {
			refuse(what)
			return 0
		}
		return uint32(n)
	}
	if r.URL = text(first, "URL"); r.URL != "" && !usableURL(r.URL) {
		r.URL = ""
		refuse("URL")
	}
	if r.ProvisioningCode = text(first+1, "ProvisioningCode"); len(r.ProvisioningCode) > maxProvisioningCode {
		r.ProvisioningCode = ""
		refuse("ProvisioningCode")
	}
	r.RetryMinimum = number(first+2, "retry minimum", 1)
	r.RetryMultiplier = number(first+3, "retry multiplier", 1000)
	return r
}

func usableURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && len(text) <= maxURL && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil
}

// Read finds the offer in files, the first one with a URL winning. Files that do not exist are passed over; an unusable one
// is an error only when no other offers anything.
func Read(files ...string) (Result, error) {
	var best Result
	var failed error
	for _, name := range files {
		o, err := dhcp.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var r Result
		if err == nil {
			r, err = Decode(o)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if best.URL == "" && (r.URL != "" || best.Empty()) {
			best = r
		}
	}
	if best.Empty() && failed != nil {
		return Result{}, failed
	}
	return best, nil
}

// Config of a Watcher.
type Config struct {
	Files []string // up to 8, in order of preference
	// Found is called from Run with every result that differs from the one before; the first time only if not empty. An
	// empty one means that the offer is gone. It must not block for long.
	Found  func(Result)
	Every  time.Duration // how often the files are looked at
	Logger *slog.Logger
}

// Default fills in what is not set.
func (c Config) Default() Config {
	if c.Every == 0 {
		c.Every = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports what is wrong, naming the field.
func (c Config) Validate() error {
	switch {
	case len(c.Files) == 0 || len(c.Files) > maxFiles:
		return fmt.Errorf("discovery: Files: %d, 1 to %d are possible", len(c.Files), maxFiles)
	case c.Found == nil:
		return errors.New("discovery: Found: missing")
	case c.Every < 0:
		return fmt.Errorf("discovery: Every: %v is negative", c.Every)
	}
	return nil
}

// Watcher looks for offers until its context ends.
type Watcher struct{ cfg Config }

// New makes a Watcher.
func New(cfg Config) (*Watcher, error) {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Watcher{cfg: cfg}, nil
}

// Run looks at the files at once and then every Config.Every until ctx ends; it returns nil then.
func (w *Watcher) Run(ctx context.Context) error {
	ticker := time.NewTicker(w.cfg.Every)
	defer ticker.Stop()
	var last Result
	said := ""
	for {
		r, err := Read(w.cfg.Files...)
		switch {
		case err != nil: // a file being written, mostly: the last result stands until there is another
			if text := err.Error(); text != said {
				said = text
				w.cfg.Logger.Warn("dhcp options cannot be used", "error", err)
			}
		case r != last:
			last, said = r, ""
			if r.Refused != "" {
				w.cfg.Logger.Warn("dhcp options were left out", "refused", r.Refused, "source", r.Source)
			}
			w.cfg.Found(r)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
