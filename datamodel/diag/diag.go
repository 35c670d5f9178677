package diag

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/datamodel"
)

// Limits of single runs. What is beyond is refused with InvalidArgs.
const (
	maxRepetitions = 1000        // packets of IPPing, UDPEchoDiagnostics, and of one host of ServerSelectionDiagnostics
	maxLookups     = 100         // repetitions of NSLookupDiagnostics
	maxTimeout     = 3600 * 1000 // ms
	maxConnections = 8           // of a throughput test
	maxIncrements  = 256         // rows of IncrementalResult
	maxEchoResults = 256         // rows of IndividualPacketResult; packets beyond it are counted only
	maxHosts       = 10          // of ServerSelectionDiagnostics, as in the model
	maxLogBytes    = 64 << 20    // of a log file that is uploaded
	maxConfigBytes = 16 << 20    // of a configuration file
	maxResults     = 1024        // characters of SelfTestDiagnostics Results, as in the model
)

// Objects of the model.
const (
	ipDiag  = "Device.IP.Diagnostics."
	dnsDiag = "Device.DNS.Diagnostics."
	logTab  = "Device.DeviceInfo.VendorLogFile."
	confTab = "Device.DeviceInfo.VendorConfigFile."
	ipTab   = "Device.IP.Interface."
	ethTab  = "Device.Ethernet.Interface."
)

// Provider runs the commands. Make it with New, end it with Close. Safe for concurrent use.
type Provider struct {
	o        Options
	log      *slog.Logger
	commands map[string]command // by supported path
	echo     *echoServer

	// Seams of the tests; the real ones are set by New.
	names     resolver
	addresses func(ifname string) ([]netip.Addr, error)
	counters  func(ifname string) (rx, tx uint64, err error)
	servers   func() (servers []netip.Addr, domain string)
	listen    func(dst netip.Addr, src netip.Addr, errorsToo bool) (icmpConn, error)
	echoPort  uint16        // of ServerSelectionDiagnostics
	dnsPort   uint16        // of NSLookupDiagnostics
	pace      time.Duration // at least between two packets of IPPing and the like
	idle      time.Duration // how long a peer of a transfer may be silent

	end    context.Context // ends in Close
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	runs   map[string]int // by supported path
	total  int
	wg     sync.WaitGroup
}

// command is one entry of the table of commands.
type command struct {
	run func(ctx context.Context, r *run) error
	// states are the error words of Status; others become Error_Other. Empty: there is no Status.
	states []string
	limit  time.Duration
	one    bool // one run at a time for all instances
}

// New checks the options. It opens nothing.
func New(o Options) (*Provider, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	p := &Provider{o: o, log: o.Log, names: net.DefaultResolver, addresses: kernelAddresses, counters: sysfsCounters,
		servers: systemServers, listen: listenICMP, echoPort: 7, dnsPort: 53, pace: 100 * time.Millisecond,
		idle: 30 * time.Second, runs: map[string]int{}}
	p.end, p.cancel = context.WithCancel(context.Background())
	p.echo = &echoServer{p: p, conf: map[string]string{}}
	p.commands = p.table()
	return p, nil
}

// Error words that commands share.
const (
	errResolve  = "Error_CannotResolveHostName"
	errNoRoute  = "Error_NoRouteToHost"
	errInternal = "Error_Internal"
	errOther    = "Error_Other"
	errTimeout  = "Error_Timeout"
	complete    = "Complete"
)

func (p *Provider) table() map[string]command {
	few := []string{errResolve, errInternal}
	route := []string{errResolve, errNoRoute, errInternal}
	t := p.o.MaxTime
	return map[string]command{
		ipDiag + "IPPing()":     {run: p.ping, states: route, limit: t},
		ipDiag + "TraceRoute()": {run: p.traceRoute, states: append([]string{errMaxHops}, route...), limit: t},
		ipDiag + "DownloadDiagnostics()": {run: p.download, limit: p.o.MaxTransferTime, states: append([]string{
			errConnect, errNoResponse, errTransfer, errLogin, errSize, errTimeout}, route...)},
		ipDiag + "UploadDiagnostics()": {run: p.upload, limit: p.o.MaxTransferTime, states: append([]string{
			errConnect, errNoResponse, errLogin, errNoTransfer, errTimeout}, route...)},
		ipDiag + "UDPEchoDiagnostics()":         {run: p.udpEcho, states: few, limit: t},
		ipDiag + "ServerSelectionDiagnostics()": {run: p.serverSelection, states: few, limit: t},
		dnsDiag + "NSLookupDiagnostics()":       {run: p.nsLookup, states: []string{errServerName, errInternal}, limit: t},
		"Device.SelfTestDiagnostics()":          {run: p.selfTest, states: []string{errInternal}, limit: 2 * time.Minute, one: true},
		logTab + "{i}.Upload()":                 {run: p.uploadLog, limit: p.o.MaxTransferTime, one: true},
		confTab + "{i}.Backup()":                {run: p.backup, limit: p.o.MaxTransferTime, one: true},
		confTab + "{i}.Restore()":               {run: p.restore, limit: p.o.MaxTransferTime, one: true},
		ipTab + "{i}.Reset()":                   {run: p.resetInterface, limit: hookTime, one: true},
		ipTab + "{i}.Stats.Reset()":             {run: p.resetStats, limit: hookTime, one: true},
		ethTab + "{i}.Stats.Reset()":            {run: p.resetStats, limit: hookTime, one: true},
	}
}

// Close ends what runs, and the echo server, and waits for them. Idempotent.
func (p *Provider) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
	p.echo.close()
	return nil
}

// Name implements datamodel.Provider.
func (*Provider) Name() string { return "diag" }

