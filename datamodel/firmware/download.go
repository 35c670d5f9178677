package firmware

import (
	"context"
	"crypto"
	_ "crypto/sha1"   // CheckSumAlgorithm SHA-1
	_ "crypto/sha256" // SHA-224, SHA-256
	_ "crypto/sha512" // SHA-384, SHA-512
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"

	"twinspan/datamodel"
	"twinspan/datamodel/webfile"
)

var hashes = map[string]crypto.Hash{"SHA-1": crypto.SHA1, "SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256,
	"SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// order is a checked Download().
type order struct {
	command string
	file    webfile.Request
	hash    crypto.Hash
	sum     []byte // nil: not checked
	auto    bool
}

func (m *Manager) order(inv datamodel.Invocation) (*order, error) {
	bad := func(text string) (*order, error) {
		return nil, datamodel.Fail(datamodel.InvalidArgs, inv.Command, text)
	}
	a := inv.Args
	o := &order{command: inv.Command, auto: a["AutoActivate"] == "true",
		file: webfile.Request{URL: a["URL"], Username: a["Username"], Password: a["Password"], MaxSize: m.o.MaxSize}}
	u, err := url.Parse(o.file.URL)
	switch {
	case err != nil || u.Host == "":
		return bad("argument URL is not a URL with a host") // the parser's error would repeat it, with a password perhaps
	case !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https"):
		return bad("argument URL must begin with http:// or https://")
	case u.User != nil:
		return bad("argument URL must hold no user information")
	}
	if s := a["FileSize"]; s != "" {
		if o.file.Size, err = strconv.ParseInt(s, 10, 64); err != nil || o.file.Size > m.o.MaxSize {
			return bad("argument FileSize is more than the " + strconv.FormatInt(m.o.MaxSize, 10) + " bytes that this device takes")
		}
	}
	if s := a["CheckSum"]; s != "" {
		hash, ok := hashes[a["CheckSumAlgorithm"]]
		if !ok {
			return bad("argument CheckSumAlgorithm is needed with a CheckSum")
		}
		if o.hash = hash; len(s) != 2*hash.Size() {
			return bad("argument CheckSum has not the length of its algorithm")
		}
		if o.sum, err = hex.DecodeString(s); err != nil {
			return bad("argument CheckSum is not hexadecimal")
		}
	}
	return o, nil
}

// begin takes the one place for operations.
func (m *Manager) begin(command string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.restarting:
		return datamodel.Fail(datamodel.Resources, command, "a restart into another image is under way")
	case m.busy:
		return datamodel.Fail(datamodel.Resources, command, "another operation on the firmware is running")
	}
	m.busy = true
	return nil
}

func (m *Manager) finish() {
	m.mu.Lock()
	m.busy = false
	m.mu.Unlock()
}

// writable refuses banks that must not be lost. The caller holds mu.
func (m *Manager) writable(command, bank string, auto bool) error {
	if m.lay.bank(bank) == nil {
		return datamodel.Fail(datamodel.CommandFailed, command, "the platform has no such bank any more")
	}
	if bank == m.lay.Active && (len(m.lay.Banks) > 1 || !auto) { // TP-469 9.7
		return datamodel.Fail(datamodel.CommandFailed, command, "this image runs and is not overwritten; download to another FirmwareImage")
	}
	if t := m.onTrial(); t != nil {
		return datamodel.Fail(datamodel.CommandFailed, command, "the change from "+t.From+" to "+t.To+" is not proven yet, and both images are needed until then")
	}
	return nil
}

// status writes a new Status down. Failing to is logged and not more: at the next start it counts as a failed download.
func (m *Manager) status(bank, status string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if bank == m.lay.Active && status != downloading && status != validating {
		status = available
	}
	m.s.Banks[bank].Status = status
	_ = m.save(status)
}

