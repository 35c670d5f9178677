package cwmp

import (
	"context"
	"fmt"
	"slices"

	"twinspan/cwmp/soap"
)

// delivery is one request of the CPE's own, to be sent in a session once the ACS lets it.
type delivery struct {
	body soap.Message
	// optional methods are not sent to an ACS that says that it lacks them (TR-069 A.3.1: 8000 means drop).
	optional bool
	// delivered takes the fate in, on the goroutine of Run: final=false asks for another try in a later session.
	delivered func(ctx context.Context, final bool) error
}

// deliveries is what a new session has to tell, oldest first.
func (c *CPE) deliveries() []delivery {
	var out []delivery
	for _, t := range c.transfers {
		if t.State == transferDone {
			id := t.ID
			out = append(out, delivery{body: t.message(), optional: t.Auto,
				delivered: func(ctx context.Context, final bool) error { return c.transferDelivered(ctx, id, final) }})
		}
	}
	for _, j := range c.modules.jobs {
		if j.done() {
			m := j.message()
			out = append(out, delivery{body: m, optional: j.Auto,
				delivered: func(ctx context.Context, final bool) error { return c.moduleDelivered(ctx, j, final) }})
		}
	}
	c.told9 = len(c.requested9)
	for _, m := range c.requested9 {
		out = append(out, delivery{body: m, optional: true, delivered: func(context.Context, bool) error { return nil }})
	}
	return out
}

// deliver sends one request and deals with its answer (TR-069 3.7.1.6). put=true: a hold put it off.
func (s *session) deliver(ctx context.Context, d delivery) (put bool, err error) {
	end := func(final bool) (bool, error) {
		return false, s.c.call(ctx, func() error { return d.delivered(ctx, final) })
	}
	if d.optional {
		has, err := s.acsHas(ctx, d.body.Method())
		if err != nil {
			return false, err
		}
		if !has {
			s.c.log.Info("the ACS does not know a method: nothing is sent", "method", d.body.Method())
			return end(true)
		}
		if s.hold { // the answer to our question put requests off
			return true, nil
		}
	}
	reply, err := s.ask(ctx, d.body)
	if err != nil {
		return false, err
	}
	if fault, ok := reply.Body.(*soap.Fault); ok {
		// EVT-15: what the ACS will never want counts as delivered, what it could not do now is kept.
		final := d.optional || fault.Code == soap.ACSMethodNotSupported || fault.Code == soap.ACSRequestDenied || fault.Code == soap.ACSInvalidArguments
		return end(final)
	}
	if reply.Body.Method() != d.body.Method()+"Response" {
		return false, fmt.Errorf("cwmp: the ACS answered %s with %s", d.body.Method(), cut(reply.Body.Method(), 64))
	}
	return end(true)
}

// ask sends a request and returns the answer; fault 8005 is tried again at once (TR-069 A.5.2). EVT-14
func (s *session) ask(ctx context.Context, body soap.Message) (*soap.Envelope, error) {
	env := &soap.Envelope{Namespace: s.namespace, Header: soap.Header{ID: s.newID()}, Body: body}
	for try := 0; ; try++ {
		reply, err := s.post(ctx, env)
		if err != nil {
			return nil, err
		}
		if reply == nil { // SES-12: not answered; it comes again in a later session
			return nil, errNoAnswer
		}
		if !sameID(reply, env) {
			return nil, errWrongID
		}
		s.hold = reply.Header.Held()
		if m, ok := reply.Body.(*soap.Fault); ok && m.Code == soap.ACSRetryRequest && try < maxRetryRequests {
			continue
		}
		return reply, nil
	}
}

// acsHas asks the ACS for its methods, once for each ACS; one that does not tell is taken to have them.
func (s *session) acsHas(ctx context.Context, method string) (bool, error) {
	var known []string
	if err := s.c.call(ctx, func() error { known = s.c.acsMethods; return nil }); err != nil {
		return false, err
	}
	if known == nil {
		reply, err := s.ask(ctx, &soap.GetRPCMethods{})
		if err != nil {
			return false, err
		}
		known = []string{}
		if m, ok := reply.Body.(*soap.GetRPCMethodsResponse); ok {
			known = m.MethodList
		}
		if err := s.c.call(ctx, func() error { s.c.acsMethods = known; return nil }); err != nil {
			return false, err
		}
	}
	return len(known) == 0 || slices.Contains(known, method), nil
}

// maxRequestDownloads bounds the RequestDownload calls that wait for their session.
const maxRequestDownloads = 16

// RequestDownload asks the ACS to send a Download, of a file type and with arguments that the ACS's operator understands
// (at most 16; TR-069 A.3.3.4). It is told in one session; what that one cannot tell is forgotten. Only while Run runs.
func (c *CPE) RequestDownload(ctx context.Context, fileType string, args ...soap.Arg) error {
	if len(fileType) > 64 || len(args) > 16 {
		return fmt.Errorf("cwmp: RequestDownload: %w", soap.NewFault(soap.InvalidArguments, "FileType has 64 characters at most, and there are 16 arguments at most"))
	}
	m := &soap.RequestDownload{FileType: fileType, FileTypeArg: slices.Clone(args)}
	return c.call(ctx, func() error {
		if len(c.requested9) >= maxRequestDownloads {
			return soap.NewFault(soap.ResourcesExceeded, "too many requests wait")
		}
		c.requested9 = append(c.requested9, m)
		c.queue.add(evRequestDownload, "")
		c.wanted = true
		return nil
	})
}
