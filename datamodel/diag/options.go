package diag

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"time"
)

// Options of New. The zero value runs all network tests with the default limits, without files and hooks.
type Options struct {
	// ResetInterface is the program, with arguments, that resets an IP interface; the system name of the interface is
	// added as last argument. ResetStats does the same for the counters of an interface. Empty: the commands answer
	// NotImplemented.
	ResetInterface, ResetStats []string
	// SelfTest is a program that tests the device beside the built-in checks: exit status 0 is a pass, the first line
	// that it prints goes into Results. Empty: built-in checks only.
	SelfTest []string
	// Checks are further self tests.
	Checks []Check

	LogFiles    []LogFile    // rows of Device.DeviceInfo.VendorLogFile.
	ConfigFiles []ConfigFile // rows of Device.DeviceInfo.VendorConfigFile.

	// Spool is the directory for temporary files, "" is that of the system. They are removed before they are used.
	Spool string
	// MaxTime bounds one run (0: 1 h), MaxTransferTime one HTTP transfer or throughput test (0: 15 min).
	MaxTime, MaxTransferTime time.Duration
	// MaxBytes bounds the payload of one throughput test over all connections (0: 16 GiB).
	MaxBytes int64
	// MaxRuns bounds the runs of one command at a time (0: 2); all commands together have four times as many.
	MaxRuns int

	TLS *tls.Config  // for https URLs; nil: the system's certificates
	Log *slog.Logger // nil: no log
}

// Check is one self test. Run returns nil for a pass; its error text goes to the manager.
type Check struct {
	Name string // one word
	Run  func(ctx context.Context) error
}

// LogFile is one row of VendorLogFile.
type LogFile struct {
	Name        string // unique, at most 64 characters
	MaximumSize uint64 // bytes, 0: unlimited
	Persistent  bool   // survives a restart
	// Write writes the present content. It is called by one run at a time.
	Write func(ctx context.Context, w io.Writer) error
}

// ConfigFile is one row of VendorConfigFile. Export and Import are called by one run at a time; nil: the command is
// not supported for this row.
type ConfigFile struct {
	Name, Version, Description string
	// Export writes the present configuration.
	Export func(ctx context.Context, w io.Writer) error
	// Import puts a configuration in force. The content is complete, and its checksum was verified if one was given.
	// target is the argument TargetFileName, often empty.
	Import func(ctx context.Context, target string, r io.Reader) error
}

// ParseOptions reads the table [providers.diag] of a device profile. Keys: reset_interface, reset_stats, self_test
// (programs: lists of texts), log_files (list of file names, which become rows), spool (text), max_time,
// max_transfer_time (durations like "15m"), max_bytes, max_runs (numbers). Errors name the key.
func ParseOptions(table map[string]any) (Options, error) {
	var o Options
	for key, v := range table {
		var err error
		switch key {
		case "reset_interface":
			o.ResetInterface, err = texts(v)
		case "reset_stats":
			o.ResetStats, err = texts(v)
		case "self_test":
			o.SelfTest, err = texts(v)
		case "log_files":
			var names []string
			names, err = texts(v)
			for _, name := range names {
				o.LogFiles = append(o.LogFiles, LogFileFrom(name))
			}
		case "spool":
			var ok bool
			if o.Spool, ok = v.(string); !ok {
				err = errors.New("is not a text")
			}
		case "max_time":
			o.MaxTime, err = duration(v)
		case "max_transfer_time":
			o.MaxTransferTime, err = duration(v)
		case "max_bytes":
			o.MaxBytes, err = positive(v)
		case "max_runs":
			var n int64
			n, err = positive(v)
			o.MaxRuns = int(min(n, 1000))
		default:
			err = errors.New("is not a known key")
		}
		if err != nil {
			return o, fmt.Errorf("diag: %s: %w", key, err)
		}
	}
	return o, o.validate()
}

// LogFileFrom is a LogFile with the content of a file, under its name.
func LogFileFrom(name string) LogFile {
	return LogFile{Name: name, Persistent: true, Write: func(_ context.Context, w io.Writer) error {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, io.LimitReader(f, maxLogBytes+1))
		return err
	}}
}

func texts(v any) ([]string, error) {
	items, ok := v.([]any)
	if !ok {
		return nil, errors.New("is not a list of texts")
	}
	var out []string
	for _, it := range items {
		s, ok := it.(string)
		if !ok {
			return nil, errors.New("is not a list of texts")
		}
		out = append(out, s)
	}
	return out, nil
}

func duration(v any) (time.Duration, error) {
	s, ok := v.(string)
	if !ok {
		return 0, errors.New(`is not a duration like "15m"`)
	}
	d, err := time.ParseDuration(s)
	if err == nil && d <= 0 {
		err = errors.New("must be positive")
	}
	return d, err
}

func positive(v any) (int64, error) {
	n, ok := v.(int64)
	if !ok || n < 1 {
		return 0, errors.New("is not a positive number")
	}
	return n, nil
}

// validate checks the options and fills in defaults.
func (o *Options) validate() error {
	names := map[string]bool{}
	for _, f := range o.LogFiles {
		if err := validRow("log", f.Name, names); err != nil {
			return err
		}
		if f.Write == nil {
			return fmt.Errorf("diag: log file %q: Write is missing", f.Name)
		}
	}
	for _, f := range o.ConfigFiles {
		if err := validRow("config", f.Name, names); err != nil {
			return err
		}
	}
	for key, argv := range map[string][]string{"reset_interface": o.ResetInterface, "reset_stats": o.ResetStats, "self_test": o.SelfTest} {
		if len(argv) > 0 && argv[0] == "" {
			return fmt.Errorf("diag: %s: the program has no name", key)
		}
	}
	if o.MaxTime == 0 {
		o.MaxTime = time.Hour
	}
	if o.MaxTransferTime == 0 {
		o.MaxTransferTime = 15 * time.Minute
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 16 << 30
	}
	if o.MaxRuns == 0 {
		o.MaxRuns = 2
	}
	if o.MaxTime < 0 || o.MaxTransferTime < 0 || o.MaxBytes < 0 || o.MaxRuns < 0 {
		return errors.New("diag: a limit is negative")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func validRow(kind, name string, seen map[string]bool) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("diag: the name %q of a %s file must have 1 to 64 characters", name, kind)
	}
	if seen[kind+name] {
		return fmt.Errorf("diag: two %s files have the name %q", kind, name)
	}
	seen[kind+name] = true
	return nil
}

// resolver is net.Resolver.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}
