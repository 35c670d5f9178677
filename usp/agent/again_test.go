package agent

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"twinspan/usp"
	"twinspan/usp/mtp"
	"twinspan/usp/uspmsg"
)

// What a broker hands out again after it was answered gets the same answer and no second row; without its DUP flag, or with other
// content, a msg_id may be used anew.
func TestHandedOutAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := r.agent.Handler(false)
	answers := make(chan []byte, 1)
	send := func(id, sub string, again bool) []byte {
		t.Helper()
		row := create(subPath, "!ID", sub, "!NotifType", "ValueChange", "!ReferenceList", "Device.LocalAgent.SoftwareVersion")
		rec, err := usp.WrapMessage(c1ID, agentID, usp.NewRequest(id, &uspmsg.Request{ReqType: &uspmsg.Request_Add{
			Add: &uspmsg.Add{CreateObjs: []*uspmsg.Add_CreateObject{row}}}}))
		if err != nil {
			t.Fatal(err)
		}
		h.HandleRecord(context.Background(), mtp.Inbound{Record: rec, From: mtp.Identity{Local: true, Broker: true}, LinkID: 9, Again: again,
			Reject: func(string) {}, Reply: func(_ context.Context, rec []byte) error { answers <- rec; return nil }})
		select {
		case rec := <-answers:
			return rec
		case <-time.After(soon):
			t.Fatal("no answer")
			return nil
		}
	}
	rows := func() int { return len(r.store.Head().Instances(subPath)) }
	first := send("same", "s1", false)
	if again := send("same", "s1", true); !bytes.Equal(first, again) || rows() != 1 {
		t.Fatalf("handed out again: %d rows, the same answer: %v", rows(), bytes.Equal(first, again))
	}
	if again := send("same", "s2", true); bytes.Equal(first, again) || rows() != 2 {
		t.Errorf("other content: %d rows", rows())
	}
	send("new", "s3", true) // its first copy was lost
	if rows() != 3 {
		t.Errorf("first delivery: %d rows", rows())
	}
	if again := send("same", "s1", false); bytes.Equal(first, again) { // the ID is taken: carried out, and refused
		t.Error("used anew: answered from memory")
	}
	for i := range maxAnswered {
		send(fmt.Sprint("many", i), "s1", false)
	}
	if again := send("same", "s1", true); bytes.Equal(first, again) {
		t.Error("remembered beyond the bound")
	}
}
