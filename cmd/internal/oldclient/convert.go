package oldclient

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Clients that are known.
const (
	Easycwmp = "easycwmp"
	Icwmp    = "icwmp"
)

// Options of Convert.
type Options struct {
	Version string // of the older client, free text
	// SoftwareVersion that the ACS knows, where the state does not hold it.
	SoftwareVersion string
	// TR098: the older client spelled its paths with InternetGatewayDevice.
	TR098 bool
}

// node is an element of a backup file.
type node struct {
	XMLName xml.Name
	Text    string `xml:",chardata"`
	Nodes   []node `xml:",any"`
}

func (n *node) child(name string) (string, bool) {
	for i := range n.Nodes {
		if n.Nodes[i].XMLName.Local == name {
			return strings.TrimSpace(n.Nodes[i].Text), true
		}
	}
	return "", false
}

func (n *node) text(name string) string {
	s, _ := n.child(name)
	return s
}

// find gives the first element of a name at or below n.
func (n *node) find(name string) *node {
	if n.XMLName.Local == name {
		return n
	}
	for i := range n.Nodes {
		if f := n.Nodes[i].find(name); f != nil {
			return f
		}
	}
	return nil
}

// converter writes the lines of the result.
type converter struct {
	root string
	b    strings.Builder
}

func (c *converter) line(format string, args ...any) { fmt.Fprintf(&c.b, format+"\n", args...) }

func (c *converter) value(path, text, more string) {
	c.line("value %s%s %s%s", c.root, path, strconv.Quote(text), more)
}

// option writes an option of a section as a value, if it is there.
func (c *converter) option(s *section, option, path string) {
	if text, ok := s.options[option]; ok && text != "" {
		if strings.HasPrefix(text, "$") { // filled in by the client itself
			c.line("# %s%s was %s", c.root, path, strconv.Quote(text))
			return
		}
		c.value(path, text, "")
	}
}

// Convert gives the file for an import. backup is the client's backup file, nil if there is none; a backup that cannot be read is an
// error, since what it says of BOOTSTRAP would be lost.
func Convert(client string, uci, backup []byte, o Options) (string, error) {
	sections, err := parseUCI(string(uci))
	if err != nil {
		return "", fmt.Errorf("uci: %w", err)
	}
	var tree *node
	if len(backup) > 0 {
		if len(backup) > maxInput {
			return "", fmt.Errorf("backup: larger than %d bytes", maxInput)
		}
		top := new(node)
		if err := xml.Unmarshal(backup, top); err != nil {
			return "", fmt.Errorf("backup: %w", err)
		}
		if tree = top.find("cwmp"); tree == nil {
			return "", errors.New("backup: no element cwmp")
		}
	}
	c := &converter{root: "Device."}
	model := "tr181"
	if o.TR098 {
		c.root, model = "InternetGatewayDevice.", "tr098"
	}
	c.line("twinspan-import 1")
	c.line("source %s", client)
	if o.Version != "" {
		c.line("version %s", strconv.Quote(o.Version))
	}
	c.line("model %s", model)
	switch client {
	case Easycwmp:
		err = c.easycwmp(sections, tree, o)
	case Icwmp:
		err = c.icwmp(sections, tree, o)
	default:
		err = fmt.Errorf("unknown client %q: %s or %s", client, Easycwmp, Icwmp)
	}
	c.line("end")
	return c.b.String(), err
}

// bootstrapped writes what a backup tells: which ACS was told, and whether that still waits.
func (c *converter) bootstrapped(known string, saved, waits bool) {
	switch {
	case waits:
		c.line("bootstrapped no")
	case saved && known != "":
		c.line("bootstrapped yes %s", strconv.Quote(known))
	default:
		c.line("bootstrapped unknown")
	}
}

// numbers of events in easycwmp's backup.
const (
	easyBootstrap = "0"
	easyPeriodic  = "2"
	easyScheduled = "3"
	easyReboot    = "11"
	easySchedule  = "12"
	easyUpload    = "14"
)

func (c *converter) easycwmp(sections []section, tree *node, o Options) error {
	if tree == nil {
		tree = new(node)
	}
	known, saved := tree.child("acs_url")
	waits := false
	methods := map[string]string{} // method -> event
	for i := range tree.Nodes {
		n := &tree.Nodes[i]
		if n.XMLName.Local == "event" {
			waits = waits || n.text("event_number") == easyBootstrap
			if m := n.text("event_method_id"); m != "" {
				methods[m] = n.text("event_number")
			}
		}
	}
	c.bootstrapped(known, saved, waits)
	found, version := false, o.SoftwareVersion
	for i := range sections {
		s := &sections[i]
		switch s.kind {
		case "acs":
			found = true
			if key := s.options["parameter_key"]; key != "" {
				c.line("parameter-key %s", strconv.Quote(key))
			}
			c.option(s, "url", "ManagementServer.URL")
			c.option(s, "username", "ManagementServer.Username")
			c.option(s, "password", "ManagementServer.Password")
			if text, ok := s.options["periodic_enable"]; ok {
				c.value("ManagementServer.PeriodicInformEnable", strconv.FormatBool(text == "1"), "")
			}
			c.option(s, "periodic_interval", "ManagementServer.PeriodicInformInterval")
			c.periodicTime(s.options["periodic_time"])
		case "local":
			c.option(s, "username", "ManagementServer.ConnectionRequestUsername")
			c.option(s, "password", "ManagementServer.ConnectionRequestPassword")
			c.option(s, "provisioning_code", "DeviceInfo.ProvisioningCode")
		case "device":
			if version == "" {
				version = s.options["software_version"]
			}
		case "notifications":
			c.notifications(s, map[string]int{"none": 0, "passive": 1, "active": 2})
		}
	}
	if !found {
		return errors.New("uci: no section acs")
	}
	if text := tree.text("software_version"); text != "" && o.SoftwareVersion == "" { // that of the last Inform
		version = text
	}
	if version != "" {
		c.value("DeviceInfo.SoftwareVersion", version, "")
	}
	for i := range tree.Nodes {
		if err := c.easyNode(&tree.Nodes[i], methods); err != nil {
			return err
		}
	}
	return nil
}

