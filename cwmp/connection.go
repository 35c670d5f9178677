package cwmp

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"twinspan/cwmp/httpc"
)

// httpLink carries a session over httpc.
type httpLink struct{ s *httpc.Session }

func (l httpLink) Post(ctx context.Context, body []byte) (*httpc.Response, error) {
	return l.s.Post(ctx, body)
}

func (l httpLink) Close() { l.s.Close() }

// dial makes the link of one session; nothing is sent yet. The client is kept as long as its settings stay, because it
// remembers TLS tickets and the authentication scheme. Called by the one session goroutine.
func (c *CPE) dial(set settings) (link, error) {
	cfg := httpc.Config{URL: set.url, Username: set.username, Password: httpc.Secret(set.password),
		Timeout: max(c.o.ReplyTimeout, httpc.MinTimeout), MaxResponseBytes: int(c.o.MaxBody), RootCAs: c.o.RootCAs,
		Certificates: c.o.Certificates, TimeKnown: c.o.TimeKnown, LegacyCiphers: c.o.LegacyCiphers,
		BasicInClear: c.o.AllowBasicOverHTTP, Compression: set.compression, Logger: c.log}
	key := strings.Join([]string{set.url, set.username, set.password, string(set.compression)}, "\x00")
	if cached := c.client.Load(); cached != nil && cached.key == key {
		return httpLink{cached.client.Session()}, nil
	}
	client, err := httpc.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("cwmp: ACS connection: %w", err)
	}
	c.client.Store(&cachedClient{key: key, client: client})
	return httpLink{client.Session()}, nil
}

type cachedClient struct {
	key    string
	client *httpc.Client
}

// addressWait bounds the look for the interface that reaches the ACS, its name resolution included.
const addressWait = 5 * time.Second

// findAddress finds the address of this device that the route to the ACS starts from, and shows it in
// ConnectionRequestURL. No packet is sent to the ACS. Called by the session goroutine before the Inform is frozen, so that a
// new address is in it (CR-14).
func (c *CPE) findAddress(ctx context.Context, acsURL string) {
	host, peer := c.o.ConnectionRequestHost, ""
	if host == "" {
		ctx, cancel := context.WithTimeout(ctx, addressWait)
		defer cancel()
		host, peer = localAddress(ctx, acsURL)
	}
	_ = c.call(ctx, func() error {
		c.server.reached(host, peer)
		c.showAddress()
		return nil
	})
}

// checkAddress looks whether the address has changed since the newest session, without resolving the ACS's name again: a
// new one is a "4 VALUE CHANGE". CR-14. Owner goroutine only.
func (c *CPE) checkAddress(ctx context.Context) {
	if c.server.peer == "" || !c.set.usable() {
		return
	}
	host, peer := localAddressTo(ctx, c.server.peer)
	c.server.reached(host, peer)
	c.showAddress()
}

// localAddress gives the address of this device towards the ACS, and the ACS's own with its port.
func localAddress(ctx context.Context, acsURL string) (host, peer string) {
	u, err := url.Parse(acsURL)
	if err != nil {
		return "", ""
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return localAddressTo(ctx, net.JoinHostPort(u.Hostname(), port))
}

func localAddressTo(ctx context.Context, address string) (host, peer string) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", address)
	if err != nil {
		return "", ""
	}
	defer conn.Close()
	host, _, err = net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return "", ""
	}
	host, _, _ = strings.Cut(host, "%") // a zone means nothing to the ACS
	return host, conn.RemoteAddr().String()
}

// showAddress puts the present ConnectionRequestURL where the provider reads it: empty while no request would be heard.
// Owner goroutine only.
func (c *CPE) showAddress() {
	text := ""
	if port := c.server.port(); port != 0 && c.server.host != "" {
		text = "http://" + net.JoinHostPort(c.server.host, strconv.Itoa(port)) + c.mark.Path // CR-15, CR-19
		if port == 80 {
			host := c.server.host
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			text = "http://" + host + c.mark.Path
		}
	}
	if *c.prov.url.Load() != text {
		c.prov.url.Store(&text)
		c.pollAt = time.Time{} // an active parameter by default: "4 VALUE CHANGE"
	}
	c.reach.show()
}

// requested is called by the connection-request server for every valid request, before its answer is sent; it never waits.
func (c *CPE) requested() {
	select {
	case c.requests <- struct{}{}:
	default: // one is waiting already: several requests, one session (CR-09)
	}
}
