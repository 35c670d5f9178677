package acstool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

// command is one word of the tool.
type command struct {
	name, args, help string
	min              int // arguments at least
	run              func(t *tool, ctx context.Context, args []string) error
}

// commands in the order of the help text. A function, because help lists them.
func commands() []command {
	return []command{
		{"help", "", "this list", 0, (*tool).help},
		{"devices", "", "devices that sent an Inform", 0, (*tool).devices},
		{"use", "KEY", "send commands to this device (part of its name is enough)", 1, (*tool).use},
		{"wait", "[EVENT]", "wait for the next Inform, such as wait 1 BOOT; without EVENT: for a device", 0, (*tool).wait},
		{"history", "[N]", "the last N Informs and other requests of the device (10)", 0, (*tool).history},
		{"violations", "", "what devices did against the protocol", 0, (*tool).violations},
		{"connreq", "USER PASSWORD", "credentials of connection requests", 2, (*tool).connreq},
		{"inform", "", "make a connection request", 0, (*tool).inform},
		{"rpcs", "", "methods of the device", 0, (*tool).rpcs},
		{"get", "NAME...", "values; a partial path ends in a dot", 1, (*tool).get},
		{"set", "NAME=VALUE... [key=KEY]", "write, all or nothing", 1, (*tool).set},
		{"names", "[PATH] [next]", "names below a path, with next only its children", 0, (*tool).names},
		{"attrs", "NAME...", "notification and access list", 1, (*tool).attrs},
		{"setattr", "NAME LEVEL", "notification: 0 off, 1 passive, 2 active, 3 to 6 lightweight", 2, (*tool).setattr},
		{"add", "TABLE [key=KEY]", "add a row", 1, (*tool).add},
		{"del", "ROW [key=KEY]", "delete a row", 1, (*tool).del},
		{"download", "TYPE URL [user=U] [password=P] [size=N] [delay=S] [target=NAME] [key=KEY]", `"1 Firmware Upgrade Image", "3 Vendor Configuration File", or just 1 or 3`, 2, (*tool).download},
		{"upload", "TYPE URL [user=U] [password=P] [delay=S] [key=KEY]", `"1 Vendor Configuration File", "2 Vendor Log File", or just 1 or 2`, 2, (*tool).upload},
		{"transfers", "", "results of transfers", 0, (*tool).transfers},
		{"schedule", "SECONDS [KEY]", "ScheduleInform", 1, (*tool).schedule},
		{"reboot", "[KEY]", "Reboot", 0, (*tool).reboot},
		{"reset", "", "FactoryReset", 0, (*tool).reset},
		{"sleep", "DURATION", "do nothing for a while, such as sleep 5s", 1, (*tool).sleep},
		{"quit", "", "end", 0, func(*tool, context.Context, []string) error { return errQuit }},
	}
}

// line carries out one line. Empty lines and comments do nothing.
func (t *tool) line(ctx context.Context, line string) error {
	words, err := split(line)
	if err != nil || len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return err
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == words[0] })
	if i < 0 {
		return fmt.Errorf("unknown command %q; help lists them", words[0])
	}
	if len(words)-1 < all[i].min {
		return fmt.Errorf("usage: %s %s", all[i].name, all[i].args)
	}
	ctx, cancel := context.WithTimeout(ctx, t.patient)
	defer cancel()
	return all[i].run(t, ctx, words[1:])
}

// split cuts a line into words; '...' and "..." keep blanks, a backslash in "..." or outside keeps the next character.
func split(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	var quote rune
	in, escaped := false, false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == ' ' || r == '\t':
			if in {
				out = append(out, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quote is not closed")
	}
	if in {
		out = append(out, word.String())
	}
	return out, nil
}

// options takes the words name=value off the arguments; other names are errors.
func options(args []string, known ...string) (map[string]string, error) {
	out := map[string]string{}
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !ok || !slices.Contains(known, name) {
			return nil, fmt.Errorf("%q is not one of %s=...", a, strings.Join(known, "=..., "))
		}
		out[name] = value
	}
	return out, nil
}

// target is the device that commands go to.
func (t *tool) target(ctx context.Context) (*acs.Device, error) {
	if t.device == nil {
		d, err := t.acs.WaitDevice(ctx)
		if err != nil {
			return nil, errors.New("no device sent an Inform yet")
		}
		t.device = d
		fmt.Fprintf(t.out, "using %s\n", d.Key)
	}
	if t.crUser != "" {
		t.device.SetConnectionRequestAuth(t.crUser, t.crPass)
	}
	return t.device, nil
}

