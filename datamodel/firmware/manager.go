package firmware

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/datamodel"
	"twinspan/datamodel/webfile"
)

// Defaults of Options.
const (
	DefaultMaxSize = 64 << 20
	DefaultConfirm = 10 * time.Minute
)

// Options of New. Dir, Banks, Fetch and Restart are required.
type Options struct {
	Dir   string // of the state and of what is being fetched; made with mode 0700
	Banks Banks
	Fetch func(ctx context.Context, r webfile.Request, dst *os.File) error
	// MaxSize of an image in bytes, 0: DefaultMaxSize.
	MaxSize int64
	// Confirm is how long a new image may take to reach a manager before the one before comes back; 0: for ever.
	Confirm time.Duration
	// Restart asks for a restart of the device, which may come a little later: the answer of the command in ctx has to leave first. fallback:
	// no manager asked for it.
	Restart func(ctx context.Context, reason string, fallback bool)
	// Reached reports whether a manager is at the other end right now; nil: only Contact counts.
	Reached func() bool
	// Idle is asked in windows of the mode WhenIdle; nil: always idle.
	Idle func(ctx context.Context) bool
	// Ask shows a message to the user and waits for his consent; nil: windows of the mode ConfirmationNeeded are refused.
	Ask func(ctx context.Context, message string) (bool, error)
	Log *slog.Logger // nil: no log

	step func(name string) // seam of the tests: called before and after whatever is written down
}

// Manager owns the images. Safe for concurrent use.
type Manager struct {
	o       Options
	log     *slog.Logger
	updated bool   // the image that runs is not the one that a manager knows
	revert  string // why to go back at once
	waiting atomic.Bool
	heard   atomic.Bool // a manager, since Start
	contact chan struct{}
	end     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	// Seams of the tests.
	random                 func() float64
	revertWait, reachEvery time.Duration

	mu    sync.Mutex
	value func(path string) string
	s     *state
	lay   Layout
	busy  bool
	// chosen is the newest bank that Prepare let through, before what was in force then. What is applied anew after a restart is neither: the
	// state knows better than the store, which does not hear of Activate().
	chosen, before string
	restarting     bool
}

const (
	maxStarts  = 3 // of an image on trial
	revertWait = 5 * time.Second
	reachEvery = 5 * time.Second
)

// New reads the state and judges how the start went; what was interrupted by it is finished or undone.
func New(ctx context.Context, o Options) (*Manager, error) {
	if o.Dir == "" || o.Banks == nil || o.Fetch == nil || o.Restart == nil {
		return nil, errors.New("firmware: Options.Dir, Banks, Fetch and Restart are needed")
	}
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.step == nil {
		o.step = func(string) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("firmware: %w", err)
	}
	m := &Manager{o: o, log: o.Log, contact: make(chan struct{}, 1), random: rand.Float64,
		revertWait: revertWait, reachEvery: reachEvery}
	m.end, m.cancel = context.WithCancel(context.Background())
	var err error
	if m.s, err = loadState(o.Dir); err != nil {
		return nil, err
	}
	_ = os.Remove(m.spool()) // of a download that was interrupted
	if err := m.look(ctx); err != nil {
		return nil, err
	}
	if err := m.judge(ctx); err != nil {
		return nil, err
	}
	return m, m.save("started")
}

// look reads the layout and fits the state to it.
func (m *Manager) look(ctx context.Context) error {
	l, err := m.o.Banks.Layout(ctx)
	if err == nil {
		err = l.check()
	}
	if err != nil {
		return err
	}
	m.lay = l
	for _, b := range l.Banks {
		st := m.s.Banks[b.Name]
		if st == nil {
			st = &bankState{Status: noImage}
			if b.Filled {
				st.Status = available
			}
			m.s.Banks[b.Name] = st
		}
		switch {
		case b.Name == l.Active:
			st.Status = available // when another one runs
		case !b.Filled && st.Status == available:
			st.Status = noImage
		}
	}
	if m.s.Boot == "" || l.bank(m.s.Boot) == nil {
		m.s.Boot = l.Active
	}
	return nil
}

