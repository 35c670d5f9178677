package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"twinspan/cmd/internal/agentproc"
	"twinspan/cwmp/acs"
	"twinspan/usp/controller"
	"twinspan/usp/mtp/mqtt"
	"twinspan/usp/mtp/websocket"
	"twinspan/usp/uspmsg"
)

// Sizes of the bench.
const (
	benchStarts   = 7
	benchSerial   = 2000
	benchInFlight = 16
	benchSpan     = 2 * time.Second
	benchLeaves   = 3000
	benchTrees    = 40
	benchSettle   = 5 * time.Second
)

// figure is one measured value.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// bench is the real agent binary with an ACS, a broker and two Controllers on WebSockets around it.
type bench struct {
	agent   *agentproc.Process
	acs     *acs.Server
	broker  *broker
	reader  *controller.Controller
	writer  *controller.Controller
	mqtt    *controller.Controller
	figures []figure
	print   bool
	wg      sync.WaitGroup

	once       int          // parts that subscribed
	seen       sync.Map     // "path=value" -> time of the reader's ValueChange
	unanswered atomic.Int64 // notifications that came to the MQTT Controller, which answers none
}

func (b *bench) add(name string, value float64, unit string) {
	b.figures = append(b.figures, figure{name, value, unit})
	if b.print {
		fmt.Printf("%-64s %10.3f %s\n", name, value, unit)
	}
}

func runBench(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	agentPath := fs.String("agent", "", "agent binary, default: next to this program")
	asJSON := fs.Bool("json", false, "print JSON")
	sleepy := fs.Bool("sleepy", false, "let processors sleep between messages: adds what the machine takes to wake them")
	only := fs.String("only", "", "measure only these parts (comma-separated): "+strings.Join(benchNames(), ", "))
	times := fs.Int("times", 1, "measure each part so often, one after the other")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if !*sleepy {
		stop, err := keepAwake()
		if err != nil {
			return err
		}
		defer stop()
	}
	binary, err := agentproc.Find(*agentPath)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "twinspan-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run, cancel := context.WithCancel(ctx)
	b := &bench{print: !*asJSON, agent: &agentproc.Process{Binary: binary, Config: filepath.Join(dir, "agent.toml"), Data: filepath.Join(dir, "data")}}
	defer func() {
		stop, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		_ = b.agent.Stop(stop) // the figures are taken; an agent that hangs was killed
		cancel()
		b.wg.Wait()
		if b.acs != nil {
			b.acs.Close()
		}
		if b.broker != nil {
			_ = b.broker.Close()
		}
	}()
	if err := b.open(run); err != nil {
		return err
	}
	if err := b.measure(ctx, *only, *times); err != nil {
		return fmt.Errorf("%w\nlast lines of the agent's log:\n%s", err, b.agent.Log(10))
	}
	if *asJSON {
		return writeJSON(os.Stdout, b.figures)
	}
	return nil
}

// benchPart is one part of the bench.
type benchPart struct {
	name string
	// prepare: it measures nothing, or leaves behind what the others need, and so runs whatever was asked for, once.
	prepare bool
	run     func(b *bench, ctx context.Context) error
}

// benchParts in the order in which they run.
var benchParts = []benchPart{
	{"size", false, (*bench).size},
	{"start", false, (*bench).startTimes},
	{"fill", true, (*bench).fill},
	{"idle", false, (*bench).idle},
	{"get", false, (*bench).gets},
	{"busy", false, (*bench).getsUnderWrites},
	{"tree", false, (*bench).wholeTree},
	{"set", false, (*bench).sets},
	{"notify", false, (*bench).changes},
	{"session", false, (*bench).sessions},
	{"mute", false, (*bench).mute},
	{"flood", false, (*bench).flood},
}

func benchNames() (names []string) {
	for _, p := range benchParts {
		if !p.prepare {
			names = append(names, p.name)
		}
	}
	return names
}

