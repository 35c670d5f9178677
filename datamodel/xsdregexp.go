package datamodel

import (
	"errors"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// Limits of a pattern: its program, counted repetitions expanded, and its nesting.
const (
	maxPatternSteps = 4096
	maxPatternDepth = 32
	// maxPatternRepeat is the largest count.
	maxPatternRepeat = 1000
)

var (
	errPattern      = errors.New("not a regular expression")
	errPatternClass = errors.New("class subtraction and Unicode blocks are not supported")
	errPatternSize  = errors.New("too large")
)

// xsdRegexp is a compiled XML Schema regular expression. It is matched by following all ways at once, so that the time is
// bounded by the length of the text times that of the program, whatever the pattern is. The standard library's regexp
// would do, but weighs twenty times as much in the agent.
type xsdRegexp struct {
	steps []xsdStep
	start int
}

// xsdStep consumes a rune that set has, or goes on at both next and other without consuming. Step 0
// is the end of a match.
type xsdStep struct {
	set         *runeSet
	next, other int
}

// runeSet is a character class.
type runeSet struct {
	not    bool
	ranges []rune // pairs
	tables []*unicode.RangeTable
	subs   []*runeSet // negated escapes inside a class
}

func (s *runeSet) has(r rune) bool {
	in := unicode.In(r, s.tables...)
	for i := 0; i < len(s.ranges) && !in; i += 2 {
		in = s.ranges[i] <= r && r <= s.ranges[i+1]
	}
	for i := 0; i < len(s.subs) && !in; i++ {
		in = s.subs[i].has(r)
	}
	return in != s.not
}

// xsdNode is the parsed form: a set, a sequence, alternatives, or a repetition of its only part.
type xsdNode struct {
	set      *runeSet
	parts    []*xsdNode
	either   bool
	repeat   bool
	min, max int // max < 0: no end
}

// xsdParser reads a pattern; the first error ends it.
type xsdParser struct {
	text  []rune
	at    int
	depth int
}

func compileXSD(pattern string) (*xsdRegexp, error) {
	p := &xsdParser{text: []rune(pattern)}
	n, err := p.alternatives()
	if err != nil {
		return nil, err
	}
	if p.at < len(p.text) {
		return nil, errPattern
	}
	re := &xsdRegexp{steps: []xsdStep{{}}} // step 0 is the end
	if re.start, err = re.add(n, 0); err != nil {
		return nil, err
	}
	return re, nil
}

func (p *xsdParser) peek() rune {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return -1
}

func (p *xsdParser) alternatives() (*xsdNode, error) {
	if p.depth++; p.depth > maxPatternDepth {
		return nil, errPatternSize
	}
	defer func() { p.depth-- }()
	n := &xsdNode{either: true}
	for {
		s, err := p.sequence()
		if err != nil {
			return nil, err
		}
		n.parts = append(n.parts, s)
		if p.peek() != '|' {
			return n, nil
		}
		p.at++
	}
}

func (p *xsdParser) sequence() (*xsdNode, error) {
	n := &xsdNode{}
	for {
		switch p.peek() {
		case -1, '|', ')':
			return n, nil
		}
		a, err := p.atom()
		if err == nil {
			a, err = p.quantified(a)
		}
		if err != nil {
			return nil, err
		}
		n.parts = append(n.parts, a)
	}
}

func (p *xsdParser) atom() (*xsdNode, error) {
	c := p.peek()
	p.at++
	switch c {
	case '(':
		n, err := p.alternatives()
		if err == nil && p.peek() != ')' {
			err = errPattern
		}
		p.at++
		return n, err
	case '[':
		s, err := p.class()
		return &xsdNode{set: s}, err
	case '\\':
		s, err := p.escape()
		return &xsdNode{set: s}, err
	case '.':
		return &xsdNode{set: &runeSet{not: true, ranges: []rune{'\n', '\n', '\r', '\r'}}}, nil
	case '*', '+', '?', '{', '}', ']':
		return nil, errPattern
	}
	return &xsdNode{set: &runeSet{ranges: []rune{c, c}}}, nil
}

// quantified wraps an atom in the repetition that follows it. A lazy one is the same, since the whole value must match.
func (p *xsdParser) quantified(a *xsdNode) (*xsdNode, error) {
	n := &xsdNode{repeat: true, parts: []*xsdNode{a}, max: -1}
	switch p.peek() {
	case '*':
	case '+':
		n.min = 1
	case '?':
		n.max = 1
	case '{':
		end := slices.Index(p.text[p.at:], '}')
		if end < 0 {
			return nil, errPattern
		}
		text := string(p.text[p.at+1 : p.at+end])
		p.at += end
		var err error
		if n.min, n.max, err = bounds(text); err != nil {
			return nil, err
		}
	default:
		return a, nil
	}
	if p.at++; p.peek() == '?' {
		p.at++
	}
	return n, nil
}

// bounds reads "n", "n," and "n,m".
func bounds(text string) (least, most int, err error) {
	comma := slices.Index([]byte(text), ',')
	if comma < 0 {
		least, err = strconv.Atoi(text)
		most = least
	} else if least, err = strconv.Atoi(text[:comma]); err == nil {
		if most = -1; comma+1 < len(text) {
			most, err = strconv.Atoi(text[comma+1:])
		}
	}
	switch {
	case err != nil || least < 0 || most >= 0 && most < least:
		return 0, 0, errPattern
	case least > maxPatternRepeat || most > maxPatternRepeat:
		return 0, 0, errPatternSize
	}
	return least, most, nil
}

// class reads what follows a '['.
func (p *xsdParser) class() (*runeSet, error) {
	s := &runeSet{}
	if p.peek() == '^' {
		s.not = true
		p.at++
	}
	for first := true; ; first = false {
		c := p.peek()
		p.at++
		switch {
		case c == -1 || c == ']' && first:
			return nil, errPattern
		case c == ']':
			return s, nil
		case c == '[':
			return nil, errPatternClass
		case c == '\\':
			e, err := p.escape()
			if err != nil {
				return nil, err
			}
			if e.not || len(e.ranges) != 2 || e.ranges[0] != e.ranges[1] {
				s.subs = append(s.subs, e)
				continue
			}
			c = e.ranges[0]
		}
		end := c
		if p.peek() == '-' && p.at+1 < len(p.text) && p.text[p.at+1] != ']' {
			if p.at++; p.peek() == '[' {
				return nil, errPatternClass
			}
			end = p.peek()
			if p.at++; end == '\\' {
				e, err := p.escape()
				if err != nil || len(e.ranges) != 2 || e.ranges[0] != e.ranges[1] {
					return nil, errPattern
				}
				end = e.ranges[0]
			}
			if end < c {
				return nil, errPattern
			}
		}
		s.ranges = append(s.ranges, c, end)
	}
}

// escape reads what follows a '\'.
func (p *xsdParser) escape() (*runeSet, error) {
	c := p.peek()
	p.at++
	s := &runeSet{not: c >= 'A' && c <= 'Z'}
	switch c {
	case 'd', 'D':
		s.tables = []*unicode.RangeTable{unicode.Nd}
	case 's', 'S':
		s.ranges = []rune{' ', ' ', '\t', '\n', '\r', '\r'}
	case 'i', 'I':
		s.tables, s.ranges = []*unicode.RangeTable{unicode.L}, []rune{'_', '_', ':', ':'}
	case 'c', 'C':
		s.tables, s.ranges = []*unicode.RangeTable{unicode.L, unicode.Nd}, []rune{'-', '.', '_', '_', ':', ':'}
	case 'w', 'W':
		s.tables = []*unicode.RangeTable{unicode.L, unicode.M, unicode.N, unicode.S}
	case 'p', 'P':
		end := slices.Index(p.text[p.at:], '}')
		if p.peek() != '{' || end < 0 {
			return nil, errPattern
		}
		name := string(p.text[p.at+1 : p.at+end])
		p.at += end + 1
		t := category(name)
		if t == nil {
			return nil, errPatternClass
		}
		s.tables = []*unicode.RangeTable{t}
	case 'n':
		s.ranges = []rune{'\n', '\n'}
	case 'r':
		s.ranges = []rune{'\r', '\r'}
	case 't':
		s.ranges = []rune{'\t', '\t'}
	default:
		if c == -1 || c < utf8.RuneSelf && (unicode.IsLetter(c) || unicode.IsDigit(c)) {
			return nil, errPattern
		}
		s.ranges = []rune{c, c}
	}
	return s, nil
}

// category is a general category of Unicode, of those that are of use.
func category(name string) *unicode.RangeTable {
	switch name {
	case "L":
		return unicode.L
	case "Lu":
		return unicode.Lu
	case "Ll":
		return unicode.Ll
	case "M":
		return unicode.M
	case "N":
		return unicode.N
	case "Nd":
		return unicode.Nd
	case "P":
		return unicode.P
	case "S":
		return unicode.S
	case "Z":
		return unicode.Z
	}
	return nil
}

// add puts the program of a node before the step that follows it, and returns where it begins.
func (re *xsdRegexp) add(n *xsdNode, follow int) (int, error) {
	switch {
	case len(re.steps) > maxPatternSteps:
		return 0, errPatternSize
	case n.set != nil:
		return re.put(xsdStep{set: n.set, next: follow}), nil
	case n.repeat:
		return re.addRepeat(n, follow)
	case n.either:
		at := -1
		for i := len(n.parts) - 1; i >= 0; i-- {
			begin, err := re.add(n.parts[i], follow)
			if err != nil {
				return 0, err
			}
			if at >= 0 {
				begin = re.put(xsdStep{next: begin, other: at})
			}
			at = begin
		}
		return at, nil
	}
	for i := len(n.parts) - 1; i >= 0; i-- {
		var err error
		if follow, err = re.add(n.parts[i], follow); err != nil {
			return 0, err
		}
	}
	return follow, nil
}

func (re *xsdRegexp) put(s xsdStep) int {
	re.steps = append(re.steps, s)
	return len(re.steps) - 1
}

func (re *xsdRegexp) addRepeat(n *xsdNode, follow int) (int, error) {
	at := follow
	if n.max < 0 { // a loop
		loop := re.put(xsdStep{other: follow})
		begin, err := re.add(n.parts[0], loop)
		if err != nil {
			return 0, err
		}
		re.steps[loop].next = begin
		at = loop
	}
	for range max(n.max-n.min, 0) { // each may be left out, with all behind it
		begin, err := re.add(n.parts[0], at)
		if err != nil {
			return 0, err
		}
		at = re.put(xsdStep{next: begin, other: follow})
	}
	for range n.min {
		begin, err := re.add(n.parts[0], at)
		if err != nil {
			return 0, err
		}
		at = begin
	}
	return at, nil
}

// MatchString reports whether the whole text matches.
func (re *xsdRegexp) MatchString(text string) bool {
	now, then := make([]int, 0, 16), make([]int, 0, 16)
	mark := make([]int, len(re.steps)) // 1 + number of runes read when a step was last entered
	now = re.enter(now, re.start, mark, 1)
	read := 1
	for _, r := range text {
		read++
		then = then[:0]
		for _, at := range now {
			if s := &re.steps[at]; s.set != nil && s.set.has(r) {
				then = re.enter(then, s.next, mark, read)
			}
		}
		if len(then) == 0 {
			return false
		}
		now, then = then, now
	}
	return slices.Contains(now, 0)
}

// enter adds a step and all that can be reached from it without reading.
func (re *xsdRegexp) enter(list []int, at int, mark []int, read int) []int {
	stack := []int{at}
	for len(stack) > 0 {
		at, stack = stack[len(stack)-1], stack[:len(stack)-1]
		if mark[at] == read {
			continue
		}
		mark[at] = read
		if s := &re.steps[at]; s.set == nil && at != 0 {
			stack = append(stack, s.next, s.other)
			continue
		}
		list = append(list, at)
	}
	return list
}