// judge finds out what a start made of the trial that the one before left.
func (m *Manager) judge(ctx context.Context) error {
	for _, st := range m.s.Banks {
		if st.Status == downloading || st.Status == validating {
			st.Status = downloadFailed // by the restart
		}
	}
	if m.s.Known == "" {
		m.s.Known = m.running()
	}
	t := m.s.Trial
	switch {
	case t == nil:
	case t.BootID == m.lay.BootID: // the device has not started yet
		return nil
	case m.lay.bank(t.To) == nil || m.lay.bank(t.From) == nil:
		m.s.Trial = nil // of other banks
	case m.lay.Active == t.To:
		if t.Started != m.lay.BootID {
			t.Started = m.lay.BootID
			t.Starts++
		}
		if m.revert = t.Reverting; m.revert == "" && t.Starts > maxStarts {
			m.revert = "started " + strconv.Itoa(maxStarts) + " times without reaching a manager"
		}
	default:
		reason := t.Reverting
		if reason == "" && !t.Set && m.lay.Next != t.To { // the power went before the boot loader was told: nothing happened
			m.s.Trial, m.s.Boot = nil, m.lay.Next
			break
		}
		if reason == "" {
			reason = "the boot loader started " + m.lay.Active + " instead"
		}
		// The boot loader first: without it, this image would be tried again, and without a trial.
		if err := m.o.Banks.SetNext(ctx, m.lay.Active); err != nil {
			return fmt.Errorf("firmware: boot loader: %w", err)
		}
		m.o.step("told the boot loader")
		st := m.s.Banks[t.To]
		st.Status, st.Log = activationFailed, reason
		m.s.Trial = nil // BootFirmwareImage stays as it is (TR-181)
		m.log.Error("a firmware image was given up", "bank", t.To, "reason", reason, "running", m.lay.Active)
	}
	m.updated = m.s.Known != m.running()
	return nil
}

// running names the image that runs.
func (m *Manager) running() string { return m.image(m.lay.Active) }

// image names what is in a bank of the layout.
func (m *Manager) image(bank string) string {
	return bank + "/" + strconv.FormatUint(m.s.Banks[bank].Gen, 10) + "/" + m.lay.bank(bank).Version
}

func (m *Manager) spool() string { return filepath.Join(m.o.Dir, "download.part") }

// save writes the state down. The caller holds mu, or is the only one.
func (m *Manager) save(step string) error {
	m.o.step("before " + step)
	b, err := json.Marshal(m.s)
	if err == nil {
		err = replaceFile(filepath.Join(m.o.Dir, stateFile), b)
	}
	if err != nil {
		m.log.Error("the state of the firmware is not kept", "error", err)
		return fmt.Errorf("firmware: state: %w", err)
	}
	m.o.step(step)
	return nil
}

func (m *Manager) locked(f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return f()
}

// Version of the image that runs.
func (m *Manager) Version() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lay.bank(m.lay.Active).Version
}

// Updated reports whether the image that runs is another one than that which ran when a manager was last reached: FirmwareUpdated of Boot!.
func (m *Manager) Updated() bool { return m.updated }

// Pending reports whether a restart into another image is due.
func (m *Manager) Pending() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.s.Trial != nil && m.s.Trial.BootID == m.lay.BootID || m.restarting
}

// Attach tells how a stored parameter is read. Before it nothing can be set.
func (m *Manager) Attach(value func(path string) string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.value = value
}

// Start begins to wait for a manager, if the image that runs is new to all of them.
func (m *Manager) Start() {
	m.mu.Lock()
	t := m.s.Trial
	trial := t != nil && m.lay.Active == t.To && t.BootID != m.lay.BootID
	m.mu.Unlock()
	if m.end.Err() != nil || !trial && !m.updated {
		return
	}
	m.waiting.Store(true)
	m.wg.Go(func() { m.prove(trial) }) // joined by Close
}

// Contact says that a manager was heard since Start. It never blocks.
func (m *Manager) Contact() {
	if !m.waiting.Load() {
		return
	}
	m.heard.Store(true)
	select {
	case m.contact <- struct{}{}:
	default:
	}
}

// Close ends the waiting, and waits for it. Idempotent.
func (m *Manager) Close() error {
	m.cancel()
	m.wg.Wait()
	return nil
}

// prove waits until the running image has reached a manager, or goes back to the one before.
func (m *Manager) prove(trial bool) {
	defer m.waiting.Store(false)
	if m.revert != "" {
		if sleep(m.end, m.revertWait) == nil {
			m.goBack(m.revert)
		}
		return
	}
	look := time.NewTicker(m.reachEvery)
	defer look.Stop()
	var late <-chan time.Time
	if trial && m.o.Confirm > 0 {
		t := time.NewTimer(m.o.Confirm)
		defer t.Stop()
		late = t.C
	}
	for {
		select {
		case <-m.contact:
		case <-look.C:
			if m.o.Reached == nil || !m.o.Reached() {
				continue
			}
		case <-late:
			m.goBack("no manager was reached within " + m.o.Confirm.String())
			return
		case <-m.end.Done():
			return
		}
		m.confirm()
		return
	}
}

// confirm ends a trial well.
func (m *Manager) confirm() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.proven()
}

// onTrial is the trial that is not decided. What a manager asks for may come before prove has taken in that he was heard. The caller
// holds mu.
func (m *Manager) onTrial() *trial {
	if t := m.s.Trial; t != nil && t.To == m.lay.Active && t.BootID != m.lay.BootID && t.Reverting == "" && m.heard.Load() {
		m.proven()
	}
	return m.s.Trial
}

