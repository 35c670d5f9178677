package xmpp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"time"
)

// Defaults and limits.
const (
	DefaultPort       = 5222
	DefaultKeepAlive  = 5 * time.Minute
	DefaultRetry      = time.Minute
	DefaultMultiplier = 2000
	DefaultRetryMax   = 30720 * time.Second
	DefaultPerMinute  = 10
	dialPatience      = 15 * time.Second
	talkPatience      = 30 * time.Second // from the connection to the bound resource, and for a ping's answer
	writePatience     = 10 * time.Second
	maxTargets        = 16
	stanzasPerSecond  = 50 // that are looked at
)

// Target is a server to connect to.
type Target struct {
	Host string
	Port int // 0: 5222
}

// Config of a Client. Domain, Username, Password, Credentials and Requested are required.
type Config struct {
	Username, Domain, Resource string // of the Jabber ID that is asked for
	Password                   string
	// Servers are tried in order; empty: DNS SRV of Domain, and Domain itself if there is none.
	Servers []Target
	// UseTLS demands TLS. Without it TLS is used only when the server demands it.
	UseTLS bool
	TLS    *tls.Config // nil: the roots of the system. ServerName is set to Domain.

	// KeepAlive is the time of silence after which the server is pinged (5 min); negative: never.
	KeepAlive time.Duration
	// RetryInitial (1 min), RetryMultiplier (2000, thousandths) and RetryMax (30720 s) are the back-off.
	RetryInitial    time.Duration
	RetryMultiplier uint32
	RetryMax        time.Duration

	// Credentials returns the present ConnectionRequestUsername and Password; an empty one refuses everything.
	Credentials func() (user, password string)
	// Allowed returns the Jabber IDs that may ask: a full one, or a bare one for all its resources; none: everybody may.
	Allowed func() []string
	// Requested is called from Run for each accepted request, after the answer has been sent. It must not block.
	Requested func()
	// Changed is called from Run when the State has changed. It must not block.
	Changed func(State)

	PerMinute int // accepted requests (10)

	// Dial and LookupSRV replace those of the system; Random gives numbers from 0 to below 1 for the back-off.
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	LookupSRV func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	Random    func() float64
	Logger    *slog.Logger
}

// Status of a connection, as Device.XMPP.Connection.{i}.Status spells it.
type Status string

const (
	Connecting            Status = "Connecting"
	Enabled               Status = "Enabled"
	ServerNotPresent      Status = "ServerNotPresent"
	Misconfigured         Status = "Error_Misconfigured"
	AuthenticationFailure Status = "Error_AuthenticationFailure"
	Failed                Status = "Error"
)

// State of the connection.
type State struct {
	Status   Status
	JabberID string // full Jabber ID that the server gave; kept while the link is lost (TR-181 ConnReqJabberID)
	TLS      bool
	Since    time.Time // of the last change
}

// Default fills in what is not set.
func (c Config) Default() Config {
	setDuration := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	setDuration(&c.KeepAlive, DefaultKeepAlive)
	setDuration(&c.RetryInitial, DefaultRetry)
	setDuration(&c.RetryMax, DefaultRetryMax)
	if c.RetryMultiplier == 0 {
		c.RetryMultiplier = DefaultMultiplier
	}
	if c.PerMinute == 0 {
		c.PerMinute = DefaultPerMinute
	}
	if c.Allowed == nil {
		c.Allowed = func() []string { return nil }
	}
	if c.Changed == nil {
		c.Changed = func(State) {}
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: dialPatience}).DialContext
	}
	if c.LookupSRV == nil {
		c.LookupSRV = net.DefaultResolver.LookupSRV
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports what is wrong with a Config after Default, naming the field.
func (c Config) Validate() error {
	switch {
	case c.Domain == "" || strings.ContainsAny(c.Domain, "@/ <>&\"'") || len(c.Domain) > 1023:
		return errors.New("xmpp: Domain: is no domain")
	case c.Username == "" || strings.ContainsAny(c.Username, "@/ <>&\"'\x00") || len(c.Username) > 1023:
		return errors.New("xmpp: Username: is no local part of a Jabber ID")
	case len(c.Resource) > 1023 || strings.ContainsAny(c.Resource, "\x00\r\n"):
		return errors.New("xmpp: Resource: is no resource of a Jabber ID")
	case c.Password == "":
		return errors.New("xmpp: Password: missing")
	case len(c.Servers) > maxTargets:
		return fmt.Errorf("xmpp: Servers: %d, at most %d", len(c.Servers), maxTargets)
	case c.RetryInitial < 0 || c.RetryMax < 0 || c.RetryMultiplier < 1000:
		return errors.New("xmpp: RetryInitial, RetryMax, RetryMultiplier: must not be negative, the multiplier not below 1000")
	case c.Credentials == nil:
		return errors.New("xmpp: Credentials: missing")
	case c.Requested == nil:
		return errors.New("xmpp: Requested: missing")
	case c.PerMinute < 0:
		return errors.New("xmpp: PerMinute: must not be negative")
	}
	for _, s := range c.Servers {
		if s.Host == "" || s.Port < 0 || s.Port > 65535 {
			return fmt.Errorf("xmpp: Servers: %q port %d is none", s.Host, s.Port)
		}
	}
	return nil
}

// RetryWait is how long to wait before attempt n+1 after n failures or losses: uniform between nothing and
// initial·(multiplier/1000)^(n-1), at most limit. TR-069 Annex K, TR-181 ServerRetryInitialInterval.
func RetryWait(n int, initial time.Duration, multiplier uint32, limit time.Duration, random float64) time.Duration {
	if n < 1 {
		return 0
	}
	most := float64(initial) * math.Pow(float64(multiplier)/1000, float64(n-1))
	return time.Duration(random * math.Min(most, float64(limit)))
}

// matches reports whether a Jabber ID is the listed one: a full one exactly, a bare one with any resource. The part before
// the resource does not distinguish case (RFC 7622 3.2, 3.3).
func matches(listed, from string) bool {
	listedBare, listedResource, full := strings.Cut(strings.TrimSpace(listed), "/")
	bare, resource, _ := strings.Cut(from, "/")
	return listedBare != "" && strings.EqualFold(listedBare, bare) && (!full || listedResource == resource)
}

// allowed is the rule of ConnReqAllowedJabberIDs; an empty list lets everybody in.
func allowed(list []string, from string) bool {
	for _, l := range list {
		if matches(l, from) {
			return true
		}
	}
	return len(list) == 0
}
