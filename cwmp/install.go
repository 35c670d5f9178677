package cwmp

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// Image is a firmware image that a Download brought.
type Image struct {
	Path       string // only valid until Install returns
	TargetName string // TargetFileName of the RPC, unchecked text
	CommandKey string
}

// Installer puts firmware on the device. Install runs on the transfer goroutine, one call at a time.
type Installer interface {
	// Install checks and writes the image. restart=true means that it takes effect when the device starts next: the CPE
	// asks for a restart, and TransferComplete goes out after it with the verdict of Installed (TR-069 A.3.2.8: not
	// before the image was applied). Errors: *TransferError with TransferCorrupt for an image that is not one.
	Install(ctx context.Context, image Image) (restart bool, err error)
	// Installed is asked at the start that follows a restart=true: nil if the new image runs. It is asked again at each start until the
	// ACS has acknowledged TransferComplete.
	Installed(ctx context.Context, commandKey string) error
}

// Affecter is an Installer that knows the row of the model that its newest image went into, "" if none.
type Affecter interface{ Affected() string }

// ExecInstaller runs a vendor's own program for each image: Command, then the path of the image as the last argument. Exit
// status 0 means installed, 10 that the image is unusable, anything else that installing failed.
type ExecInstaller struct {
	Command []string
	// Restart: a restart of the device is needed after success.
	Restart bool
	// Check, if set, is run at the start after a restart; exit status 0 means that the new image runs.
	Check []string
}

// Install implements Installer.
func (e *ExecInstaller) Install(ctx context.Context, image Image) (bool, error) {
	if len(e.Command) == 0 {
		return false, errors.New("cwmp: ExecInstaller without a command")
	}
	args := append(append([]string(nil), e.Command[1:]...), image.Path)
	if err := exec.CommandContext(ctx, e.Command[0], args...).Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 10 {
			return false, &TransferError{Reason: TransferCorrupt, Text: "the image was refused by the installer", Err: err}
		}
		return false, &TransferError{Reason: TransferFailed, Text: "the installer failed", Err: err}
	}
	return e.Restart, nil
}

// Installed implements Installer.
func (e *ExecInstaller) Installed(ctx context.Context, _ string) error {
	if len(e.Check) == 0 {
		return nil
	}
	if err := exec.CommandContext(ctx, e.Check[0], e.Check[1:]...).Run(); err != nil {
		return &TransferError{Reason: TransferFailed, Text: "the new image did not start", Err: fmt.Errorf("check: %w", err)}
	}
	return nil
}
