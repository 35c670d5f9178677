package acs

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"twinspan/cwmp/soap"
)

// write sends a reply, with the fault that was drawn for it.
func (s *Server) write(w http.ResponseWriter, r *http.Request, rep reply) {
	f := rep.fault
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		case <-s.closed:
		}
	}
	if f.Cut {
		panic(http.ErrAbortHandler) // how net/http is told to cut the connection; it is not logged
	}
	if rep.cookie != "" {
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: rep.cookie, Path: "/", HttpOnly: true})
	}
	if f.Close {
		w.Header().Set("Connection", "close")
	}
	switch {
	case f.Unauthorized:
		s.mu.Lock()
		s.counters.Unauthorized++
		s.mu.Unlock()
		s.auth.Challenge(w.Header(), s.binding(r), true)
		w.WriteHeader(http.StatusUnauthorized)
		return
	case f.Redirect != "":
		w.Header().Set("Location", f.Redirect)
		w.WriteHeader(max(f.Status, http.StatusFound))
		return
	case f.Status != 0:
		w.WriteHeader(f.Status)
		return
	}
	body := f.Raw
	if body == nil && rep.envelope != nil && !f.Empty {
		var err error
		if body, err = f.encode(rep.envelope); err != nil {
			s.log.Error("cannot encode", "error", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
	}
	if rep.last != nil {
		s.finish(rep.last)
	}
	if len(body) == 0 {
		w.WriteHeader(max(rep.status, http.StatusNoContent))
		return
	}
	s.send(w, f, body)
}

// encode writes the envelope with the changes that f asks for.
func (f *Fault) encode(env *soap.Envelope) ([]byte, error) {
	if f.WrongID {
		env.Header.ID, env.Header.HasID = "wrong-"+env.Header.ID, true
	}
	if f.HoldRequests {
		env.Header.HoldRequests = new(true)
	}
	if f.FaultCode != 0 && !soap.IsRequest(env.Body) {
		env.Body = soap.NewFault(f.FaultCode, "")
	}
	body, err := soap.Append(nil, env)
	if err != nil {
		return nil, fmt.Errorf("acs: %w", err)
	}
	if f.Pad > 0 {
		comment := append([]byte("<!--"), bytes.Repeat([]byte("x"), f.Pad)...)
		body = bytes.Replace(body, []byte("</soap-env:Body>"), append(comment, "--></soap-env:Body>"...), 1)
	}
	if f.Malformed {
		body = bytes.Replace(body, []byte("</soap-env:Body>"), []byte("</cwmp:soap-env:Body>"), 1)
	}
	return body, nil
}

func (s *Server) send(w http.ResponseWriter, f Fault, body []byte) {
	w.Header().Set("Content-Type", `text/xml; charset="utf-8"`)
	if f.Gzip {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(body)
		_ = z.Close()
		body = b.Bytes()
		w.Header().Set("Content-Encoding", "gzip")
	}
	s.mu.Lock()
	s.counters.BytesOut += int64(len(body))
	s.mu.Unlock()
	if f.CutAfter > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body[:min(f.CutAfter, len(body)-1)])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	if f.Chunked <= 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
		return
	}
	for len(body) > 0 {
		n := min(f.Chunked, len(body))
		if _, err := w.Write(body[:n]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		body = body[n:]
	}
}
