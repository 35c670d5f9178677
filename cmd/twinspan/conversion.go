//go:build !omit_import

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/bridge/conversion"
	"twinspan/bridge/vendor"
	"twinspan/cwmp"
	"twinspan/store"
)

// readImport reads a file. Who could write it could send the device to another ACS, so only its owner may.
func readImport(path string) (*conversion.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("import.file: %w", err)
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("import.file: %s: mode %s: not a file that only its owner can write", path, st.Mode())
	}
	if st.Size() > conversion.MaxFile {
		return nil, fmt.Errorf("import.file: %s: larger than %d bytes", path, conversion.MaxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("import.file: %w", err)
	}
	f, err := conversion.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("import.file: %s: %w", path, err)
	}
	return f, nil
}

// importOptions has the first start of the database take over what was before.
func (c *Config) importOptions(o *bridge.Options, log *slog.Logger) error {
	if c.Import.File == "" {
		return nil
	}
	// After the loss of a database what was before it is long out of date: the ACS has to provision the device anew.
	if kept, err := filepath.Glob(filepath.Join(c.Data, databaseName) + ".corrupt-*"); err != nil || len(kept) > 0 {
		return err
	}
	schema := o.Schema
	o.Seed = func(context.Context) (*bridge.Seed, error) {
		now := time.Now()
		f, err := readImport(c.Import.File)
		fresh := &bridge.Seed{Ref: "failed", Finish: func(*store.Tx, []bridge.SeedLeft) ([]bridge.Record, error) {
			failed := &conversion.Report{Status: "Failed", Error: "what the file says cannot be taken over", Time: now.UTC()}
			if err != nil {
				failed.Error = err.Error()
			}
			rec, err := failed.Record()
			return []bridge.Record{rec}, err
		}}
		switch {
		case c.Import.OnError != "bootstrap":
			fresh = nil
			if err != nil {
				return nil, fmt.Errorf("%w (import.on_error = \"bootstrap\" would start as a new device)", err)
			}
		case err != nil:
			log.Error("nothing was imported, the device starts as a new one", "error", err)
			return fresh, nil
		}
		s := f.Seed(now, func(tx *store.Tx, r *conversion.Report, found *conversion.Outcome) ([]bridge.Record, error) {
			log.Info("state of an older client is imported", "source", r.Source, "bootstrapped", r.Bootstrapped, "evidence", r.Evidence,
				"values", r.Values, "attributes", r.Attributes, "pending", r.Pending, "residue", r.Residues)
			if r.Residues > 0 {
				log.Warn("some of it has no place on this device", "count", r.Residues, "listed", len(r.Residue))
			}
			records, err := cwmp.Seed(schema, tx.View(), f, found, now)
			if err == nil && f.Delivered() {
				boot := bootTold(bridge.CauseRebootRPC, "", "")
				boot.FirmwareUpdated = true
				var rec bridge.Record
				rec, err = bootRecord(boot)
				records = append(records, rec)
			}
			return records, err
		})
		s.Else = fresh
		return s, nil
	}
	return nil
}

// imported is the part of the maker's object that tells of the import.
func (o *office) imported() ([]vendor.Value, []vendor.Table) {
	kept := func() *conversion.Report {
		if r := conversion.Kept(o.engine.Store().Head()); r != nil {
			return r
		}
		return &conversion.Report{Status: "None"}
	}
	var values []vendor.Value
	for _, name := range [...]string{"Status", "Error", "Source", "SourceVersion", "Model", "FileHash", "Bootstrapped", "Evidence", "Time", "Values", "Rows", "Attributes", "Pending", "Left"} {
		number := name == "Values" || name == "Rows" || name == "Attributes" || name == "Pending" || name == "Left"
		values = append(values, vendor.Value{Name: "Import." + name, Number: number, Read: func() string { return importField(kept(), name) }})
	}
	return values, []vendor.Table{{Name: "Import.Residue", Key: "LegacyPath", Columns: []string{"LegacyPath", "Value", "Reason"}, Most: conversion.MaxResidue, Rows: func() (rows []vendor.Row) {
		for i, left := range kept().Residue {
			rows = append(rows, vendor.Row{Number: uint32(i + 1), Values: []string{left.Path, left.Value, left.Reason}})
		}
		return rows
	}}}
}

func importField(r *conversion.Report, name string) string {
	switch name {
	case "Status":
		return r.Status
	case "Error":
		return r.Error
	case "Source":
		return r.Source
	case "SourceVersion":
		return r.Version
	case "Model":
		return r.Model
	case "FileHash":
		return r.Hash
	case "Bootstrapped":
		return strconv.FormatBool(r.Bootstrapped)
	case "Evidence":
		return r.Evidence
	case "Time":
		if r.Time.IsZero() {
			return ""
		}
		return r.Time.Format(time.RFC3339)
	case "Values":
		return strconv.Itoa(r.Values)
	case "Rows":
		return strconv.Itoa(r.Rows)
	case "Attributes":
		return strconv.Itoa(r.Attributes)
	case "Pending":
		return strconv.Itoa(r.Pending)
	}
	return strconv.Itoa(r.Residues)
}

// cliImport tries a file on a database that it throws away.
func cliImport(ctx context.Context, args []string, out io.Writer) error {
	var file, configFile string
	check := false
	for len(args) > 0 { // options may stand behind FILE
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--check" || arg == "-check":
			check = true
		case (arg == "--config" || arg == "-config") && len(args) > 0:
			configFile, args = args[0], args[1:]
		case file != "" || strings.HasPrefix(arg, "-"):
			return usageError{"what is " + arg + "?"}
		default:
			file = arg
		}
	}
	if file == "" || !check {
		return usageError{"--check and one FILE; the import itself is part of the first start (import.file in the configuration)"}
	}
	c := defaultConfig()
	if configFile != "" {
		var err error
		if c, err = loadConfig(configFile); err != nil {
			return err
		}
	}
	f, err := readImport(file)
	if err != nil {
		return err
	}
	return c.tryImport(ctx, f, out)
}

func (c *Config) tryImport(ctx context.Context, f *conversion.File, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "twinspan-import-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := store.Open(filepath.Join(dir, databaseName), store.Options{NoSync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	log := slog.New(slog.DiscardHandler)
	engine, providers, _, err := c.newEngine(db, log, &office{log: log})
	defer func() { err = errors.Join(err, closeAll(providers)) }()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	var r *conversion.Report
	now := time.Now()
	if err := engine.TrySeed(ctx, f.Seed(now, func(tx *store.Tx, report *conversion.Report, found *conversion.Outcome) ([]bridge.Record, error) {
		r = report
		return cwmp.Seed(engine.Schema(), tx.View(), f, found, now)
	})); err != nil {
		return err
	}
	first := "0 BOOTSTRAP is due"
	if r.Bootstrapped {
		first = "no BOOTSTRAP"
	}
	fmt.Fprintf(out, "%s\nfirst Inform: %s (evidence: %s)\ntaken: %d values, %d rows, %d attributes, %d pending operations\nresidue: %d\n",
		strings.TrimSpace(r.Source+" "+r.Version+" "+r.Model), first, r.Evidence, r.Values, r.Rows, r.Attributes, r.Pending, r.Residues)
	for _, left := range r.Residue {
		fmt.Fprintf(out, "  %s = %s  [%s]\n", left.Path, strconv.Quote(left.Value), left.Reason)
	}
	if n := r.Residues - len(r.Residue); n > 0 {
		fmt.Fprintf(out, "  and %d more\n", n)
	}
	return nil
}
