//go:build !omit_diag

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"

	"twinspan/bridge"
	"twinspan/cwmp"
	"twinspan/datamodel"
	"twinspan/datamodel/diag"
	"twinspan/store"
)

// haveDiag: a device without a profile of its own gets the diagnostics, too.
const haveDiag = true

// diagnostics are the provider with the files of the CWMP side, which is built later: VendorConfigFile.1 and VendorLogFile.1 are
// those that an ACS uploads and downloads.
type diagnostics struct {
	*diag.Provider
	cpe atomic.Pointer[cwmp.CPE]
}

var errNotYet = errors.New("the device is starting")

// newDiag builds the provider of diagnostics.
func newDiag(opts map[string]any, log *slog.Logger, db *store.Store) (datamodel.Provider, error) {
	o, err := diag.ParseOptions(opts)
	if err != nil {
		return nil, err
	}
	d := &diagnostics{}
	o.LogFiles = append([]diag.LogFile{{Name: bridge.JournalLog, Persistent: true,
		Write: func(ctx context.Context, w io.Writer) error { return bridge.WriteJournal(ctx, db, w) }}}, o.LogFiles...)
	o.Log = log.With("part", "diag")
	o.ConfigFiles = append(o.ConfigFiles, diag.ConfigFile{Name: "configuration", Description: "all settings but secrets and the ACS's own",
		Export: d.export, Import: d.restore})
	d.Provider, err = diag.New(o)
	return d, err
}

func (d *diagnostics) export(ctx context.Context, w io.Writer) error {
	if cpe := d.cpe.Load(); cpe != nil {
		return cpe.ExportConfig(ctx, w)
	}
	return errNotYet
}

// restore puts a file in force as the Controller that asked for it, with its rights on everything that the file sets: the right
// to run the command would else be every right.
func (d *diagnostics) restore(ctx context.Context, _ string, r io.Reader) error {
	cpe := d.cpe.Load()
	if cpe == nil {
		return errNotYet
	}
	w, ok := bridge.WriterFrom(ctx)
	if !ok || w.System {
		return datamodel.Fail(datamodel.Denied, "", "nobody asked for this file to be restored")
	}
	w.Protocol = datamodel.CWMP // whose spelling the file has
	return cpe.RestoreConfig(ctx, w, r, "restore")
}

// attachDiag lets the diagnostics read the stored settings of their servers, and the files, once the engine runs.
func attachDiag(providers []datamodel.Provider, db *store.Store, cpe *cwmp.CPE) {
	for _, p := range providers {
		if d, ok := p.(*diagnostics); ok {
			d.cpe.Store(cpe)
			d.Attach(func(path string) string { l, _ := db.Head().Leaf(path); return l.Value })
		}
	}
}

// logFile finds what writes a row of VendorLogFile.
func logFile(providers []datamodel.Provider) func(name string) func(ctx context.Context, w io.Writer) error {
	return func(name string) func(ctx context.Context, w io.Writer) error {
		for _, p := range providers {
			if d, ok := p.(*diagnostics); ok {
				return d.LogFile(name)
			}
		}
		return nil
	}
}