// Commands implements datamodel.Commander. Reset is only offered with its hook.
func (p *Provider) Commands() []string {
	out := make([]string, 0, len(p.commands))
	for path := range p.commands {
		out = append(out, path)
	}
	return out
}

// run is one run of a command.
type run struct {
	inv  datamodel.Invocation
	args *args
	out  map[string]string
}

func (r *run) set(name, value string)              { r.out[name] = value }
func (r *run) number(name string, v uint64)        { r.out[name] = strconv.FormatUint(v, 10) }
func (r *run) time(name string, t time.Time)       { r.out[name] = lexical(t) }
func (r *run) micros(name string, d time.Duration) { r.number(name, clip32(d.Microseconds())) }

// millis rounds to whole milliseconds.
func (r *run) millis(name string, d time.Duration) {
	r.number(name, clip32(d.Round(time.Millisecond).Milliseconds()))
}

func clip32(n int64) uint64 { return uint64(max(0, min(n, 1<<32-1))) }

// lexical is a dateTime with all six digits of microseconds, as TR-143 wants it; the unknown time for the zero value.
func lexical(t time.Time) string {
	if t.IsZero() {
		return datamodel.UnknownTime
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// statusError ends a test with a word for Status.
type statusError struct {
	word string
	err  error
}

func (e *statusError) Error() string { return e.word + ": " + e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

func status(word string, err error) error { return &statusError{word, err} }

var (
	errTooLong = errors.New("the time limit of this command was reached")
	errClosed  = errors.New("the provider was closed")
)

// Run implements datamodel.Commander. Errors: NotSupported (not a command of this provider), InvalidArgs, Resources
// (too many runs), NotImplemented, CommandFailed, and the context's when it ended, then with the results so far.
func (p *Provider) Run(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	path := datamodel.SupportedPath(inv.Command)
	c, ok := p.commands[path]
	if !ok {
		return nil, datamodel.Fail(datamodel.NotSupported, inv.Command, "")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.enter(path, inv.Command, c); err != nil {
		return nil, err
	}
	defer p.leave(path)
	limited, cancel := context.WithTimeoutCause(ctx, c.limit, errTooLong)
	defer cancel()
	limited, stop := context.WithCancelCause(limited)
	defer stop(nil)
	defer context.AfterFunc(p.end, func() { stop(errClosed) })()
	r := &run{inv: inv, args: &args{command: inv.Command, m: inv.Args}, out: map[string]string{}}
	err := c.run(limited, r)
	if len(c.states) == 0 {
		if ctx.Err() == nil && limited.Err() != nil && err != nil {
			err = datamodel.Fail(datamodel.CommandFailed, inv.Command, context.Cause(limited).Error())
		}
		return r.out, err
	}
	return r.out, p.conclude(ctx, limited, r, c, err)
}

// conclude sets Status.
func (p *Provider) conclude(ctx, limited context.Context, r *run, c command, err error) error {
	var word *statusError
	switch {
	case err == nil:
		r.set("Status", complete)
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(context.Cause(limited), errClosed):
		return context.Canceled
	case errors.Is(context.Cause(limited), errTooLong):
		word = &statusError{errTimeout, errTooLong}
	case !errors.As(err, &word):
		return err
	}
	p.log.Debug("test ended with an error", "command", r.inv.Command, "status", word.word, "error", word.err)
	for _, known := range c.states {
		if known == word.word {
			r.set("Status", word.word)
			return nil
		}
	}
	r.set("Status", errOther)
	return nil
}

// enter counts a run.
func (p *Provider) enter(path, asked string, c command) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := p.o.MaxRuns
	if c.one {
		most = 1
	}
	switch {
	case p.closed:
		return datamodel.Fail(datamodel.Resources, asked, "the device is shutting down")
	case p.runs[path] >= most:
		return datamodel.Fail(datamodel.Resources, asked, "this command runs already, at most "+strconv.Itoa(most)+" at a time")
	case p.total >= 4*p.o.MaxRuns:
		return datamodel.Fail(datamodel.Resources, asked, "too many tests are running")
	}
	p.runs[path]++
	p.total++
	p.wg.Add(1)
	return nil
}

func (p *Provider) leave(path string) {
	p.mu.Lock()
	p.runs[path]--
	p.total--
	p.mu.Unlock()
	p.wg.Done()
}

// args reads input arguments and remembers the first that is wrong.
type args struct {
	command string
	m       map[string]string
	err     error
}

func (a *args) fail(name, why string) {
	if a.err == nil {
		a.err = datamodel.Fail(datamodel.InvalidArgs, a.command, "argument "+name+" "+why)
	}
}

// number reads an argument; def stands for a missing one, and for 0 where the model allows a 0 that makes no sense.
func (a *args) number(name string, def, least, most uint64) uint64 {
	s, ok := a.m[name]
	if !ok || s == "" {
		return def
	}
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case err == nil && n == 0:
		return def
	case err != nil:
		a.fail(name, "is not a number")
	case n < least || n > most:
		a.fail(name, "must be "+strconv.FormatUint(least, 10)+" to "+strconv.FormatUint(most, 10)+" on this device")
	default:
		return n
	}
	return def
}

func (a *args) millis(name string, def time.Duration) time.Duration {
	return time.Duration(a.number(name, uint64(def.Milliseconds()), 1, maxTimeout)) * time.Millisecond
}

func (a *args) flag(name string) bool { return a.m[name] == "true" || a.m[name] == "1" }

// host is a name or an address that must be there.
func (a *args) host(name string) string {
	s := strings.TrimSpace(a.m[name])
	if s == "" {
		a.fail(name, "is empty")
	}
	return s
}

// sleep waits, or less when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