// call sends one RPC: at once if a session is open, else in the one that a connection request brings, or in the next one.
func (t *tool) call(ctx context.Context, m soap.Message) (soap.Message, error) {
	d, err := t.target(ctx)
	if err != nil {
		return nil, err
	}
	asked := make(chan struct{})
	done := make(chan struct{})
	go func() { // joined below
		defer close(asked)
		select {
		case <-done:
		case <-time.After(300 * time.Millisecond): // a session that is open or just opening takes it without
			if err := d.ConnectionRequest(ctx); err != nil {
				select {
				case <-done:
				default:
					hint := ""
					if strings.Contains(err.Error(), "401") {
						hint = "; --cr-user and --cr-password must be Device.ManagementServer.ConnectionRequestUsername and -Password"
					}
					fmt.Fprintf(t.out, "(%v%s; waiting for the device's next session)\n", err, hint)
				}
			}
		}
	}()
	t.keep(d)
	answer, err := d.Call(ctx, m)
	close(done)
	<-asked
	return answer, readable(err)
}

// linger is how long a session stays open after a command, so that the next one needs no connection request, of which
// devices take few.
const linger = 5 * time.Second

// keep holds the session for a while, counted anew by every command.
func (t *tool) keep(d *acs.Device) {
	release := d.Hold()
	before := t.release
	timer := time.AfterFunc(linger, release)
	t.release = func() {
		timer.Stop()
		release()
	}
	if before != nil {
		before()
	}
}

// end lets the session end, and waits for that a moment: afterwards the device acts on what it was told.
func (t *tool) end(ctx context.Context) {
	if t.release == nil {
		return
	}
	t.release()
	t.release = nil
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = t.device.WaitIdle(ctx, 0) // a session that broke off never ends in order
}

// readable turns faults into text with every bad parameter on a line of its own.
func readable(err error) error {
	var f *soap.Fault
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("the device did not answer in time")
	case !errors.As(err, &f):
		return err
	}
	text := fmt.Sprintf("fault %d: %s", f.Code, f.FaultString)
	if f.Code == 0 {
		text = "SOAP fault: " + f.FaultString
	}
	for _, p := range f.SetParameterValuesFault {
		text += fmt.Sprintf("\n  %s: %d %s", p.ParameterName, p.FaultCode, p.FaultString)
	}
	return errors.New(text)
}

