package oldclient

import (
	"errors"
	"strconv"
	"time"
)

// icwmp reads the configuration and the backup of icwmp. An ACS URL that DHCP gave is in none of its files but the backup.
func (c *converter) icwmp(sections []section, tree *node, o Options) error {
	known, saved, waits := "", false, false
	if tree == nil {
		tree = new(node)
	}
	version := o.SoftwareVersion
	for i := range tree.Nodes {
		switch n := &tree.Nodes[i]; n.XMLName.Local {
		case "acs":
			known, saved = n.child("url")
		case "queue_event", "send_event":
			waits = waits || n.text("index") == "0"
		case "transfer_complete":
			if text := n.text("old_software_version"); text != "" && version == "" {
				version = text
			}
		}
	}
	c.bootstrapped(known, saved, waits)
	found := false
	for i := range sections {
		s := &sections[i]
		switch {
		case s.kind == "notifications":
			c.notifications(s, map[string]int{"passive": 1, "active": 2, "passive_lw": 3, "passive_passive_lw": 4, "active_lw": 5, "passive_active_lw": 6})
		case s.kind == "cwmp" && s.name == "acs":
			found = true
			c.icwmpACS(s)
		case s.kind == "cwmp" && s.name == "cpe":
			c.option(s, "userid", "ManagementServer.ConnectionRequestUsername")
			c.option(s, "passwd", "ManagementServer.ConnectionRequestPassword")
			c.option(s, "provisioning_code", "DeviceInfo.ProvisioningCode")
		}
	}
	if !found {
		return errors.New("uci: no section cwmp acs")
	}
	if version != "" {
		c.value("DeviceInfo.SoftwareVersion", version, "")
	}
	for i := range tree.Nodes {
		if err := c.icwmpNode(&tree.Nodes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *converter) icwmpACS(s *section) {
	if key := s.options["ParameterKey"]; key != "" {
		c.line("parameter-key %s", strconv.Quote(key))
	}
	if url := s.options["url"]; url != "" {
		origin := ""
		if s.options["dhcp_discovery"] == "enable" { // the ACS's own write switches that off
			origin = " origin=dhcp"
		}
		c.value("ManagementServer.URL", url, origin)
	}
	c.option(s, "userid", "ManagementServer.Username")
	c.option(s, "passwd", "ManagementServer.Password")
	if text, ok := s.options["periodic_inform_enable"]; ok {
		c.value("ManagementServer.PeriodicInformEnable", strconv.FormatBool(text == "1" || text == "true"), "")
	}
	c.option(s, "periodic_inform_interval", "ManagementServer.PeriodicInformInterval")
	if n, err := strconv.ParseInt(s.options["periodic_inform_time"], 10, 64); err == nil && n > 0 && n < 1<<33 {
		c.value("ManagementServer.PeriodicInformTime", time.Unix(n, 0).UTC().Format(time.RFC3339), "")
	}
	c.option(s, "retry_min_wait_interval", "ManagementServer.CWMPRetryMinimumWaitInterval")
	c.option(s, "retry_interval_multiplier", "ManagementServer.CWMPRetryIntervalMultiplier")
}

func (c *converter) icwmpNode(n *node) error {
	switch name := n.XMLName.Local; name {
	case "queue_event", "send_event":
		c.event(n.text("index"), n.text("command_key"), map[string]string{"2": "2 PERIODIC", "3": "3 SCHEDULED", "12": "M Reboot", "13": "M ScheduleInform"})
	case "schedule_inform":
		seconds, err := strconv.ParseInt(n.text("time"), 10, 64)
		if err != nil || seconds <= 0 || seconds > 1<<33 {
			return errors.New("backup: a schedule_inform without its time")
		}
		c.line("schedule-inform %s %s", strconv.Quote(n.text("command_key")), time.Unix(seconds, 0).UTC().Format(time.RFC3339))
	case "download", "upload":
		return c.queued(name, n, n.text("time"))
	case "transfer_complete":
		kinds := map[string]string{"0": "download", "1": "schedule-download", "2": "upload"}
		kind, ok := kinds[n.text("type")]
		fault, err := strconv.Atoi(n.text("fault_code"))
		if !ok || err != nil {
			return errors.New("backup: a transfer_complete without its type or fault_code")
		}
		if fault != 0 { // a number of its own, whose meaning changed with the versions of the client
			if fault = 9010; kind == "upload" {
				fault = 9011
			}
		}
		c.ended(kind, "done", n, fault, "failed under the client before this one")
	case "schedule_download", "apply_schedule_download", "change_du_state", "du_state_change_complete":
		c.line("# not taken over: %s %s", name, strconv.Quote(n.text("command_key")))
	}
	return nil
}
