package agent

import (
	"context"
	"crypto/sha256"
	"sync"

	"twinspan/usp/mtp"
)

const (
	// maxAnswered bounds the requests of one Controller behind a broker that are remembered with their answers.
	maxAnswered = 32
	// maxAnswer bounds an answer that is remembered. A larger one is not sent again.
	maxAnswer = 8 << 10
)

// answered is a request that wrote something, so that it is not carried out once more when a broker that has missed the
// acknowledgement hands it out again (MQTT, QoS 1). A Controller that uses a msg_id anew is not meant: its record has no DUP flag.
type answered struct {
	id  string
	sum [sha256.Size]byte

	mu     sync.Mutex
	answer []byte // nil: there was none, or a large one
}

// with keeps the answer. Safe to call on nil.
func (s *answered) with(rec []byte) {
	if s == nil || len(rec) > maxAnswer {
		return
	}
	s.mu.Lock()
	s.answer = rec
	s.mu.Unlock()
}

// remember keeps a request as one that has been carried out.
func (p *peer) remember(id string, payload []byte) *answered {
	s := &answered{id: id, sum: sha256.Sum256(payload)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.answered) >= maxAnswered {
		p.answered = append(p.answered[:0], p.answered[1:]...)
	}
	p.answered = append(p.answered, s)
	return s
}

// repeated answers what was answered already, and reports whether it was. in is marked as delivered again.
func (p *peer) repeated(ctx context.Context, in mtp.Inbound, id string, payload []byte) bool {
	sum := sha256.Sum256(payload)
	var found *answered
	p.mu.Lock()
	for _, s := range p.answered {
		if s.id == id && s.sum == sum {
			found = s
		}
	}
	p.mu.Unlock()
	if found == nil {
		return false
	}
	found.mu.Lock()
	rec := found.answer
	found.mu.Unlock()
	p.a.slow.Info("usp_request_repeated", "from", p.endpoint)
	if rec != nil {
		p.a.reply(ctx, p, in, id, rec)
	}
	return true
}
