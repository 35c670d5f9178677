package datamodel

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Special dateTime values (TR-106).
const (
	UnknownTime  = "0001-01-01T00:00:00Z"
	InfiniteTime = "9999-12-31T23:59:59Z"
)

// Limits of one value. Longer texts are refused with InvalidValue whatever the facets say.
const (
	MaxValueLen  = 1 << 20 // bytes of a text
	MaxListItems = 16384
	maxDigits    = 64 // digits of a decimal
)

// Zero is the value of a parameter that has neither value nor default: "", "false", "0", "0001-01-01T00:00:00Z".
func (f *Facts) Zero() string {
	if f.List {
		return ""
	}
	switch f.Type {
	case TypeBoolean:
		return "false"
	case TypeInt, TypeUnsignedInt, TypeLong, TypeUnsignedLong, TypeDecimal:
		return "0"
	case TypeDateTime:
		return UnknownTime
	}
	return ""
}

// Canonical checks text against the facts and returns the canonical lexical form that is stored: true/false, decimal
// numbers without sign or leading zeros, dateTime in UTC, upper-case hex, lists without blanks after commas, row
// references without the final dot. Errors are *Error with InvalidType or InvalidValue and say which facet refused
// it; they never repeat the value, which may be a secret. Safe for concurrent use; patterns are compiled once and
// cached. Canonical is idempotent.
func (f *Facts) Canonical(text string) (string, error) {
	if len(text) > MaxValueLen {
		return "", Fail(InvalidValue, "", fmt.Sprintf("the value has %d bytes, at most %d are accepted", len(text), MaxValueLen))
	}
	if !f.List {
		return f.canonicalItem(text)
	}
	items := f.Items(text)
	if len(items) > MaxListItems {
		return "", Fail(InvalidValue, "", fmt.Sprintf("the list has %d items, at most %d are accepted", len(items), MaxListItems))
	}
	if !inRanges(f.ListSize, int64(len(items))) {
		return "", Fail(InvalidValue, "", fmt.Sprintf("the list has %d items, allowed are %s", len(items), rangesText(f.ListSize)))
	}
	for i, item := range items {
		c, err := f.canonicalItem(item)
		if err != nil {
			e := *err.(*Error)
			e.Text = fmt.Sprintf("list item %d: %s", i+1, e.Text)
			return "", &e
		}
		items[i] = c
	}
	out := strings.Join(items, ",")
	if n := int64(utf8.RuneCountInString(out)); !inRanges(f.ListLen, n) {
		return "", Fail(InvalidValue, "", fmt.Sprintf("the list has %d characters, allowed are %s", n, rangesText(f.ListLen)))
	}
	return out, nil
}

// Items returns the items of a canonical or asked-for value: those of a list without blanks around them, or the value
// itself. A comma inside the brackets or quotes of a reference is part of its item.
func (f *Facts) Items(value string) []string {
	if !f.List {
		return []string{value}
	}
	return splitList(value, f.PathRef != nil)
}

// splitList splits at commas and trims blanks around the items; "" has no items. In lists of references a comma
// inside brackets or quotes belongs to the item.
func splitList(text string, refs bool) []string {
	if strings.Trim(text, xmlSpace) == "" {
		return nil
	}
	var items []string
	start, depth, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case refs && c == '"':
			quoted = !quoted
		case refs && !quoted && c == '[':
			depth++
		case refs && !quoted && c == ']':
			depth--
		case c == ',' && depth <= 0 && !quoted:
			items = append(items, strings.Trim(text[start:i], xmlSpace))
			start = i + 1
		}
	}
	return append(items, strings.Trim(text[start:], xmlSpace))
}

const xmlSpace = " \t\r\n"

