package conversion

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"twinspan/datamodel"
	"twinspan/store"
)

// Limits of a file.
const (
	MaxFile       = 8 << 20 // bytes
	MaxLines      = 32768   // statements
	MaxTransfers  = 16      // TR-069 A.4.1.7
	MaxSchedules  = 32
	MaxEvents     = 64
	MaxAccessList = 32
	maxKey        = 32 // characters of a CommandKey or ParameterKey (TR-069 A.3.2)
)

// header is the first line, with the version of the format.
const header = "twinspan-import 1"

// Answers to whether the ACS was told BOOTSTRAP.
const (
	Yes     = "yes"
	No      = "no"
	Unknown = "unknown"
)

// File is what a file says. Paths are spelled as in the file.
type File struct {
	Source       string // name of the older client, free text
	Version      string
	Hash         string // of the file, sha256 in hex
	TR098        bool
	Bootstrapped string // yes, no, unknown
	// BootstrapURL is the ACS that was told, where it is not the URL among the values.
	BootstrapURL string
	ParameterKey string
	Values       []Value
	Rows         []string
	Next         map[string]int
	Attrs        map[string]store.Attr
	Told         map[string]string // what the ACS knows of values that are others now
	Events       []Event
	Schedules    []Schedule
	Transfers    []Transfer
}

// Value of a parameter. Origin is "", "factory" or "dhcp".
type Value struct{ Path, Value, Origin string }

// Event that the ACS has not been told.
type Event struct{ Code, Key string }

// Schedule is a ScheduleInform that waits.
type Schedule struct {
	Key string
	At  time.Time
}

// Transfer is a Download or Upload that the ACS has not been told the end of.
type Transfer struct {
	Kind   string // download, upload, schedule-download
	State  string // queued, delivered (it brought the firmware that runs now), done
	Key    string
	Type   string
	URL    string
	User   string
	Secret string
	Size   uint64
	Target string
	Start  time.Time
	End    time.Time
	At     time.Time // queued: not before
	Fault  int
	Text   string
}

// Parse reads a file. It refuses what it does not understand, and a file whose last line is missing.
func Parse(data []byte) (*File, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("larger than %d bytes", MaxFile)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	sum := sha256.Sum256(data)
	f := &File{Hash: hex.EncodeToString(sum[:]), Bootstrapped: Unknown, Next: map[string]int{}, Attrs: map[string]store.Attr{}, Told: map[string]string{}}
	p := &parser{f: f, seen: map[string]bool{}}
	number, statements, ended := 0, 0, false
	for rest := data; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		number++
		words, err := split(strings.TrimSuffix(string(line), "\r"))
		switch {
		case err != nil:
		case statements == 0 && len(words) > 0 && strings.Join(words, " ") != header:
			err = fmt.Errorf("the first line must be %q", header)
		case len(words) == 0:
			continue
		case ended:
			err = errors.New("text after end")
		case words[0] == "end" && len(words) == 1:
			ended = true
		case statements > 0:
			err = p.statement(words[0], words[1:])
		}
		if statements++; err == nil && statements > MaxLines {
			err = fmt.Errorf("more than %d statements", MaxLines)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if !ended {
		return nil, fmt.Errorf("line %d: the last line, end, is missing: the file is not whole", number)
	}
	return f, p.whole()
}

// split makes words of a line: bare words, and texts in double quotes with the escapes of Go. A # begins a comment.
func split(line string) ([]string, error) {
	var out []string
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			return out, nil
		}
		// name="text" is one word.
		at := strings.IndexAny(line, "\" \t")
		if at < 0 {
			return append(out, line), nil
		}
		if line[at] != '"' {
			out, line = append(out, line[:at]), line[at:]
			continue
		}
		if at > 0 && line[at-1] != '=' {
			return nil, errors.New("a quote inside a word")
		}
		quoted, err := strconv.QuotedPrefix(line[at:])
		if err != nil {
			return nil, errors.New("a text without its closing quote, or an unknown escape")
		}
		text, err := strconv.Unquote(quoted)
		if err != nil || !utf8.ValidString(text) {
			return nil, errors.New("a text that cannot be read")
		}
		out, line = append(out, line[:at]+text), line[at+len(quoted):]
		if line != "" && line[0] != ' ' && line[0] != '\t' {
			return nil, errors.New("text right after a closing quote")
		}
	}
}

type parser struct {
	f    *File
	seen map[string]bool
}

func (p *parser) once(what string) error {
	if p.seen[what] {
		return fmt.Errorf("%s is there twice", what)
	}
	p.seen[what] = true
	return nil
}

