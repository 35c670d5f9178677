package subscribe

import (
	"strconv"
	"strings"
	"time"

	"twinspan/datamodel"
)

// Kind is Subscription.NotifType.
type Kind uint8

const (
	ValueChange Kind = iota
	ObjectCreation
	ObjectDeletion
	OperationComplete
	Event
	kinds
)

var kindNames = [...]string{"ValueChange", "ObjectCreation", "ObjectDeletion", "OperationComplete", "Event"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// ParseKind reads NotifType.
func ParseKind(s string) (Kind, bool) {
	for k, n := range kindNames {
		if n == s {
			return Kind(k), true
		}
	}
	return 0, false
}

// Sub is one enabled Subscription as the notifier needs it.
type Sub struct {
	Num        uint32
	ID         string
	Recipient  string // Controller row path with final dot, "" for one that a local peer without row made
	Kind       Kind
	Refs       []string // canonical
	Retry      bool
	Expiration time.Duration // NotifExpiration, 0: none
	Deadline   time.Time     // TimeToLive, zero: none
	Settings   string        // TriggerConfigSettings, when TriggerAction wants them applied
	SettingsBy string        // writer of Settings
	Silent     bool          // TriggerAction is Config: nobody is told

	mark uint64 // last Match that found it
}

// Ask is what the index must know of the tree while it matches.
type Ask interface {
	// Holds evaluates an expression on a row ("Device.IP.Interface.1.").
	Holds(row string, expr []datamodel.Comparison) bool
	// Names reports whether a path that follows references resolves to path, or to an object above it.
	Names(ref, path string) bool
}

type node struct {
	kids  map[string]*node
	any   *node
	exprs []*branch
	subs  []*Sub
}

type branch struct {
	text string
	expr []datamodel.Comparison
	node *node
}

func (n *node) empty() bool {
	return len(n.kids) == 0 && n.any == nil && len(n.exprs) == 0 && len(n.subs) == 0
}

type slowRef struct {
	sub *Sub
	ref string
}

// Index finds Subscriptions by path.
type Index struct {
	roots [kinds]*node
	subs  map[uint32]*Sub
	slow  [kinds][]slowRef
	gen   uint64
	// earliest TimeToLive; zero when none
	next time.Time
}

// New returns an empty index.
func New() *Index {
	ix := &Index{subs: map[uint32]*Sub{}}
	for k := range ix.roots {
		ix.roots[k] = &node{}
	}
	return ix
}

// Len is the number of Subscriptions.
func (ix *Index) Len() int { return len(ix.subs) }

// Get returns a Subscription by instance number.
func (ix *Index) Get(num uint32) (*Sub, bool) { s, ok := ix.subs[num]; return s, ok }

// All calls fn for every Subscription in no particular order.
func (ix *Index) All(fn func(*Sub)) {
	for _, s := range ix.subs {
		fn(s)
	}
}

// Put adds a Subscription or replaces the one with the same number. References that cannot be parsed are left out and
// returned.
func (ix *Index) Put(s *Sub) (bad []string) {
	ix.Remove(s.Num)
	ix.subs[s.Num] = s
	for _, ref := range s.Refs {
		p, err := datamodel.ParsePath(ref)
		if err != nil || len(p.Steps) == 0 {
			bad = append(bad, ref)
			continue
		}
		if follows(p) {
			ix.slow[s.Kind] = append(ix.slow[s.Kind], slowRef{s, ref})
			continue
		}
		n := ix.roots[s.Kind]
		for _, step := range p.Steps {
			n = n.grow(step)
		}
		n.subs = append(n.subs, s)
	}
	if !s.Deadline.IsZero() && (ix.next.IsZero() || s.Deadline.Before(ix.next)) {
		ix.next = s.Deadline
	}
	return bad
}

// Remove takes a Subscription out; unknown numbers are fine.
func (ix *Index) Remove(num uint32) {
	s, ok := ix.subs[num]
	if !ok {
		return
	}
	delete(ix.subs, num)
	for _, ref := range s.Refs {
		if p, err := datamodel.ParsePath(ref); err == nil && !follows(p) {
			ix.roots[s.Kind].prune(p.Steps, s)
		}
	}
	keep := ix.slow[s.Kind][:0]
	for _, r := range ix.slow[s.Kind] {
		if r.sub != s {
			keep = append(keep, r)
		}
	}
	clear(ix.slow[s.Kind][len(keep):])
	ix.slow[s.Kind] = keep
}

// NextDeadline is the earliest TimeToLive in the index, zero when there is none.
func (ix *Index) NextDeadline() time.Time { return ix.next }

// Shift moves every deadline, when the clock that they are told by was set.
func (ix *Index) Shift(d time.Duration) {
	for _, s := range ix.subs {
		if !s.Deadline.IsZero() {
			s.Deadline = s.Deadline.Add(d)
		}
	}
	if !ix.next.IsZero() {
		ix.next = ix.next.Add(d)
	}
}

// Expired returns the numbers of Subscriptions whose time is over at now and finds the next deadline.
func (ix *Index) Expired(now time.Time) []uint32 {
	if ix.next.IsZero() || now.Before(ix.next) {
		return nil
	}
	var out []uint32
	ix.next = time.Time{}
	for _, s := range ix.subs {
		switch {
		case s.Deadline.IsZero():
		case !now.Before(s.Deadline):
			out = append(out, s.Num)
		case ix.next.IsZero() || s.Deadline.Before(ix.next):
			ix.next = s.Deadline
		}
	}
	return out
}

// Match calls fn once for every Subscription that concerns the element. What path must be depends on the kind: a
// parameter for ValueChange, the table for ObjectCreation, the row for ObjectDeletion, a command or an event.
//
// ObjectCreation and ObjectDeletion compare the whole path (listed tables and rows only); for the other kinds an object
// path in the list also stands for all below it.
func (ix *Index) Match(k Kind, path string, ask Ask, fn func(*Sub)) {
	if len(ix.subs) == 0 {
		return
	}
	ix.gen++
	below := k != ObjectCreation && k != ObjectDeletion
	ix.roots[k].walk(path, path, below, ask, ix.gen, fn)
	for _, r := range ix.slow[k] {
		if r.sub.mark != ix.gen && ask.Names(r.ref, path) {
			r.sub.mark = ix.gen
			fn(r.sub)
		}
	}
}

// Below reports whether any Subscription of a kind may concern something below an object path. It may say yes wrongly.
func (ix *Index) Below(k Kind, object string) bool {
	return len(ix.slow[k]) > 0 || ix.roots[k].deeper(object)
}

func (n *node) grow(s datamodel.Step) *node {
	switch s.Kind {
	case datamodel.StepAny, datamodel.StepTemplate:
		if n.any == nil {
			n.any = &node{}
		}
		return n.any
	case datamodel.StepExpr:
		text := exprKey(s.Expr)
		for _, b := range n.exprs {
			if b.text == text {
				return b.node
			}
		}
		b := &branch{text: text, expr: s.Expr, node: &node{}}
		n.exprs = append(n.exprs, b)
		return b.node
	}
	word := stepWord(s)
	c := n.kids[word]
	if c == nil {
		if n.kids == nil {
			n.kids = map[string]*node{}
		}
		c = &node{}
		n.kids[word] = c
	}
	return c
}

// prune removes s below n along steps and drops nodes that became empty.
func (n *node) prune(steps []datamodel.Step, s *Sub) {
	if len(steps) == 0 {
		for i, have := range n.subs {
			if have == s {
				n.subs = append(n.subs[:i], n.subs[i+1:]...)
				return
			}
		}
		return
	}
	switch step := steps[0]; step.Kind {
	case datamodel.StepAny, datamodel.StepTemplate:
		if n.any != nil {
			if n.any.prune(steps[1:], s); n.any.empty() {
				n.any = nil
			}
		}
	case datamodel.StepExpr:
		text := exprKey(step.Expr)
		for i, b := range n.exprs {
			if b.text == text {
				if b.node.prune(steps[1:], s); b.node.empty() {
					n.exprs = append(n.exprs[:i], n.exprs[i+1:]...)
				}
				return
			}
		}
	default:
		word := stepWord(step)
		if c := n.kids[word]; c != nil {
			if c.prune(steps[1:], s); c.empty() {
				delete(n.kids, word)
			}
		}
	}
}

// walk follows what is left of path below n. whole is the complete path, for the rows of expressions.
func (n *node) walk(whole, rest string, below bool, ask Ask, gen uint64, fn func(*Sub)) {
	if rest == "" || below {
		for _, s := range n.subs {
			if s.mark != gen {
				s.mark = gen
				fn(s)
			}
		}
	}
	if rest == "" {
		return
	}
	word, tail := rest, ""
	if d := strings.IndexByte(rest, '.'); d >= 0 {
		word, tail = rest[:d], rest[d+1:]
	}
	if c := n.kids[word]; c != nil {
		c.walk(whole, tail, below, ask, gen, fn)
	}
	if (n.any != nil || len(n.exprs) > 0) && word != "" && word[0] >= '0' && word[0] <= '9' {
		if n.any != nil {
			n.any.walk(whole, tail, below, ask, gen, fn)
		}
		row := whole[:len(whole)-len(rest)+len(word)] + "."
		for _, b := range n.exprs {
			if ask.Holds(row, b.expr) {
				b.node.walk(whole, tail, below, ask, gen, fn)
			}
		}
	}
}

func (n *node) deeper(object string) bool {
	for object != "" {
		word, tail := object, ""
		if d := strings.IndexByte(object, '.'); d >= 0 {
			word, tail = object[:d], object[d+1:]
		}
		if n.any != nil || len(n.exprs) > 0 {
			return true
		}
		if n = n.kids[word]; n == nil {
			return false
		}
		object = tail
	}
	return len(n.kids) > 0 || n.any != nil || len(n.exprs) > 0
}

func follows(p datamodel.Path) bool {
	for _, s := range p.Steps {
		if s.Kind == datamodel.StepFollow || s.Kind == datamodel.StepAlias {
			return true
		}
	}
	return false
}

func stepWord(s datamodel.Step) string {
	if s.Kind == datamodel.StepInstance {
		return strconv.FormatUint(uint64(s.N), 10)
	}
	return s.Name
}

// exprKey tells expressions apart.
func exprKey(expr []datamodel.Comparison) string {
	var b strings.Builder
	for _, c := range expr {
		for _, s := range c.Param {
			b.WriteString(s.Name)
			b.WriteByte('.')
		}
		b.WriteByte(byte(c.Op) + '0')
		b.WriteString(strconv.Quote(c.Const))
		if c.Quoted {
			b.WriteByte('"')
		}
		b.WriteByte('&')
	}
	return b.String()
}