func (m *Manager) proven() {
	if m.s.Trial == nil && m.s.Known == m.running() || m.restarting {
		return
	}
	m.s.Trial = nil
	if now := m.running(); m.s.Known != now {
		m.s.Previous, m.s.Known = m.s.Known, now
	}
	if m.save("confirmed") == nil {
		m.log.Info("the firmware image has proven itself", "bank", m.lay.Active, "version", m.lay.bank(m.lay.Active).Version)
	}
}

// goBack gives the running image up.
func (m *Manager) goBack(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.s.Trial
	if t == nil {
		return
	}
	t.Reverting = reason
	if m.save("reverting") != nil {
		return // the next start judges again
	}
	if err := m.o.Banks.SetNext(m.end, t.From); err != nil {
		m.log.Error("the boot loader could not be told to go back", "error", err)
		return
	}
	m.o.step("told the boot loader")
	m.restarting = true
	m.log.Error("the firmware image is given up", "bank", t.To, "reason", reason)
	m.o.Restart(m.end, "firmware: "+reason, true)
}

// arm chooses the bank of the next start. The caller holds mu and has checked the bank.
func (m *Manager) arm(ctx context.Context, bank string) error {
	before := m.s.Boot
	m.s.Boot, m.s.Trial = bank, nil
	if bank != m.lay.Active {
		m.s.Trial = &trial{From: m.lay.Active, To: bank, BootID: m.lay.BootID}
		m.s.Banks[bank].Log = ""
	}
	err := m.save("armed")
	if err == nil {
		err = m.o.Banks.SetNext(ctx, bank)
	}
	if err != nil {
		m.s.Boot, m.s.Trial = before, nil
		m.s.Banks[bank].Status, m.s.Banks[bank].Log = activationFailed, "the boot loader could not be told"
		return errors.Join(err, m.save("not armed"))
	}
	m.o.step("told the boot loader")
	if m.s.Trial != nil {
		m.s.Trial.Set = true
		return m.save("set")
	}
	return nil
}

// switchTo makes a bank the one of the next start and asks for that.
func (m *Manager) switchTo(ctx context.Context, command, bank string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.bootable(command, bank); err != nil {
		return err
	}
	if err := m.arm(context.WithoutCancel(ctx), bank); err != nil {
		m.log.Error("the firmware image cannot be activated", "bank", bank, "error", err)
		return datamodel.Fail(datamodel.CommandFailed, command, "the boot loader could not be told")
	}
	m.restarting = true
	m.o.Restart(ctx, "firmware: "+bank+" is activated", false) // TP-469 9.3, 9.4
	return nil
}

// earlier is the bank of the image that ran before this one, if it is still there and may be started. The caller holds mu.
func (m *Manager) earlier() string {
	for _, b := range m.lay.Banks {
		if b.Name != m.lay.Active && m.s.Banks[b.Name] != nil && m.image(b.Name) == m.s.Previous && m.bootable("", b.Name) == nil {
			return b.Name
		}
	}
	return ""
}

// Untried reports whether the image before this one is there to be tried, or is on trial for a limited time: what a rescue of the
// device waits for. One that was tried and reached nobody has ActivationFailed. It never blocks.
func (m *Manager) Untried() bool {
	if !m.mu.TryLock() {
		return true // somebody works on the banks
	}
	defer m.mu.Unlock()
	if m.s.Trial != nil {
		return m.o.Confirm > 0
	}
	return m.earlier() != ""
}

// Try puts the image before this one on trial, as Activate() would, and asks for a restart. With a trial under way it does nothing.
func (m *Manager) Try(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.s.Trial != nil || m.restarting {
		return nil
	}
	bank := m.earlier()
	if bank == "" {
		return errors.New("firmware: no image from before is left")
	}
	if err := m.arm(ctx, bank); err != nil {
		return err
	}
	m.restarting = true
	m.log.Warn("the firmware image before this one is tried, since no manager is reached", "bank", bank)
	m.o.Restart(ctx, "firmware: back to "+bank+", no manager is reached", true)
	return nil
}

// bootable refuses banks that cannot be chosen. The caller holds mu.
func (m *Manager) bootable(command, bank string) error {
	st := m.s.Banks[bank]
	switch {
	case st == nil:
		return datamodel.Fail(datamodel.CommandFailed, command, "the platform has no such bank any more")
	case st.Status != available:
		return datamodel.Fail(datamodel.CommandFailed, command, "the Status of the image is "+st.Status+", it must be "+available)
	case m.value != nil && m.flag(bank, "Available") == "false":
		return datamodel.Fail(datamodel.CommandFailed, command, "the image is set to be not Available")
	}
	return nil
}

// sleep waits, or less when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
