package bridge

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/datamodel"
)

// holds are the resources of the device that only one command can use at a time.
type holds struct {
	mu     sync.Mutex
	holder map[string]string
	queues map[string][]*place
}

// place in the queue for a resource.
type place struct {
	by   string
	turn chan struct{} // closed when the resource is this one's
}

// MaxResourceQueue bounds the queue of one resource that a policy may ask for.
const MaxResourceQueue = 16

// maxHolds bounds the resources held at a time (diagnostics differ by path).
const maxHolds = 256

// Hold takes a resource ("fw", "boot", "factory", "diag:<path>") for somebody who does not come through Command, for
// example a CWMP Download. The returned function gives it back and may be called more than once. A resource that is
// held is refused with Resources; nobody is ever pushed out (R-OPR.3).
func (e *Engine) Hold(resource, by string) (free func(), err error) {
	_, free, err = e.holds.take(resource, by, 0)
	return free, err
}

// take takes a resource, or a place in its queue of at most `queue`; turn is nil when it is had at once. free gives back
// whatever it is then.
func (h *holds) take(resource, by string, queue int) (turn <-chan struct{}, free func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &place{by: by, turn: make(chan struct{})}
	if other, busy := h.holder[resource]; busy {
		if n := len(h.queues[resource]); n >= min(queue, MaxResourceQueue) {
			text := "resource " + resource + " is held by " + other
			if n > 0 {
				text += ", " + strconv.Itoa(n) + " wait for it"
			}
			return nil, nil, datamodel.Fail(datamodel.Resources, "", text+"; it is free when that command ends, or its Device.LocalAgent.Request.{i}.Cancel() is run")
		}
		if h.queues == nil {
			h.queues = map[string][]*place{}
		}
		h.queues[resource] = append(h.queues[resource], p)
		turn = p.turn
	} else {
		if len(h.holder) >= maxHolds {
			return nil, nil, datamodel.Fail(datamodel.Resources, "", "too many commands are running")
		}
		if h.holder == nil {
			h.holder = map[string]string{}
		}
		h.holder[resource] = by
		close(p.turn)
	}
	var once sync.Once
	return turn, func() { once.Do(func() { h.leave(resource, p) }) }, nil
}

// leave gives a resource to who waited longest for it, or a place in the queue back.
func (h *holds) leave(resource string, p *place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.queues[resource]
	if i := slices.Index(q, p); i >= 0 {
		q = slices.Delete(q, i, i+1)
	} else if len(q) > 0 {
		h.holder[resource] = q[0].by
		close(q[0].turn)
		q = slices.Delete(q, 0, 1)
	} else {
		delete(h.holder, resource)
	}
	if len(q) == 0 {
		delete(h.queues, resource)
		return
	}
	h.queues[resource] = q
}

// resourceOf names the resource that a command needs, "" for none. path is a canonical instance path.
func resourceOf(path string, c *datamodel.Command) string {
	name := strings.TrimSuffix(c.Name, "()")
	switch {
	case path == "Device.Reboot()":
		return "boot"
	case path == "Device.FactoryReset()":
		return "factory"
	case strings.HasPrefix(path, "Device.DeviceInfo.FirmwareImage."):
		return "fw"
	case strings.Contains(path, ".Diagnostics."), strings.HasSuffix(name, "Diagnostics"), strings.HasSuffix(name, "Diagnostic"):
		return "diag:" + path
	}
	return ""
}

// Operation is a validated, authorised command whose resource is granted; call Run exactly once, or Cancel.
type Operation struct {
	Path    string // instance path of the command, writer's spelling
	Command *datamodel.Command

	e    *Engine
	w    Writer
	p    *provided
	inv  datamodel.Invocation
	free func()
	turn <-chan struct{} // closed when the resource is there; nil: it is
	once sync.Once
}

