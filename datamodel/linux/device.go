package linux

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
)

// identity collects the DeviceInfo parameters that do not change while the machine runs.
func (p *Provider) identity() map[string]string {
	release := p.osRelease()
	first := func(n int, candidates ...string) string {
		for _, c := range candidates {
			if c = clip(c, n); c != "" && !slices.Contains(placeholders, strings.ToLower(c)) {
				return c
			}
		}
		return ""
	}
	dmi := func(name string) string { return p.text("sys/class/dmi/id/" + name) }
	out := map[string]string{
		"Manufacturer":    first(64, p.o.Manufacturer, dmi("sys_vendor"), dmi("board_vendor"), release["NAME"]),
		"ManufacturerOUI": p.o.ManufacturerOUI,
		"ProductClass":    first(64, p.o.ProductClass),
		"ModelName":       first(64, p.o.ModelName, dmi("product_name"), p.text("proc/device-tree/model"), release["PRETTY_NAME"]),
		"SerialNumber":    first(64, p.o.SerialNumber, dmi("product_serial"), p.text("proc/device-tree/serial-number")),
		"HardwareVersion": first(64, p.o.HardwareVersion, dmi("product_version"), dmi("board_version")),
		"SoftwareVersion": first(64, p.o.SoftwareVersion, release["VERSION_ID"], release["BUILD_ID"]),
	}
	for name, v := range out {
		if v == "" {
			delete(out, name) // not served: the stored or factory value counts
		}
	}
	return out
}

// placeholders are what makers leave in DMI when they forget to fill it in.
var placeholders = []string{"to be filled by o.e.m.", "default string", "system manufacturer", "system product name",
	"system serial number", "system version", "not specified", "none", "0", "n/a", "unknown"}

func (p *Provider) osRelease() map[string]string {
	text := p.text("etc/os-release")
	if text == "" {
		text = p.text("usr/lib/os-release")
	}
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if key, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[key] = strings.Trim(v, `"'`)
		}
	}
	return out
}

func (p *Provider) deviceInfo(name string) (string, bool) {
	if name == "UpTime" {
		seconds, _, _ := strings.Cut(p.text("proc/uptime"), ".")
		n, err := strconv.ParseUint(seconds, 10, 64)
		return strconv.FormatUint(min(n, math.MaxUint32), 10), err == nil
	}
	v, ok := p.ident[name]
	return v, ok
}

// memory gives Total and Free in KiB; Free is what programs can have without swapping.
func (p *Provider) memory() reader {
	info := map[string]string{}
	for line := range strings.Lines(p.text("proc/meminfo")) {
		if f := strings.Fields(line); len(f) >= 2 {
			info[strings.TrimSuffix(f[0], ":")] = f[1]
		}
	}
	kib := func(key string) (string, bool) {
		n, err := strconv.ParseUint(info[key], 10, 64)
		return strconv.FormatUint(min(n, math.MaxUint32), 10), err == nil
	}
	return func(name string) (string, bool) {
		switch name {
		case "Total":
			return kib("MemTotal")
		case "Free":
			if v, ok := kib("MemAvailable"); ok {
				return v, true
			}
			return kib("MemFree")
		}
		return "", false
	}
}

// cpuMeter turns the kernel's counters into a percentage of the time between two readings.
type cpuMeter struct {
	busy, total uint64
	at          time.Time
	percent     uint64
}

// minCPUSpan is the shortest time that a percentage is taken over; readers in between get the last one.
const minCPUSpan = 500 * time.Millisecond

