package agent

import (
	"context"
	"strings"

	"twinspan/usp/uspmsg"
)

// writeSlot is the place of one writing request in the order of its peer. Requests run at the same time, because one
// fsync then serves many of them; those that touch the same place must not overtake each other.
type writeSlot struct {
	keys []writeKey
	// barrier: a command, which waits for every earlier write of the peer. Later writes do not wait for it, a command
	// may take long.
	barrier bool
	after   []<-chan struct{}
	done    chan struct{}
}

// writeKey is the literal part of a path that a request writes, without final dot.
type writeKey struct {
	path string
	add  bool // rows added to one table do not disturb each other
}

// ticket gives a request its place; nil for requests that only read. Called on the connection's reader goroutine, so
// that the order of arrival is known.
func (p *peer) ticket(req *uspmsg.Request) *writeSlot {
	s := &writeSlot{}
	switch r := req.GetReqType().(type) {
	case *uspmsg.Request_Set:
		for _, o := range r.Set.GetUpdateObjs() {
			base := literal(o.GetObjPath())
			if searches(o.GetObjPath()) {
				s.keys = append(s.keys, writeKey{path: base})
				continue
			}
			for _, ps := range o.GetParamSettings() {
				s.keys = append(s.keys, writeKey{path: base + "." + ps.GetParam()})
			}
		}
	case *uspmsg.Request_Add:
		for _, o := range r.Add.GetCreateObjs() {
			s.keys = append(s.keys, writeKey{path: literal(o.GetObjPath()), add: true})
		}
	case *uspmsg.Request_Delete:
		for _, path := range r.Delete.GetObjPaths() {
			s.keys = append(s.keys, writeKey{path: literal(path)})
		}
	case *uspmsg.Request_Operate:
		s.barrier = true
	default:
		return nil
	}
	s.done = make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.writes {
		if !w.barrier && (s.barrier || w.conflicts(s)) {
			s.after = append(s.after, w.done)
		}
	}
	p.writes = append(p.writes, s)
	return s
}

// leave gives the place up. Safe to call on nil.
func (p *peer) leave(s *writeSlot) {
	if s == nil {
		return
	}
	p.mu.Lock()
	for i, w := range p.writes {
		if w == s {
			p.writes = append(p.writes[:i], p.writes[i+1:]...)
			break
		}
	}
	p.mu.Unlock()
	close(s.done)
}

// wait returns when every earlier write in the way has ended.
func (s *writeSlot) wait(ctx context.Context) {
	if s == nil {
		return
	}
	for _, c := range s.after {
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
	}
}

// maxCompared bounds the pairs of keys looked at; larger requests simply wait for each other.
const maxCompared = 4096

func (s *writeSlot) conflicts(o *writeSlot) bool {
	if len(s.keys)*len(o.keys) > maxCompared {
		return true
	}
	for _, a := range s.keys {
		for _, b := range o.keys {
			if !(a.add && b.add) && (within(a.path, b.path) || within(b.path, a.path)) {
				return true
			}
		}
	}
	return false
}

// within reports whether path is base or lies below it.
func within(base, path string) bool {
	return strings.HasPrefix(path, base) && (len(path) == len(base) || path[len(base)] == '.')
}

func searches(path string) bool { return strings.ContainsAny(path, "*[+#") }

// literal is the part of a path before its first wildcard, expression or reference, without final dot.
func literal(path string) string {
	if i := strings.IndexAny(path, "*[+#"); i >= 0 {
		path = path[:i]
		if d := strings.LastIndexByte(path, '.'); d >= 0 {
			path = path[:d]
		}
	}
	return strings.TrimSuffix(path, ".")
}
