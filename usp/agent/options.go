package agent

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"twinspan/bridge"
	"twinspan/usp"
	"twinspan/usp/mtp"
)

// Limits bound what peers can make the agent spend. Zero values mean the defaults in parentheses.
type Limits struct {
	// Message bounds one record and message (usp.DefaultLimits).
	Message usp.Limits
	// ResponseSize is the largest Get or GetInstances answer in bytes (8 MiB); a larger one is 7005.
	ResponseSize int
	// PeerRequests is how many requests of one peer run or wait at a time (64). A point-to-point peer with more is not
	// read until one ends; over a broker the request is answered 7005.
	PeerRequests int
	// Requests is how many requests of all peers run or wait at a time (256).
	Requests int
	// RequestTime is how long one request may take (60 s).
	RequestTime time.Duration
	// Commands is how many asynchronous commands run at a time (32), PeerCommands those of one Controller (8).
	Commands, PeerCommands int
	// Notifications is how many Notify requests wait for one recipient (1024), NotifyBytes their size (1 MiB). The oldest
	// are dropped beyond that.
	Notifications int
	NotifyBytes   int
	// LocalPeers is how many connections to the local listener are served at a time (32).
	LocalPeers int
	// Untrusted is how many Controller rows the agent creates by itself for strangers with the UntrustedRole (8).
	Untrusted int
}

func (l *Limits) fill() {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	if l.Message.RecordSize <= 0 || l.Message.Items <= 0 {
		l.Message = usp.DefaultLimits()
	}
	def(&l.ResponseSize, 8<<20)
	def(&l.PeerRequests, 64)
	def(&l.Requests, 256)
	def(&l.Commands, 32)
	def(&l.PeerCommands, 8)
	def(&l.Notifications, 1024)
	def(&l.NotifyBytes, 1<<20)
	def(&l.LocalPeers, 32)
	def(&l.Untrusted, 8)
	if l.RequestTime <= 0 {
		l.RequestTime = time.Minute
	}
}

// TrustPolicy says which links are good enough to believe a record's from_id.
type TrustPolicy struct {
	// AllowPlaintext accepts and uses links without encryption, brokers included. Off by default. // R-SEC.0
	AllowPlaintext bool
	// AllowBroker accepts records of any enabled Controller over an encrypted link to a broker: the broker is trusted to
	// know who publishes. Without it brokers are of no use, since they hide the Controller's certificate.
	AllowBroker bool
	// AllowServerName accepts a TLS server that the agent dialled and whose certificate names the host but no Endpoint
	// ID, for the Controller that is configured for this link. The standard wants the Endpoint ID in the certificate.
	AllowServerName bool
	// ClockSet tells whether the clock is known; while it returns false the dates of certificates do not count. nil: it is.
	ClockSet func() bool
	// Roots are trusted CAs besides those of ControllerTrust.Credential., without a Role; nil: the system's.
	Roots *x509.CertPool
}

// LocalListener is the socket of the command line and of the local page.
type LocalListener struct {
	Path       string // of the Unix domain socket
	EndpointID string // who talks there; records of others are refused. Default "self::cli"
	Role       string // Name of the Role whose rights it has; "" is every right
	Class      string // class for arbitration, default "user"
}

// ServiceListener is the socket for Controllers on this device, which need no row beforehand. Whoever may open the socket
// may claim every Endpoint ID but those of Controllers that have a Credential or connect in another way.
type ServiceListener struct {
	Path string
	Mode uint32 // of the socket, 0: 0600
	// Role is the Name of the Role that those Controllers inherit; "": they get the UntrustedRole, if there is one.
	Role string
}

// BootInfo describes why the agent starts, for Device.Boot!.
type BootInfo struct {
	Cause           string // LocalReboot, RemoteReboot, FactoryReset, LocalFactoryReset, RemoteFactoryReset
	CommandKey      string // of the Reboot() or FactoryReset() that caused it, if a Controller did
	Reason          string
	FirmwareUpdated bool
}

// Options of New. EndpointID and Engine are required.
type Options struct {
	EndpointID      string
	Engine          *bridge.Engine
	Factory         Factory // nil: no transports but those of HandleRecord
	Log             *slog.Logger
	SoftwareVersion string
	Protocols       []string // SupportedProtocols; default MQTT, WebSocket, UDS
	Boot            *BootInfo
	Trust           TrustPolicy
	Local           *LocalListener
	// Classify gives the arbiter's class of a Controller from its Endpoint ID and the Names of its Roles; nil: "main".
	Classify func(endpoint string, roles []string) string
	Limits   Limits
	// Services is the USP Broker; nil: none.
	Services Services
	// ServiceSocket is where Controllers of USP Services, or other programs of this device, connect; nil: nowhere.
	ServiceSocket *ServiceListener
	// StrictDelete answers a Delete of a missing instance with allow_partial=false with an Error, as R-DEL.1 of 1.4.1
	// reads. Off: an empty success, as the certification tests want it (TP-469 1.25).
	StrictDelete bool
}

func (o *Options) validate() error {
	if _, err := usp.ParseEndpointID(o.EndpointID); err != nil {
		return fmt.Errorf("agent: option EndpointID: %w", err)
	}
	if o.Engine == nil {
		return errors.New("agent: option Engine is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.Protocols) == 0 {
		o.Protocols = []string{"MQTT", "WebSocket", "UDS"}
	}
	if l := o.ServiceSocket; l != nil && l.Path == "" {
		return errors.New("agent: option ServiceSocket.Path is missing")
	}
	if l := o.Local; l != nil {
		c := *l
		if c.Path == "" {
			return errors.New("agent: option Local.Path is missing")
		}
		if c.EndpointID == "" {
			c.EndpointID = "self::cli"
		}
		if c.EndpointID == o.EndpointID {
			return fmt.Errorf("agent: option Local.EndpointID %s is the agent's own EndpointID", c.EndpointID)
		}
		if c.Class == "" {
			c.Class = "user"
		}
		o.Local = &c
	}
	o.Limits.fill()
	return nil
}

// Factory builds transports. Called from the manager goroutine only.
type Factory interface {
	// New returns a transport for the specification; an error is shown as the status of the row and tried again when
	// the row changes.
	New(s Spec) (mtp.Transport, error)
}

// Truster is a Factory whose transports ask about certificates that do not lead to their own roots. judge gets what the
// peer showed and the host that was dialled, empty if the peer dialled; nil lets the link come up. New calls TrustBy.
type Truster interface {
	TrustBy(judge func(chain []*x509.Certificate, name string) error)
}
