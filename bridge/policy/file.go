package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"twinspan/bridge"
)

// MaxFile bounds a policy file.
const MaxFile = 64 << 10

// File is the file as it is written.
type File struct {
	Version    int                 `toml:"version"`
	Name       string              `toml:"name"`
	Defaults   Defaults            `toml:"defaults"`
	Classes    map[string][]string `toml:"classes"`
	Order      map[string][]string `toml:"order"`
	Rules      []Rule              `toml:"rule"`
	AccessList AccessList          `toml:"accesslist"`
	Limits     Limits              `toml:"limits"`
}

// Defaults count where no rule does.
type Defaults struct {
	OnConflict string `toml:"on_conflict"`
	OwnerTTL   string `toml:"owner_ttl"`
	// ConfirmWithin is the time to confirm what rules with confirm = true make provisional: "10m", 1s to 1h.
	ConfirmWithin string `toml:"confirm_within"`
}

// Rule is one [[rule]]: of a path, or of a resource that commands need.
type Rule struct {
	ID            string           `toml:"id"`
	Path          string           `toml:"path"`
	Resource      string           `toml:"resource"`
	Writers       []string         `toml:"writers"`
	Owner         string           `toml:"owner"`
	OnConflict    string           `toml:"on_conflict"`
	Damp          *bool            `toml:"damp"`
	Confirm       bool             `toml:"confirm"` // of a path: changes count only once they are confirmed
	Queue         int              `toml:"queue"`   // of a resource: how many commands may wait for it
	SessionClaims bool             `toml:"session_claims"`
	Phase         map[string]Other `toml:"phase"`
}

// Other is what a rule says differently in a phase.
type Other struct {
	Writers    []string `toml:"writers"`
	Owner      string   `toml:"owner"`
	OnConflict string   `toml:"on_conflict"`
	Confirm    *bool    `toml:"confirm"`
}

// AccessList is how TR-069's AccessList counts for USP.
type AccessList struct {
	Honor     []string `toml:"honor"`
	USPEntity string   `toml:"usp_entity"`
}

// Limits of each Controller.
type Limits struct {
	CommitsPerSecond *float64 `toml:"commits_per_second"`
	Burst            float64  `toml:"burst"`
}

// Policy is a file that has been checked and compiled. Immutable.
type Policy struct {
	File   File
	Hash   string // of the text, 16 hex digits
	TTL    time.Duration
	within time.Duration // 0: bridge.DefaultConfirm
	text   string
	orders *bridge.Orders
}

// Text is the file.
func (p *Policy) Text() string { return p.text }

// Orders is the arbiter that the file stands for.
func (p *Policy) Orders() *bridge.Orders { return p.orders }

// Rate gives the bound on commits of each Controller.
func (p *Policy) Rate() (rate, burst float64) {
	rate, burst = DefaultRate, DefaultBurst
	if p.File.Limits.CommitsPerSecond != nil {
		rate = *p.File.Limits.CommitsPerSecond
	}
	if p.File.Limits.Burst > 0 {
		burst = p.File.Limits.Burst
	}
	return rate, burst
}

// The bound without [limits].
const (
	DefaultRate  = 20
	DefaultBurst = 100
)

// Parse reads, checks and compiles a file; initial is the phase where nothing else says one. All that is wrong is told at
// once.
func Parse(text string, initial bridge.Phase) (*Policy, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("policy: %d bytes, at most %d are taken", len(text), MaxFile)
	}
	p := &Policy{text: text}
	md, err := toml.Decode(text, &p.File)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, fmt.Errorf("policy: line %d: %s", pe.Position.Line, pe.Message)
		}
		return nil, fmt.Errorf("policy: %w", err)
	}
	var errs []error
	for _, k := range md.Undecoded() { // a misspelt key must not silently mean nothing
		errs = append(errs, fmt.Errorf("policy: unknown key %s", k.String()))
	}
	errs = append(errs, p.check()...)
	if s := p.File.Defaults.ConfirmWithin; s != "" {
		if p.within, err = time.ParseDuration(s); err != nil || p.within < bridge.MinConfirm || p.within > bridge.MaxConfirm {
			errs = append(errs, fmt.Errorf("policy: defaults.confirm_within = %q: want %s to %s", s, bridge.MinConfirm, bridge.MaxConfirm))
		}
	}
	if p.TTL, err = ttl(p.File.Defaults.OwnerTTL); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(text))
	p.Hash = hex.EncodeToString(sum[:8])
	p.orders, err = bridge.NewOrders(initial, p.TTL, p.order)
	return p, err
}

