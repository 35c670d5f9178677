//go:build omit_diag

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"twinspan/cwmp"
	"twinspan/datamodel"
	"twinspan/store"
)

const haveDiag = false

// newDiag refuses: this agent was built without the diagnostics, which weigh half a megabyte (docs/decisions/0007).
func newDiag(map[string]any, *slog.Logger, *store.Store) (datamodel.Provider, error) {
	return nil, errors.New(`provider "diag" is not in this build; the tag omit_diag left it out`)
}

func attachDiag([]datamodel.Provider, *store.Store, *cwmp.CPE) {}

func logFile([]datamodel.Provider) func(name string) func(ctx context.Context, w io.Writer) error {
	return nil
}
