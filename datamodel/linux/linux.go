package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"twinspan/datamodel"
)

// Limits of what one machine shows. What is beyond is left out and logged once.
const (
	maxInterfaces = 256
	maxAddresses  = 64 // of one interface and family
	maxProcesses  = 8192
	maxHosts      = 1024
	maxHostIPs    = 16
	maxFile       = 1 << 20 // bytes read of one file
)

// Provider reports one machine. Make it with New, end it with Close.
type Provider struct {
	o      Options
	log    *slog.Logger
	ident  map[string]string // DeviceInfo parameters that do not change
	synced func() (bool, error)
	link   func(name string) (linkSettings, error)
	watch  *watcher

	mu    sync.Mutex
	cpu   cpuMeter
	hosts hostTable
	links map[string]linkState // by interface name
	rowOf map[string]uint32    // "Device.Ethernet.Interface.eth0" -> instance number, verified at every use
}

// New reads what does not change and opens the socket for change hints. It fails only for options that make no sense
// and for a root without proc/.
func New(o Options) (*Provider, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Root == "" {
		o.Root = "/"
	}
	real := filepath.Clean(o.Root) == "/"
	if o.Ignore == nil {
		o.Ignore = DefaultIgnore
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Provider{o: o, log: o.Log, rowOf: map[string]uint32{}, links: map[string]linkState{}}
	if _, err := os.Stat(p.path("proc")); err != nil {
		return nil, fmt.Errorf("linux: %w", err)
	}
	p.ident = p.identity()
	if real {
		p.synced, p.link = clockSynced, kernelLink
		if o.IPv4 == nil {
			p.o.IPv4 = kernelIPv4
		}
		var err error
		if p.watch, err = startWatcher(); err != nil {
			p.log.Warn("no hints about interface changes", "error", err)
		}
	}
	return p, nil
}

// Close ends the goroutine. Idempotent. The provider still reads afterwards.
func (p *Provider) Close() error {
	if p.watch == nil {
		return nil
	}
	return p.watch.Close()
}

// Name implements datamodel.Provider.
func (p *Provider) Name() string { return "linux" }

const (
	ethTable  = "Device.Ethernet.Interface."
	ipTable   = "Device.IP.Interface."
	procTable = "Device.DeviceInfo.ProcessStatus.Process."
	hostTab   = "Device.Hosts.Host."
)

// Serves implements datamodel.Provider.
func (p *Provider) Serves() []string {
	out := []string{
		"Device.DeviceInfo.UpTime",
		"Device.DeviceInfo.MemoryStatus.Total",
		"Device.DeviceInfo.MemoryStatus.Free",
		"Device.DeviceInfo.ProcessStatus.CPUUsage",
		procTable + "{i}.",
		"Device.Time.CurrentLocalTime",
		"Device.Time.Status",
		ethTable + "{i}.",
		ethTable + "{i}.Stats.",
		"Device.IP.IPv4Capable",
		"Device.IP.IPv6Capable",
		"Device.IP.IPv4Enable", "Device.IP.IPv4Status", "Device.IP.IPv6Enable", "Device.IP.IPv6Status",
		ipTable + "{i}.",
		ipTable + "{i}.Stats.",
		ipTable + "{i}.IPv4Address.{i}.Status",
		ipTable + "{i}.IPv6Address.{i}.Status",
		ipTable + "{i}.IPv6Address.{i}.IPAddressStatus",
		ipTable + "{i}.IPv6Address.{i}.Origin",
		hostTab + "{i}.",
		hostTab + "{i}.IPv4Address.{i}.",
	}
	for name := range p.ident {
		out = append(out, "Device.DeviceInfo."+name)
	}
	return out
}

// Read implements datamodel.Provider. What cannot be read is left out; the reason is logged at debug level.
func (p *Provider) Read(ctx context.Context, obj datamodel.ObjectRef, params []string, yield func(name, value string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	values := p.object(obj)
	if values == nil {
		return nil
	}
	for _, name := range params {
		if v, ok := values(name); ok {
			yield(name, v)
		}
	}
	return nil
}

// reader gives the value of a parameter by its name; ok=false: not known here.
type reader func(name string) (value string, ok bool)

// object chooses the reader of an object instance.
func (p *Provider) object(obj datamodel.ObjectRef) reader {
	switch {
	case obj.Path == "Device.DeviceInfo.":
		return p.deviceInfo
	case obj.Path == "Device.DeviceInfo.MemoryStatus.":
		return p.memory()
	case obj.Path == "Device.DeviceInfo.ProcessStatus.":
		return p.load
	case obj.Path == "Device.Time.":
		return p.clock(obj)
	case obj.Path == "Device.IP.":
		return p.ipCapable
	case strings.HasPrefix(obj.Path, procTable):
		return p.process(obj.Path[len(procTable):])
	case strings.HasPrefix(obj.Path, ethTable):
		return p.ethernet(obj)
	case strings.HasPrefix(obj.Path, ipTable):
		return p.ip(obj)
	case strings.HasPrefix(obj.Path, hostTab):
		return p.host(obj)
	}
	return nil
}

// Lists implements datamodel.Lister.
func (p *Provider) Lists() []string {
	return []string{procTable, hostTab, hostTab + "{i}.IPv4Address."}
}

// Instances implements datamodel.Lister.
func (p *Provider) Instances(ctx context.Context, table string) ([]uint32, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch {
	case table == procTable:
		return p.processes()
	case table == hostTab:
		return p.hostRows()
	case strings.HasPrefix(table, hostTab):
		return p.hostAddressRows(table)
	}
	return nil, fmt.Errorf("linux: %s is not a table of this provider", table)
}

// Syncs implements datamodel.Syncer. The address tables come with their interfaces.
func (p *Provider) Syncs() []string { return []string{ethTable, ipTable} }

// Changed implements datamodel.Syncer.
func (p *Provider) Changed() <-chan struct{} {
	if p.watch == nil {
		return nil
	}
	return p.watch.hint
}

// Applies implements datamodel.Applier: what is read live and a manager could write.
func (p *Provider) Applies() []string {
	return []string{
		ethTable + "{i}.Enable", ethTable + "{i}.DuplexMode", ethTable + "{i}.MaxBitRate",
		"Device.IP.IPv4Enable", "Device.IP.IPv6Enable",
		ipTable + "{i}.Enable", ipTable + "{i}.IPv4Enable", ipTable + "{i}.IPv6Enable",
		ipTable + "{i}.MaxMTUSize", ipTable + "{i}.Loopback",
		ipTable + "{i}.IPv4Address.{i}.", ipTable + "{i}.IPv6Address.{i}.",
	}
}

// Prepare implements datamodel.Applier. It refuses what the provider will not carry out, since a manager must not
// believe in a value that the device does not have.
func (p *Provider) Prepare(_ context.Context, writes []datamodel.Write) error {
	for _, w := range writes {
		object, name := datamodel.SplitParam(w.Path)
		switch {
		case name == "Alias":
			continue // ours, not the system's
		case w.Added, w.Deleted:
			return datamodel.Fail(datamodel.NotImplemented, w.Path, "addresses are configured by the system, which this agent only reports")
		case p.isNow(object, name, w.Value):
			continue
		}
		return datamodel.Fail(datamodel.NotImplemented, w.Path, "this is configured by the system, which this agent only reports")
	}
	return nil
}

// isNow reports whether an interface parameter has the value already. The interface is known once it was read.
func (p *Provider) isNow(object, name, value string) bool {
	if object == "Device.IP." {
		now, ok := p.ipCapable(name)
		return ok && now == value
	}
	table := ethTable
	if strings.HasPrefix(object, ipTable) {
		table = ipTable
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(object, table), "."), 10, 32)
	if err != nil {
		return false
	}
	ifname := ""
	p.mu.Lock()
	for key, row := range p.rowOf {
		if rest, ok := strings.CutPrefix(key, table); ok && row == uint32(n) {
			ifname = rest
		}
	}
	p.mu.Unlock()
	ref := datamodel.ObjectRef{Path: object, Stored: func(path string) string {
		if path == object+"Name" {
			return ifname
		}
		return ""
	}}
	if r := p.object(ref); r != nil {
		now, ok := r(name)
		return ok && now == value
	}
	return false
}

// Apply implements datamodel.Applier. Prepare lets nothing through that would have to be done.
func (p *Provider) Apply(context.Context, []datamodel.Write) error { return nil }

func (p *Provider) path(rel string) string { return filepath.Join(p.o.Root, rel) }

// text reads a small file below the root without its final line end; "" if there is none.
func (p *Provider) text(rel string) string {
	s, _ := p.file(rel)
	return strings.TrimRight(s, "\n\x00")
}

// file reads at most maxFile bytes. A manager that asks for everything makes us read hundreds of small files, so that it is done
// with as few system calls as there must be.
func (p *Provider) file(rel string) (string, error) {
	fd, err := again(func() (int, error) { return syscall.Open(p.path(rel), syscall.O_RDONLY|syscall.O_CLOEXEC, 0) })
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	var small [2048]byte
	b := small[:0]
	for len(b) < maxFile && err == nil {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(4*cap(b), maxFile)), b...)
		}
		var n int
		if n, err = again(func() (int, error) { return syscall.Read(fd, b[len(b):cap(b)]) }); n <= 0 {
			break
		}
		b = b[:len(b)+n]
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.log.Debug("cannot read", "file", rel, "error", err) // speed of a link that is down, say
	}
	return string(b), err
}

// again repeats a system call that a signal interrupted.
func again(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

func (p *Provider) exists(rel string) bool {
	_, err := os.Stat(p.path(rel))
	return err == nil
}

// number reads a file that holds one unsigned number, decimal or 0x.
func (p *Provider) number(rel string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(p.text(rel)), 0, 64)
	return n, err == nil
}

// clip makes a text of the system fit for the data model: valid characters, at most n of them.
func clip(s string, n int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0xFFFE || r == 0xFFFF {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "")))
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
