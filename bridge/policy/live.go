package policy

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
)

// bucket holds the policy in force, so that it outlives a file that has become bad.
const bucket = "policy"

// Status of the policy, for the data model.
type Status struct {
	Name, Hash string
	Epoch      uint64
	Status     string // "Active", "Error" (the file is bad, the one before is in force), "Builtin"
	LastError  string
	Loaded     time.Time
}

// Live keeps the policy of a running engine in step with its file. Safe for concurrent use.
type Live struct {
	engine  *bridge.Engine
	file    string
	initial bridge.Phase
	log     *slog.Logger

	mu     sync.Mutex
	tell   func(Status, Report)
	policy *Policy
	epoch  uint64
	status Status
}

// First reads the policy that an engine is to begin with: the file, or, if that is bad, the last good one out of the
// database. fileErr is what is wrong with the file then; err means that there is none at all.
func First(file string, initial bridge.Phase, s *store.Store) (p *Policy, fileErr, err error) {
	p, fileErr = read(file, initial)
	if fileErr == nil {
		return p, nil, nil
	}
	text, ok := s.Head().Record(bucket, "text")
	if !ok {
		return nil, fileErr, fileErr
	}
	p, err = Parse(string(text), initial)
	if err != nil {
		return nil, fileErr, fmt.Errorf("%w; and the last good one: %w", fileErr, err)
	}
	return p, fileErr, nil
}

func read(file string, initial bridge.Phase) (*Policy, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, MaxFile+1)
	n := 0
	for n < len(buf) {
		k, err := f.Read(buf[n:])
		if n += k; err != nil || k == 0 {
			break
		}
	}
	p, err := Parse(string(buf[:n]), initial)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// NewLive takes over with the policy that First gave; it makes the first commit of it when ctx and the engine allow.
func NewLive(e *bridge.Engine, file string, initial bridge.Phase, p *Policy, fileErr error, log *slog.Logger) *Live {
	l := &Live{engine: e, file: file, initial: initial, policy: p, log: log, epoch: storedEpoch(e.Store())}
	l.status = Status{Name: p.File.Name, Hash: p.Hash, Epoch: l.epoch, Status: "Active", Loaded: time.Now()}
	if fileErr != nil {
		l.status.Status, l.status.LastError = "Error", fileErr.Error()
	}
	rate, burst := p.Rate()
	e.SetRate(rate, burst)
	return l
}

func storedEpoch(s *store.Store) uint64 {
	text, _ := s.Head().Record(bucket, "epoch")
	n, _ := strconv.ParseUint(string(text), 10, 64) // nothing there: 0
	return n
}

// Start puts the policy in force in a commit of its own, unless the database has it already.
func (l *Live) Start(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.swap(ctx, l.policy)
}

// Policy in force.
func (l *Live) Policy() *Policy {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.policy
}

// Status of it.
func (l *Live) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Class of a Controller by [classes], "" if they do not say.
func (l *Live) Class(writer string, roles []string) string { return l.Policy().Class(writer, roles) }

// OnReload has f called after every Reload with what came of it, also when it failed; it must not call back. Before the
// first Reload.
func (l *Live) OnReload(f func(Status, Report)) { l.tell = f }

// Reload reads the file again, tries it on the journal and puts it in force between two commits. Whatever goes wrong, the
// policy before stays in force and the error is kept for Status.
func (l *Live) Reload(ctx context.Context) (Report, []Finding, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	report, findings, err := l.reload(ctx)
	defer func() {
		if l.tell != nil {
			l.tell(l.status, report)
		}
	}()
	if err != nil {
		l.status.Status, l.status.LastError = "Error", err.Error()
		l.log.Error("policy was not loaded, the one before stays in force", "file", l.file, "error", err)
		return report, findings, err
	}
	l.status.Status, l.status.LastError = "Active", ""
	l.log.Info("policy loaded", "name", l.status.Name, "epoch", l.epoch, "verdicts_that_differ", report.Differ)
	return report, findings, nil
}

func (l *Live) reload(ctx context.Context) (Report, []Finding, error) {
	p, err := read(l.file, l.initial)
	if err != nil {
		return Report{}, nil, err
	}
	findings := p.Lint(l.engine.Schema())
	report, err := p.Simulate(l.engine.Store())
	if err != nil {
		return report, findings, err
	}
	return report, findings, l.swap(ctx, p)
}

// swap makes the commit from which on the policy counts. Called with mu held.
func (l *Live) swap(ctx context.Context, p *Policy) error {
	epoch := l.epoch
	if text, _ := l.engine.Store().Head().Record(bucket, "text"); string(text) != p.text {
		epoch++
	}
	err := l.engine.SwapArbiter(ctx, p.orders.WithEpoch(epoch), func(tx *store.Tx) error {
		if err := tx.PutRecord(bucket, "text", []byte(p.text)); err != nil {
			return err
		}
		return tx.PutRecord(bucket, "epoch", strconv.AppendUint(nil, epoch, 10))
	})
	if err != nil {
		return err
	}
	l.epoch, l.policy = epoch, p
	l.status = Status{Name: p.File.Name, Hash: p.Hash, Epoch: epoch, Status: l.status.Status, LastError: l.status.LastError, Loaded: time.Now()}
	rate, burst := p.Rate()
	l.engine.SetRate(rate, burst)
	return nil
}

// Try says what a text would change, without putting it in force.
func (l *Live) Try(text string) (Report, []Finding, error) {
	p, err := Parse(text, l.initial)
	if err != nil {
		return Report{}, nil, &datamodel.Error{Reason: datamodel.InvalidArgs, Text: err.Error()}
	}
	r, err := p.Simulate(l.engine.Store())
	return r, p.Lint(l.engine.Schema()), err
}
