package firmware

import (
	"context"
	"errors"
)

// Bank is a place for one image.
type Bank struct {
	Name    string // unique, at most 64 characters; becomes FirmwareImage.{i}.Name
	Version string // of the image in it, at most 64 characters
	Filled  bool   // there is an image in it
}

// Layout is what the platform says of its banks.
type Layout struct {
	Banks  []Bank // 1 to 8, always in the same order
	Active string // the bank that runs
	Next   string // the bank that the boot loader tries at the next start
	BootID string // differs after every start of the device
}

// Banks is the platform's side: flash and boot loader. Calls come one at a time.
type Banks interface {
	// Layout is read at the start and after writing.
	Layout(ctx context.Context) (Layout, error)
	// Write puts the image in the file path into a bank, all of it or none. Afterwards the file may be gone. An error that wraps ErrImage
	// says that it is no image of this device.
	Write(ctx context.Context, bank, path string) error
	// SetNext tells the boot loader which bank to try from now on; it is in force when the call returns. When that bank does not start, the
	// boot loader should start the one before.
	SetNext(ctx context.Context, bank string) error
}

// ErrImage is wrapped by the errors of Banks.Write about the image itself.
var ErrImage = errors.New("not a valid image of this device")

const maxBanks = 8

func (l *Layout) bank(name string) *Bank {
	for i := range l.Banks {
		if l.Banks[i].Name == name {
			return &l.Banks[i]
		}
	}
	return nil
}

func (l *Layout) check() error {
	if n := len(l.Banks); n < 1 || n > maxBanks {
		return errors.New("firmware: the platform has no banks, or more than 8")
	}
	for i, b := range l.Banks {
		if l.bank(b.Name) != &l.Banks[i] {
			return errors.New("firmware: two banks of the platform have the name " + b.Name)
		}
		if b.Name == "" || len(b.Name) > 64 || len(b.Version) > 64 {
			return errors.New("firmware: names and versions of banks have 1 to 64 characters")
		}
	}
	if l.bank(l.Active) == nil || l.bank(l.Next) == nil {
		return errors.New("firmware: the platform does not say which bank runs, or which is next")
	}
	return nil
}