// download is FirmwareImage.{i}.Download().
func (m *Manager) download(ctx context.Context, inv datamodel.Invocation, bank string) error {
	o, err := m.order(inv)
	if err != nil {
		return err
	}
	err = m.locked(func() error {
		if err := m.writable(inv.Command, bank, o.auto); err != nil {
			return err
		}
		st := m.s.Banks[bank]
		st.Status, st.Log = downloading, ""
		return m.save(downloading)
	})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(m.spool(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		m.status(bank, downloadFailed)
		return m.unkept(o, err)
	}
	defer os.Remove(m.spool())
	defer f.Close()
	if err := m.fetch(ctx, o, f); err != nil {
		_ = f.Truncate(0) // a full disk has room again, for the Status
		m.status(bank, downloadFailed)
		return err
	}
	m.status(bank, validating)
	if err := o.verify(f); err != nil {
		m.status(bank, validationFailed)
		return err
	}
	if err := m.put(context.WithoutCancel(ctx), inv.Command, bank, m.spool()); err != nil {
		return err
	}
	if o.auto {
		return m.switchTo(ctx, inv.Command, bank)
	}
	return nil
}

func (m *Manager) fetch(ctx context.Context, o *order, f *os.File) error {
	err := m.o.Fetch(ctx, o.file, f)
	var we *webfile.Error
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &we):
		m.log.Warn("a firmware image could not be fetched", "error", err)
		return datamodel.Fail(datamodel.CommandFailed, o.command, we.Text)
	default:
		return m.unkept(o, err)
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if o.file.Size > 0 && st.Size() != o.file.Size {
		return datamodel.Fail(datamodel.CommandFailed, o.command, "the file has "+strconv.FormatInt(st.Size(), 10)+" bytes, FileSize says "+strconv.FormatInt(o.file.Size, 10))
	}
	if err := f.Sync(); err != nil {
		return m.unkept(o, err)
	}
	return nil
}

// unkept is the error for a file that could not be stored.
func (m *Manager) unkept(o *order, err error) error {
	m.log.Error("a firmware image could not be stored", "error", err)
	return &datamodel.Error{Reason: datamodel.CommandFailed, Path: o.command, Text: "the device could not store the file; its disk may be full", Err: err}
}

// verify compares the checksum.
func (o *order) verify(f *os.File) error {
	if o.sum == nil {
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := o.hash.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(h.Sum(nil), o.sum) != 1 { // TP-469 9.6
		return datamodel.Fail(datamodel.CommandFailed, o.command, "the checksum of the file is not CheckSum")
	}
	return nil
}

// put writes a checked file into a bank: what the Download of both protocols comes down to.
func (m *Manager) put(ctx context.Context, command, bank, path string) error {
	m.o.step("before the bank is written")
	err := m.o.Banks.Write(ctx, bank, path)
	m.o.step("the bank is written")
	if errors.Is(err, ErrImage) {
		m.status(bank, validationFailed)
		return &datamodel.Error{Reason: datamodel.CommandFailed, Path: command, Text: "the file is no image of this device", Err: err}
	}
	if err == nil {
		err = m.locked(func() error {
			if err := m.look(ctx); err != nil {
				return err
			}
			st := m.s.Banks[bank]
			st.Status, st.Log = available, ""
			st.Gen++
			return m.save(available)
		})
	}
	if err != nil {
		m.log.Error("a firmware image could not be installed", "bank", bank, "error", err)
		m.status(bank, installationFailed)
		return datamodel.Fail(datamodel.CommandFailed, command, "the image could not be written into its bank")
	}
	return nil
}

// Install puts the image that an ACS had downloaded to path into a bank that does not run, and chooses it for the next start. restart=false:
// this very image runs already, brought by the same Download before the power went. The file may be gone afterwards. Errors that wrap ErrImage
// are about the image.
func (m *Manager) Install(ctx context.Context, path, commandKey string) (restart bool, err error) {
	if err := m.begin(""); err != nil {
		return false, err
	}
	defer m.finish()
	sum, err := fileSum(path)
	if err != nil {
		return false, err
	}
	bank := ""
	err = m.locked(func() error {
		if i := m.s.Install; i != nil && *i == (install{commandKey, m.lay.Active, sum}) {
			return nil
		}
		bank = m.spare()
		if err := m.writable("", bank, true); err != nil {
			return err
		}
		m.s.Banks[bank].Status = validating
		m.s.Install = &install{commandKey, bank, sum}
		return m.save(validating)
	})
	if err != nil || bank == "" {
		return false, err
	}
	if err := m.put(ctx, "", bank, path); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.bootable("", bank); err != nil {
		return false, err
	}
	return true, m.arm(ctx, bank)
}

// spare is the first bank that does not run, or the only one.
func (m *Manager) spare() string {
	for _, b := range m.lay.Banks {
		if b.Name != m.lay.Active {
			return b.Name
		}
	}
	return m.lay.Active
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := crypto.SHA256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Installed says what became of the image of Install: nil while it runs.
func (m *Manager) Installed(commandKey string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.s.Install
	if i == nil || i.Key != commandKey {
		return errors.New("firmware: no image of this Download is known")
	}
	if m.lay.Active == i.Bank {
		return nil
	}
	why := m.s.Banks[i.Bank].Log
	if why == "" {
		why = "the device was started from another bank"
	}
	return datamodel.Fail(datamodel.CommandFailed, "", "the new image does not run: "+why)
}

// Affected is the row of the newest image of Install, "" if there is none.
func (m *Manager) Affected() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.s.Install == nil || m.value == nil {
		return ""
	}
	return rowOf(m.value, m.s.Install.Bank)
}