func (p *Provider) load(name string) (string, bool) {
	if name != "CPUUsage" {
		return "", false
	}
	line, _, _ := strings.Cut(p.text("proc/stat"), "\n")
	f := strings.Fields(line)
	if len(f) < 5 || f[0] != "cpu" {
		return "", false
	}
	var total, idle uint64
	for i, s := range f[1:] {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return "", false
		}
		if i > 7 { // guest time is part of user time already
			break
		}
		total += n
		if i == 3 || i == 4 { // idle and iowait
			idle += n
		}
	}
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.cpu
	if !c.at.IsZero() && now.Sub(c.at) < minCPUSpan {
		return strconv.FormatUint(c.percent, 10), true
	}
	busy := total - idle
	if total > c.total && busy >= c.busy { // the first time: since the machine started
		c.percent = min(100, ((busy-c.busy)*100+(total-c.total)/2)/(total-c.total))
	}
	c.busy, c.total, c.at = busy, total, now
	return strconv.FormatUint(c.percent, 10), true
}

// processes lists the PIDs, which are the instance numbers.
func (p *Provider) processes() ([]uint32, error) {
	dir, err := os.Open(p.path("proc"))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []uint32
	for _, n := range names {
		if pid, err := strconv.ParseUint(n, 10, 32); err == nil && pid > 0 {
			out = append(out, uint32(pid))
		}
	}
	slices.Sort(out)
	if len(out) > maxProcesses {
		p.log.Warn("more processes than are listed", "processes", len(out), "listed", maxProcesses)
		out = out[:maxProcesses]
	}
	return out, nil
}

var processStates = map[string]string{"R": "Running", "S": "Sleeping", "T": "Stopped", "t": "Stopped", "I": "Idle",
	"D": "Uninterruptible", "Z": "Zombie"}

// ticksPerSecond is what the kernel counts process time in towards programs (USER_HZ), on every architecture we build for.
const ticksPerSecond = 100

// process reads one line of /proc/PID/stat. Only the program's name is shown, never its arguments, which may hold
// secrets.
func (p *Provider) process(rest string) reader {
	pid, _, _ := strings.Cut(rest, ".")
	if _, err := strconv.ParseUint(pid, 10, 32); err != nil {
		return nil
	}
	stat := p.text("proc/" + pid + "/stat")
	open, shut := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || shut < open {
		return nil // it ended
	}
	f := strings.Fields(stat[shut+1:]) // f[0] is field 3 of proc(5)
	if len(f) < 22 {
		return nil
	}
	number := func(field int) int64 {
		n, _ := strconv.ParseInt(f[field-3], 10, 64)
		return n
	}
	return func(name string) (string, bool) {
		switch name {
		case "PID":
			return pid, true
		case "Command":
			argv0, _, _ := strings.Cut(p.text("proc/"+pid+"/cmdline"), "\x00")
			if argv0, _, _ = strings.Cut(argv0, " "); argv0 == "" { // a kernel thread
				argv0 = stat[open+1 : shut]
			}
			return clip(argv0, 256), true
		case "Size":
			return unsigned32(number(24) * int64(os.Getpagesize()) / 1024), true
		case "Priority":
			return strconv.FormatInt(min(max(number(18), 0), 99), 10), true
		case "CPUTime":
			return unsigned32((number(14) + number(15)) * 1000 / ticksPerSecond), true
		case "State":
			if s, ok := processStates[f[0]]; ok {
				return s, true
			}
			return "Sleeping", true
		}
		return "", false
	}
}

// unsigned32 is a number for an unsignedInt: counters wrap at the range of the type.
func unsigned32(n int64) string { return strconv.FormatUint(uint64(uint32(n)), 10) }

func (p *Provider) clock(obj datamodel.ObjectRef) reader {
	return func(name string) (string, bool) {
		switch name {
		case "CurrentLocalTime":
			return p.o.Now().Format("2006-01-02T15:04:05Z07:00"), true
		case "Status":
			if obj.Stored != nil && obj.Stored("Device.Time.Enable") == "false" {
				return "Disabled", true
			}
			if p.synced == nil {
				return "", false
			}
			ok, err := p.synced()
			switch {
			case err != nil:
				return "Error", true
			case ok:
				return "Synchronized", true
			}
			return "Unsynchronized", true
		}
		return "", false
	}
}
