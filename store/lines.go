package store

// deltas makes the lines of the journal entry: one for each path that was set, with its annotations.
func (tx *Tx) deltas() []Delta {
	for i := 0; !tx.again && i < len(tx.log.lines); i++ {
		tx.again = tx.log.lines[i].Op != DeltaSet
	}
	if !tx.again { // every path once
		return annotate(tx.log.lines[:len(tx.log.lines):len(tx.log.lines)], tx.log.notes, true)
	}
	out := make([]Delta, 0, len(tx.log.lines))
	last := make(map[string]int, len(tx.log.lines)) // path -> index in out of its set, unset or attr line
	for _, d := range tx.log.lines {
		switch d.Op {
		case DeltaSet, DeltaUnset:
			if i, ok := last[d.Path]; ok {
				o := &out[i]
				o.Op, o.New = d.Op, d.New
				if d.Secret && !o.Secret { // became a secret on the way
					if o.HadOld {
						o.Old = hashSecret(tx.cur.salt, o.Path, o.Old)
					}
				} else if o.Secret && !d.Secret && d.Op == DeltaSet {
					o.New = hashSecret(tx.cur.salt, o.Path, d.New)
				}
				o.Secret = o.Secret || d.Secret
				continue
			}
			last[d.Path] = len(out)
		case DeltaDeleteRow:
			clear(last)
		}
		out = append(out, d)
	}
	return annotate(out, tx.log.notes, false)
}

// annotate puts verdicts on the lines and appends those that the notes are. once: no path has two lines; then notes in the order of
// the lines find theirs without an index.
func annotate(out []Delta, notes []Note, once bool) []Delta {
	lines, next := len(out), 0
	var byPath map[string][]int
	for i := range notes {
		n := &notes[i]
		if n.Op != DeltaSet {
			out = append(out, n.line())
			continue
		}
		if once && next < lines && out[next].Path == n.Path {
			out[next].Verdict, out[next].Rule, out[next].Facts = n.Verdict, n.Rule, n.Facts
			next++
			continue
		}
		if byPath == nil {
			byPath = make(map[string][]int, lines)
			for i := range out[:lines] {
				byPath[out[i].Path] = append(byPath[out[i].Path], i)
			}
		}
		for _, i := range byPath[n.Path] {
			out[i].Verdict, out[i].Rule, out[i].Facts = n.Verdict, n.Rule, n.Facts
		}
	}
	return out
}

func (n *Note) line() Delta {
	return Delta{Op: n.Op, Path: n.Path, Old: n.Old, New: n.New, HadOld: n.Old != "", Secret: n.Secret, Verdict: n.Verdict, Rule: n.Rule, Facts: n.Facts}
}

// refused are the lines of a transaction that changed nothing.
func (tx *Tx) refused() []Delta {
	var out []Delta
	for i := range tx.log.notes {
		if n := &tx.log.notes[i]; n.Op == DeltaRefused {
			out = append(out, n.line())
		}
	}
	return out
}
