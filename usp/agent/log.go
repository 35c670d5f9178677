package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// slowLog logs each message at most once in ten seconds for each sender: a peer must not be able to fill the log.
type slowLog struct {
	log  *slog.Logger
	mu   sync.Mutex
	last map[string]time.Time
	n    map[string]int
}

const (
	slowEvery = 10 * time.Second
	slowKeys  = 256
)

func newSlowLog(l *slog.Logger) *slowLog {
	return &slowLog{log: l, last: map[string]time.Time{}, n: map[string]int{}}
}

func (s *slowLog) Warn(msg string, args ...any) { s.write(slog.LevelWarn, msg, args) }
func (s *slowLog) Info(msg string, args ...any) { s.write(slog.LevelInfo, msg, args) }

// write takes the message and the first value as the key of the rate limit.
func (s *slowLog) write(level slog.Level, msg string, args []any) {
	key := msg
	if len(args) > 1 {
		key += fmt.Sprint(args[1])
	}
	now := time.Now()
	s.mu.Lock()
	if t, seen := s.last[key]; seen && now.Sub(t) < slowEvery {
		s.n[key]++
		s.mu.Unlock()
		return
	}
	if len(s.last) >= slowKeys {
		clear(s.last)
		clear(s.n)
	}
	if n := s.n[key]; n > 0 {
		args = append(args, "suppressed", n)
	}
	s.last[key] = now
	delete(s.n, key)
	s.mu.Unlock()
	s.log.Log(context.Background(), level, msg, args...)
}
