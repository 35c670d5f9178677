package trust

import (
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
)

// Canonical paths that permissions are made of.
const (
	trustPath      = "Device.LocalAgent.ControllerTrust."
	roleTable      = "Device.LocalAgent.ControllerTrust.Role."
	controllerPath = "Device.LocalAgent.Controller."
)

// maxCached bounds the number of Roles sets kept for versions that readers still hold.
const maxCached = 4

// Table compiles permissions for every Controller of one device.
type Table struct {
	schema *datamodel.Schema
	head   func() *store.Version

	last atomic.Pointer[roles] // most recently used set

	mu     sync.Mutex
	cached []*roles // newest last, committed revisions only
}

// New returns a Table over the versions of a store. head must return the newest committed version; it is asked only
// whether a revision is already committed, because versions that are still being staged must not be cached.
func New(schema *datamodel.Schema, head func() *store.Version) *Table {
	return &Table{schema: schema, head: head}
}

// roles is ControllerTrust compiled at one revision.
type roles struct {
	rev     uint64
	version *store.Version // a version that has this revision, for a quick comparison
	byPath  map[string]*role
	byName  map[string]*role
	secured map[string]bool
	banned  string
	// untrusted is the row path of UntrustedRole, or empty.
	untrusted string
}

// role is one enabled Role with its enabled Permissions, highest Order first.
type role struct {
	path  string
	name  string
	perms []permission
}

type permission struct {
	order   uint64
	bits    uint16
	targets []target
}

// kinds of permission strings; each takes four bits (r, w, x, n) of a mask.
const (
	kindParam = iota
	kindObj
	kindInst
	kindCommand
)

const (
	bitR = 1 << iota
	bitW
	bitX
	bitN
)

// rightBit maps a Right to its bit in a mask.
var rightBit = [...]uint16{
	bridge.ReadParam:     bitR << (4 * kindParam),
	bridge.WriteParam:    bitW << (4 * kindParam),
	bridge.NotifyParam:   bitN << (4 * kindParam),
	bridge.ReadObj:       bitR << (4 * kindObj),
	bridge.AddRow:        bitW << (4 * kindObj),
	bridge.NotifyObj:     bitN << (4 * kindObj),
	bridge.ReadInst:      bitR << (4 * kindInst),
	bridge.DeleteRow:     bitW << (4 * kindInst),
	bridge.NotifyInst:    bitN << (4 * kindInst),
	bridge.ReadCommand:   bitR << (4 * kindCommand),
	bridge.Operate:       bitX << (4 * kindCommand),
	bridge.NotifyCommand: bitN << (4 * kindCommand),
}

// parseBits reads a permission string such as "rw-n". Anything that is not the letter of its place gives nothing.
func parseBits(s string) uint16 {
	if len(s) != 4 {
		return 0
	}
	var b uint16
	for i := range 4 {
		if s[i] == "rwxn"[i] {
			b |= 1 << i
		}
	}
	return b
}