// Command checks a command and takes its resource, or a place in the queue for it where the policy has one; only
// asynchronous commands wait, in Run. path is an instance path from View.Resolve, in the writer's
// spelling. Unknown arguments are ignored (R-OPR.6), missing ones get their default (R-OPR.7).
//
// Errors: NotSupported, NoInstance, Denied, InvalidArgs (R-OPR.5), Resources (somebody else holds the resource),
// NotImplemented (no provider carries it out).
func (e *Engine) Command(w Writer, path string, args map[string]string) (*Operation, error) {
	canonical, ok := toCanonical(w.Protocol, path)
	if !ok {
		return nil, datamodel.Fail(datamodel.NotSupported, path, "")
	}
	m, ok := e.schema.Lookup(canonical)
	if !ok || m.Command == nil || strings.Contains(canonical, "{i}") {
		return nil, datamodel.Fail(datamodel.NotSupported, path, "not a command")
	}
	v := e.View(w)
	if !v.tree().exists(canonical) {
		return nil, datamodel.Fail(datamodel.NoInstance, path, "")
	}
	if !w.may(v.v, canonical, Operate) {
		return nil, datamodel.Fail(datamodel.Denied, path, "")
	}
	in, err := inputs(m.Command, w.Protocol, path, args)
	if err != nil {
		return nil, err
	}
	p := v.cat.commands[m.Command]
	if p == nil {
		return nil, datamodel.Fail(datamodel.NotImplemented, path, "no provider carries it out")
	}
	free := func() {}
	var turn <-chan struct{}
	if res := resourceOf(canonical, m.Command); res != "" {
		queue := 0
		if order := e.order(v.v); order != nil {
			verdict := order.Resource(w, res)
			if verdict.Kind == Yield {
				return nil, datamodel.Fail(datamodel.Denied, path, verdict.Text)
			}
			if m.Command.Async {
				queue = verdict.Queue
			}
		}
		if turn, free, err = e.holds.take(res, w.Name, queue); err != nil {
			return nil, asAsked(err, path)
		}
	}
	obj := canonical[:len(canonical)-len(m.Command.Name)]
	return &Operation{Path: path, Command: m.Command, e: e, w: w, p: p, free: free, turn: turn,
		inv: datamodel.Invocation{Command: canonical, Args: in, Object: objectRef(v.v, m.Object, obj), By: w.caller()}}, nil
}

// CarriesOut reports whether some provider carries a command out.
func (e *Engine) CarriesOut(c *datamodel.Command) bool { return e.cat.Load().commands[c] != nil }

// inputs validates arguments and fills in defaults.
func inputs(c *datamodel.Command, proto datamodel.Protocol, path string, args map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(args))
	given := map[string]bool{}
	for _, name := range sortedKeys(args) {
		supported := datamodel.SupportedPath(name)
		for i := range c.Inputs {
			a := &c.Inputs[i]
			if a.Name != supported { // R-OPR.6
				continue
			}
			given[supported] = true
			val := args[name]
			if proto != 0 {
				val = datamodel.ToCanonicalValue(proto, a.Facts, val)
			}
			val, err := a.Facts.Canonical(val)
			if err != nil {
				text := "argument " + name
				if e, ok := err.(*datamodel.Error); ok && e.Text != "" { // what is wrong with it; the heads do not tell of causes
					text += ": " + e.Text
				}
				return nil, datamodel.Fail(datamodel.InvalidArgs, path, text)
			}
			out[name] = val
		}
	}
	for i := range c.Inputs {
		a := &c.Inputs[i]
		if given[a.Name] || strings.Contains(a.Name, "{i}") {
			continue
		}
		switch {
		case a.Facts.Mandatory && !objectGiven(a.Name, given): // what an object of arguments needs counts when it is given
		case a.Facts.Mandatory: // R-OPR.5
			return nil, datamodel.Fail(datamodel.InvalidArgs, path, "mandatory argument "+a.Name+" is missing")
		case a.Facts.HasDefault: // R-OPR.7
			out[a.Name] = a.Facts.Default
		}
	}
	return out, nil
}

// objectGiven reports whether an argument stands by itself, or another one of its object ("AutoRestart.") is given.
func objectGiven(name string, given map[string]bool) bool {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return true
	}
	for other := range given {
		if strings.HasPrefix(other, name[:i+1]) {
			return true
		}
	}
	return false
}

