package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Defaults and limits.
const (
	DefaultAddress   = ":7547" // the port that IANA gave to cwmp, for UDP too
	DefaultSTUNPort  = 3478
	DefaultPerMinute = 10
	DefaultKeepAlive = 30 * time.Second
	// searchLimit is as far as the search goes without a KeepAliveMax: longer silence saves nothing worth having.
	searchLimit     = time.Hour
	looksPerSecond  = 100 // datagrams that are looked at
	waiting         = 64  // datagrams that wait for the loop
	resolvePatience = 10 * time.Second
	firstRetry      = 30 * time.Second // after a server that does not answer; doubled
	lastRetry       = 10 * time.Minute
)

// Config of a Listener. Credentials and Requested are required.
type Config struct {
	Address string // host:port to hear on; default ":7547"
	// Server is host or host:port of the STUN server (default port 3478); "" for no STUN.
	Server string
	// Username and Password of the STUN server; both or none.
	Username, Password string
	// KeepAliveMin is the shortest time between Binding Requests, and the first one used (30 s). KeepAliveMax is the
	// longest; 0 or negative is no limit, equal to KeepAliveMin is no search.
	KeepAliveMin, KeepAliveMax time.Duration

	// Credentials returns the present ConnectionRequestUsername and Password; an empty one refuses everything.
	Credentials func() (user, password string)
	// Requested is called from Run for each accepted request. It must not block.
	Requested func()
	// Changed is called from Run when the State has changed. It must not block. nil: nobody listens.
	Changed func(State)

	PerMinute int // accepted requests (10)
	// Now tells the time when it is known, zero when not; a request from more than a day ahead is refused then. nil: unknown.
	Now func() time.Time

	// ListenPacket, Resolve and LocalAddr replace those of the system, in tests and to bind to an interface. LocalAddr is
	// this device's address on the way to the server.
	ListenPacket func(network, address string) (net.PacketConn, error)
	Resolve      func(ctx context.Context, host string) ([]netip.Addr, error)
	LocalAddr    func(server netip.AddrPort) (netip.Addr, error)
	Logger       *slog.Logger
}

// Default fills in what is not set.
func (c Config) Default() Config {
	if c.Address == "" {
		c.Address = DefaultAddress
	}
	if c.KeepAliveMin == 0 {
		c.KeepAliveMin = DefaultKeepAlive
		if c.KeepAliveMax > 0 {
			c.KeepAliveMin = min(c.KeepAliveMin, c.KeepAliveMax)
		}
	}
	if c.KeepAliveMax <= 0 {
		c.KeepAliveMax = max(searchLimit, c.KeepAliveMin)
	}
	if c.PerMinute == 0 {
		c.PerMinute = DefaultPerMinute
	}
	if c.ListenPacket == nil {
		c.ListenPacket = net.ListenPacket
	}
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		}
	}
	if c.LocalAddr == nil {
		c.LocalAddr = routeTo
	}
	if c.Changed == nil {
		c.Changed = func(State) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports what is wrong with a Config after Default, naming the field.
func (c Config) Validate() error {
	_, _, err := splitServer(c.Server)
	switch {
	case c.Credentials == nil:
		return errors.New("udp: Credentials: missing")
	case c.Requested == nil:
		return errors.New("udp: Requested: missing")
	case c.Server != "" && err != nil:
		return fmt.Errorf("udp: Server: %w", err)
	case c.Username != "" && c.Password == "":
		return errors.New("udp: Username needs Password")
	case len(c.Username) > maxUsername-4:
		return fmt.Errorf("udp: Username: longer than %d bytes", maxUsername-4)
	case c.KeepAliveMin < time.Second:
		return fmt.Errorf("udp: KeepAliveMin: %v is below one second", c.KeepAliveMin)
	case c.KeepAliveMax < c.KeepAliveMin:
		return fmt.Errorf("udp: KeepAliveMax %v is below KeepAliveMin %v", c.KeepAliveMax, c.KeepAliveMin)
	case c.PerMinute < 0:
		return errors.New("udp: PerMinute: must not be negative")
	}
	return nil
}

// splitServer takes host, host:port, and an IPv4 literal.
func splitServer(text string) (host string, port uint16, err error) {
	host, number, err := net.SplitHostPort(text)
	if err != nil {
		host, number, err = text, strconv.Itoa(DefaultSTUNPort), nil
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("%q is no host and port", text)
	}
	return host, uint16(n), nil
}

// routeTo asks the routing table without sending anything.
func routeTo(server netip.AddrPort) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// State is what the data model shows of the NAT.
type State struct {
	// Mapped is the address that the STUN server sees, the public side of the binding; invalid until it is known.
	Mapped netip.AddrPort
	// Local is the address of this device that the requests come to.
	Local netip.AddrPort
	// KeepAlive is the time between Binding Requests that is in use, and Searching tells that a longer one is sought.
	KeepAlive time.Duration
	Searching bool
	// Failed says why the server is of no use at the moment; "" when it is. Mapped keeps its last value.
	Failed string
}

// NATDetected reports whether something on the way rewrites addresses.
func (s State) NATDetected() bool { return s.Mapped.IsValid() && s.Mapped != s.Local }

// Address is the value of UDPConnectionRequestAddress: host:port, "" while it is not known.
func (s State) Address() string {
	if !s.Mapped.IsValid() {
		return ""
	}
	return s.Mapped.String()
}
