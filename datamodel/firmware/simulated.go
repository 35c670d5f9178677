package firmware

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Simulated is two banks in files: a device without a second flash partition, or a laboratory. Opening it is a start of the device. An
// image is a line "twinspan-image VERSION SHA256" and a payload with that sum; one whose line ends in " unbootable" is valid and does
// not start. By hand:
//
//	(printf 'twinspan-image 2.0.0 %s\n' "$(sha256sum <payload | cut -d' ' -f1)"; cat payload) >image
type Simulated struct {
	dir  string
	boot simBoot
}

// simBoot is the boot loader's memory.
type simBoot struct {
	Active string `json:"active"`
	Next   string `json:"next"`
	Starts uint64 `json:"starts"`
}

const (
	imageMagic = "twinspan-image"
	unbootable = "unbootable"
	bootFile   = "boot.json"
	maxHeader  = 256
)

var simBanks = []string{"bank1", "bank2"}

// Image makes a simulated image. version is one word of at most 64 characters.
func Image(version string, payload []byte, starts bool) []byte {
	sum := sha256.Sum256(payload)
	head := imageMagic + " " + version + " " + hex.EncodeToString(sum[:])
	if !starts {
		head += " " + unbootable
	}
	return append([]byte(head+"\n"), payload...)
}

// OpenSimulated starts the simulated device in dir, which is made with mode 0700. In a new directory the first bank holds an image of the
// factory's version and the second is empty.
func OpenSimulated(dir, factory string) (*Simulated, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("firmware: %w", err)
	}
	s := &Simulated{dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, bootFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if factory = strings.Join(strings.Fields(factory), "-"); factory == "" {
			factory = "0"
		}
		if err := replaceFile(s.file(simBanks[0]), Image(factory[:min(len(factory), 64)], nil, true)); err != nil {
			return nil, fmt.Errorf("firmware: factory image: %w", err)
		}
		s.boot = simBoot{Active: simBanks[0], Next: simBanks[0]}
	case err != nil:
		return nil, fmt.Errorf("firmware: boot loader: %w", err)
	default:
		if err := json.Unmarshal(b, &s.boot); err != nil {
			return nil, fmt.Errorf("firmware: boot loader: %w", err)
		}
	}
	if _, starts, err := s.read(s.boot.Next); err == nil && starts {
		s.boot.Active = s.boot.Next
	}
	s.boot.Starts++
	return s, s.save()
}

func (s *Simulated) file(bank string) string { return filepath.Join(s.dir, bank+".img") }

func (s *Simulated) save() error {
	b, err := json.Marshal(s.boot)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(s.dir, bootFile), b)
}

func (s *Simulated) read(bank string) (version string, starts bool, err error) {
	f, err := os.Open(s.file(bank))
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	version, _, starts, _, err = header(f)
	return version, starts, err
}

// header reads the first line of an image; rest is what follows it.
func header(f io.Reader) (version, sum string, starts bool, rest io.Reader, err error) {
	r := bufio.NewReaderSize(f, maxHeader)
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", "", false, nil, fmt.Errorf("%w: no header", ErrImage)
	}
	w := strings.Fields(string(line))
	if len(w) < 3 || len(w) > 4 || w[0] != imageMagic || len(w[1]) > 64 || len(w) == 4 && w[3] != unbootable {
		return "", "", false, nil, fmt.Errorf("%w: the header does not say what it should", ErrImage)
	}
	return w[1], w[2], len(w) == 3, r, nil
}

// Layout implements Banks.
func (s *Simulated) Layout(context.Context) (Layout, error) {
	l := Layout{Active: s.boot.Active, Next: s.boot.Next, BootID: strconv.FormatUint(s.boot.Starts, 10)}
	for _, name := range simBanks {
		version, _, err := s.read(name)
		l.Banks = append(l.Banks, Bank{Name: name, Version: version, Filled: err == nil})
	}
	return l, nil
}

// Write implements Banks.
func (s *Simulated) Write(ctx context.Context, bank, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, want, _, payload, err := header(f)
	if err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, payload); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != want {
		return fmt.Errorf("%w: the payload is damaged", ErrImage)
	}
	if err := errors.Join(f.Sync(), os.Chmod(path, 0o600)); err != nil {
		return err
	}
	if err := os.Rename(path, s.file(bank)); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// SetNext implements Banks.
func (s *Simulated) SetNext(_ context.Context, bank string) error {
	old := s.boot.Next
	s.boot.Next = bank
	if err := s.save(); err != nil {
		s.boot.Next = old
		return err
	}
	return nil
}
