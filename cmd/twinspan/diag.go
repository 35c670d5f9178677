//go:build !omit_diag

package main

import (
	"log/slog"

	"twinspan/datamodel"
	"twinspan/datamodel/diag"
	"twinspan/store"
)

// haveDiag: a device without a profile of its own gets the diagnostics, too.
const haveDiag = true

// newDiag builds the provider of diagnostics.
func newDiag(opts map[string]any, log *slog.Logger) (datamodel.Provider, error) {
	o, err := diag.ParseOptions(opts)
	if err != nil {
		return nil, err
	}
	o.Log = log.With("part", "diag")
	return diag.New(o)
}

// attachDiag lets the diagnostics read the stored settings of their servers, once the engine runs.
func attachDiag(providers []datamodel.Provider, db *store.Store) {
	for _, p := range providers {
		if d, ok := p.(*diag.Provider); ok {
			d.Attach(func(path string) string { l, _ := db.Head().Leaf(path); return l.Value })
		}
	}
}