func (c *converter) easyNode(n *node, methods map[string]string) error {
	switch name := n.XMLName.Local; name {
	case "event":
		c.event(n.text("event_number"), n.text("event_key"), map[string]string{easyPeriodic: "2 PERIODIC", easyScheduled: "3 SCHEDULED", easyReboot: "M Reboot", easySchedule: "M ScheduleInform"})
	case "download", "upload":
		return c.queued(name, n, n.text("time_execute"))
	case "transfer_complete":
		kind := "download"
		if methods[n.text("method_id")] == easyUpload {
			kind = "upload"
		}
		fault, err := strconv.Atoi(n.text("fault_code"))
		if err != nil {
			return errors.New("backup: a transfer_complete without its fault_code")
		}
		state := "done"
		if kind == "download" && fault == 0 && strings.HasPrefix(n.text("complete_time"), "0001-") { // the client fills that in at its next start
			state = "delivered"
		}
		c.ended(kind, state, n, fault, n.text("fault_string"))
	}
	return nil
}

// periodicTime takes a time in; easycwmp and icwmp read it without looking at its zone.
func (c *converter) periodicTime(text string) {
	if len(text) >= len("2006-01-02T15:04:05") {
		if t, err := time.Parse("2006-01-02T15:04:05", text[:19]); err == nil {
			c.value("ManagementServer.PeriodicInformTime", t.Format(time.RFC3339), "")
		}
	}
}

func (c *converter) notifications(s *section, kinds map[string]int) {
	for _, kind := range []string{"none", "passive", "active", "passive_lw", "passive_passive_lw", "active_lw", "passive_active_lw"} {
		n, ok := kinds[kind]
		if !ok {
			continue
		}
		for _, path := range s.lists[kind] {
			if !strings.HasPrefix(path, c.root) {
				c.line("# attributes of another model: %s", strconv.Quote(path))
				continue
			}
			c.line("attr %s notification=%d", path, n)
		}
	}
}

// event writes one that waits; those that belong to a transfer follow from it.
func (c *converter) event(number, key string, codes map[string]string) {
	code, ok := codes[number]
	switch {
	case !ok:
	case strings.HasPrefix(code, "M "):
		c.line("event %s %s", strconv.Quote(code), strconv.Quote(key))
	default:
		c.line("event %s", strconv.Quote(code))
	}
}

// queued writes a transfer that is still to be done. at is in seconds since 1970.
func (c *converter) queued(kind string, n *node, at string) error {
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<33 {
		return fmt.Errorf("backup: a %s without its time", kind)
	}
	more := ""
	if size := n.text("file_size"); size != "" && kind == "download" {
		if v, err := strconv.ParseUint(size, 10, 32); err == nil {
			more = fmt.Sprint(" size=", v)
		}
	}
	c.line("%s %s queued type=%s url=%s user=%s password=%s not-before=%s%s", kind, strconv.Quote(n.text("command_key")), strconv.Quote(n.text("file_type")),
		strconv.Quote(n.text("url")), strconv.Quote(n.text("username")), strconv.Quote(n.text("password")), time.Unix(seconds, 0).UTC().Format(time.RFC3339), more)
	return nil
}

// ended writes a transfer that is over.
func (c *converter) ended(kind, state string, n *node, fault int, text string) {
	more := ""
	for _, f := range [...]struct{ element, name string }{{"start_time", "start"}, {"complete_time", "complete"}} {
		if t, err := time.Parse(time.RFC3339, clientTime(n.text(f.element))); err == nil && t.Year() > 1 {
			more += " " + f.name + "=" + t.Format(time.RFC3339)
		}
	}
	if fault != 0 {
		more += fmt.Sprintf(" fault=%d text=%s", fault, strconv.Quote(text))
	}
	c.line("%s %s %s%s", kind, strconv.Quote(n.text("command_key")), state, more)
}

// clientTime puts the colon into a zone that strftime wrote without one.
func clientTime(text string) string {
	if n := len(text); n > 5 && (text[n-5] == '+' || text[n-5] == '-') && !strings.Contains(text[n-5:], ":") {
		return text[:n-2] + ":" + text[n-2:]
	}
	return text
}
