package datamodel

import (
	"fmt"
	"strings"
)

// Limits of one path text. A longer or deeper one is refused with PathSyntax before anything is looked up.
const (
	MaxPathLen   = 1024 // bytes of the text
	MaxPathSteps = 64   // elements between dots
	MaxPathTerms = 16   // comparisons in one pair of brackets
)

// ParsePath parses any path: object, parameter, command, event, search, supported ({i}) or CWMP partial path. The
// empty string is the empty path. Errors are *Error with PathSyntax and say at which byte (counted from 0) and what
// was expected.
//
// A bracket without a comparison operator, Table.[name]., is an alias step (TR-069 3.6.1); whether that is allowed is
// decided when the path is resolved. A single name without any dot is a parameter path, so that names relative to an
// object can be parsed too.
func ParsePath(s string) (Path, error) { // R-ARC.7
	if len(s) > MaxPathLen {
		return Path{}, Fail(PathSyntax, s[:64]+"...", fmt.Sprintf("the path has %d bytes, at most %d are accepted", len(s), MaxPathLen))
	}
	if s == "" {
		return Path{}, nil
	}
	ps := pathParser{s: s}
	steps := make([]Step, 0, strings.Count(s, ".")+1)
	for {
		step, end, err := ps.element(steps)
		if err != nil {
			return Path{}, err
		}
		steps = append(steps, step)
		if len(steps) > MaxPathSteps {
			return Path{}, ps.expected("at most " + fmt.Sprint(MaxPathSteps) + " elements")
		}
		if end != ObjectPath { // command or event: the parser checked that nothing follows
			return Path{Steps: steps, Kind: end, raw: s}, nil
		}
		if ps.i == len(s) {
			if step.Kind != StepName {
				return Path{}, ps.expected("a dot after " + stepWord(step.Kind))
			}
			return Path{Steps: steps, Kind: ParamPath, raw: s}, nil
		}
		if s[ps.i] != '.' {
			return Path{}, ps.expected("a dot or the end of the path")
		}
		ps.i++
		if ps.i == len(s) {
			return Path{Steps: steps, Kind: ObjectPath, raw: s}, nil
		}
	}
}

// IsSearch reports whether the path may name several things: it has a wildcard, an expression or #*+ anywhere. Such a
// path resolves to nothing without error; every bracket with a comparison counts, also one that names a unique key.
func (p Path) IsSearch() bool {
	for i := range p.Steps {
		switch p.Steps[i].Kind {
		case StepAny, StepExpr:
			return true
		case StepFollow:
			if p.Steps[i].N == 0 {
				return true
			}
		}
	}
	return false
}

// IsPlain reports whether the path consists of names and instance numbers only, so that it is its own result.
func (p Path) IsPlain() bool {
	for i := range p.Steps {
		if k := p.Steps[i].Kind; k != StepName && k != StepInstance {
			return false
		}
	}
	return true
}

func stepWord(k StepKind) string {
	switch k {
	case StepInstance:
		return "an instance number"
	case StepAny:
		return "a wildcard"
	case StepExpr:
		return "a search expression"
	case StepAlias:
		return "an alias"
	case StepTemplate:
		return "{i}"
	case StepFollow:
		return "a followed reference"
	}
	return "a name"
}

// pathParser is a cursor over the text; i is the next byte.
type pathParser struct {
	s string
	i int
}

func (ps *pathParser) expected(what string) *Error { return ps.expectedAt(ps.i, what) }

func (ps *pathParser) expectedAt(at int, what string) *Error {
	found := "the end"
	if at < len(ps.s) {
		found = fmt.Sprintf("%q", ps.s[at])
		if ps.s[at] >= 0x80 {
			found = fmt.Sprintf("byte 0x%02X", ps.s[at])
		}
	}
	return Fail(PathSyntax, ps.s, fmt.Sprintf("expected %s at byte %d, found %s", what, at, found))
}

