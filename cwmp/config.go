package cwmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
)

// configFormat marks a vendor configuration file of this agent.
const configFormat = "twinspan-config/1"

// maxConfigValues bounds what a configuration file may set.
const maxConfigValues = 20_000

// configFile is the vendor configuration file: what a manager could set, without secrets and without the management
// connection itself, by canonical path.
type configFile struct {
	Format string            `json:"format"`
	Values map[string]string `json:"values"`
}

// limited refuses to write more than the file limit.
func (c *CPE) limited(w io.Writer) io.Writer { return &limitWriter{w: w, left: c.o.MaxFileSize} }

type limitWriter struct {
	w    io.Writer
	left int64
}

var errFileTooLarge = &TransferError{Reason: TransferFailed, Text: "the file is larger than this device takes"}

func (l *limitWriter) Write(b []byte) (int, error) {
	if int64(len(b)) > l.left {
		return 0, errFileTooLarge
	}
	l.left -= int64(len(b))
	return l.w.Write(b)
}

// portable reports whether a stored parameter belongs into a configuration file.
func portable(s *datamodel.Schema, path string) bool {
	if strings.HasPrefix(path, msPath) { // restoring must not cut the ACS off
		return false
	}
	m, ok := s.Lookup(path)
	if !ok || m.Param == nil {
		return false
	}
	f := m.Param.Facts(datamodel.CWMP)
	return f != nil && f.Access == datamodel.ReadWrite && m.Param.Name != stateParam && !f.Hidden && !f.Secured && !f.Command // DESIGN invariant 11
}

// ExportConfig writes the vendor configuration file that an ACS gets by Upload, without what the Controller that runs the command
// of ctx may not read. Safe for concurrent use.
func (c *CPE) ExportConfig(ctx context.Context, w io.Writer) error {
	by, _ := bridge.WriterFrom(ctx)
	return c.exportConfig(w, by)
}

// RestoreConfig applies such a file as w, all or nothing: w needs the right to write everything in it, also what has the value
// already; ref goes into the journal. w.Protocol must be CWMP, whose spelling the
// change has. Safe for concurrent use.
func (c *CPE) RestoreConfig(ctx context.Context, w bridge.Writer, r io.Reader, ref string) error {
	return c.restoreConfigAs(ctx, w, r, ref)
}

// exportConfig writes the configuration file.
func (c *CPE) exportConfig(w io.Writer, by bridge.Writer) error {
	file := configFile{Format: configFormat, Values: map[string]string{}}
	schema := c.e.Schema()
	head := c.e.Store().Head()
	head.Walk(schema.Root().Path, func(path string, l store.Leaf) bool {
		if l.Flags&store.Secret == 0 && portable(schema, path) && by.Shows(head, path) {
			file.Values[path] = l.Value
		}
		return true
	})
	enc := json.NewEncoder(c.limited(w))
	enc.SetIndent("", " ")
	if err := enc.Encode(file); err != nil {
		return fmt.Errorf("cwmp: write configuration file: %w", err)
	}
	return nil
}

// restoreConfig applies a configuration file as the ACS, who sent it.
func (c *CPE) restoreConfig(ctx context.Context, r io.Reader, ref string) error {
	return c.restoreConfigAs(ctx, acsWriter, r, ref)
}

// restoreConfigAs applies a configuration file in one change. Rows that the device lacks are made, with numbers of the device's
// choosing; rows that the file lacks stay.
func (c *CPE) restoreConfigAs(ctx context.Context, w bridge.Writer, r io.Reader, ref string) error {
	corrupt := func(text string, err error) error {
		return &TransferError{Reason: TransferCorrupt, Text: "not a usable configuration file: " + text, Err: err}
	}
	var file configFile
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return corrupt("not the JSON of this agent's export", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return corrupt("text after the end", err)
	}
	if file.Format != configFormat {
		return corrupt("unknown format", nil)
	}
	if len(file.Values) > maxConfigValues {
		return corrupt(fmt.Sprintf("more than %d values", maxConfigValues), nil)
	}
	change, err := c.restoreChange(file.Values)
	if err != nil {
		return corrupt(err.Error(), err)
	}
	change.Ref = ref
	if len(change.Ops) == 0 {
		return nil
	}
	res, err := c.e.Apply(ctx, w, change)
	if err := changeError(res, err); err != nil {
		var e *datamodel.Error
		if errors.As(err, &e) && e.Reason == datamodel.Denied {
			return datamodel.Fail(datamodel.Denied, e.Path, "the file sets "+cut(e.Path, 120)+", for which the right is missing; nothing was restored")
		}
		if errors.As(err, &e) && e.Reason != datamodel.Internal {
			return corrupt(cut(e.Path+": "+faultText(e), 200), err)
		}
		return err
	}
	return nil
}

// restoreChange orders the values: sets of what exists, then one add for every missing row.
func (c *CPE) restoreChange(values map[string]string) (bridge.Change, error) {
	change := bridge.Change{Atomic: true}
	schema, head := c.e.Schema(), c.e.Store().Head()
	paths := make([]string, 0, len(values))
	for p := range values {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	adds := map[string]int{} // missing row -> index of its operation
	for _, path := range paths {
		if !portable(schema, path) {
			return change, fmt.Errorf("%s cannot be restored", cut(path, 120))
		}
		m, _ := schema.Lookup(path)
		value := datamodel.FromCanonicalValue(datamodel.CWMP, m.Param.Facts(datamodel.CWMP), values[path])
		row, rest := missingRow(head, path)
		if row == "" {
			object, name := datamodel.SplitParam(path)
			spelled, ok := datamodel.FromCanonical(datamodel.CWMP, object)
			if !ok {
				return change, fmt.Errorf("%s is not in the data model", cut(path, 120))
			}
			change.Ops = append(change.Ops, bridge.Op{Kind: bridge.OpSet, Path: spelled,
				Settings: []bridge.Setting{{Name: name, Value: value, Required: true}}})
			continue
		}
		if hasNumber(rest) {
			return change, fmt.Errorf("%s is a row inside a row that does not exist", cut(path, 120))
		}
		i, ok := adds[row]
		if !ok {
			table := row[:strings.LastIndexByte(strings.TrimSuffix(row, "."), '.')+1]
			spelled, known := datamodel.FromCanonical(datamodel.CWMP, table)
			if !known {
				return change, fmt.Errorf("%s is not in the data model", cut(path, 120))
			}
			i = len(change.Ops)
			adds[row] = i
			change.Ops = append(change.Ops, bridge.Op{Kind: bridge.OpAdd, Path: spelled})
		}
		change.Ops[i].Settings = append(change.Ops[i].Settings, bridge.Setting{Name: rest, Value: value, Required: true})
	}
	return change, nil
}

// missingRow finds the first row on a path that does not exist: the row and what follows it.
func missingRow(v *store.Version, path string) (row, rest string) {
	for i := 0; i < len(path); i++ {
		if path[i] != '.' {
			continue
		}
		end := strings.IndexByte(path[i+1:], '.')
		if end < 0 {
			return "", ""
		}
		n, err := strconv.ParseUint(path[i+1:i+1+end], 10, 32)
		if err == nil && !v.HasInstance(path[:i+1], uint32(n)) {
			return path[:i+2+end], path[i+2+end:]
		}
	}
	return "", ""
}

func hasNumber(path string) bool {
	for step := range strings.SplitSeq(path, ".") {
		if step != "" && step[0] >= '0' && step[0] <= '9' {
			return true
		}
	}
	return false
}