// ttl reads "90d", "12h", "0".
func ttl(s string) (time.Duration, error) {
	switch {
	case s == "":
		return 90 * 24 * time.Hour, nil
	case s == "0":
		return 0, nil
	}
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(min(n, 100_000)) * 24 * time.Hour
	} else {
		d, err = time.ParseDuration(s)
	}
	if err != nil || d < time.Hour {
		return 0, fmt.Errorf("policy: defaults.owner_ttl = %q: want 0, or a time of at least 1h like \"90d\"", s)
	}
	return d, nil
}

// check looks for what compiling does not: names that are nothing.
func (p *Policy) check() (errs []error) {
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("policy: "+format, a...)) }
	f := &p.File
	if f.Version != 1 {
		bad("version = %d: this program knows version 1", f.Version)
	}
	conflict := func(key, word string) {
		if word != "" && !slices.Contains([]string{"priority", "yield", "take", "last", "creator"}, word) {
			bad("%s = %q: must be priority, yield, take, last or creator", key, word)
		}
	}
	phase := func(key, word string) {
		if !slices.Contains(bridge.Phases(), bridge.Phase(word)) {
			bad("%s: %q is no phase", key, word)
		}
	}
	conflict("defaults.on_conflict", f.Defaults.OnConflict)
	for class := range f.Classes {
		if class == "" || class == bridge.ClassSys || strings.Trim(class, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			bad("classes.%s: small letters, digits and hyphens, and not sys", class)
		}
	}
	known := p.classes()
	for name, list := range f.Order {
		phase("order", name)
		for _, class := range list {
			if !slices.Contains(known, class) {
				bad("order.%s: %q is no class", name, class)
			}
		}
	}
	for _, name := range f.AccessList.Honor {
		phase("accesslist.honor", name)
	}
	ids := map[string]bool{}
	for i, r := range f.Rules {
		at := "rule " + r.ID
		if r.ID == "" || len(r.ID) > 64 {
			bad("rule[%d]: an id of 1 to 64 bytes is needed", i)
		}
		if ids[r.ID] || r.ID == "default" || r.ID == "sys" || r.ID == "reachable" || r.ID == "accesslist" || r.ID == "unseen" {
			bad("%s: the id is there twice or reserved", at)
		}
		ids[r.ID] = true
		if (r.Path == "") == (r.Resource == "") {
			bad("%s: either path or resource is needed", at)
		}
		if r.Queue != 0 && r.Resource == "" || r.Queue < 0 || r.Queue > bridge.MaxResourceQueue {
			bad("%s: queue = %d: 0 to %d, of a rule with a resource", at, r.Queue, bridge.MaxResourceQueue)
		}
		if r.Confirm && r.Path == "" {
			bad("%s: confirm is for a rule with a path", at)
		}
		conflict(at+": on_conflict", r.OnConflict)
		p.names(at, r.Writers, r.Owner, known, bad)
		for name, o := range r.Phase {
			phase(at, name)
			conflict(at+": phase."+name+".on_conflict", o.OnConflict)
			p.names(at+": phase."+name, o.Writers, o.Owner, known, bad)
		}
	}
	if r := f.Limits.CommitsPerSecond; r != nil && (*r < 0 || *r > 1e6) || f.Limits.Burst < 0 || f.Limits.Burst > 1e6 {
		bad("limits: 0 to 1000000")
	}
	return errs
}

