package firmware

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Values of FirmwareImage.{i}.Status.
const (
	noImage            = "NoImage"
	active             = "Active"
	downloading        = "Downloading"
	validating         = "Validating"
	available          = "Available"
	downloadFailed     = "DownloadFailed"
	validationFailed   = "ValidationFailed"
	installationFailed = "InstallationFailed"
	activationFailed   = "ActivationFailed"
)

// bankState is what is known of a bank beside what the platform says.
type bankState struct {
	Status string `json:"status"`
	Log    string `json:"boot_failure_log,omitempty"`
	Gen    uint64 `json:"gen"` // counts the images that were written into it
}

// trial is a change of the running image until it is proven.
type trial struct {
	From   string `json:"from"`
	To     string `json:"to"`
	BootID string `json:"boot_id"`       // of the start at which it was armed
	Set    bool   `json:"set,omitempty"` // the boot loader was told
	// Started is the newest start on trial, Starts how many there were.
	Started   string `json:"started,omitempty"`
	Starts    int    `json:"starts,omitempty"`
	Reverting string `json:"reverting,omitempty"` // why the image is given up; the boot loader is told next
}

// install is the newest image of the ACS.
type install struct {
	Key  string `json:"key"`
	Bank string `json:"bank"`
	Sum  string `json:"sum"`
}

// state is the one file of the Manager.
type state struct {
	Banks map[string]*bankState `json:"banks"`
	Boot  string                `json:"boot"`            // BootFirmwareImage
	Known string                `json:"known,omitempty"` // the image that ran when a manager was last reached
	// Previous is the image that ran before Known.
	Previous string   `json:"previous,omitempty"`
	Trial    *trial   `json:"trial,omitempty"`
	Install  *install `json:"install,omitempty"`
}

const stateFile = "state.json"

// loadState reads the file. One that cannot be read is an error, not an empty state: the trial in it decides what may be written.
func loadState(dir string) (*state, error) {
	s := &state{Banks: map[string]*bankState{}}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err != nil {
		return nil, fmt.Errorf("firmware: state: %w", err)
	}
	if s.Banks == nil {
		s.Banks = map[string]*bankState{}
	}
	return s, nil
}

// replaceFile puts data into a file so that either the old or the new content is there after a power cut.
func replaceFile(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
