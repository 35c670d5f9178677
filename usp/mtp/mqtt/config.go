package mqtt

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"twinspan/usp"
)

// Subscription is one configured topic filter (Device.MQTT.Client.{i}.Subscription.{i}).
type Subscription struct {
	Topic string
	QoS   byte // 0 or 1
}

// Config of a Client. Field names follow Device.MQTT.Client. and Device.LocalAgent.MTP.{i}.MQTT. where there is such.
type Config struct {
	Broker     string // mqtt://host[:1883] or mqtts://host[:8883]
	EndpointID string // our own
	ClientID   string // empty: the broker assigns one. R-MQTT.8
	Username   string
	Password   string
	TLS        *tls.Config // for mqtts; nil: system roots, no client certificate

	KeepAlive     time.Duration // whole seconds, 0: none
	CleanStart    bool
	SessionExpiry time.Duration // whole seconds, 0: the session ends with the connection

	Subscriptions  []Subscription
	ResponseTopic  string // ResponseTopicConfigured; empty: the broker tells
	PublishQoS     byte   // 0 or 1, lowered to what the broker supports. R-MQTT.20
	RetainResponse bool   // PublishRetainResponse
	RetainNotify   bool   // PublishRetainNotify

	Retry          usp.Backoff // ConnectRetryTime, ConnectRetryIntervalMultiplier, ConnectRetryMaxInterval
	ConnectTimeout time.Duration
	MaxRecord      int          // bytes, both directions
	Log            *slog.Logger // nil: none
}

// Default has everything but Broker, EndpointID and topics.
func Default() Config {
	return Config{
		KeepAlive: 60 * time.Second, CleanStart: true, PublishQoS: 1,
		Retry:          usp.Backoff{Min: 5 * time.Second, Multiplier: 2000, Max: 30720 * time.Second},
		ConnectTimeout: 30 * time.Second, MaxRecord: usp.DefaultLimits().RecordSize,
	}
}

// LogValue keeps the password out of logs.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(slog.String("broker", c.Broker), slog.String("endpoint_id", c.EndpointID),
		slog.String("client_id", c.ClientID), slog.Bool("password_set", c.Password != ""))
}

// Validate reports what can never work.
func (c Config) Validate() error {
	if _, _, err := c.address(); err != nil {
		return err
	}
	if err := usp.CheckForeignID(c.EndpointID); err != nil {
		return fmt.Errorf("mqtt: own endpoint id: %w", err)
	}
	if c.ResponseTopic != "" {
		if err := checkTopic(c.ResponseTopic); err != nil {
			return fmt.Errorf("mqtt: response topic: %w", err)
		}
	}
	for _, s := range c.Subscriptions {
		if err := checkSubscription(s); err != nil {
			return err
		}
	}
	if err := c.Retry.Validate(); err != nil {
		return fmt.Errorf("mqtt: retry: %w", err)
	}
	switch {
	case c.PublishQoS > 1:
		return fmt.Errorf("mqtt: publish QoS %d is neither 0 nor 1", c.PublishQoS)
	case c.KeepAlive < 0 || c.KeepAlive > 65535*time.Second || c.KeepAlive%time.Second != 0:
		return fmt.Errorf("mqtt: keep alive %s is not 0 to 65535 whole seconds", c.KeepAlive)
	case c.SessionExpiry < 0 || c.SessionExpiry > (1<<32-1)*time.Second || c.SessionExpiry%time.Second != 0:
		return fmt.Errorf("mqtt: session expiry %s is not 0 to 4294967295 whole seconds", c.SessionExpiry)
	case c.ConnectTimeout <= 0:
		return fmt.Errorf("mqtt: connect timeout %s is not positive", c.ConnectTimeout)
	case c.MaxRecord < 512:
		return fmt.Errorf("mqtt: record limit %d is below 512 bytes", c.MaxRecord)
	case c.Password != "" && c.Username == "":
		return errors.New("mqtt: a password is set but no user name")
	}
	return nil
}

// address gives host:port and whether TLS is wanted.
func (c Config) address() (addr string, secure bool, err error) {
	u, err := url.Parse(c.Broker)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		// The text is not repeated: it may hold a password.
		return "", false, errors.New("mqtt: broker is not mqtt://host:port or mqtts://host:port")
	}
	port := u.Port()
	switch u.Scheme {
	case "mqtt", "tcp":
		if port == "" {
			port = "1883"
		}
	case "mqtts", "tls", "ssl":
		secure = true
		if port == "" {
			port = "8883"
		}
	default:
		return "", false, fmt.Errorf("mqtt: scheme %q of the broker is neither mqtt nor mqtts", u.Scheme)
	}
	return net.JoinHostPort(u.Hostname(), port), secure, nil
}

func checkSubscription(s Subscription) error {
	if s.QoS > 1 {
		return fmt.Errorf("mqtt: subscription QoS %d is neither 0 nor 1", s.QoS)
	}
	return checkFilter(s.Topic)
}

// checkTopic accepts topic names: what one publishes to and is answered on.
func checkTopic(s string) error {
	if strings.ContainsAny(s, "+#") {
		return fmt.Errorf("topic %.80q holds a wildcard", s)
	}
	return checkText(s)
}

// checkFilter accepts topic filters.
func checkFilter(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	levels := strings.Split(s, "/")
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && (len(l) > 1 || l == "#" && i < len(levels)-1) {
			return fmt.Errorf("mqtt: filter %.80q has a wildcard in the wrong place", s)
		}
	}
	return nil
}

func checkText(s string) error {
	if s == "" || len(s) > 65535 || strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
		return fmt.Errorf("topic %.80q is empty, too long or not text", s)
	}
	return nil
}

// covers reports whether a subscription to filter receives what is published to topic. topic may be a filter itself,
// then the answer is about the same text only. Shared subscriptions are not taken apart.
func covers(filter, topic string) bool {
	if filter == topic {
		return true
	}
	if strings.ContainsAny(topic, "+#") || strings.HasPrefix(filter, "$share/") {
		return false
	}
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, l := range f {
		switch {
		case l == "#":
			return true
		case i >= len(t) || l != "+" && l != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}
