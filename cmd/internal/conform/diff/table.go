package diff

import (
	"fmt"
	"net"
	"strings"
)

const (
	clients = "Device.Time.Client."
	users   = "Device.Users.User."
	roles   = "Device.Users.Role."
	trust   = "Device.LocalAgent.ControllerTrust."
	zone    = "Device.Time.LocalTimeZone"
)

// Reasons that several rows share.
const (
	twoCommits = "CWMP adds a row and writes it in two requests, so that a refused setting leaves the empty row"
	aliasOnce  = "TR-181 gives Alias another access in each protocol (readWrite, writeOnceReadOnly)"
	missing    = "TP-469 1.25: deleting what is not there is a success; TR-069 A.3.2.7: fault 9005"
)

// table is what both faces can express, with the tests of TP-469 whose positive path it is.
var table = []row{
	{id: "get-parameter", title: "read one parameter (1.36)", run: func(s *script) { s.get("get", "ok", zone) }},
	{id: "get-unknown", title: "read a parameter that is not in the model (1.41)", run: func(s *script) { s.get("get", "unknown", "Device.Time.Nothing") }},
	{id: "get-unknown-object", title: "read an object that is not in the model", run: func(s *script) { s.get("get", "unknown", "Device.Nothing.") }},
	{id: "get-missing-row", title: "read a row that does not exist", run: func(s *script) { s.get("get", "unknown", clients+"4711.Enable") }},
	{id: "get-object", title: "read a whole object by partial path (1.39, 1.40)", run: func(s *script) {
		r := s.add("add", "ok", clients, "Servers", "a.example,b.example")
		s.get("get", "ok", r)
	}},
	{id: "get-table", title: "read a table by partial path (1.45)", run: func(s *script) {
		s.fresh()
		s.add("add", "ok", clients, "Servers", "one.example")
		s.get("get", "ok", clients)
	}},
	{id: "get-empty-table", title: "read an empty table by partial path (1.87)", run: func(s *script) { s.fresh(); s.get("get", "ok", users) }},
	{id: "set", title: "write one parameter (1.11)", run: func(s *script) {
		a := s.add("a", "ok", clients)
		s.set("set", "ok", a+"Servers", "ntp.example")
		s.get("get", "ok", a+"Servers")
	}},
	{id: "set-again", title: "write the value that is there already", run: func(s *script) {
		a := s.add("a", "ok", clients)
		s.set("set", "ok", a+"Burst", "3")
		s.set("again", "ok", a+"Burst", "3")
	}},
	{id: "set-many", title: "write several parameters of several rows at once (1.13)", run: func(s *script) {
		a, b := s.add("a", "ok", clients), s.add("b", "ok", clients)
		s.set("set", "ok", a+"Servers", "a.example", a+"Enable", "true", b+"Servers", "b.example", b+"Port", "1123")
	}},
	{id: "set-forms", title: "values in other legal forms become canonical", run: func(s *script) {
		a := s.add("a", "ok", clients)
		s.set("set", "ok", a+"Enable", "1", a+"IBurst", "true", a+"Servers", "x.example, y.example", a+"Port", "0123")
		s.get("Enable", "ok", a+"Enable")
		s.get("Servers", "ok", a+"Servers")
		s.get("Port", "ok", a+"Port")
	}},
	{id: "set-atomic", title: "one bad value among good ones changes nothing (1.15)", run: func(s *script) {
		a := s.add("a", "ok", clients)
		s.set("set", "bad value", a+"Servers", "a.example", a+"Port", "no number")
	}},
	{id: "set-boolean", title: "a boolean that is none (1.3)", run: func(s *script) { s.badValue("Enable", "maybe") }},
	{id: "set-number", title: "a number that is none", run: func(s *script) { s.badValue("Burst", "twelve") }},
	{id: "set-negative", title: "a negative number where none may be", run: func(s *script) { s.badValue("Burst", "-1") }},
	{id: "set-range", title: "a number out of its range", run: func(s *script) { s.badValue("Port", "65536") }},
	{id: "set-zero", title: "a number below its range", run: func(s *script) { s.badValue("Version", "0") }},
	{id: "set-ranges", title: "a number between its ranges", run: func(s *script) { s.badValue("IPVersion", "5") }},
	{id: "set-enum", title: "a word that is not in the enumeration", run: func(s *script) { s.badValue("Mode", "Telepathy") }},
	{id: "set-reference", title: "a strong reference to a row that does not exist", run: func(s *script) {
		s.badValue("Interface", "Device.IP.Interface.4711")
	}},
	{id: "set-reference-kind", title: "a reference to a row of another table", run: func(s *script) {
		s.badValue("Interface", "Device.Time.Client.1")
	}},
	{id: "set-long", title: "a text over its length", run: func(s *script) {
		a := s.add("a", "ok", users, "Username", "long")
		s.set("set", "bad value", a+"Language", strings.Repeat("x", 17))
	}},
	{id: "set-read-only", title: "write a read-only parameter (1.104)", run: func(s *script) {
		s.set("counter", "read-only", "Device.Time.ClientNumberOfEntries", "7")
		s.set("status", "read-only", "Device.Time.Status", "Synchronized")
	}},
	{id: "set-unknown", title: "write an unknown parameter (1.14)", run: func(s *script) {
		a := s.add("a", "ok", clients)
		s.set("set", "unknown", a+"Nothing", "x")
	}},
	{id: "set-missing-row", title: "write a parameter of a row that does not exist", run: func(s *script) {
		s.set("set", "unknown", clients+"4711.Enable", "true")
	}},
	{id: "set-object", title: "write an object", run: func(s *script) { s.set("set", "unknown", clients+"4711.", "true") }},
	{id: "set-wildcard", title: "write the same parameter of all rows (1.19)", run: func(s *script) {
		a, b := s.add("a", "ok", clients), s.add("b", "ok", clients)
		if s.f.name() == "USP" {
			s.set("set", "ok", clients+"*.Burst", "3")
		} else {
			s.set("set", "ok", a+"Burst", "3", b+"Burst", "3")
		}
	}},
	{id: "set-wildcard-bad", title: "the same with a bad value: no row changes (1.20)", run: func(s *script) {
		a, b := s.add("a", "ok", clients), s.add("b", "ok", clients)
		if s.f.name() == "USP" {
			s.set("set", "bad value", clients+"*.Burst", "x")
		} else {
			s.set("set", "bad value", a+"Burst", "x", b+"Burst", "x")
		}
	}},
	{id: "add", title: "add a row (1.1)", run: func(s *script) {
		r := s.add("add", "ok", clients)
		s.get("NumberOfEntries", "ok", "Device.Time.ClientNumberOfEntries")
		s.get("Enable", "ok", r+"Enable")
	}},
	{id: "add-child", title: "add rows of several tables that refer to each other (1.10)", run: func(s *script) {
		role := s.add("role", "ok", roles, "RoleName", "diff", "RoleID", "41")
		s.add("user", "ok", users, "Username", "ann", "UserID", "1041", "RoleParticipation", strings.TrimSuffix(role, "."))
	}},
	{id: "add-bad", title: "add a row with a bad value (1.3)", run: func(s *script) { s.add("add", "bad value", clients, "Enable", "maybe") },
		differs: map[string]declared{"state": {why: twoCommits}}},
	{id: "add-unknown-table", title: "add to a table that is not in the model (1.4)", run: func(s *script) { s.add("add", "unknown", "Device.Nothing.") }},
	{id: "add-single", title: "add to an object that is no table", run: func(s *script) { s.add("add", "no table", "Device.Time.") },
		differs: map[string]declared{"add": {"no table", "unknown", "CWMP has no code of its own for it (A.3.2.6: 9005)"}}},
	{id: "add-full", title: "add one row more than there is room for", run: func(s *script) {
		s.fresh()
		for i := range 8 {
			s.add(fmt.Sprintf("row %d", i), "ok", clients)
		}
		s.add("ninth", "no room", clients)
	}},
	{id: "key", title: "a unique key that another row has (1.9)", run: func(s *script) {
		s.add("ann", "ok", users, "Username", "ann", "UserID", "2001")
		b := s.add("bob", "ok", users, "Username", "bob", "UserID", "2002")
		s.set("set", "taken", b+"Username", "ann")
	}, differs: map[string]declared{"set": {"taken", "bad value", "CWMP has no code for keys"}}},
	{id: "key-swap", title: "two rows exchange their keys in one request", run: func(s *script) {
		a := s.add("ann", "ok", users, "Username", "ann", "UserID", "2001")
		b := s.add("bob", "ok", users, "Username", "bob", "UserID", "2002")
		s.set("set", "ok", a+"Username", "bob", b+"Username", "ann")
	}},
	{id: "alias", title: "rename an Alias twice (1.104)", run: func(s *script) {
		a := s.add("a", "ok", clients)
		s.set("first", "ok", a+"Alias", "diff-1")
		s.set("second", "ok", a+"Alias", "diff-2")
	}, differs: map[string]declared{"first": {"read-only", "ok", aliasOnce}, "second": {"read-only", "ok", aliasOnce}, "state": {why: aliasOnce}}},
	{id: "alias-new", title: "a row with an Alias from the beginning", run: func(s *script) { s.add("add", "ok", clients, "Alias", "diff-1") }},
	{id: "alias-bad", title: "a malformed Alias (1.88)", run: func(s *script) { s.add("add", "bad value", clients, "Alias", "1-bad") },
		differs: map[string]declared{"state": {why: twoCommits}}},
	{id: "projection", title: "one object under its two names", run: func(s *script) {
		role := s.add("add", "ok", trust+"Role.", "Name", "diff", "Enable", "true")
		s.add("child", "ok", role+"Permission.", "Order", "3", "Targets", "Device.Time.", "Param", "r---")
		s.get("get", "ok", role+"Name")
		s.get("reference", "ok", "Device.LocalAgent.Controller.1.AssignedRole")
	}, differs: map[string]declared{"reference": {"ok Device.LocalAgent.Controller.1.AssignedRole=" + trust + "Role.1",
		"ok Device.LocalAgent.Controller.1.AssignedRole=Device.USPAgent.ControllerTrust.Role.1", "Device.LocalAgent. is Device.USPAgent. in CWMP, in references, too"}}},
	{id: "usp-only", title: "a table of USP alone", run: func(s *script) { s.get("get", "ok", "Device.LocalAgent.SubscriptionNumberOfEntries") },
		differs: map[string]declared{"get": {"ok", "unknown", "TR-181 has Subscription for USP only"}}},
	{id: "secret", title: "a password reads as nothing (2.27)", run: func(s *script) {
		u := s.add("user", "ok", users, "Username", "ann", "UserID", "3001", "Password", "geheim")
		s.get("get", "ok", u+"Password")
	}},
	{id: "delete", title: "delete a row (1.24)", run: func(s *script) {
		r := s.add("add", "ok", clients)
		s.del("delete", "ok", r)
		s.get("get", "unknown", r+"Enable")
	}},
	{id: "delete-missing", title: "delete a row that does not exist (1.25)", run: func(s *script) { s.del("delete", "ok", clients+"4711.") },
		differs: map[string]declared{"delete": {"ok", "unknown", missing}}},
	{id: "delete-unknown", title: "delete below a table that is not in the model (1.26)", run: func(s *script) { s.del("delete", "unknown", "Device.Nothing.1.") }},
	{id: "delete-referred", title: "delete a row that a weak reference names", run: func(s *script) {
		role := s.add("role", "ok", roles, "RoleName", "diff", "RoleID", "42")
		s.add("user", "ok", users, "Username", "ann", "UserID", "1042", "RoleParticipation", strings.TrimSuffix(role, "."))
		s.del("delete", "ok", role)
	}},
	{id: "instances", title: "list the rows of a table (1.66)", run: func(s *script) {
		s.fresh()
		s.add("a", "ok", users, "Username", "ann", "UserID", "5001")
		s.add("b", "ok", users, "Username", "bob", "UserID", "5002")
		rows, err := s.f.rows(s.ctx, users)
		s.note("rows", "ok", err, strings.Join(rows, " "))
	}},
	{id: "names", title: "list the parameters of an object and who may write them (1.73)", run: func(s *script) {
		access, err := s.f.access(s.ctx, "Device.Time.")
		s.note("Device.Time.", "ok", err, lines(access))
		access, err = s.f.access(s.ctx, "Device.Users.")
		s.note("Device.Users.", "ok", err, lines(access))
	}},
	{id: "told", title: "be told of somebody else's change (1.52)", run: func(s *script) {
		told, err := s.f.watch(s.ctx, zone)
		s.note("watch", "ok", err, "")
		old, err := s.observer.Value(s.ctx, zone)
		s.check(err)
		s.check(s.observer.Set(s.ctx, map[string]string{zone: "EST5EDT,M3.2.0,M11.1.0"}))
		v, err := told(s.ctx)
		s.note("told", "ok", err, v)
		s.check(s.observer.Set(s.ctx, map[string]string{zone: old}))
	}},
	{id: "test", title: "run a diagnostic: a command, and a DiagnosticsState (1.64)", run: echoTest},
	{id: "reboot", title: "restart; what was written stays (1.61)", run: func(s *script) {
		a := s.add("a", "ok", clients, "Servers", "stays.example")
		s.note("restart", "ok", s.f.restart(s.ctx, false), "")
		s.get("get", "ok", a+"Servers")
	}},
	{id: "factory", title: "factory reset; what was written is gone", run: func(s *script) {
		a := s.add("a", "ok", clients, "Servers", "gone.example")
		s.note("reset", "ok", s.f.restart(s.ctx, true), "")
		s.get("get", "unknown", a+"Servers")
	}},
}

