package usp

import (
	"crypto/ecdsa"
	"encoding/pem"
	"fmt"
	"net"
	"strconv"
	"time"

	"twinspan/cmd/internal/conform"
	core "twinspan/usp"
	"twinspan/usp/uspmsg"
	"twinspan/usp/wire"
)

// clockTests are what section 2 wants of certificates and signatures. The plan puts them under session contexts (24), though none of them
// needs one.
func clockTests() map[string]test {
	return map[string]test{
		"2.6":  {run: withoutClock, own: true},
		"2.7":  {run: badSignature, own: true},
		"2.8":  {run: expiredCertificate, own: true},
		"1.92": {run: defaultArguments},
	}
}

// withoutClock wants an agent that does not know the time to take a certificate that is over.
func withoutClock(t *T) {
	t.open(variant{tls: true, expired: true, noClock: true})
	t.holds(local+"EndpointID", t.cfg.AgentID)
	t.see("connected and answered over a link whose certificate ended %s ago", expiredSince)
}

// expiredCertificate shows that the same certificate is refused once the time is known.
func expiredCertificate(t *T) {
	t.open(variant{tls: true, expired: true, noClock: true})
	t.holds(local+"EndpointID", t.cfg.AgentID) // so that silence afterwards is about the date
	t.open(variant{tls: true, expired: true, silent: true})
	t.silence(t.main, 0, 10*time.Second, "record over a link with an expired certificate", func(*Arrival) bool { return true })
}

// badSignature sends records with a signature: a good one is answered, a spoilt one and one by another key are not.
func badSignature(t *T) {
	t.open(variant{tls: true})
	good := t.b.tls.server.Certificates[0]
	foreign, err := t.b.tls.issue(7, "", "self::conform-foreign")
	t.want(err == nil, "%v", err)
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Certificate[0]})
	n := 0
	send := func(key any, spoil bool) int {
		n++
		b, err := core.WrapMessage(t.main.ID, t.main.Agent, core.NewRequest(fmt.Sprintf("signed-%d", n), &uspmsg.Request{ReqType: &uspmsg.Request_Get{
			Get: &uspmsg.Get{ParamPaths: []string{local + "EndpointID"}}}}))
		t.want(err == nil, "%v", err)
		rec, err := core.OpenRecord(b, t.main.Agent, limits())
		t.want(err == nil, "%v", err)
		rec.Raw.SenderCert = chain
		err = core.SignRecord(rec.Raw, key.(*ecdsa.PrivateKey))
		t.want(err == nil, "%v", err)
		if spoil {
			rec.Raw.MacSignature[len(rec.Raw.MacSignature)-1] ^= 1
		}
		mark := t.main.Mark()
		b, err = wire.Marshal(rec.Raw)
		t.want(err == nil && t.main.Raw(t.ctx, b) == nil, "the record could not be sent: %v", err)
		return mark
	}
	answer := func(a *Arrival) bool { return a.Msg != nil && a.notify() == nil }
	t.await(t.main, send(good.PrivateKey, false), 10*time.Second, "answer to a good signature", answer)
	t.silence(t.main, send(good.PrivateKey, true), 3*time.Second, "answer to a spoilt signature", answer)
	t.silence(t.main, send(foreign.PrivateKey, false), 3*time.Second, "answer to the signature of another key", answer)
	t.holds(local+"EndpointID", t.cfg.AgentID)
}

// defaultArguments watches what a command does whose optional arguments are left out. The plan has TraceRoute() and a packet capture;
// UDPEchoDiagnostics() shows its defaults (TR-143: one packet of 24 bytes) to whoever it is sent to.
func defaultArguments(t *T) {
	const command = "Device.IP.Diagnostics.UDPEchoDiagnostics()"
	m := t.ask(t.main, &uspmsg.Request{ReqType: &uspmsg.Request_GetSupportedDm{GetSupportedDm: &uspmsg.GetSupportedDM{ObjPaths: []string{command}, ReturnCommands: true}}})
	if res := t.response(m).GetGetSupportedDmResp().GetReqObjResults(); len(res) != 1 || res[0].GetErrCode() != 0 {
		panic(stop{conform.NotShown, "the device has no " + command + ", the command with optional arguments of this test"})
	}
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	t.want(err == nil, "%v", err)
	sizes := make(chan int, 64)
	done := make(chan struct{})
	go func() { // ends when the socket is closed; joined below
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			select {
			case sizes <- n:
			default:
			}
			_, _ = c.WriteTo(buf[:n], from) // an answer that is lost fails the command, which is seen
		}
	}()
	t.later(func() { c.Close(); <-done })
	t.made(obj(subs, req("ID", "done92"), req("Enable", "true"), req("NotifType", "OperationComplete"), req("ReferenceList", command)))
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	for _, k := range []struct {
		args        map[string]string
		count, size int
	}{
		{map[string]string{}, 1, 24},
		{map[string]string{"NumberOfRepetitions": "3", "DataBlockSize": "40", "InterTransmissionTime": "10"}, 3, 40},
	} {
		k.args["Host"], k.args["Port"], k.args["Timeout"] = "127.0.0.1", port, "5000"
		mark := t.main.Mark()
		if r := t.operation(t.main, command, "test92-"+strconv.Itoa(k.count), k.args); r.GetCmdFailure().GetErrCode() == 7022 {
			panic(stop{conform.NotShown, "this build of the device does not carry " + command + " out, the command with optional arguments of this test"})
		} else if r.GetReqObjPath() == "" {
			t.fail("no Request row: %v", r)
		}
		a := t.await(t.main, mark, 20*time.Second, "OperationComplete", notified("done92"))
		out := a.notify().GetOperComplete().GetReqOutputArgs().GetOutputArgs()
		t.want(out["SuccessCount"] == strconv.Itoa(k.count) && out["FailureCount"] == "0", "output %v", a.notify())
		t.want(len(sizes) == k.count, "%d packets instead of %d", len(sizes), k.count)
		for range k.count {
			n := <-sizes
			t.want(n == k.size, "a packet of %d bytes instead of %d", n, k.size)
		}
		t.see("%d packets of %d bytes", k.count, k.size)
	}
}
