package cwmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel/webfile"
)

const (
	// maxTransfers is the length of the transfer queue, finished ones that the ACS has not acknowledged included
	// (TR-069 A.4.1.7: at most 16 entries). DL-15
	maxTransfers = 16
	// maxTransferStarts bounds how often a transfer that a restart interrupted begins anew.
	maxTransferStarts = 3
	// maxCompleteTries bounds how often TransferComplete is repeated in later sessions after a fault of the ACS other than
	// 8005.
	maxCompleteTries = 10
	// DefaultMaxFileSize bounds a downloaded or uploaded file.
	DefaultMaxFileSize = 64 << 20
	// DefaultTransferTimeout bounds one transfer, installation included.
	DefaultTransferTimeout = 30 * time.Minute
)

// File types of Download and Upload. The same number means different things in the two lists, so the whole text counts
// (TR-069 tables 30 and 36).
const (
	fileFirmware     = "1 Firmware Upgrade Image"
	fileConfig       = "3 Vendor Configuration File"
	uploadConfig     = "1 Vendor Configuration File"
	uploadLog        = "2 Vendor Log File"
	uploadConfigInst = "3 Vendor Configuration File " // and an instance number
	uploadLogInst    = "4 Vendor Log File "
)

// transferState of a transfer record.
type transferState int

const (
	transferQueued    transferState = 1
	transferRunning   transferState = 2
	transferDone      transferState = 3
	transferInstalled transferState = 4 // firmware written; ends when the new image runs
)

// transfer is one Download or Upload, kept as a store record until its TransferComplete was answered. Credentials are in it
// only until the transfer ended.
type transfer struct {
	ID          string         `json:"id"`
	Upload      bool           `json:"upload,omitempty"`
	CommandKey  string         `json:"key,omitempty"`
	FileType    string         `json:"type"`
	URL         string         `json:"url"`
	Username    string         `json:"user,omitempty"`
	Password    string         `json:"password,omitempty"`
	FileSize    uint64         `json:"size,omitempty"`
	TargetName  string         `json:"target,omitempty"`
	Delay       time.Duration  `json:"delay,omitempty"`
	NotBefore   time.Time      `json:"not_before"`
	State       transferState  `json:"state"`
	Starts      int            `json:"starts,omitempty"`
	Tries       int            `json:"tries,omitempty"` // TransferComplete refused so often
	FaultCode   soap.FaultCode `json:"fault,omitempty"`
	FaultString string         `json:"fault_text,omitempty"`
	Start       time.Time      `json:"start"`
	Complete    time.Time      `json:"complete"`
	// Windows of a ScheduleDownload, as absolute times; the first is the one in force.
	Windows  []window `json:"windows,omitempty"`
	Attempts int      `json:"attempts,omitempty"` // in the window in force
	// Schedule: ScheduleDownload asked for it. Auto: somebody else did, and the work is done already.
	Schedule bool `json:"schedule,omitempty"`
	Auto     bool `json:"auto,omitempty"`
	// Applied: an image that ran when it was asked for; until the ACS has heard so, it is asked for again at each start.
	Applied bool `json:"applied,omitempty"`
}

// event is the M event of the RPC, empty for what no RPC asked for.
func (t *transfer) event() string {
	switch {
	case t.Auto:
		return ""
	case t.Upload:
		return evMUpload
	case t.Schedule:
		return evMScheduleDownload
	}
	return evMDownload
}

// completeEvent is the event of the method that reports the end.
func (t *transfer) completeEvent() string {
	if t.Auto {
		return evAutonomous
	}
	return evTransferComplete
}

// message reports the end to the ACS (TR-069 A.3.3.2, A.3.3.3).
func (t *transfer) message() soap.Message {
	fault := soap.TransferFault{FaultCode: t.FaultCode, FaultString: t.FaultString}
	if t.Auto {
		return &soap.AutonomousTransferComplete{TransferURL: t.URL, IsDownload: !t.Upload, FileType: t.FileType, FileSize: uint32(min(t.FileSize, 1<<32-1)),
			TargetFileName: t.TargetName, FaultStruct: fault, StartTime: t.Start, CompleteTime: t.Complete}
	}
	return &soap.TransferComplete{CommandKey: t.CommandKey, FaultStruct: fault, StartTime: t.Start, CompleteTime: t.Complete}
}

// finish sets the result and forgets what is secret.
func (t *transfer) finish(now time.Time, err error) {
	t.State, t.Complete = transferDone, now.UTC()
	if t.Start.IsZero() {
		t.Start = t.Complete
	}
	t.Username, t.Password = "", ""
	if u, e := url.Parse(t.URL); e == nil { // a query may hold a token
		u.RawQuery, u.Fragment = "", ""
		t.URL = u.String()
	}
	if err != nil {
		f := transferFault(t.Upload, err)
		t.FaultCode, t.FaultString = f.Code, f.FaultString
	}
}