// badValue writes a value that a time client must not take.
func (s *script) badValue(name, value string) {
	a := s.add("a", "ok", clients)
	s.set("set", "bad value", a+name, value)
}

// fresh lets the ACS see what the device holds now: within a session it sees the beginning of that session and its own changes.
func (s *script) fresh() {
	if c, ok := s.f.(*cwmpFace); ok {
		s.check(c.between(s.ctx, func() error { return nil }))
	}
}

// echoTest runs UDPEchoDiagnostics against an echo server of the runner.
func echoTest(s *script) {
	const command = "Device.IP.Diagnostics.UDPEchoDiagnostics()"
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	s.check(err)
	done := make(chan struct{})
	go func() { // ends when the socket is closed; joined below
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(buf[:n], from) // a lost answer shows in the result
		}
	}()
	defer func() { c.Close(); <-done }()
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	out, err := s.f.test(s.ctx, command, map[string]string{"Host": "127.0.0.1", "Port": port, "NumberOfRepetitions": "2", "Timeout": "5000", "DataBlockSize": "32", "InterTransmissionTime": "10"})
	if kind, e := outcome(err); e == nil && kind == "code 7022" {
		panic(broken{notThere("this build of the device does not carry " + command + " out")})
	}
	s.note("results", "ok", err, fmt.Sprintf("Status=%s SuccessCount=%s FailureCount=%s IPAddressUsed=%s", strings.Replace(out["Status"]+out["DiagnosticsState"], "Complete", "", 2), out["SuccessCount"], out["FailureCount"], out["IPAddressUsed"]))
}