func (p *parser) statement(what string, args []string) error {
	f := p.f
	one := func(to *string, limit int) error {
		if len(args) != 1 || len(args[0]) > limit {
			return fmt.Errorf("%s wants one text of at most %d bytes", what, limit)
		}
		*to = args[0]
		return p.once(what)
	}
	switch what {
	case "source":
		return one(&f.Source, 64)
	case "version":
		return one(&f.Version, 64)
	case "model":
		var model string
		if err := one(&model, 8); err != nil {
			return err
		}
		f.TR098 = model == "tr098"
		if model != "tr098" && model != "tr181" {
			return errors.New("model is tr181 or tr098")
		}
		if len(f.Values)+len(f.Rows)+len(f.Attrs)+len(f.Next)+len(f.Told) > 0 {
			return errors.New("model comes before the first path")
		}
		return nil
	case "parameter-key":
		return one(&f.ParameterKey, 4*maxKey)
	case "bootstrapped":
		if len(args) == 2 {
			f.BootstrapURL, args = args[1], args[:1]
		}
		if err := one(&f.Bootstrapped, 8); err != nil {
			return err
		}
		if !slices.Contains([]string{Yes, No, Unknown}, f.Bootstrapped) {
			return errors.New("bootstrapped is yes, no or unknown")
		}
		return nil
	case "value", "told":
		return p.value(what, args)
	case "row":
		if err := p.path(args, 1, true); err != nil {
			return err
		}
		f.Rows = append(f.Rows, args[0])
		return nil
	case "next":
		if err := p.path(args, 2, true); err != nil {
			return err
		}
		n, err := strconv.ParseUint(args[1], 10, 31)
		if err != nil || n < 1 {
			return errors.New("next wants a table and the number that its next row may get")
		}
		f.Next[args[0]] = int(n)
		return p.once("next " + args[0])
	case "attr":
		return p.attr(args)
	case "event":
		return p.event(args)
	case "schedule-inform":
		return p.schedule(args)
	case "download", "upload", "schedule-download":
		return p.transfer(what, args)
	}
	return fmt.Errorf("unknown statement %.40q", what)
}

// path checks the number of arguments and that the first is a path of the model, that of an object where object is set.
func (p *parser) path(args []string, n int, object bool) error {
	if len(args) != n {
		return fmt.Errorf("%d arguments, not %d", n, len(args))
	}
	root := "Device."
	if p.f.TR098 {
		root = oldRoot
	}
	path := args[0]
	switch {
	case !strings.HasPrefix(path, root):
		return fmt.Errorf("%.80q does not begin with %s", path, root)
	case len(path) > store.MaxPath || strings.Count(path, ".") >= store.MaxDepth:
		return errors.New("a path that is too long")
	case object && path[len(path)-1] != '.':
		return fmt.Errorf("%.80q does not end in a dot", path)
	case strings.Contains(path, ".."):
		return fmt.Errorf("%.80q has an empty element", path)
	}
	for i := 0; i < len(path); i++ {
		if c := path[i]; c != '.' && c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return fmt.Errorf("%.80q is not an instance path", path)
		}
	}
	return nil
}

func (p *parser) value(what string, args []string) error {
	origin := ""
	if what == "value" && len(args) == 3 {
		if origin = strings.TrimPrefix(args[2], "origin="); origin != "factory" && origin != "dhcp" && origin != "acs" || origin == args[2] {
			return errors.New("the third argument is origin=acs, origin=factory or origin=dhcp")
		}
		args = args[:2]
	}
	if err := p.path(args, 2, false); err != nil {
		return err
	}
	if strings.HasSuffix(args[0], ".") {
		return fmt.Errorf("%.80q is not a parameter", args[0])
	}
	if len(args[1]) > store.MaxValue {
		return fmt.Errorf("a value of more than %d bytes", store.MaxValue)
	}
	if what == "told" {
		p.f.Told[args[0]] = args[1]
	} else {
		p.f.Values = append(p.f.Values, Value{Path: args[0], Value: args[1], Origin: origin})
	}
	return p.once(what + " " + args[0])
}

// attr PATH notification=N access=A,B
func (p *parser) attr(args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return errors.New("attr wants a path, then notification=, access= or both")
	}
	if err := p.path(args[:1], 1, false); err != nil {
		return err
	}
	a := store.Attr{Notification: -1}
	for _, arg := range args[1:] {
		name, text, ok := strings.Cut(arg, "=")
		n, err := strconv.Atoi(text)
		switch {
		case ok && name == "notification" && err == nil && n >= 0 && n <= 6:
			a.Notification = int8(n)
		case ok && name == "access":
			a.HasAccess = true
			if text != "" {
				a.AccessList = strings.Split(text, ",")
			}
			if len(a.AccessList) > MaxAccessList || len(text) > 1024 || slices.Contains(a.AccessList, "") {
				return fmt.Errorf("access is a list of at most %d names", MaxAccessList)
			}
		default:
			return fmt.Errorf("%.40q is neither notification=0 to 6 nor access=A,B", arg)
		}
	}
	p.f.Attrs[args[0]] = a
	return p.once("attr " + args[0])
}