func (f *Facts) canonicalItem(text string) (string, error) {
	c, err := f.lexical(text)
	if err != nil {
		return "", err
	}
	switch f.Type {
	case TypeString:
		err = f.checkLength(int64(utf8.RuneCountInString(c)), "characters")
	case TypeBase64:
		err = f.checkLength(int64(base64.StdEncoding.DecodedLen(len(c))-strings.Count(c, "=")), "octets")
	case TypeHexBinary:
		err = f.checkLength(int64(len(c)/2), "octets")
	case TypeInt, TypeUnsignedInt, TypeLong, TypeUnsignedLong, TypeDecimal:
		err = f.checkRange(c)
	}
	if err == nil {
		err = f.checkWords(c)
	}
	if err == nil {
		err = f.checkNamed(c)
	}
	if err != nil {
		return "", err
	}
	return c, nil
}

func (f *Facts) checkLength(n int64, unit string) error {
	if inRanges(f.Size, n) {
		return nil
	}
	return Fail(InvalidValue, "", fmt.Sprintf("the value has %d %s, allowed are %s", n, unit, rangesText(f.Size)))
}

// checkRange compares as decimals, so that the whole of unsignedLong and fractions fit.
func (f *Facts) checkRange(c string) error {
	if len(f.Range) == 0 {
		return nil
	}
	v, _ := parseDecimal(c)
	for _, r := range f.Range {
		if r.Min != nil && v.cmp(decimalOf(*r.Min)) < 0 || r.Max != nil && v.cmp(decimalOf(*r.Max)) > 0 {
			continue
		}
		if r.Step > 1 && !onStep(c, r) {
			continue
		}
		return nil
	}
	return Fail(InvalidValue, "", "out of range, allowed are "+rangesText(f.Range))
}

// onStep: the value is the minimum (or 0) plus a whole number of steps.
func onStep(c string, r Range) bool {
	var base int64
	if r.Min != nil {
		base = *r.Min
	}
	if n, err := strconv.ParseInt(c, 10, 64); err == nil {
		return (n%r.Step-base%r.Step)%r.Step == 0
	}
	n, err := strconv.ParseUint(c, 10, 64)
	if err != nil || base < 0 {
		return false
	}
	return (n-uint64(base))%uint64(r.Step) == 0
}

func (f *Facts) checkWords(c string) error {
	if len(f.Enum) > 0 {
		found := false
		for i := range f.Enum {
			if f.Enum[i].Value == c {
				found = true
				break
			}
		}
		if !found {
			return Fail(InvalidValue, "", "not one of the allowed words "+f.enumText())
		}
	}
	if len(f.Patterns) == 0 {
		return nil
	}
	for _, p := range f.Patterns {
		re, err := compilePattern(p)
		if err != nil {
			return &Error{Reason: Internal, Text: "a pattern of the data model cannot be checked", Err: err}
		}
		if re.MatchString(c) {
			return nil
		}
	}
	return Fail(InvalidValue, "", "does not match the pattern "+strings.Join(f.Patterns, " or "))
}

