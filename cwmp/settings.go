package cwmp

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"twinspan/cwmp/httpc"
	"twinspan/datamodel"
	"twinspan/store"
)

// msPath is the object that drives the CPE; the spelling is canonical and CWMP's at once.
const msPath = "Device.ManagementServer."

const parameterKeyPath = msPath + "ParameterKey"

// Defaults of TR-181 for parameters that a profile may leave without a value.
const (
	defaultRetryMinimum    = 5
	defaultRetryMultiplier = 2000
)

// settings is what Device.ManagementServer. says at one revision.
type settings struct {
	enabled            bool
	url                string
	username, password string

	periodicEnable   bool
	periodicInterval time.Duration
	periodicTime     time.Time // zero: unknown, the phase is free

	retryMinimum, retryMultiplier uint32
	throttle                      time.Duration // DefaultActiveNotificationThrottle

	heartbeat heartbeatPolicy

	compression httpc.Compression // of what is sent (HTTPCompression)

	delayReboot    int       // seconds after the session, -1: none
	scheduleReboot time.Time // zero: none

	connReqEnable              bool
	connReqUser, connReqSecret string
}

// usable reports whether there is an ACS to talk to.
func (s settings) usable() bool { return s.enabled && s.url != "" }

// readSettings reads the stored values; it may see secrets, which is why it does not go through a View.
func readSettings(schema *datamodel.Schema, v *store.Version) settings {
	get := func(name, fallback string) string {
		path := msPath + name
		if l, ok := v.Leaf(path); ok {
			return l.Value
		}
		if m, ok := schema.Lookup(path); ok && m.Param != nil {
			if f := m.Param.Facts(datamodel.CWMP); f != nil && f.HasDefault {
				return f.Default
			}
		}
		return fallback
	}
	number := func(name string, fallback uint64) uint64 {
		n, err := strconv.ParseUint(get(name, ""), 10, 32)
		if err != nil {
			return fallback
		}
		return n
	}
	s := settings{
		enabled:          get("EnableCWMP", "true") == "true",
		url:              get("URL", ""),
		username:         get("Username", ""),
		password:         get("Password", ""),
		periodicEnable:   get("PeriodicInformEnable", "false") == "true",
		periodicInterval: time.Duration(number("PeriodicInformInterval", 0)) * time.Second,
		periodicTime:     knownTime(get("PeriodicInformTime", "")),
		retryMinimum:     uint32(number("CWMPRetryMinimumWaitInterval", defaultRetryMinimum)),
		retryMultiplier:  uint32(number("CWMPRetryIntervalMultiplier", defaultRetryMultiplier)),
		throttle:         time.Duration(number("DefaultActiveNotificationThrottle", 0)) * time.Second,
		connReqEnable:    get("HTTPConnectionRequestEnable", "true") == "true",
		connReqUser:      get("ConnectionRequestUsername", ""),
		connReqSecret:    get("ConnectionRequestPassword", ""),
	}
	switch get("HTTPCompression", "") {
	case "GZIP":
		s.compression = httpc.GZIP
	case "Deflate":
		s.compression = httpc.Deflate
	}
	s.heartbeat = readHeartbeat(get)
	s.delayReboot = -1
	if n, err := strconv.Atoi(get("DelayReboot", "-1")); err == nil && n >= 0 {
		if _, set := v.Leaf(msPath + "DelayReboot"); set { // the type's zero is not an order
			s.delayReboot = n
		}
	}
	s.scheduleReboot = knownTime(get("ScheduleReboot", ""))
	if s.retryMinimum == 0 {
		s.retryMinimum = defaultRetryMinimum
	}
	if s.retryMultiplier == 0 {
		s.retryMultiplier = defaultRetryMultiplier
	}
	return s
}

// knownTime parses a dateTime; the unknown time and times relative to the boot (year 1) give the zero Time.
func knownTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

// checkACSURL refuses what could never be an ACS. The empty URL is legal: there is no ACS then.
func checkACSURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return datamodel.Fail(datamodel.InvalidValue, msPath+"URL", "an ACS URL starts with http:// or https:// and names a host")
	}
	if u.User != nil {
		return datamodel.Fail(datamodel.InvalidValue, msPath+"URL", "user information does not belong into the URL")
	}
	return nil
}

// deviceID identifies the CPE (TR-069 A.3.3.1, DeviceIdStruct).
type deviceID struct{ manufacturer, oui, productClass, serial string }

// defaultUsername is OUI-ProductClass-SerialNumber, or OUI-SerialNumber without a product class, every octet outside
// 0-9 A-Z a-z _ percent-encoded. TR-069 3.4.4, HTTP-21
func (d deviceID) defaultUsername() string {
	parts := []string{d.oui, d.productClass, d.serial}
	if d.productClass == "" {
		parts = []string{d.oui, d.serial}
	}
	for i, p := range parts {
		parts[i] = percentEncode(p)
	}
	return strings.Join(parts, "-")
}

func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