func (p *Policy) names(at string, writers []string, owner string, known []string, bad func(string, ...any)) {
	for _, w := range writers {
		if w != "$primary" && !slices.Contains(known, w) && !writerName(w) {
			bad("%s: writers: %q is neither a class nor a writer (cwmp, cli, usp:..., lan:...)", at, w)
		}
	}
	if owner != "" && owner != "$primary" && !slices.Contains(known, owner) {
		bad("%s: owner: %q is no class", at, owner)
	}
}

// writerName: the form of a writer's name, perhaps with a final *.
func writerName(s string) bool {
	return s == "cwmp" || s == "cli" || strings.HasPrefix(s, "usp:") || strings.HasPrefix(s, "lan:")
}

// classes that may be named.
func (p *Policy) classes() []string {
	out := []string{bridge.ClassACS, bridge.ClassMain, bridge.ClassUser, bridge.ClassApps}
	for class := range p.File.Classes {
		if !slices.Contains(out, class) {
			out = append(out, class)
		}
	}
	return out
}

// order compiles the file for one phase.
func (p *Policy) order(phase bridge.Phase) (*bridge.ClassOrder, error) {
	f := &p.File
	o := bridge.OrderOptions{Classes: f.Order[string(phase)], USPEntity: f.AccessList.USPEntity, ConfirmWithin: p.within}
	if f.AccessList.Honor != nil {
		honor := slices.Contains(f.AccessList.Honor, string(phase))
		o.AccessList = &honor
	}
	rules := make([]bridge.Rule, 0, len(f.Rules)+1)
	root := false
	for _, r := range f.Rules {
		b := bridge.Rule{ID: r.ID, Path: tail(r.Path), Resource: r.Resource, Writers: r.Writers, Owner: r.Owner,
			OnConflict: bridge.Conflict(r.OnConflict), NoDamp: r.Damp != nil && !*r.Damp, Confirm: r.Confirm, Queue: r.Queue, SessionClaims: r.SessionClaims}
		if other, ok := r.Phase[string(phase)]; ok {
			if other.Writers != nil {
				b.Writers = other.Writers
			}
			if other.Owner != "" {
				b.Owner = other.Owner
			}
			if other.OnConflict != "" {
				b.OnConflict = bridge.Conflict(other.OnConflict)
			}
			if other.Confirm != nil {
				b.Confirm = *other.Confirm
			}
		}
		if b.OnConflict == "" {
			b.OnConflict = bridge.Conflict(f.Defaults.OnConflict)
		}
		root = root || b.Path == "Device.**"
		rules = append(rules, b)
	}
	if !root {
		rules = append(rules, bridge.Rule{ID: "default", Path: "Device.**", OnConflict: bridge.Conflict(f.Defaults.OnConflict)})
	}
	return bridge.NewOrder(phase, o, rules...)
}

// tail: a partial path means everything below it.
func tail(path string) string {
	if strings.HasSuffix(path, ".") {
		return path + "**"
	}
	return path
}

// Class of a writer with the Names of its Roles, "" if [classes] does not say. An exact name goes before one with a *,
// which goes before a role.
func (p *Policy) Class(writer string, roles []string) string {
	best, rank := "", 0
	for class, list := range p.File.Classes {
		for _, s := range list {
			r := 0
			stem, open := strings.CutSuffix(s, "*")
			role, isRole := strings.CutPrefix(s, "role:")
			switch {
			case s == writer:
				r = 1000
			case open && strings.HasPrefix(writer, stem):
				r = 10 + len(stem)
			case isRole && slices.Contains(roles, role):
				r = 1
			}
			if r > rank || r == rank && r > 0 && class < best {
				best, rank = class, r
			}
		}
	}
	return best
}
