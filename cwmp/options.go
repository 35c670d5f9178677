package cwmp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/connreq"
	"twinspan/cwmp/httpc"
)

// Names of the writers that this package is.
const (
	writerName = "cwmp"     // the ACS
	systemName = "sys:cwmp" // the CPE itself
)

// DefaultListen is where connection requests are awaited: the port that IANA gave to cwmp.
const DefaultListen = ":7547"

// Options of New. Only Engine and DataDir are required.
type Options struct {
	Engine *bridge.Engine
	// DataDir keeps files in transit and stored images; created with mode 0700.
	DataDir string
	Log     *slog.Logger

	// RootCAs that certify the ACS and file servers; nil: the roots of the system. Verification cannot be switched off.
	RootCAs *x509.CertPool
	// Certificates of the device.
	Certificates []tls.Certificate
	// TimeKnown tells whether the clock can be trusted; while it returns false, validity dates of the ACS's certificate are
	// not looked at (TR-069 3.3) and an Inform tells the unknown time. nil: it is known.
	TimeKnown func() bool
	// LegacyCiphers adds the RSA key exchange suites that old ACSs need.
	LegacyCiphers bool
	// AllowBasicOverHTTP lets the CPE answer a Basic challenge without TLS, which shows the password to the network.
	AllowBasicOverHTTP bool

	// Listen is the address of the connection-request server; "" is DefaultListen, "off" none.
	Listen string
	// UDPListen is the address where UDP connection requests are awaited; "" is that of Listen, "off" none.
	UDPListen string
	// DiscoveryFiles are hook or lease files of DHCP clients that may offer an ACS, up to 8; see package discovery.
	DiscoveryFiles []string
	DiscoveryEvery time.Duration // how often they are looked at (10 s)
	// RequestsPerMinute bounds the connection requests that are accepted; others get 503 (10).
	RequestsPerMinute int
	// ConnectionRequestHost replaces the address found by looking at the route to the ACS (a port forwarding, say).
	ConnectionRequestHost string

	// Rebooter restarts the device. nil: Run returns *RestartError and the caller restarts the process.
	Rebooter Rebooter
	// Installer puts firmware on the device. nil: an image is stored and TransferComplete says that installing it is not
	// supported.
	Installer Installer
	// Idle tells whether a ScheduleDownload with the mode "3 When Idle" may begin; nil: whenever no session is in progress.
	Idle func() bool
	// Modules installs software; nil: ChangeDUState is not supported.
	Modules SoftwareModules
	// Started is called once by Run when events of the bridge are listened to; nil: nobody needs to know.
	Started func(ctx context.Context)
	// Transferer moves files; nil: HTTP and HTTPS.
	Transferer Transferer
	// WriteLog writes what an Upload of the vendor log sends; nil: the journal of the store as text.
	WriteLog func(ctx context.Context, w io.Writer) error
	// LogFile finds what writes the row of Device.DeviceInfo.VendorLogFile. with that Name; nil, or nil returned, for the
	// journal and for names that nobody knows.
	LogFile func(name string) func(ctx context.Context, w io.Writer) error

	MaxFileSize     int64         // bytes of a transferred file (64 MiB)
	MaxBody         int64         // bytes of a message of the ACS (1 MiB)
	MaxDepth        int           // nested elements of such a message (64)
	TransferTimeout time.Duration // one transfer (30 min)
	ReplyTimeout    time.Duration // waiting for the ACS, announced as SessionTimeout; 30 s to 1 h (60 s)
	SessionLimit    time.Duration // a whole session (5 min, as long as its isolated view lives)
	LivePoll        time.Duration // how often live values the ACS watches are compared (30 s)
}

// Rebooter restarts the device. Restart is called between sessions and may return before the restart happens; the CPE opens
// no session after it.
type Rebooter interface {
	Restart(ctx context.Context, cause RestartCause) error
}

// RestartKind says why the device restarts.
type RestartKind int

const (
	RestartReboot       RestartKind = iota // Reboot RPC
	RestartFactoryReset                    // FactoryReset RPC; the tree is back to factory values already
	RestartFirmware                        // a Download brought an image that needs it
)

// RestartCause is what a Rebooter and RestartError carry. To USP both RPCs are remote triggers: Boot! has Cause RemoteReboot
// or RemoteFactoryReset and no CommandKey.
type RestartCause struct {
	Kind       RestartKind
	CommandKey string
}

// RestartError is returned by Run when the ACS asked for a restart and there is no Rebooter.
type RestartError struct{ Cause RestartCause }

func (e *RestartError) Error() string {
	switch e.Cause.Kind {
	case RestartFactoryReset:
		return "cwmp: restart after factory reset"
	case RestartFirmware:
		return "cwmp: restart into new firmware"
	}
	return "cwmp: restart"
}

func (o *Options) validate() error {
	if o.Engine == nil {
		return errors.New("cwmp: Options.Engine is missing")
	}
	if o.DataDir == "" {
		return errors.New("cwmp: Options.DataDir is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.RequestsPerMinute <= 0 {
		o.RequestsPerMinute = connreq.DefaultPerMinute
	}
	if o.MaxFileSize <= 0 {
		o.MaxFileSize = DefaultMaxFileSize
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.MaxBody < 32<<10 { // TR-069 3.5: envelopes of 32 KiB must be taken
		return fmt.Errorf("cwmp: Options.MaxBody is %d, the standard asks for 32768 at least", o.MaxBody)
	}
	if o.TransferTimeout <= 0 {
		o.TransferTimeout = DefaultTransferTimeout
	}
	if o.ReplyTimeout <= 0 {
		o.ReplyTimeout = time.Minute
	}
	if o.ReplyTimeout < httpc.MinTimeout || o.ReplyTimeout > time.Hour { // TR-069 3.4.1
		return fmt.Errorf("cwmp: Options.ReplyTimeout is %v, from %v to one hour", o.ReplyTimeout, httpc.MinTimeout)
	}
	if o.SessionLimit <= 0 {
		o.SessionLimit = 5 * time.Minute
	}
	if o.SessionLimit < o.ReplyTimeout {
		return fmt.Errorf("cwmp: Options.SessionLimit %v is shorter than ReplyTimeout %v", o.SessionLimit, o.ReplyTimeout)
	}
	if o.LivePoll <= 0 {
		o.LivePoll = 30 * time.Second
	}
	return o.checkReach()
}