// events that can wait beside those that follow from other statements.
var eventCodes = []string{"2 PERIODIC", "3 SCHEDULED", "M Reboot", "M ScheduleInform"}

func (p *parser) event(args []string) error {
	if len(args) < 1 || len(args) > 2 || !slices.Contains(eventCodes, args[0]) {
		return fmt.Errorf("event wants one of %q, and an M event its key", eventCodes)
	}
	e := Event{Code: args[0]}
	if multiple := strings.HasPrefix(e.Code, "M "); multiple != (len(args) == 2) {
		return errors.New("an M event has a key, no other has")
	} else if multiple {
		e.Key = args[1]
	}
	if len(p.f.Events) >= MaxEvents {
		return fmt.Errorf("more than %d events", MaxEvents)
	}
	p.f.Events = append(p.f.Events, e)
	return checkKey(e.Key)
}

func checkKey(key string) error {
	if utf8.RuneCountInString(key) > maxKey {
		return fmt.Errorf("a key of more than %d characters", maxKey)
	}
	return nil
}

func (p *parser) schedule(args []string) error {
	if len(args) != 2 {
		return errors.New("schedule-inform wants a key and a time")
	}
	at, err := time.Parse(time.RFC3339, args[1])
	if err != nil || at.Year() <= 1 {
		return fmt.Errorf("%.40q is not a known time as in 2026-01-31T12:00:00Z", args[1])
	}
	if len(p.f.Schedules) >= MaxSchedules {
		return fmt.Errorf("more than %d schedule-inform", MaxSchedules)
	}
	p.f.Schedules = append(p.f.Schedules, Schedule{Key: args[0], At: at})
	return checkKey(args[0])
}

// transfer KEY STATE name=value...
func (p *parser) transfer(kind string, args []string) error {
	if len(args) < 2 || len(p.f.Transfers) >= MaxTransfers {
		return fmt.Errorf("%s wants a key and a state; at most %d transfers", kind, MaxTransfers)
	}
	t := Transfer{Kind: kind, Key: args[0], State: args[1]}
	for _, arg := range args[2:] {
		name, text, ok := strings.Cut(arg, "=")
		var err error
		switch {
		case !ok:
			err = errors.New("no =")
		case name == "type":
			t.Type = text
		case name == "url":
			t.URL = text
		case name == "user":
			t.User = text
		case name == "password":
			t.Secret = text
		case name == "target":
			t.Target = text
		case name == "text":
			t.Text = text
		case name == "size":
			t.Size, err = strconv.ParseUint(text, 10, 32)
		case name == "fault":
			t.Fault, err = strconv.Atoi(text)
			if t.Fault != 0 && (t.Fault < 9000 || t.Fault > 9899) {
				err = errors.New("0 or 9000 to 9899")
			}
		case name == "start":
			t.Start, err = moment(text)
		case name == "complete":
			t.End, err = moment(text)
		case name == "not-before":
			t.At, err = moment(text)
		default:
			err = errors.New("unknown")
		}
		if err == nil && len(text) > 2048 {
			err = errors.New("too long")
		}
		if err != nil {
			return fmt.Errorf("%s %.40q: %w", kind, name, err)
		}
	}
	p.f.Transfers = append(p.f.Transfers, t)
	switch {
	case t.State == "queued" && kind == "schedule-download":
		return errors.New("a schedule-download that waits cannot be taken over; only its end (done)")
	case t.State == "queued" && (t.URL == "" || t.Type == ""):
		return errors.New("a queued transfer has type= and url=")
	case t.State == "delivered" && (kind == "upload" || t.Fault != 0):
		return errors.New("delivered is the end of a download, without a fault")
	case t.State != "queued" && t.State != "delivered" && t.State != "done":
		return errors.New("the state of a transfer is queued, delivered or done")
	}
	return checkKey(t.Key)
}

// moment reads a dateTime; the unknown time is the zero Time.
func moment(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Year() > 1 {
		return t, err
	}
	return time.Time{}, nil
}

// whole checks what only the whole file can tell.
func (p *parser) whole() error {
	if err := checkKey(p.f.ParameterKey); err != nil {
		return fmt.Errorf("parameter-key: %w", err)
	}
	if !p.seen["source"] || !p.seen["model"] || !p.seen["bootstrapped"] {
		return errors.New("source, model and bootstrapped must be there")
	}
	for _, t := range [...]string{p.f.Source, p.f.Version} {
		if strings.ContainsAny(t, "\x00\n") {
			return &datamodel.Error{Reason: datamodel.InvalidValue, Text: "source and version are one line"}
		}
	}
	return nil
}
