package datamodel

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// maxPatterns bounds the cache of compiled patterns. The whole of TR-181 has fewer than a hundred different ones.
const maxPatterns = 256

var patterns = struct {
	sync.RWMutex
	m map[string]*regexp.Regexp
}{m: map[string]*regexp.Regexp{}}

// CheckPattern reports whether an XML Schema regular expression can be used in Facts.Patterns. Schema loaders call it,
// so that a vendor's file is refused when it is read and not when a manager writes.
func CheckPattern(xsd string) error {
	_, err := regexp.Compile(patternText(xsd))
	if err != nil {
		return fmt.Errorf("pattern %q: %w", xsd, err)
	}
	return nil
}

func compilePattern(xsd string) (*regexp.Regexp, error) {
	patterns.RLock()
	re := patterns.m[xsd]
	patterns.RUnlock()
	if re != nil {
		return re, nil
	}
	re, err := regexp.Compile(patternText(xsd))
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", xsd, err)
	}
	patterns.Lock()
	defer patterns.Unlock()
	if len(patterns.m) >= maxPatterns {
		for k := range patterns.m { // any one: map order is as good as a policy here
			delete(patterns.m, k)
			break
		}
	}
	patterns.m[xsd] = re
	return re, nil
}

// patternText translates an XML Schema regular expression to Go's RE2: the whole value must match, ^ and $ are plain
// characters, a dot does not match line ends, and the multi-character escapes \d \w \s \i \c have their XML Schema
// meaning. Class subtraction ([a-z-[aeiou]]) and Unicode blocks (\p{IsGreek}) have no counterpart; the first compiles
// to nothing sensible and is made an error, the second is one already.
func patternText(xsd string) string {
	var b strings.Builder
	b.WriteString(`\A(?:`)
	class := 0
	for i := 0; i < len(xsd); i++ {
		switch c := xsd[i]; {
		case c == '\\' && i+1 < len(xsd):
			i++
			writeEscape(&b, xsd[i], class > 0)
		case class > 0 && c == '[':
			return "(" // unbalanced on purpose: class subtraction
		case c == '[':
			class++
			b.WriteByte(c)
			if i+1 < len(xsd) && xsd[i+1] == '^' {
				i++
				b.WriteByte('^')
			}
		case class > 0 && c == ']':
			class--
			b.WriteByte(c)
		case class == 0 && c == '.':
			b.WriteString(`[^\n\r]`)
		case class == 0 && (c == '^' || c == '$'):
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteString(`)\z`)
	return b.String()
}

// The sets behind the multi-character escapes, without the brackets around them.
var escapeSets = map[byte]string{
	'd': `\p{Nd}`,
	's': ` \t\n\r`,
	'i': `\p{L}_:`,
	'c': `\p{L}\p{Nd}._:\-`,
	'w': `\p{L}\p{M}\p{N}\p{S}`,
}

func writeEscape(b *strings.Builder, c byte, inClass bool) {
	if set, ok := escapeSets[c]; ok {
		if inClass {
			b.WriteString(set)
		} else {
			b.WriteString("[" + set + "]")
		}
		return
	}
	if set, ok := escapeSets[c|0x20]; ok && c >= 'A' && c <= 'Z' {
		if !inClass {
			b.WriteString("[^" + set + "]")
			return
		}
		switch c { // negated sets inside a class: only those that RE2 can write
		case 'D':
			b.WriteString(`\P{Nd}`)
			return
		case 'W':
			b.WriteString(`\p{P}\p{Z}\p{C}`)
			return
		case 'S':
			b.WriteString(`\S`)
			return
		}
	}
	b.WriteByte('\\')
	b.WriteByte(c)
}
