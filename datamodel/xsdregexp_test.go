package datamodel

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// sharedPatterns mean the same in XML Schema and in RE2.
var sharedPatterns = []string{
	`([0-9A-Fa-f][0-9A-Fa-f]:){5}([0-9A-Fa-f][0-9A-Fa-f])`, `((25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])`,
	`[0-9]{14,15}`, `([01][0-9]|2[0-3]):[0-5][0-9]`, `([0-9]|[1-5][0-9]|6[0-3]):[0-7]`, `/(3[0-2]|[012]?[0-9])`, `([0-7],[0-1],){2}[0-7],[0-1]`,
	`X [0-9A-F]{2} a*`, `(a|b|)*c?`, `(a?){3}b{2,}`, `(a*)*`, `(a|aa)+b`, `[^a-c]+|`, `((a{0,2}b)?c){1,3}`, `a+?b`,
}

// TestPatternsAgreeWithRE2 compares with the standard library on words that nearly match.
func TestPatternsAgreeWithRE2(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const letters = "aabbccx0125789:./,FX "
	for _, p := range sharedPatterns {
		mine, err := compileXSD(p)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		theirs := regexp.MustCompile(`\A(?:` + p + `)\z`)
		matched := 0
		for range 3000 {
			var b strings.Builder
			for range random.IntN(18) {
				b.WriteByte(letters[random.IntN(len(letters))])
			}
			if w := b.String(); mine.MatchString(w) != theirs.MatchString(w) {
				t.Fatalf("%s on %q: %v, RE2 says %v", p, w, mine.MatchString(w), theirs.MatchString(w))
			}
		}
		for _, w := range []string{"00:1a:FF:00:12:99", "192.168.1.255", "256.1.1.1", "123456789012345", "23:59", "24:00", "63:7", "64:1", "/32", "/33", "1,0,2,1,7,1", "X AF aaa",
			"abbac", "aabb", "aaab", "xyz", "abcbc", "aab", ""} {
			if mine.MatchString(w) != theirs.MatchString(w) {
				t.Fatalf("%s on %q: %v", p, w, mine.MatchString(w))
			}
			if mine.MatchString(w) {
				matched++
			}
		}
		if matched == 0 && p != `[0-9]{14,15}` {
			t.Errorf("%s matched nothing: the words do not test it", p)
		}
	}
}

// TestPatternsAreBounded: neither a nasty pattern nor a nasty value takes long.
func TestPatternsAreBounded(t *testing.T) {
	re, err := compileXSD(`(a*)*(a|aa)*b`)
	if err != nil {
		t.Fatal(err)
	}
	if re.MatchString(strings.Repeat("a", 20000)) {
		t.Error("matched")
	}
	for _, bad := range []string{`((a{500}){500}){500}`, strings.Repeat("(", 100) + strings.Repeat(")", 100), `a{2,1}`, `[b-a]`, `[]`, `a)`, `*`, `a{x}`, `\`} {
		if _, err := compileXSD(bad); err == nil {
			t.Errorf("%.20s compiles", bad)
		}
	}
}

func FuzzXSDPattern(f *testing.F) {
	for _, p := range sharedPatterns {
		f.Add(p, "abc")
	}
	f.Fuzz(func(_ *testing.T, pattern, text string) {
		if re, err := compileXSD(pattern); err == nil && len(text) < 200 {
			re.MatchString(text)
		}
	})
}
