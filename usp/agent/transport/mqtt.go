package transport

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"twinspan/usp/agent"
	"twinspan/usp/mtp"
	"twinspan/usp/mtp/mqtt"
)

func (f *Factory) mqtt(s agent.Spec) (mtp.Transport, error) {
	m := s.MQTT
	if m.Version != "" && m.Version != "5.0" {
		return nil, fmt.Errorf("transport: %sProtocolVersion %s is not supported, only 5.0", m.Client, m.Version)
	}
	c := mqtt.Default()
	scheme := "mqtt://"
	switch m.Transport {
	case "", "TCP/IP":
	case "TLS":
		scheme = "mqtts://"
	default:
		return nil, fmt.Errorf("transport: %sTransportProtocol %s is not supported", m.Client, m.Transport)
	}
	var err error
	if c.TLS, err = f.client(s.Encrypted, s.Host); err != nil {
		return nil, err
	}
	c.Broker = scheme + net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	c.EndpointID, c.ClientID, c.Username, c.Password = s.Endpoint, m.ClientID, m.Username, m.Password
	c.KeepAlive, c.CleanStart, c.SessionExpiry = s.KeepAlive, m.CleanStart, m.SessionExpiry
	c.Subscriptions = filters(m.Topics)
	c.ResponseTopic, c.RetainNotify, c.RetainResponse = m.ResponseTopic, m.RetainNotify, m.RetainResponse
	c.PublishQoS = quality(strconv.Itoa(m.QoS))
	c.Retry, c.MaxRecord, c.Log = backoff(s, c.Retry), f.cfg.MaxRecord, f.cfg.Log
	cl, err := mqtt.NewClient(c)
	if err != nil {
		return nil, err
	}
	return mqttClient{cl}, nil
}

// mqttClient can change its topics while it runs.
type mqttClient struct{ *mqtt.Client }

// Update implements agent.Updater.
func (c mqttClient) Update(s agent.Spec) bool {
	return c.SetSubscriptions(filters(s.MQTT.Topics)) == nil
}

// filters reads the topics of a Spec.
func filters(topics string) (list []mqtt.Subscription) {
	for _, line := range strings.Split(topics, "\n") {
		if topic, qos, ok := strings.Cut(line, "\x00"); ok {
			list = append(list, mqtt.Subscription{Topic: topic, QoS: quality(qos)})
		}
	}
	return list
}

// quality lowers QoS 2, which USP does not need, to 1.
func quality(s string) byte {
	if s == "0" || s == "" {
		return 0
	}
	return 1
}