func (f *Facts) enumText() string {
	var b strings.Builder
	for i := range f.Enum {
		if b.Len() > 200 {
			return b.String() + ", ..."
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(f.Enum[i].Value)
	}
	return b.String()
}

// checkNamed covers the named types whose data type has no pattern in the model. The empty value means "none".
func (f *Facts) checkNamed(c string) error {
	if c == "" || f.Type != TypeString {
		return nil
	}
	ok := true
	switch f.Named {
	case "IPAddress":
		a, err := netip.ParseAddr(c)
		ok = err == nil && a.Zone() == ""
	case "IPv6Address":
		a, err := netip.ParseAddr(c)
		ok = err == nil && a.Is6() && a.Zone() == ""
	case "IPPrefix", "IPv6Prefix":
		ok = prefixOK(c, f.Named == "IPv6Prefix")
	case "Alias":
		if l := c[0] | 0x20; l < 'a' || l > 'z' { // TP-469 1.88, TR-069 3.6.1
			return Fail(InvalidValue, "", "an Alias begins with a letter")
		}
	}
	if !ok {
		return Fail(InvalidValue, "", "not an "+f.Named)
	}
	return nil
}

// prefixOK accepts address/length and, as TR-106 does, /length alone.
func prefixOK(c string, only6 bool) bool {
	addr, bits, ok := strings.Cut(c, "/")
	if !ok {
		return false
	}
	if addr == "" {
		addr = "::"
	}
	p, err := netip.ParsePrefix(addr + "/" + bits)
	return err == nil && (!only6 || p.Addr().Is6())
}

// lexical checks the text against the type alone and returns its canonical form.
func (f *Facts) lexical(text string) (string, error) {
	if f.Type == TypeString {
		if at := badChar(text); at >= 0 {
			return "", Fail(InvalidType, "", fmt.Sprintf("byte %d is not a character that XML can carry", at))
		}
		if f.PathRef != nil && f.PathRef.Target == "row" && len(text) > 1 {
			text = strings.TrimSuffix(text, ".")
		}
		return text, nil
	}
	t := strings.Trim(text, xmlSpace)
	switch f.Type {
	case TypeBoolean:
		switch t {
		case "true", "1":
			return "true", nil
		case "false", "0":
			return "false", nil
		}
		return "", Fail(InvalidType, "", "not a boolean: true, false, 1 and 0 are accepted")
	case TypeInt:
		return lexicalInt(t, math.MinInt32, math.MaxInt32, "int")
	case TypeLong:
		return lexicalInt(t, math.MinInt64, math.MaxInt64, "long")
	case TypeUnsignedInt:
		return lexicalInt(t, 0, math.MaxUint32, "unsignedInt")
	case TypeUnsignedLong:
		return lexicalInt(t, 0, math.MaxUint64, "unsignedLong")
	case TypeDecimal:
		d, ok := parseDecimal(t)
		if !ok {
			return "", Fail(InvalidType, "", fmt.Sprintf("not a decimal number of at most %d digits", maxDigits))
		}
		return d.String(), nil
	case TypeDateTime:
		return lexicalTime(t)
	case TypeBase64:
		b, err := base64.StdEncoding.Strict().DecodeString(strings.Map(dropSpace, t))
		if err != nil {
			return "", Fail(InvalidType, "", "not base64")
		}
		return base64.StdEncoding.EncodeToString(b), nil
	case TypeHexBinary:
		if _, err := hex.DecodeString(t); err != nil {
			return "", Fail(InvalidType, "", "not hexBinary: an even number of hexadecimal digits is needed")
		}
		return strings.ToUpper(t), nil
	}
	return "", Fail(Internal, "", "unknown data type")
}

func dropSpace(r rune) rune {
	if strings.ContainsRune(xmlSpace, r) {
		return -1
	}
	return r
}

// badChar is the index of the first byte that is not part of a valid XML 1.0 character, or -1.
func badChar(s string) int {
	for i, r := range s {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return i
		}
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return i
			}
		}
	}
	return -1
}

func lexicalInt(t string, lo int64, hi uint64, name string) (string, error) {
	d, ok := parseDecimal(t)
	if !ok || strings.IndexByte(t, '.') >= 0 {
		return "", Fail(InvalidType, "", "not a number of type "+name)
	}
	if d.cmp(decimalOf(lo)) < 0 || d.cmp(decimal{whole: strconv.FormatUint(hi, 10)}) > 0 {
		return "", Fail(InvalidValue, "", "out of the range of "+name)
	}
	return d.String(), nil
}

func inRanges(rs []Range, n int64) bool {
	if len(rs) == 0 {
		return true
	}
	for _, r := range rs {
		if (r.Min == nil || n >= *r.Min) && (r.Max == nil || n <= *r.Max) {
			return true
		}
	}
	return false
}

func rangesText(rs []Range) string {
	var b strings.Builder
	for i, r := range rs {
		if i > 0 {
			b.WriteString(" or ")
		}
		if r.Min != nil {
			b.WriteString(strconv.FormatInt(*r.Min, 10))
		}
		b.WriteString("..")
		if r.Max != nil {
			b.WriteString(strconv.FormatInt(*r.Max, 10))
		}
		if r.Step > 1 {
			b.WriteString(" in steps of " + strconv.FormatInt(r.Step, 10))
		}
	}
	return b.String()
}