// element parses one step up to, but not including, the dot. The kind is ObjectPath unless a command or event ends
// the path here.
func (ps *pathParser) element(before []Step) (Step, PathKind, error) {
	if ps.i < len(ps.s) && isNameStart(ps.s[ps.i]) {
		return ps.nameElement()
	}
	if ps.i >= len(ps.s) || len(before) == 0 {
		return Step{}, 0, ps.expected("a name")
	}
	if last := before[len(before)-1].Kind; last != StepName {
		return Step{}, 0, ps.expected("a name after " + stepWord(last))
	}
	switch c := ps.s[ps.i]; {
	case c == '*':
		ps.i++
		return Step{Kind: StepAny}, ObjectPath, nil
	case c >= '0' && c <= '9':
		n, err := ps.number("an instance number from 1 to 4294967295 without leading zeros")
		return Step{Kind: StepInstance, N: n}, ObjectPath, err
	case c == '{':
		if !strings.HasPrefix(ps.s[ps.i:], "{i}") {
			return Step{}, 0, ps.expected("{i}")
		}
		ps.i += len("{i}")
		return Step{Kind: StepTemplate}, ObjectPath, nil
	case c == '[':
		st, err := ps.bracket()
		return st, ObjectPath, err
	}
	return Step{}, 0, ps.expected("a name, an instance number, *, [ or {i}")
}

func (ps *pathParser) nameElement() (Step, PathKind, error) {
	name := ps.name()
	rest := ps.s[ps.i:]
	switch {
	case rest == "()":
		return Step{Name: name + "()"}, CommandPath, nil
	case rest == "!":
		return Step{Name: name + "!"}, EventPath, nil
	case strings.HasPrefix(rest, "("):
		return Step{}, 0, ps.expected("() at the end of the path")
	case strings.HasPrefix(rest, "!"):
		ps.i++
		return Step{}, 0, ps.expected("the end of the path after an event name")
	}
	n, follows, err := ps.follow()
	if err != nil {
		return Step{}, 0, err
	}
	if follows {
		return Step{Kind: StepFollow, Name: name, N: n}, ObjectPath, nil
	}
	return Step{Kind: StepName, Name: name}, ObjectPath, nil
}

// follow parses "+", "#n+" or "#*+" if there is one; n is 0 for *.
func (ps *pathParser) follow() (n uint32, ok bool, err error) {
	if ps.i >= len(ps.s) {
		return 0, false, nil
	}
	n = 1
	switch ps.s[ps.i] {
	case '+':
	case '#':
		ps.i++
		if ps.i < len(ps.s) && ps.s[ps.i] == '*' {
			ps.i++
			n = 0
		} else if n, err = ps.number("a reference number from 1 or *"); err != nil {
			return 0, false, err
		}
		if ps.i >= len(ps.s) || ps.s[ps.i] != '+' {
			return 0, false, ps.expected("+")
		}
	default:
		return 0, false, nil
	}
	ps.i++
	return n, true, nil
}

func (ps *pathParser) number(what string) (uint32, error) {
	start := ps.i
	var n uint64
	for ps.i < len(ps.s) && ps.s[ps.i] >= '0' && ps.s[ps.i] <= '9' {
		n = n*10 + uint64(ps.s[ps.i]-'0')
		if n > 1<<32-1 {
			return 0, ps.expectedAt(start, what)
		}
		ps.i++
	}
	if start == ps.i || ps.s[start] == '0' {
		return 0, ps.expectedAt(start, what)
	}
	return uint32(n), nil
}

// name consumes letters, digits, underscores and the hyphens of vendor names (X_EXAMPLE-COM_Foo).
func (ps *pathParser) name() string {
	start := ps.i
	for ps.i < len(ps.s) && isNameByte(ps.s[ps.i]) {
		ps.i++
	}
	return ps.s[start:ps.i]
}

func isNameStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

func isNameByte(c byte) bool {
	return isNameStart(c) || c >= '0' && c <= '9' || c == '-'
}

func (ps *pathParser) blanks() {
	for ps.i < len(ps.s) && (ps.s[ps.i] == ' ' || ps.s[ps.i] == '\t') {
		ps.i++
	}
}