func (t *transfer) encode() []byte {
	b, err := json.Marshal(t)
	if err != nil { // only plain fields
		panic(err)
	}
	return b
}

// FileRequest tells a Transferer what to move.
type FileRequest = webfile.Request

// Transferer moves files between the device and a file server. Calls come from one goroutine; they must return when ctx
// ends. Errors should be *TransferError; others count as a general failure.
type Transferer interface {
	// Schemes lists the URL schemes that work, in lower case.
	Schemes() []string
	// Fetch downloads into dst.
	Fetch(ctx context.Context, r FileRequest, dst *os.File) error
	// Store uploads size bytes that open delivers; open may be called again when the server asks for authentication.
	Store(ctx context.Context, r FileRequest, size int64, open func() (*os.File, error)) error
}

// NewTransferer returns the Transferer for HTTP and HTTPS that New uses; RootCAs and Certificates of o count.
func NewTransferer(o Options) Transferer { return webfile.New(o.RootCAs, o.Certificates) }

// TransferError says why a transfer failed, without protocol numbers.
type TransferError = webfile.Error

// TransferReason classifies a TransferError.
type TransferReason = webfile.Reason

// The reasons of transfers that failed.
const (
	TransferFailed       = webfile.Failed
	TransferUnauthorized = webfile.Unauthorized
	TransferNoServer     = webfile.NoServer
	TransferNoFile       = webfile.NoFile
	TransferIncomplete   = webfile.Incomplete
	TransferCorrupt      = webfile.Corrupt
	TransferUnsupported  = webfile.Unsupported
)

// transferFault gives the exact code where there is one (TR-069 A.5.1: exact before general). DL-03, UL-03
func transferFault(upload bool, err error) *soap.Fault {
	general := soap.DownloadFailure
	if upload {
		general = soap.UploadFailure
	}
	code, text := general, ""
	var te *TransferError
	var fault *soap.Fault
	switch {
	case errors.As(err, &fault):
		return fault
	case errors.As(err, &te):
		text = te.Text
		switch te.Reason {
		case TransferUnauthorized:
			code = soap.TransferAuthFailure
		case TransferNoServer:
			code = soap.CannotContactFileServer
		case TransferNoFile:
			if !upload {
				code = soap.CannotAccessFile
			}
		case TransferIncomplete:
			if !upload {
				code = soap.CannotCompleteDownload
			}
		case TransferCorrupt:
			code = soap.FileCorrupted
		}
	case errors.Is(err, context.DeadlineExceeded):
		text = "not finished in time"
		if !upload {
			code = soap.CannotCompleteDownload
		}
	case errors.Is(err, context.Canceled):
		text = "interrupted"
	default:
		text = "internal error of the device"
	}
	return soap.NewFault(code, cut(text, maxFaultString))
}

// checkTransfer validates the arguments of Download and Upload (TR-069 A.3.2.8, A.4.1.5).
func (c *CPE) checkTransfer(t *transfer) *soap.Fault {
	if len(t.URL) > 256 || len(t.Username) > 256 || len(t.Password) > 256 || len(t.TargetName) > 256 {
		return soap.NewFault(soap.InvalidArguments, "URL, Username, Password and TargetFileName have 256 characters at most")
	}
	if !knownFileType(t) { // DL-05, UL-04
		return soap.NewFault(soap.InvalidArguments, "unknown FileType")
	}
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme == "" {
		return soap.NewFault(soap.InvalidArguments, "URL cannot be parsed")
	}
	ok := false
	for _, s := range c.o.Transferer.Schemes() {
		ok = ok || strings.EqualFold(s, u.Scheme)
	}
	if !ok { // DL-04
		return soap.NewFault(soap.UnsupportedTransferProto, "supported: "+strings.Join(c.o.Transferer.Schemes(), ", "))
	}
	if u.User != nil || u.Host == "" {
		return soap.NewFault(soap.InvalidArguments, "URL must name a host and hold no user information")
	}
	if t.FileSize > uint64(c.o.MaxFileSize) {
		return soap.NewFault(soap.DownloadFailure, "the file is larger than this device takes")
	}
	return nil
}

func knownFileType(t *transfer) bool {
	if !t.Upload {
		return t.FileType == fileFirmware || t.FileType == fileConfig
	}
	if t.FileType == uploadConfig || t.FileType == uploadLog {
		return true
	}
	_, n := uploadInstance(t.FileType)
	return n > 0
}

// uploadInstance splits "3 Vendor Configuration File 2" into its kind and instance; 0 where there is none.
func uploadInstance(fileType string) (kind string, n int) {
	for _, k := range []string{uploadConfigInst, uploadLogInst} {
		if rest, ok := strings.CutPrefix(fileType, k); ok {
			if v, err := strconv.ParseUint(rest, 10, 31); err == nil && v > 0 && rest[0] != '0' {
				return k, int(v)
			}
		}
	}
	return "", 0
}

