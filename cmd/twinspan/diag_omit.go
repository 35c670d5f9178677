//go:build omit_diag

package main

import (
	"errors"
	"log/slog"

	"twinspan/cwmp"
	"twinspan/datamodel"
	"twinspan/store"
)

const haveDiag = false

// newDiag refuses: this agent was built without the diagnostics, which weigh half a megabyte (docs/decisions/0007).
func newDiag(map[string]any, *slog.Logger) (datamodel.Provider, error) {
	return nil, errors.New(`provider "diag" is not in this build; the tag omit_diag left it out`)
}

func attachDiag([]datamodel.Provider, *store.Store, *cwmp.CPE) {}