// bracket parses [expression] or [alias].
func (ps *pathParser) bracket() (Step, error) {
	if end, ok := ps.aliasEnd(); ok {
		alias := ps.s[ps.i+1 : end]
		ps.i = end + 1
		return Step{Kind: StepAlias, Name: alias}, nil
	}
	ps.i++
	var terms []Comparison
	for {
		if len(terms) == MaxPathTerms {
			return Step{}, ps.expected(fmt.Sprintf("at most %d comparisons", MaxPathTerms))
		}
		c, err := ps.comparison()
		if err != nil {
			return Step{}, err
		}
		terms = append(terms, c)
		ps.blanks() // R-ARC.9a
		if strings.HasPrefix(ps.s[ps.i:], "&&") {
			ps.i += 2
			continue
		}
		if ps.i >= len(ps.s) || ps.s[ps.i] != ']' {
			return Step{}, ps.expected("&& or ]")
		}
		ps.i++
		return Step{Kind: StepExpr, Expr: terms}, nil
	}
}

// aliasEnd finds the closing bracket if what is inside is a possible Alias: it starts with a letter and holds neither
// quotes nor brackets nor the start of a comparison operator.
func (ps *pathParser) aliasEnd() (int, bool) {
	start := ps.i + 1
	for j := start; j < len(ps.s); j++ {
		switch c := ps.s[j]; {
		case c == ']':
			return j, j > start
		case j == start && !isNameStart(c):
			return 0, false
		case c == '=' || c == '!' || c == '<' || c == '>' || c == '~' || c == '"' || c == '[' || c == '&' || c < ' ':
			return 0, false
		}
	}
	return 0, false
}

func (ps *pathParser) comparison() (Comparison, error) {
	var c Comparison
	ps.blanks()
	for {
		if ps.i >= len(ps.s) || !isNameStart(ps.s[ps.i]) {
			return c, ps.expected("a parameter name")
		}
		st := Step{Kind: StepName, Name: ps.name()}
		n, follows, err := ps.follow()
		if err != nil {
			return c, err
		}
		if follows {
			st.Kind, st.N = StepFollow, n
		}
		c.Param = append(c.Param, st)
		if len(c.Param) > MaxPathSteps {
			return c, ps.expected("a shorter parameter path")
		}
		if ps.i < len(ps.s) && ps.s[ps.i] == '.' {
			ps.i++
			continue
		}
		if follows {
			return c, ps.expected("a dot after a followed reference")
		}
		break
	}
	ps.blanks() // R-ARC.9a
	op, ok := ps.operator()
	if !ok {
		return c, ps.expected("one of == != ~= <= >= < >")
	}
	c.Op = op
	ps.blanks()
	var err error
	c.Const, c.Quoted, err = ps.constant()
	return c, err
}

func (ps *pathParser) operator() (Op, bool) {
	rest := ps.s[ps.i:]
	if len(rest) >= 2 && rest[1] == '=' {
		if i := strings.IndexByte("=!~<>", rest[0]); i >= 0 {
			ps.i += 2
			return [...]Op{OpEq, OpNe, OpHas, OpLe, OpGe}[i], true
		}
	}
	if rest != "" && (rest[0] == '<' || rest[0] == '>') {
		ps.i++
		if rest[0] == '<' {
			return OpLt, true
		}
		return OpGt, true
	}
	return 0, false
}

// unquote undoes the two escapes that a quoted constant may hold; any other % stands for itself.
var unquote = strings.NewReplacer("%22", `"`, "%25", "%")

func (ps *pathParser) constant() (text string, quoted bool, err error) {
	if ps.i < len(ps.s) && ps.s[ps.i] == '"' {
		end := strings.IndexByte(ps.s[ps.i+1:], '"')
		if end < 0 {
			return "", false, ps.expectedAt(len(ps.s), `a closing "`)
		}
		text = ps.s[ps.i+1 : ps.i+1+end]
		ps.i += end + 2
		return unquote.Replace(text), true, nil
	}
	start := ps.i
	for ps.i < len(ps.s) && isBareByte(ps.s[ps.i]) {
		ps.i++
	}
	if start == ps.i {
		return "", false, ps.expected("a constant")
	}
	return ps.s[start:ps.i], false, nil
}

// isBareByte: what numbers, booleans, dates, hex and base64 are made of.
func isBareByte(c byte) bool {
	return isNameByte(c) || c == '+' || c == '.' || c == ':' || c == '/' || c == '=' || c == ','
}
