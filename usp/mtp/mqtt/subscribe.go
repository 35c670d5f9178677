package mqtt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/eclipse/paho.golang/paho"
)

// subscriptions is what a connection has subscribed.
type subscriptions struct {
	configured []Subscription
	fixed      []string // by the broker's word or ResponseTopicConfigured; stay as long as the connection
}

// plan lists what to subscribe. R-MQTT.15
func (c *Client) plan(ca *paho.Connack) (subs *subscriptions, packet *paho.Subscribe, own []string) {
	c.mu.Lock()
	subs = &subscriptions{configured: append([]Subscription(nil), c.subs...)}
	c.mu.Unlock()
	packet = &paho.Subscribe{}
	add := func(topic string, qos byte, unlessCovered bool) bool {
		for _, s := range packet.Subscriptions {
			if s.Topic == topic || unlessCovered && covers(s.Topic, topic) {
				return false
			}
		}
		packet.Subscriptions = append(packet.Subscriptions, paho.SubscribeOptions{Topic: topic, QoS: qos})
		return true
	}
	for _, s := range subs.configured {
		add(s.Topic, s.QoS, false)
	}
	told := ""
	if p := ca.Properties; p != nil {
		for _, u := range p.User {
			if u.Key == "subscribe-topic" && checkFilter(u.Value) == nil && add(u.Value, 1, false) {
				subs.fixed = append(subs.fixed, u.Value)
			}
		}
		if checkFilter(p.ResponseInfo) == nil {
			told = p.ResponseInfo
		}
	}
	// The topic to be answered on, best first. R-MQTT.21
	for _, t := range []string{told, c.cfg.ResponseTopic} {
		if t == "" {
			continue
		}
		if add(t, 1, true) {
			subs.fixed = append(subs.fixed, t)
		}
		own = append(own, t)
		break // ResponseTopicConfigured only without Response Information
	}
	for _, s := range packet.Subscriptions {
		own = append(own, s.Topic)
	}
	return subs, packet, own
}

// subscribe sends the one SUBSCRIBE and chooses the topic that we are answered on.
func (c *Client) subscribe(ctx context.Context, l *link, ca *paho.Connack) (*subscriptions, error) {
	subs, packet, own := c.plan(ca)
	if len(packet.Subscriptions) == 0 {
		return nil, ErrNoTopic // R-MQTT.16
	}
	select {
	case <-c.resub: // what was changed before is in the plan
	default:
	}
	granted, err := c.granted(ctx, l, packet)
	if err != nil {
		return nil, err
	}
	if len(granted) == 0 {
		return nil, errors.New("broker refused every subscription") // R-MQTT.17
	}
	for _, topic := range own {
		if strings.ContainsAny(topic, "+#") {
			continue
		}
		for _, g := range granted {
			if covers(g, topic) {
				l.replyTopic = topic
				return subs, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: every subscription has a wildcard or was refused", ErrNoTopic) // R-MQTT.22 cannot be kept
}

// granted subscribes and lists the filters that the broker accepted.
func (c *Client) granted(ctx context.Context, l *link, packet *paho.Subscribe) ([]string, error) {
	sa, err := l.cli.Subscribe(ctx, packet)
	if sa == nil { // an error beside a SUBACK only says that some of it failed
		if err == nil {
			err = errors.New("no answer")
		}
		return nil, fmt.Errorf("cannot subscribe: %w", err)
	}
	var granted []string
	for i, s := range packet.Subscriptions {
		if i < len(sa.Reasons) && sa.Reasons[i] < 0x80 {
			granted = append(granted, s.Topic)
		} else {
			c.log.Warn("usp mqtt subscription refused", "topic", s.Topic)
		}
	}
	return granted, nil
}

// resubscribe brings the connection to the configured filters of now.
func (c *Client) resubscribe(ctx context.Context, l *link, subs *subscriptions) error {
	c.mu.Lock()
	want := append([]Subscription(nil), c.subs...)
	c.mu.Unlock()
	packet := &paho.Subscribe{}
	for _, s := range want {
		if !holds(subs.configured, s) {
			packet.Subscriptions = append(packet.Subscriptions, paho.SubscribeOptions{Topic: s.Topic, QoS: s.QoS})
		}
	}
	keep := append([]string(nil), subs.fixed...)
	for _, s := range want {
		keep = append(keep, s.Topic)
	}
	drop := &paho.Unsubscribe{}
	for _, s := range subs.configured {
		if !contains(keep, s.Topic) {
			drop.Topics = append(drop.Topics, s.Topic)
		}
	}
	if covered := func() bool { // our reply topic must stay subscribed, perhaps by itself
		for _, k := range keep {
			if covers(k, l.replyTopic) {
				return true
			}
		}
		return false
	}(); !covered {
		packet.Subscriptions = append(packet.Subscriptions, paho.SubscribeOptions{Topic: l.replyTopic, QoS: 1})
		subs.fixed = append(subs.fixed, l.replyTopic)
		for i, t := range drop.Topics {
			if t == l.replyTopic {
				drop.Topics = append(drop.Topics[:i], drop.Topics[i+1:]...)
				break
			}
		}
	}
	if len(packet.Subscriptions) > 0 {
		if _, err := c.granted(ctx, l, packet); err != nil {
			return err
		}
	}
	if len(drop.Topics) > 0 { // R-MQTT.34
		if ua, err := l.cli.Unsubscribe(ctx, drop); ua == nil && err != nil {
			return fmt.Errorf("cannot unsubscribe: %w", err)
		}
	}
	subs.configured = want
	return nil
}

func holds(list []Subscription, s Subscription) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
