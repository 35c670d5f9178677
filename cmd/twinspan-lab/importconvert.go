package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"twinspan/bridge/conversion"
	"twinspan/cmd/internal/oldclient"
)

// runImportConvert makes a file for the agent's import from what another CWMP client keeps.
func runImportConvert(_ context.Context, args []string) error {
	fs := flag.NewFlagSet("import-convert", flag.ContinueOnError)
	from := fs.String("from", "", "easycwmp or icwmp")
	uci := fs.String("uci", "", "its configuration: /etc/config/easycwmp, /etc/config/cwmp")
	backup := fs.String("backup", "", "its backup file, if there is one")
	out := fs.String("out", "", "file to make, mode 0600; it must not exist")
	var o oldclient.Options
	fs.StringVar(&o.Version, "version", "", "of the client, for the record")
	fs.StringVar(&o.SoftwareVersion, "software-version", "", "of the firmware before, where the client does not know it")
	fs.BoolVar(&o.TR098, "tr098", false, "the client spelled its paths with InternetGatewayDevice.")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *uci == "" || *out == "" || fs.NArg() > 0 {
		return errors.New("--from, --uci and --out are needed")
	}
	config, err := readInput(*uci)
	if err != nil {
		return err
	}
	var state []byte
	if *backup != "" {
		if state, err = readInput(*backup); err != nil {
			return err
		}
	}
	text, err := oldclient.Convert(*from, config, state, o)
	if err != nil {
		return err
	}
	if _, err := conversion.Parse([]byte(text)); err != nil {
		return fmt.Errorf("the agent would not take the result: %w", err)
	}
	f, err := os.OpenFile(*out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func readInput(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 8<<20))
}
