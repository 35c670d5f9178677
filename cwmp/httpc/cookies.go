package httpc

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// jar holds the cookies of one session as RFC 6265 wants them. It is not net/http/cookiejar because that weighs 0.1 MB (decision 7), and it
// is stricter in two points: a cookie for a domain of a single label is taken only from the host of that name, and "localhost" is not TLS. Not safe for concurrent use.
type jar struct {
	list []kept // in the order in which they were first set
}

type kept struct {
	name, value  string
	domain, path string
	hostOnly     bool
	secure       bool
	expires      time.Time // zero: with the session
}

// hostOf is the host of a URL as cookies compare it.
func hostOf(u *url.URL) string { return strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) }

// set takes a cookie that the server at u sent. One that must not be taken is passed over. RFC 6265 5.3
func (j *jar) set(u *url.URL, c *http.Cookie, now time.Time) {
	k := kept{name: c.Name, value: c.Value, secure: c.Secure}
	host := hostOf(u)
	switch k.domain = strings.ToLower(strings.TrimPrefix(c.Domain, ".")); {
	case k.domain == "" || k.domain == host:
		// A domain that is an address or a single label cannot hold others.
		k.hostOnly = k.domain == "" || net.ParseIP(host) != nil || !strings.Contains(host, ".")
		k.domain = host
	case !below(host, k.domain) || !strings.Contains(strings.Trim(k.domain, "."), "."):
		return // 5.3.6: another's domain
	}
	if k.path = c.Path; k.path == "" || k.path[0] != '/' { // 5.1.4
		k.path = "/"
		if i := strings.LastIndexByte(u.Path, '/'); i > 0 && u.Path[0] == '/' {
			k.path = u.Path[:i]
		}
	}
	gone := c.MaxAge < 0
	switch {
	case c.MaxAge > 0:
		k.expires = now.Add(time.Duration(min(c.MaxAge, 1<<31-1)) * time.Second)
	case c.MaxAge == 0 && !c.Expires.IsZero(): // Max-Age goes before Expires
		k.expires = c.Expires
		gone = !c.Expires.After(now)
	}
	for i := range j.list {
		if o := &j.list[i]; o.name == k.name && o.domain == k.domain && o.path == k.path {
			if gone {
				j.list = append(j.list[:i], j.list[i+1:]...)
			} else {
				*o = k
			}
			return
		}
	}
	if !gone {
		j.list = append(j.list, k)
	}
}

// cookies are those to send to u, the longer path first. RFC 6265 5.4
func (j *jar) cookies(u *url.URL, now time.Time) []*http.Cookie {
	host, path := hostOf(u), u.Path
	if path == "" {
		path = "/"
	}
	var chosen []*kept
	for i := range j.list {
		k := &j.list[i]
		if k.domain != host && (k.hostOnly || !below(host, k.domain)) || k.secure && u.Scheme != "https" ||
			!within(path, k.path) || !k.expires.IsZero() && !k.expires.After(now) {
			continue
		}
		at := len(chosen)
		chosen = append(chosen, nil)
		for ; at > 0 && len(chosen[at-1].path) < len(k.path); at-- {
			chosen[at] = chosen[at-1]
		}
		chosen[at] = k
	}
	out := make([]*http.Cookie, len(chosen))
	for i, k := range chosen {
		out[i] = &http.Cookie{Name: k.name, Value: k.value}
	}
	return out
}

// below: host is a name inside domain. RFC 6265 5.1.3
func below(host, domain string) bool {
	return domain != "" && strings.HasSuffix(host, "."+domain) && net.ParseIP(host) == nil
}

// within: path is prefix or lies below it. RFC 6265 5.1.4
func within(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(prefix, "/"))
}
