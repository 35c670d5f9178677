package diff

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"twinspan/cmd/internal/agentproc"
	"twinspan/cwmp/acs"
	"twinspan/usp/controller"
	"twinspan/usp/mtp/websocket"
	"twinspan/usp/uspmsg"
)

const (
	agentID    = "os::00005E-DIFF1"
	actorID    = "self::diff-actor"
	observerID = "self::diff-observer"
)

// bench is one agent with an ACS, the Controller that acts and the one that only looks.
type bench struct {
	proc     *agentproc.Process
	acs      *acs.Server
	usp      *uspFace
	cwmp     *cwmpFace
	observer *controller.Controller
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

func openBench(ctx context.Context, binary, dir string) (_ *bench, err error) {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &bench{cancel: cancel}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.acs, err = acs.Start(acs.Config{Strict: true, MaxHold: 2 * time.Minute}); err != nil {
		return nil, err
	}
	notes := make(chan *uspmsg.Notify, 256)
	actor, actorPort, err := b.listen(run, actorID, func(n *uspmsg.Notify) {
		select {
		case notes <- n:
		default: // a row that does not ask for them
		}
	})
	if err != nil {
		return nil, err
	}
	observer, observerPort, err := b.listen(run, observerID, nil)
	if err != nil {
		return nil, err
	}
	b.usp, b.observer = &uspFace{actor, notes}, observer
	config := fmt.Sprintf(`[device]
profile          = "gateway"
manufacturer     = "Example Networks"
manufacturer_oui = "00005E"
product_class    = "Diff"
serial_number    = "DIFF1"
[bridge]
phase = "dual-cwmp"
on_conflict = "last"
commits_per_second = 0
[cwmp]
enabled = true
url = %q
allow_plaintext = true
periodic_inform_interval = 1
connection_request_listen = ""
[usp]
endpoint_id     = %q
allow_plaintext = true
[[usp.controller]]
endpoint_id = %q
websocket = { host = "127.0.0.1", port = %d, path = "/usp" }
[[usp.controller]]
endpoint_id = %q
websocket = { host = "127.0.0.1", port = %d, path = "/usp" }
`, b.acs.URL(), agentID, actorID, actorPort, observerID, observerPort)
	b.proc = &agentproc.Process{Binary: binary, Config: filepath.Join(dir, "agent.toml"), Data: filepath.Join(dir, "data")}
	if err := os.WriteFile(b.proc.Config, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if err := b.proc.Start(); err != nil {
		return nil, err
	}
	up, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if err := errors.Join(actor.WaitConnect(up), observer.WaitConnect(up)); err != nil {
		return nil, fmt.Errorf("%w; the agent says %s", err, b.proc.Log(5))
	}
	dev, err := b.acs.WaitDevice(up)
	if err != nil {
		return nil, fmt.Errorf("no Inform: %w; the agent says %s", err, b.proc.Log(5))
	}
	b.cwmp = &cwmpFace{dev: dev, release: func() {}}
	return b, nil
}

// listen starts a Controller that the agent dials.
func (b *bench) listen(ctx context.Context, id string, note func(*uspmsg.Notify)) (*controller.Controller, int, error) {
	sc := websocket.DefaultServerConfig()
	sc.Addr, sc.EndpointID, sc.AllowPlain = "127.0.0.1:0", id, true
	srv, err := websocket.NewServer(sc)
	if err != nil {
		return nil, 0, err
	}
	c, err := controller.New(controller.Config{EndpointID: id, AgentID: agentID, Transport: srv, OnNotify: note})
	if err != nil {
		return nil, 0, err
	}
	b.wg.Go(func() { _ = c.Run(ctx) }) // ends with the bench
	for deadline := time.Now().Add(10 * time.Second); srv.Addr() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return nil, 0, errors.New("cannot listen on loopback")
		}
	}
	return c, srv.Addr().(*net.TCPAddr).Port, nil
}

func (b *bench) close() error {
	var err error
	if b.cwmp != nil {
		b.cwmp.release()
	}
	if b.proc != nil {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		err = b.proc.Stop(ctx)
	}
	b.cancel()
	b.wg.Wait()
	if b.acs != nil {
		b.acs.Close()
	}
	return err
}