// decimal is a number of any length in normal form: no leading zeros in whole ("0" for none), no trailing ones in frac.
type decimal struct {
	neg         bool
	whole, frac string
}

func decimalOf(n int64) decimal {
	d, _ := parseDecimal(strconv.FormatInt(n, 10))
	return d
}

// parseDecimal reads [+-]digits[.digits]; at most maxDigits on each side after normalisation.
func parseDecimal(t string) (decimal, bool) {
	var d decimal
	if t != "" && (t[0] == '+' || t[0] == '-') {
		d.neg = t[0] == '-'
		t = t[1:]
	}
	whole, frac, dot := strings.Cut(t, ".")
	if whole == "" && frac == "" || dot && frac == "" && whole == "" {
		return d, false
	}
	if !allDigits(whole) || !allDigits(frac) {
		return d, false
	}
	d.whole, d.frac = strings.TrimLeft(whole, "0"), strings.TrimRight(frac, "0")
	if len(d.whole) > maxDigits || len(d.frac) > maxDigits {
		return d, false
	}
	if d.whole == "" {
		d.whole = "0"
	}
	if d.whole == "0" && d.frac == "" {
		d.neg = false
	}
	return d, true
}

func allDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func (d decimal) String() string {
	s := d.whole
	if d.frac != "" {
		s += "." + d.frac
	}
	if d.neg {
		s = "-" + s
	}
	return s
}

func (d decimal) cmp(e decimal) int {
	if d.neg != e.neg {
		if d.neg {
			return -1
		}
		return 1
	}
	c := len(d.whole) - len(e.whole)
	if c == 0 {
		c = strings.Compare(d.whole, e.whole)
	}
	if c == 0 {
		c = strings.Compare(d.frac, e.frac) // digits without trailing zeros compare like the fractions
	}
	if d.neg {
		c = -c
	}
	return c
}

// lexicalTime reads an XML Schema dateTime and writes it in UTC: without a fraction if it is zero, else with six digits, as the
// throughput tests of TR-143 ask, or with nine where those are needed. A time without zone counts as UTC. Years below 1000 are times relative to the boot of the device
// (TR-106); such a time is only accepted in UTC.
func lexicalTime(t string) (string, error) {
	bad := Fail(InvalidType, "", "not a dateTime (YYYY-MM-DDThh:mm:ss, a fraction and Z or an offset may follow)")
	if len(t) < len("2006-01-02T15:04:05") || len(t) > 64 {
		return "", bad
	}
	rest := t[len("2006-01-02T15:04:05"):]
	if strings.HasPrefix(rest, ".") {
		i := 1
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			i++
		}
		if i == 1 {
			return "", bad
		}
		if i > 10 { // nanoseconds are what the rest of the program knows
			t = t[:len("2006-01-02T15:04:05.999999999")] + rest[i:]
		}
		rest = rest[i:]
	}
	if rest == "" {
		t += "Z"
	}
	day := 0
	if t[11:13] == "24" && strings.HasPrefix(t[11:], "24:00:00") { // the end of a day, as XML Schema allows
		t, day = t[:11]+"00"+t[13:], 1
	}
	v, err := time.Parse(time.RFC3339Nano, t)
	if err != nil || t[10] != 'T' || strings.IndexByte(t, ',') >= 0 {
		return "", bad
	}
	v = v.AddDate(0, 0, day)
	u := v.UTC()
	if u.Year() < 1 || u.Year() > 9999 || v.Year() < 1000 && !v.Equal(time.Date(v.Year(), v.Month(), v.Day(), v.Hour(), v.Minute(), v.Second(), v.Nanosecond(), time.UTC)) {
		return "", Fail(InvalidValue, "", "the dateTime is outside the years 0001 to 9999 or is a relative time with an offset")
	}
	switch ns := u.Nanosecond(); {
	case ns == 0:
		return u.Format("2006-01-02T15:04:05Z"), nil
	case ns%1000 == 0:
		return u.Format("2006-01-02T15:04:05.000000Z"), nil
	}
	return u.Format("2006-01-02T15:04:05.000000000Z"), nil
}