// measure runs the parts that were asked for; only "" means all.
func (b *bench) measure(ctx context.Context, only string, times int) error {
	wanted := benchNames()
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	for _, name := range wanted {
		if !slices.Contains(benchNames(), name) {
			return fmt.Errorf("no part %q; there are %s", name, strings.Join(benchNames(), ", "))
		}
	}
	for _, p := range benchParts {
		n := times
		if p.prepare {
			n = 1
		} else if !slices.Contains(wanted, p.name) {
			n = 0
		}
		for range n {
			if err := p.run(b, ctx); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return nil
}

// open starts the peers and writes the agent's configuration.
func (b *bench) open(ctx context.Context) (err error) {
	if b.acs, err = acs.Start(acs.Config{}); err != nil {
		return err
	}
	if b.broker, err = startBroker(); err != nil {
		return err
	}
	mc := mqtt.Default()
	mc.Broker = fmt.Sprintf("mqtt://%s:%d", b.broker.Host, b.broker.Port)
	mc.EndpointID, mc.ResponseTopic = controllerA, topicA
	mt, err := mqtt.NewClient(mc)
	if err != nil {
		return err
	}
	if b.mqtt, err = controller.New(controller.Config{EndpointID: controllerA, AgentID: agentEndpoint, Transport: mt, IgnoreNotify: true,
		OnNotify: func(*uspmsg.Notify) { b.unanswered.Add(1) }}); err != nil {
		return err
	}
	b.wg.Go(func() { _ = b.mqtt.Run(ctx) }) // ends with the bench; a broker that fails shows in the figures' absence
	var config strings.Builder
	fmt.Fprintf(&config, `[device]
manufacturer_oui = %q
serial_number    = "SANDBOX1"
[cwmp]
url = %q
allow_plaintext = true
connection_request_listen = "127.0.0.1:0"
[usp]
endpoint_id = %q
allow_plaintext = true
trust_broker = true
[log]
level = "warn"
[bridge]
commits_per_second = 0
[max_rows]
"Device.NAT.PortMapping." = 100000
[factory]
"Device.ManagementServer.ConnectionRequestUsername" = %q
"Device.ManagementServer.ConnectionRequestPassword" = %q
[[usp.controller]]
endpoint_id = %q
[usp.controller.mqtt]
host = %q
port = %d
controller_topic = %q
`, sandboxOUI, b.acs.URL(), agentEndpoint, connReqUser, benchSecret, controllerA, b.broker.Host, b.broker.Port, topicA)
	for _, c := range []struct {
		id string
		to **controller.Controller
	}{{"self::bench-reader", &b.reader}, {"self::bench-writer", &b.writer}} {
		server, err := b.listen(ctx, c.id, c.to)
		if err != nil {
			return err
		}
		addr := server.Addr().(*net.TCPAddr)
		fmt.Fprintf(&config, "[[usp.controller]]\nendpoint_id = %q\n[usp.controller.websocket]\nhost = \"127.0.0.1\"\nport = %d\npath = \"/usp\"\n", c.id, addr.Port)
	}
	return os.WriteFile(b.agent.Config, []byte(config.String()), 0o600)
}

// listen makes a Controller that waits for the agent's WebSocket.
func (b *bench) listen(ctx context.Context, id string, to **controller.Controller) (*websocket.Server, error) {
	wc := websocket.DefaultServerConfig()
	wc.Addr, wc.EndpointID, wc.AllowPlain, wc.MaxRecord = "127.0.0.1:0", id, true, 16<<20
	server, err := websocket.NewServer(wc)
	if err != nil {
		return nil, err
	}
	cc := controller.Config{EndpointID: id, AgentID: agentEndpoint, Transport: server}
	if to == &b.reader {
		cc.OnNotify = b.notified
	}
	c, err := controller.New(cc)
	if err != nil {
		return nil, err
	}
	*to = c
	b.wg.Go(func() { _ = c.Run(ctx) }) // ends with the bench
	for server.Addr() == nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return server, nil
}

func (b *bench) size(context.Context) error {
	st, err := os.Stat(b.agent.Binary)
	if err != nil {
		return err
	}
	b.add("agent binary", float64(st.Size())/1e6, "MB")
	return nil
}

// median of a sample; the sample is sorted.
func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func ms(d time.Duration) float64     { return float64(d.Nanoseconds()) / 1e6 }
func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// cpuOf is the processor time that the agent uses while fn runs.
func (b *bench) cpuOf(fn func() error) (time.Duration, error) {
	before, err := b.agent.CPU()
	if err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	after, err := b.agent.CPU()
	return after - before, err
}

// up waits for all Controllers.
func (b *bench) up(ctx context.Context) error {
	for _, c := range []*controller.Controller{b.mqtt, b.reader, b.writer} {
		if err := c.WaitConnect(ctx); err != nil {
			return fmt.Errorf("a Controller was not reached: %w", err)
		}
	}
	return nil
}

// startTimes measures from the start of the process to the first Inform and to the connect record over MQTT.
func (b *bench) startTimes(ctx context.Context) error {
	var inform, connect []time.Duration
	for i := range benchStarts {
		wait, done := context.WithTimeout(ctx, 10*time.Second)
		began := time.Now()
		if err := b.agent.Start(); err != nil {
			done()
			return err
		}
		err := func() error {
			defer done()
			d, err := b.acs.WaitDevice(wait)
			if err != nil {
				return fmt.Errorf("no Inform: %w", err)
			}
			r, err := d.WaitEvent(wait, began, "1 BOOT")
			if err != nil {
				return fmt.Errorf("no Inform: %w", err)
			}
			if err := b.mqtt.WaitConnect(wait); err != nil {
				return fmt.Errorf("no connect record: %w", err)
			}
			connected := time.Since(began)
			if err := b.up(wait); err != nil {
				return err
			}
			if i > 0 { // the first start creates the database
				inform, connect = append(inform, r.At.Sub(began)), append(connect, connected)
			}
			return nil
		}()
		if err != nil {
			return err
		}
		if err := b.agent.Kill(); err != nil {
			return err
		}
		if err := b.down(ctx); err != nil {
			return err
		}
	}
	b.add("start to first Inform, median", ms(median(inform)), "ms")
	b.add("start to connect record over MQTT, median", ms(median(connect)), "ms")
	return nil
}

// down waits until the Controllers have noticed that the agent is gone, so that the next start is measured and not the last.
func (b *bench) down(ctx context.Context) error {
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		if !b.reader.Up() && !b.writer.Up() {
			b.mqtt.Forget()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return errors.New("the Controllers did not notice that the agent is gone")
}

// fill stores benchLeaves parameters: port mappings with eight each, as a gateway has them.
func (b *bench) fill(ctx context.Context) error {
	if err := b.agent.Start(); err != nil {
		return err
	}
	wait, done := context.WithTimeout(ctx, 60*time.Second)
	defer done()
	if err := b.up(wait); err != nil {
		return err
	}
	for i := range benchLeaves / 8 {
		if _, _, err := b.writer.Add(wait, "Device.NAT.PortMapping.", map[string]string{
			"Description": fmt.Sprintf("mapping %d", i), "ExternalPort": fmt.Sprint(1024 + i), "InternalPort": fmt.Sprint(2048 + i), "Protocol": "TCP",
			"RemoteHost": "192.0.2.1", "LeaseDuration": "3600", "AllInterfaces": "true", "InternalClient": "198.51.100.7"}); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}

// restart ends the agent and starts it with the database that it has.
func (b *bench) restart(ctx context.Context) error {
	stop, done := context.WithTimeout(ctx, 10*time.Second)
	defer done()
	if err := b.agent.Stop(stop); err != nil {
		return err
	}
	if err := b.down(ctx); err != nil {
		return err
	}
	if err := b.agent.Start(); err != nil {
		return err
	}
	return b.up(stop)
}

// idle reads the memory of a fresh agent with its full database when nothing happens.
func (b *bench) idle(ctx context.Context) error {
	if err := b.restart(ctx); err != nil {
		return err
	}
	select {
	case <-time.After(benchSettle):
	case <-ctx.Done():
		return ctx.Err()
	}
	kib, err := b.agent.ResidentKiB()
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("resident memory, idle, %d stored parameters", benchLeaves), float64(kib)/1024, "MiB")
	return nil
}

// oneParameter is what both protocols have and nobody serves live.
const oneParameter = "Device.LocalAgent.Controller.1.ProvisioningCode"

// serial measures one request after the other.
func serial(n int, do func(i int) error) ([]time.Duration, error) {
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		if err := do(i); err != nil {
			return nil, err
		}
		took[i] = time.Since(began)
	}
	return took, nil
}

// inFlight keeps benchInFlight requests going for benchSpan and returns their rate.
func inFlight(do func(worker, i int) error) (perSecond float64, count int64, err error) {
	var n atomic.Int64
	errs := make([]error, benchInFlight)
	began := time.Now()
	var wg sync.WaitGroup
	for w := range benchInFlight {
		wg.Go(func() {
			for i := 0; time.Since(began) < benchSpan; i++ {
				if errs[w] = do(w, i); errs[w] != nil {
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(began).Seconds(), n.Load(), errors.Join(errs...)
}

func (b *bench) getOne(ctx context.Context) error {
	_, err := b.reader.Value(ctx, oneParameter)
	return err
}

func (b *bench) gets(ctx context.Context) error {
	for range 500 { // warm
		if err := b.getOne(ctx); err != nil {
			return err
		}
	}
	took, err := serial(benchSerial, func(int) error { return b.getOne(ctx) })
	if err != nil {
		return err
	}
	b.add("Get of one parameter over a WebSocket, median", ms(median(took)), "ms")
	var rate float64
	var n int64
	cpu, err := b.cpuOf(func() error {
		rate, n, err = inFlight(func(int, int) error { return b.getOne(ctx) })
		return err
	})
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("Get of one parameter, %d in flight", benchInFlight), rate, "/s")
	b.add("agent CPU for each of these", micros(cpu)/float64(n), "µs")
	return nil
}

// getsUnderWrites repeats the Gets while another Controller writes as fast as it can.
func (b *bench) getsUnderWrites(ctx context.Context) error {
	quiet, err := serial(benchSerial, func(int) error { return b.getOne(ctx) })
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var writes atomic.Int64
	var werr error
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if werr = b.setOne(ctx, 0, i); werr != nil {
				return
			}
			writes.Add(1)
		}
	})
	took, err := serial(benchSerial, func(int) error { return b.getOne(ctx) })
	close(stop)
	wg.Wait()
	if err := errors.Join(err, werr); err != nil {
		return err
	}
	q, w := median(quiet), median(took)
	b.add("the same while another Controller writes as fast as it can", ms(w), "ms")
	b.add("ratio to the undisturbed median of the same run", float64(w)/float64(q), "")
	return nil
}

func (b *bench) wholeTree(ctx context.Context) error {
	params := 0
	var took []time.Duration
	cpu, err := b.cpuOf(func() (err error) {
		took, err = serial(benchTrees, func(int) error {
			resp, err := b.reader.Request(ctx, &uspmsg.Request{ReqType: &uspmsg.Request_Get{Get: &uspmsg.Get{ParamPaths: []string{"Device."}}}})
			params = 0
			for _, r := range resp.GetGetResp().GetReqPathResults() {
				for _, obj := range r.GetResolvedPathResults() {
					params += len(obj.GetResultParams())
				}
			}
			return err
		})
		return err
	})
	if err != nil {
		return err
	}
	m := median(took)
	b.add(fmt.Sprintf("Get of Device., %d parameters, median", params), ms(m), "ms")
	b.add("for each parameter, decoding by the Controller included", float64(m.Nanoseconds())/1e3/float64(params), "µs")
	b.add("agent CPU for each parameter", micros(cpu)/benchTrees/float64(params), "µs")
	return nil
}

// setOne writes a value that was never there before.
func (b *bench) setOne(ctx context.Context, worker, i int) error {
	return b.writer.Set(ctx, map[string]string{fmt.Sprintf("Device.NAT.PortMapping.%d.Description", worker+1): fmt.Sprintf("%d.%d", i, time.Now().UnixNano())})
}

func (b *bench) sets(ctx context.Context) error {
	fsync, err := b.bareFsync()
	if err != nil {
		return err
	}
	var took []time.Duration
	cpu, err := b.cpuOf(func() error {
		took, err = serial(benchSerial, func(i int) error { return b.setOne(ctx, 0, i) })
		return err
	})
	if err != nil {
		return err
	}
	again, err := b.bareFsync()
	if err != nil {
		return err
	}
	disk := (fsync + again) / 2
	m := median(took)
	serialRate := 1 / m.Seconds()
	b.add("one write of 8 KiB and fsync on the same disk, median", ms(disk), "ms")
	b.add("durable Set of one parameter, median", ms(m), "ms")
	b.add("difference", ms(m-disk), "ms")
	b.add("agent CPU for each of these", micros(cpu)/benchSerial, "µs")
	var rate float64
	var n int64
	cpu, err = b.cpuOf(func() error {
		rate, n, err = inFlight(func(w, i int) error { return b.setOne(ctx, w, i) })
		return err
	})
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("durable Set, %d in flight", benchInFlight), rate, "/s")
	b.add("ratio to the sequential rate", rate/serialRate, "")
	b.add("agent CPU for each of these", micros(cpu)/float64(n), "µs")
	return nil
}

// bareFsync is what the disk costs without any agent: 8 KiB written into an existing file and fsync, as a small commit does.
func (b *bench) bareFsync() (time.Duration, error) {
	f, err := os.Create(filepath.Join(b.agent.Data, "fsync.probe"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 8<<10)
	for range 64 {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
	}
	took, err := serial(300, func(i int) error {
		block[0] = byte(i)
		if _, err := f.WriteAt(block, int64(i%64)*int64(len(block))); err != nil {
			return err
		}
		return f.Sync()
	})
	if err != nil {
		return 0, err
	}
	return median(took), nil
}
