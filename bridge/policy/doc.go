// Package policy is the operator's arbitration file: who may write where, whose value stands, and for how long. It is
// TOML, small and total: no expressions, no order of rules, nothing that depends on time.
//
//	version = 1
//	name    = "operator-default"
//	[defaults]
//	on_conflict = "priority"      # priority, yield, take, last, creator
//	owner_ttl   = "90d"           # 0 = claims never age
//	[classes]                     # class -> writers; a final * stands for any end
//	main = ["usp:self::oper-main"]
//	apps = ["role:WiFiOptimizer"]
//	[order]                       # phase -> classes, strongest first
//	dual-usp = ["main", "acs", "user", "apps"]
//	[[rule]]
//	id = "wan"
//	path = "Device.{PPP,IP,DHCPv4.Client}.**"
//	owner = "$primary"            # who owns what nobody has written yet
//	on_conflict = "yield"
//	[[rule]]
//	id = "fw"
//	resource = "fw"
//	phase.dual-usp.writers = ["main"]
//	[accesslist]
//	honor = ["cwmp-only", "shadow", "dual-cwmp"]
//	usp_entity = "X_EXAMPLE-COM_USP"
//	[limits]
//	commits_per_second = 20       # of each Controller, after the first burst; 0 = no bound
//	burst = 100
//
// Parse reads and checks a file, Lint says what is legal and yet surely not meant, Compile gives the bridge's arbiter,
// Explain tells how a writer fares at a path, Simulate judges the last changes of the journal anew. Live keeps the file
// of a running engine: it loads it again on demand, and a file that is no good leaves the one before in force.
//
// # What hurts
//
// The most specific path counts: the one with more literal elements, then the longer one. Two rules that are equally
// specific for a path are an error when the file is loaded, never a tie at run time. A rule may differ by phase; what the
// phase does not say is as in the rule. A file has at most 64 KiB and 256 rules.
package policy