func (t *tool) help(context.Context, []string) error {
	for _, c := range commands() {
		fmt.Fprintf(t.out, "  %-28s %s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
	}
	return nil
}

func (t *tool) devices(context.Context, []string) error {
	for _, d := range t.acs.Devices() {
		last, _ := d.LastInform()
		fmt.Fprintf(t.out, "%s  last Inform %s: %s\n", d.Key, last.At.Format(time.TimeOnly), events(&last.Inform))
	}
	return nil
}

func (t *tool) use(ctx context.Context, args []string) error {
	var found []*acs.Device
	for _, d := range t.acs.Devices() {
		if strings.Contains(d.Key, args[0]) {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("%d devices are called so", len(found))
	}
	t.end(ctx)
	t.device = found[0]
	return nil
}

func events(m *soap.Inform) string {
	var out []string
	for _, e := range m.Event {
		text := e.EventCode
		if e.CommandKey != "" {
			text += " (" + e.CommandKey + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func (t *tool) wait(ctx context.Context, args []string) error {
	since := time.Now()
	t.end(ctx)
	if len(args) == 0 {
		d, err := t.target(ctx)
		if err != nil {
			return err
		}
		last, _ := d.LastInform()
		fmt.Fprintf(t.out, "%s: %s\n", d.Key, events(&last.Inform))
		return nil
	}
	d, err := t.target(ctx)
	if err != nil {
		return err
	}
	code := strings.Join(args, " ")
	r, err := d.WaitEvent(ctx, since, code)
	if err != nil {
		return fmt.Errorf("no Inform with %q came", code)
	}
	fmt.Fprintln(t.out, events(&r.Inform))
	return nil
}

func (t *tool) history(ctx context.Context, args []string) error {
	n := 10
	if len(args) > 0 {
		var err error
		if n, err = strconv.Atoi(args[0]); err != nil || n < 1 {
			return fmt.Errorf("%q is no number", args[0])
		}
	}
	d, err := t.target(ctx)
	if err != nil {
		return err
	}
	list := d.Informs()
	for _, r := range list[max(0, len(list)-n):] {
		fmt.Fprintf(t.out, "%s  Inform: %s, retry %d\n", r.At.Format(time.TimeOnly), events(&r.Inform), r.Inform.RetryCount)
		if r.HasEvent("4 VALUE CHANGE") {
			for _, p := range r.Inform.ParameterList {
				fmt.Fprintf(t.out, "          %s = %s\n", p.Name, p.Value)
			}
		}
	}
	for _, m := range d.Requests() {
		fmt.Fprintf(t.out, "          %s\n", m.Method())
	}
	return nil
}

func (t *tool) violations(context.Context, []string) error {
	for _, v := range t.acs.Violations() {
		fmt.Fprintln(t.out, v)
	}
	return nil
}

func (t *tool) connreq(_ context.Context, args []string) error {
	t.crUser, t.crPass = args[0], args[1]
	return nil
}

func (t *tool) inform(ctx context.Context, _ []string) error {
	t.end(ctx)
	d, err := t.target(ctx)
	if err != nil {
		return err
	}
	since := time.Now()
	if err := d.ConnectionRequest(ctx); err != nil {
		return err
	}
	r, err := d.WaitEvent(ctx, since, "6 CONNECTION REQUEST")
	if err != nil {
		return errors.New("the request was accepted, but no session came")
	}
	fmt.Fprintln(t.out, events(&r.Inform))
	return nil
}

func (t *tool) rpcs(ctx context.Context, _ []string) error {
	m, err := t.call(ctx, &soap.GetRPCMethods{})
	if err != nil {
		return err
	}
	for _, name := range m.(*soap.GetRPCMethodsResponse).MethodList {
		fmt.Fprintln(t.out, name)
	}
	return nil
}

func (t *tool) read(ctx context.Context, names []string) ([]soap.ParameterValue, error) {
	m, err := t.call(ctx, &soap.GetParameterValues{ParameterNames: names})
	if err != nil {
		return nil, err
	}
	list := m.(*soap.GetParameterValuesResponse).ParameterList
	for _, v := range list {
		t.types[v.Name] = v.Type
	}
	return list, nil
}

func (t *tool) get(ctx context.Context, args []string) error {
	list, err := t.read(ctx, args)
	for _, v := range list {
		fmt.Fprintf(t.out, "%s = %s\n", v.Name, v.Value)
	}
	return err
}

func (t *tool) set(ctx context.Context, args []string) error {
	m := &soap.SetParameterValues{}
	var unknown []string
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		switch {
		case !ok:
			return fmt.Errorf("%q has no =", a)
		case name == "key":
			m.ParameterKey = value
			continue
		}
		m.ParameterList = append(m.ParameterList, soap.ParameterValue{Name: name, Value: value})
		if _, known := t.types[name]; !known {
			unknown = append(unknown, name)
		}
	}
	if len(m.ParameterList) == 0 {
		return errors.New("nothing to set")
	}
	if len(unknown) > 0 {
		// The types come from the device; what it does not know is for it to refuse by name.
		_, _ = t.read(ctx, unknown)
	}
	for i, p := range m.ParameterList {
		if typ, ok := t.types[p.Name]; ok {
			m.ParameterList[i].Type = typ
		} else {
			m.ParameterList[i].Type = soap.String
		}
	}
	answer, err := t.call(ctx, m)
	if err != nil {
		return err
	}
	return t.status(answer.(*soap.SetParameterValuesResponse).Status)
}

func (t *tool) status(status int) error {
	if status == 0 {
		fmt.Fprintln(t.out, "applied")
	} else {
		fmt.Fprintln(t.out, "stored, not yet applied")
	}
	return nil
}

func (t *tool) names(ctx context.Context, args []string) error {
	m := &soap.GetParameterNames{}
	for _, a := range args {
		if a == "next" {
			m.NextLevel = true
		} else {
			m.ParameterPath = a
		}
	}
	answer, err := t.call(ctx, m)
	if err != nil {
		return err
	}
	for _, n := range answer.(*soap.GetParameterNamesResponse).ParameterList {
		mark := "r-"
		if n.Writable {
			mark = "rw"
		}
		fmt.Fprintln(t.out, mark, n.Name)
	}
	return nil
}

func (t *tool) attrs(ctx context.Context, args []string) error {
	answer, err := t.call(ctx, &soap.GetParameterAttributes{ParameterNames: args})
	if err != nil {
		return err
	}
	for _, a := range answer.(*soap.GetParameterAttributesResponse).ParameterList {
		fmt.Fprintf(t.out, "%d %s %s\n", a.Notification, a.Name, strings.Join(a.AccessList, ","))
	}
	return nil
}

func (t *tool) setattr(ctx context.Context, args []string) error {
	level, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("%q is no level", args[1])
	}
	_, err = t.call(ctx, &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: args[0], NotificationChange: true, Notification: level}}})
	return err
}