// get returns ControllerTrust compiled as it is in v.
func (t *Table) get(v *store.Version) *roles {
	last := t.last.Load()
	if last != nil && last.version == v {
		return last
	}
	rev := v.SubtreeRev(trustPath)
	if last != nil && last.rev == rev {
		return last
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.cached {
		if c.rev == rev {
			t.last.Store(c)
			return c
		}
	}
	// A staged revision may yet be rolled back and its number used again for something else: never keep it. What is not
	// newer than the head now, before compiling, is committed.
	committed := rev <= t.head().Rev()
	c := t.compile(v)
	c.rev = rev
	if committed {
		c.version = v
		t.cached = append(t.cached, c)
		if len(t.cached) > maxCached {
			t.cached = append(t.cached[:0], t.cached[1:]...)
		}
		t.last.Store(c)
	}
	return c
}

func (t *Table) compile(v *store.Version) *roles {
	c := &roles{byPath: map[string]*role{}, byName: map[string]*role{}, secured: map[string]bool{}}
	for _, n := range v.Instances(roleTable) {
		path := roleTable + strconv.FormatUint(uint64(n), 10)
		if value(v, path+".Enable") != "true" {
			continue
		}
		r := &role{path: path, name: value(v, path+".Name")}
		r.perms = t.permissions(v, path+".Permission.")
		c.byPath[path] = r
		if r.name != "" {
			c.byName[r.name] = r
		}
	}
	for _, p := range List(value(v, trustPath+"SecuredRoles")) {
		c.secured[p] = true
	}
	c.banned = trimDot(value(v, trustPath+"BannedRole"))
	if l := List(value(v, trustPath+"UntrustedRole")); len(l) > 0 {
		c.untrusted = l[0]
	}
	return c
}

func (t *Table) permissions(v *store.Version, table string) []permission {
	var perms []permission
	for _, n := range v.Instances(table) {
		row := table + strconv.FormatUint(uint64(n), 10) + "."
		if value(v, row+"Enable") != "true" {
			continue
		}
		order, _ := strconv.ParseUint(value(v, row+"Order"), 10, 32)
		p := permission{order: order}
		for kind, name := range [...]string{"Param", "Obj", "InstantiatedObj", "CommandEvent"} {
			p.bits |= parseBits(value(v, row+name)) << (4 * kind)
		}
		valid := true
		for _, text := range SplitPaths(value(v, row+"Targets")) {
			target, ok := parseTarget(text)
			valid = valid && ok
			p.targets = append(p.targets, target)
		}
		if !valid {
			p.bits = 0
		}
		perms = append(perms, p)
	}
	// The largest Order decides alone.
	sort.SliceStable(perms, func(i, j int) bool { return perms[i].order > perms[j].order })
	return perms
}

// bits unites what the roles give for one element. want stops the search as soon as it is granted.
func (t *Table) bits(v *store.Version, rs []*role, path string, want uint16) bool {
	for _, r := range rs {
	perms:
		for i := range r.perms {
			p := &r.perms[i]
			for j := range p.targets {
				if p.targets[j].covers(t, v, path) {
					if p.bits&want != 0 {
						return true
					}
					break perms // highest Order wins completely inside a Role
				}
			}
		}
	}
	return false
}

// Rights are the live rights of one Controller.
type Rights struct {
	table    *Table
	endpoint string
	rolename string // fixed role by name instead of a Controller row
	state    atomic.Pointer[state]
}

// state is what a Controller row means at one pair of revisions.
type state struct {
	version  *store.Version
	trust    *roles
	ctrlRev  uint64
	roles    []*role
	paths    []string
	secured  bool
	banned   bool
	known    bool
	cachable bool
}

// Endpoint returns the rights of the Controller with an Endpoint ID, as its row in the tree says at every moment. No
// row, a disabled row or a banned role mean no rights.
func (t *Table) Endpoint(eid string) *Rights { return &Rights{table: t, endpoint: eid} }

// Role returns the rights of one Role by its Name, for a local Controller without a row.
func (t *Table) Role(name string) *Rights { return &Rights{table: t, rolename: name} }

func (r *Rights) at(v *store.Version) *state {
	s := r.state.Load()
	if s != nil && s.version == v {
		return s
	}
	trust := r.table.get(v)
	ctrlRev := v.SubtreeRev(controllerPath)
	if s != nil && s.cachable && s.trust == trust && s.ctrlRev == ctrlRev {
		n := *s
		n.version = v
		r.state.Store(&n)
		return &n
	}
	n := &state{version: v, trust: trust, ctrlRev: ctrlRev, cachable: trust.version != nil && ctrlRev <= r.table.head().Rev()}
	r.fill(n, v)
	if n.cachable {
		r.state.Store(n)
	}
	return n
}

func (r *Rights) fill(s *state, v *store.Version) {
	if r.rolename != "" {
		s.known = true
		if found := s.trust.byName[r.rolename]; found != nil {
			s.roles = []*role{found}
			s.paths = []string{found.path}
			s.secured = s.trust.secured[found.path]
		}
		return
	}
	row := FindController(v, r.endpoint)
	if row == "" {
		return
	}
	s.known = true
	s.paths = append(List(value(v, row+"AssignedRole")), List(value(v, row+"InheritedRole"))...)
	for _, p := range s.paths {
		if s.trust.banned != "" && p == s.trust.banned {
			s.banned, s.roles, s.secured = true, nil, false
			return
		}
		if role := s.trust.byPath[p]; role != nil {
			s.roles = append(s.roles, role)
			s.secured = s.secured || s.trust.secured[p]
		}
	}
	if value(v, row+"Enable") != "true" {
		s.roles, s.secured = nil, false
	}
}

// Allow implements bridge.Rights. // R-SEC.1
func (r *Rights) Allow(v *store.Version, path string, right bridge.Right) bool {
	if int(right) >= len(rightBit) {
		return false
	}
	s := r.at(v)
	return r.table.bits(v, s.roles, path, rightBit[right])
}

// Secured implements bridge.Rights: secured values are shown to Controllers with a Role listed in SecuredRoles.
func (r *Rights) Secured(v *store.Version) bool { return r.at(v).secured }

// Banned reports whether the Controller has the BannedRole; its records are refused.
func (r *Rights) Banned(v *store.Version) bool { return r.at(v).banned }

// RoleNames returns the Names of the enabled Roles that count for the Controller, in the order of AssignedRole and
// InheritedRole.
func (r *Rights) RoleNames(v *store.Version) []string {
	var names []string
	for _, role := range r.at(v).roles {
		names = append(names, role.name)
	}
	return names
}

// Untrusted returns the row path (no final dot) of the enabled UntrustedRole, or "".
func (t *Table) Untrusted(v *store.Version) string {
	c := t.get(v)
	if c.byPath[c.untrusted] == nil {
		return ""
	}
	return c.untrusted
}

// FindController returns the row path, with final dot, of the Controller with an Endpoint ID, or "".
func FindController(v *store.Version, eid string) string {
	if eid == "" {
		return ""
	}
	for _, n := range v.Instances(controllerPath) {
		row := controllerPath + strconv.FormatUint(uint64(n), 10) + "."
		if value(v, row+"EndpointID") == eid {
			return row
		}
	}
	return ""
}

// List splits the value of a list of references; the final dot of a row reference does not count.
func List(s string) []string {
	if s == "" {
		return nil
	}
	items := strings.Split(s, ",")
	out := items[:0]
	for _, it := range items {
		if it = trimDot(strings.TrimSpace(it)); it != "" {
			out = append(out, it)
		}
	}
	return out
}

func trimDot(s string) string { return strings.TrimSuffix(s, ".") }

func value(v *store.Version, path string) string {
	l, _ := v.Leaf(path)
	return l.Value
}
