//go:build omit_import

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"twinspan/bridge"
	"twinspan/bridge/vendor"
)

var errNoImport = errors.New("import.file: the import is not in this build; make agent OMIT= builds one that has it")

// importOptions refuses: this agent was built without the import of an older client's state (docs/decisions/0007). To start all the
// same would send BOOTSTRAP.
func (c *Config) importOptions(*bridge.Options, *slog.Logger) error {
	if c.Import.File != "" {
		return errNoImport
	}
	return nil
}

func (*office) imported() ([]vendor.Value, []vendor.Table) { return nil, nil }

func cliImport(context.Context, []string, io.Writer) error { return errNoImport }