func (t *tool) add(ctx context.Context, args []string) error {
	o, err := options(args[1:], "key")
	if err != nil {
		return err
	}
	answer, err := t.call(ctx, &soap.AddObject{ObjectName: args[0], ParameterKey: o["key"]})
	if err != nil {
		return err
	}
	r := answer.(*soap.AddObjectResponse)
	fmt.Fprintf(t.out, "%s%d.\n", args[0], r.InstanceNumber)
	return t.status(r.Status)
}

func (t *tool) del(ctx context.Context, args []string) error {
	o, err := options(args[1:], "key")
	if err != nil {
		return err
	}
	answer, err := t.call(ctx, &soap.DeleteObject{ObjectName: args[0], ParameterKey: o["key"]})
	if err != nil {
		return err
	}
	return t.status(answer.(*soap.DeleteObjectResponse).Status)
}

func number(text string) (uint32, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", text)
	}
	return uint32(n), nil
}

func (t *tool) download(ctx context.Context, args []string) error {
	o, err := options(args[2:], "user", "password", "size", "delay", "target", "key")
	if err != nil {
		return err
	}
	m := &soap.Download{FileType: args[0], URL: args[1], Username: o["user"], Password: o["password"], TargetFileName: o["target"], CommandKey: o["key"]}
	if full := map[string]string{"1": "1 Firmware Upgrade Image", "2": "2 Web Content", "3": "3 Vendor Configuration File"}[args[0]]; full != "" {
		m.FileType = full
	}
	if m.FileSize, err = number(o["size"]); err != nil {
		return err
	}
	if m.DelaySeconds, err = number(o["delay"]); err != nil {
		return err
	}
	answer, err := t.call(ctx, m)
	if err != nil {
		return err
	}
	return t.begun(answer.(*soap.DownloadResponse).Status)
}

func (t *tool) upload(ctx context.Context, args []string) error {
	o, err := options(args[2:], "user", "password", "delay", "key")
	if err != nil {
		return err
	}
	m := &soap.Upload{FileType: args[0], URL: args[1], Username: o["user"], Password: o["password"], CommandKey: o["key"]}
	if full := map[string]string{"1": "1 Vendor Configuration File", "2": "2 Vendor Log File"}[args[0]]; full != "" {
		m.FileType = full
	}
	if m.DelaySeconds, err = number(o["delay"]); err != nil {
		return err
	}
	answer, err := t.call(ctx, m)
	if err != nil {
		return err
	}
	return t.begun(answer.(*soap.UploadResponse).Status)
}

func (t *tool) begun(status int) error {
	if status == 0 {
		fmt.Fprintln(t.out, "done")
	} else {
		fmt.Fprintln(t.out, "begun; transfers shows the result, wait 7 TRANSFER COMPLETE waits for it")
	}
	return nil
}

func (t *tool) transfers(ctx context.Context, _ []string) error {
	d, err := t.target(ctx)
	if err != nil {
		return err
	}
	for _, c := range d.TransferCompletes() {
		result := "ok"
		if c.FaultStruct.FaultCode != 0 {
			result = fmt.Sprintf("fault %d: %s", c.FaultStruct.FaultCode, c.FaultStruct.FaultString)
		}
		fmt.Fprintf(t.out, "%q %s to %s: %s\n", c.CommandKey, c.StartTime.Format(time.RFC3339), c.CompleteTime.Format(time.RFC3339), result)
	}
	return nil
}

func (t *tool) schedule(ctx context.Context, args []string) error {
	seconds, err := number(args[0])
	if err != nil {
		return err
	}
	m := &soap.ScheduleInform{DelaySeconds: seconds}
	if len(args) > 1 {
		m.CommandKey = args[1]
	}
	_, err = t.call(ctx, m)
	return err
}

func (t *tool) reboot(ctx context.Context, args []string) error {
	m := &soap.Reboot{}
	if len(args) > 0 {
		m.CommandKey = args[0]
	}
	_, err := t.call(ctx, m)
	return err
}

func (t *tool) reset(ctx context.Context, _ []string) error {
	_, err := t.call(ctx, &soap.FactoryReset{})
	return err
}

func (t *tool) sleep(ctx context.Context, args []string) error {
	t.end(ctx)
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return fmt.Errorf("%q is no duration", args[0])
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errors.New("longer than a command may take; see --timeout")
	}
}