// perform moves the file and applies it. It runs on the transfer goroutine and touches nothing of the CPE's state.
// installed means that the image takes effect at the next start.
func (c *CPE) perform(ctx context.Context, t transfer) (installed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.TransferTimeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil { // a vendor's Installer must not take the agent down
			err = fmt.Errorf("cwmp: transfer panicked: %v", r)
		}
	}()
	dir := filepath.Join(c.o.DataDir, "transfers")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fmt.Errorf("cwmp: transfer directory: %w", err)
	}
	name := filepath.Join(dir, t.ID+".part")
	defer os.Remove(name)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false, fmt.Errorf("cwmp: transfer file: %w", err)
	}
	defer f.Close()
	if t.Upload {
		return false, c.upload(ctx, t, f)
	}
	r := FileRequest{URL: t.URL, Username: t.Username, Password: t.Password, MaxSize: c.o.MaxFileSize, Size: int64(t.FileSize)}
	if err := c.fetch(ctx, t, r, f); err != nil {
		return false, err
	}
	if !c.applying.CompareAndSwap(false, true) { // CancelTransfer came first
		return false, context.Canceled
	}
	if err := f.Sync(); err != nil {
		return false, fmt.Errorf("cwmp: transfer file: %w", err)
	}
	if st, err := f.Stat(); err == nil && t.FileSize > 0 && st.Size() != int64(t.FileSize) {
		return false, &TransferError{Reason: TransferFailed,
			Text: fmt.Sprintf("the file has %d bytes, FileSize says %d", st.Size(), t.FileSize)}
	}
	if t.FileType == fileConfig {
		if _, err := f.Seek(0, 0); err != nil {
			return false, fmt.Errorf("cwmp: transfer file: %w", err)
		}
		return false, c.restoreConfig(ctx, f, "download:"+t.CommandKey)
	}
	return c.install(ctx, t, name)
}

// fetch downloads, within the window in force if there is one.
func (c *CPE) fetch(ctx context.Context, t transfer, r FileRequest, f *os.File) error {
	if len(t.Windows) > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, t.Windows[0].End)
		defer cancel()
	}
	return c.o.Transferer.Fetch(ctx, r, f)
}

// install hands an image over. Without an Installer it is kept in the data directory for whoever looks after the device,
// and the ACS is told the truth.
func (c *CPE) install(ctx context.Context, t transfer, name string) (bool, error) {
	image := Image{Path: name, TargetName: t.TargetName, CommandKey: t.CommandKey}
	if c.o.Installer != nil {
		return c.o.Installer.Install(ctx, image)
	}
	if err := os.Rename(name, filepath.Join(c.o.DataDir, "firmware.img")); err != nil {
		return false, fmt.Errorf("cwmp: store image: %w", err)
	}
	return false, &TransferError{Reason: TransferUnsupported,
		Text: "the image was stored; installing it is not supported by this device"}
}

// writeLogRow writes what a row of VendorLogFile. stands for. A device without such rows has the journal as the first.
func (c *CPE) writeLogRow(ctx context.Context, n int, w io.Writer) error {
	const table = "Device.DeviceInfo.VendorLogFile."
	v := c.e.Store().Head()
	name, _ := v.Leaf(table + strconv.Itoa(n) + ".Name")
	if name.Value == bridge.JournalLog || n == 1 && len(v.Instances(table)) == 0 {
		return c.o.WriteLog(ctx, w)
	}
	if c.o.LogFile != nil && name.Value != "" {
		if write := c.o.LogFile(name.Value); write != nil {
			return write(ctx, w)
		}
	}
	return &TransferError{Reason: TransferNoFile, Text: "this device has no log file " + strconv.Itoa(n)}
}

// upload writes the wanted file to f and sends it.
func (c *CPE) upload(ctx context.Context, t transfer, f *os.File) error {
	var err error
	kind, n := uploadInstance(t.FileType)
	switch {
	case t.FileType == uploadConfig || kind == uploadConfigInst && n == 1:
		err = c.exportConfig(f, acsWriter)
	case t.FileType == uploadLog:
		err = c.o.WriteLog(ctx, c.limited(f))
	case kind == uploadLogInst:
		err = c.writeLogRow(ctx, n, c.limited(f))
	default:
		err = &TransferError{Reason: TransferNoFile, Text: "this device has no file " + t.FileType}
	}
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cwmp: upload file: %w", err)
	}
	r := FileRequest{URL: t.URL, Username: t.Username, Password: t.Password, MaxSize: c.o.MaxFileSize, Size: st.Size()}
	return c.o.Transferer.Store(ctx, r, st.Size(), func() (*os.File, error) { return os.Open(f.Name()) })
}
