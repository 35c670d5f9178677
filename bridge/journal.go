package bridge

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"twinspan/store"
)

// JournalLog is the Name of the row of Device.DeviceInfo.VendorLogFile. that is the journal.
const JournalLog = "journal"

// maxJournalValue bounds a value in the journal as text, in bytes.
const maxJournalValue = 1024

// WriteJournal writes the whole journal as text, oldest first: a line for each commit with its time, revision, writer and
// wire reference, below it one for each change with its verdict and rule. Values of secrets are salted hashes in the
// journal already; long ones are cut. What is trimmed away while it is read is left out, and said so.
func WriteJournal(ctx context.Context, st *store.Store, w io.Writer) error {
	out := bufio.NewWriter(w)
	by, _ := WriterFrom(ctx)
	now := st.Head()
	after, head := st.JournalStart()-1, now.Rev()
	for {
		var failed error
		err := st.Journal(after, func(e *store.Entry) bool {
			after = e.Rev
			rev := e.Rev
			if failed = ctx.Err(); failed == nil {
				if e = by.Visible(now, e); e != nil {
					_, failed = out.WriteString(entryText(e))
				}
			}
			return failed == nil && rev < head // what is written meanwhile is for the next file
		})
		if failed != nil {
			return failed
		}
		if !errors.Is(err, store.ErrCursorGone) {
			return errors.Join(err, out.Flush())
		}
		after = st.JournalStart() - 1
		if _, err := out.WriteString("-- older entries were dropped while this was written\n"); err != nil {
			return err
		}
	}
}

// entryText is one entry of the journal for people; no value can forge a line.
func entryText(e *store.Entry) string {
	var b strings.Builder
	b.WriteString(e.Time.UTC().Format("2006-01-02T15:04:05.000Z"))
	for _, f := range [...][2]string{{" rev=", strconv.FormatUint(e.Rev, 10)}, {" writer=", e.Meta.Writer}, {" kind=", e.Meta.Kind}, {" ref=", e.Meta.Ref}} {
		b.WriteString(f[0])
		if strings.ContainsAny(f[1], " \r\n\t\"") {
			f[1] = strconv.Quote(f[1])
		}
		b.WriteString(f[1])
	}
	b.WriteByte('\n')
	for i := range e.Deltas {
		d := &e.Deltas[i]
		b.WriteString("  " + d.Op.String() + " " + d.Path)
		switch d.Op {
		case store.DeltaAddRow, store.DeltaDeleteRow, store.DeltaNote:
		default:
			b.WriteString(": " + journalValue(d.Old) + " -> " + journalValue(d.New))
		}
		if d.Verdict != "" {
			b.WriteString("  [" + strings.Map(printable, d.Verdict) + " by rule " + d.Rule + "]")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func printable(r rune) rune {
	if r < ' ' {
		return ' '
	}
	return r
}

func journalValue(v string) string {
	if len(v) > maxJournalValue {
		return strconv.Quote(v[:maxJournalValue]) + "+" + strconv.Itoa(len(v)-maxJournalValue)
	}
	return strconv.Quote(v)
}