// Run carries the command out, blocks until it ended or ctx was cancelled, and frees the resource. A provider that
// ignores the end of ctx keeps the resource until it comes back, but not the caller. Errors: CommandFailed,
// CommandCanceled, or what the provider said.
func (o *Operation) Run(ctx context.Context) (map[string]string, error) {
	var out map[string]string
	err := error(datamodel.Fail(datamodel.Internal, o.Path, "the operation was used already"))
	o.once.Do(func() { out, err = o.run(ctx) })
	return out, err
}

// Cancel frees the resource of an operation that will not be run. No effect once it ran.
func (o *Operation) Cancel() { o.once.Do(o.free) }

func (o *Operation) run(ctx context.Context) (map[string]string, error) {
	if o.turn != nil {
		select {
		case <-o.turn:
		case <-o.e.done:
			o.free()
			return nil, errClosed
		case <-ctx.Done():
			o.free()
			return nil, datamodel.Fail(datamodel.CommandCanceled, o.Path, "while it waited for its resource")
		}
	}
	done := make(chan answer, 1)
	if !o.e.enter() {
		o.free()
		return nil, errClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer o.e.wg.Done()
		var a answer
		defer func() {
			if r := recover(); r != nil {
				o.e.log.Error("provider panicked", "provider", o.p.Name(), "method", "Run", "command", o.inv.Command)
				a = answer{err: errors.New("provider " + o.p.Name() + " failed")}
			}
			o.free() // first: whoever has the answer may ask for the command again
			done <- a
		}()
		a.out, a.err = o.p.commander.Run(context.WithValue(ctx, writerKey{}, o.w), o.inv)
	}()
	var a answer
	select {
	case a = <-done:
	case <-o.e.done: // Close: everything that runs is cancelled
		cancel()
		a = grace(done)
	case <-ctx.Done():
		a = grace(done)
	}
	if a.err == nil {
		return a.out, nil
	}
	var de *datamodel.Error
	switch {
	case ctx.Err() != nil && (errors.Is(a.err, context.Canceled) || errors.Is(a.err, context.DeadlineExceeded)):
		return a.out, datamodel.Fail(datamodel.CommandCanceled, o.Path, "")
	case errors.As(a.err, &de):
		return a.out, a.err
	}
	return a.out, &datamodel.Error{Reason: datamodel.CommandFailed, Path: o.Path, Err: a.err}
}

// answer of a provider to Run.
type answer struct {
	out map[string]string
	err error
}

// grace waits a little for a provider whose context ended.
func grace(done <-chan answer) answer {
	t := time.NewTimer(cancelGrace)
	defer t.Stop()
	select {
	case a := <-done:
		return a
	case <-t.C:
		return answer{err: context.Canceled}
	}
}

// cancelGrace is how long Run waits for a provider after its context ended.
const cancelGrace = time.Second

const (
	actionBudget = 60 * time.Second // of one command that a CWMP parameter stands for
	maxActions   = 16               // changes whose commands run at a time
)

// act runs the commands that CWMP command parameters stand for, one after the other, in the background: the protocol
// has no place for their result.
func (e *Engine) act(w Writer, paths []string) {
	if len(paths) == 0 {
		return
	}
	if e.acting.Add(1) > maxActions || !e.enter() {
		e.acting.Add(-1)
		e.log.Error("commands of a change are not run: too many are running", "writer", w.Name, "commands", len(paths))
		return
	}
	go func() {
		defer e.wg.Done()
		defer e.acting.Add(-1)
		for _, path := range paths {
			op, err := e.Command(Writer{Name: w.Name, Class: ClassSys, System: true}, path, nil)
			if err == nil {
				ctx, cancel := context.WithTimeout(context.Background(), actionBudget)
				_, err = op.Run(ctx)
				cancel()
			}
			if err != nil {
				e.log.Error("a command parameter could not be carried out", "writer", w.Name, "command", path, "error", err)
			}
		}
	}()
}
