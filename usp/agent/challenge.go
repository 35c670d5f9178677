package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/store"
	"twinspan/usp/agent/trust"
)

// ControllerTrust.RequestChallenge() and ChallengeResponse(): how a Controller with the UntrustedRole gets another Role
// by knowing a value. Requests, failures and lock-outs live in memory; a restart needs longer than a lock-out.

const challengePath = "Device.LocalAgent.ControllerTrust.Challenge."

// challenges are the outstanding requests, at most one for each Controller.
type challenges struct {
	mu     sync.Mutex
	asked  map[string]challenge // by Endpoint ID
	failed map[string]*failures // by row of Challenge
}

type challenge struct {
	id, row string
	until   time.Time
}

// failures of one Challenge, of all Controllers together.
type failures struct {
	n     uint64
	until time.Time // locked out
}

// requestDenied is 7002.
func requestDenied(path, text string) error {
	return &datamodel.Error{Reason: datamodel.Refused, Style: datamodel.StyleStandard, Path: path, Text: text}
}

// locked reports whether a Challenge is locked out; the end of a lock-out begins the count anew.
func (c *challenges) locked(row string, now time.Time) bool {
	f := c.failed[row]
	if f == nil || f.until.IsZero() {
		return false
	}
	if now.Before(f.until) {
		return true
	}
	delete(c.failed, row)
	return false
}

// challenger is the Controller that asks, by its row.
func (a *Agent) challenger(ctx context.Context, v *store.Version, path string) (eid, row string, err error) {
	eid, _, ok := Caller(ctx)
	if row = trust.FindController(v, eid); !ok || row == "" {
		return "", "", requestDenied(path, "only Controllers with a row can be challenged")
	}
	return eid, row, nil
}

func (a *Agent) requestChallenge(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	v := a.store.Head()
	eid, _, err := a.challenger(ctx, v, inv.Command)
	if err != nil {
		return nil, err
	}
	r := reader{v: v, s: a.schema}
	row := strings.TrimSuffix(inv.Args["ChallengeRef"], ".") + "."
	if num := instance(row, challengePath); num == 0 || row != challengePath+strconv.FormatUint(uint64(num), 10)+"." ||
		!v.HasInstance(challengePath, num) || !r.flag(row+"Enable") {
		return nil, datamodel.Fail(datamodel.InvalidValue, inv.Command, "ChallengeRef names no enabled Challenge")
	}
	life := 900 * time.Second
	if s, given := inv.Args["RequestExpiration"]; given {
		if n, err := strconv.ParseUint(s, 10, 31); err == nil {
			life = time.Duration(n) * time.Second
		}
	}
	now := time.Now()
	c := &a.pending
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.locked(row, now) { // R-SEC.17
		return nil, requestDenied(inv.Command, "locked out after too many tries")
	}
	if old, has := c.asked[eid]; has && now.Before(old.until) {
		return nil, requestDenied(inv.Command, "a challenge is outstanding already")
	}
	if c.asked == nil {
		c.asked = map[string]challenge{}
	}
	for other, q := range c.asked { // Controllers come and go
		if !now.Before(q.until) {
			delete(c.asked, other)
		}
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	q := challenge{id: hex.EncodeToString(id[:]), row: row, until: now.Add(life)}
	c.asked[eid] = q
	return map[string]string{"ChallengeID": q.id, "Instruction": r.str(row + "Instruction"),
		"InstructionType": r.str(row + "InstructionType"), "ValueType": r.str(row + "ValueType")}, nil
}

func (a *Agent) challengeResponse(ctx context.Context, inv datamodel.Invocation) error {
	v := a.store.Head()
	eid, ctl, err := a.challenger(ctx, v, inv.Command)
	if err != nil {
		return err
	}
	r := reader{v: v, s: a.schema}
	now := time.Now()
	c := &a.pending
	c.mu.Lock()
	defer c.mu.Unlock()
	q, has := c.asked[eid]
	if has && c.locked(q.row, now) {
		return requestDenied(inv.Command, "locked out after too many tries")
	}
	if !has || !now.Before(q.until) || subtle.ConstantTimeCompare([]byte(q.id), []byte(inv.Args["ChallengeID"])) == 0 {
		return datamodel.Fail(datamodel.InvalidArgs, inv.Command, "no such ChallengeID")
	}
	want, errWant := base64.StdEncoding.DecodeString(r.str(q.row + "Value"))
	got, errGot := base64.StdEncoding.DecodeString(inv.Args["Value"])
	if errWant != nil || errGot != nil || len(want) == 0 || !r.flag(q.row+"Enable") || subtle.ConstantTimeCompare(want, bytes.TrimSpace(got)) == 0 {
		c.failure(q.row, uint64(max(0, r.num(q.row+"Retries", 0))), r.seconds(q.row+"LockoutPeriod"), now)
		return datamodel.Fail(datamodel.CommandFailed, inv.Command, "the value is wrong")
	}
	delete(c.asked, eid)
	delete(c.failed, q.row)
	return a.lift(ctx, r, ctl, trust.List(r.str(q.row+"Role")))
}

// failure counts one, and locks out when it was the last one allowed. // R-SEC.16, R-SEC.17
func (c *challenges) failure(row string, retries uint64, lockout time.Duration, now time.Time) {
	if c.failed == nil {
		c.failed = map[string]*failures{}
	}
	f := c.failed[row]
	if f == nil {
		f = &failures{}
		c.failed[row] = f
	}
	if f.n++; f.n < retries {
		return
	}
	delete(c.failed, row)
	if lockout > 0 {
		c.failed[row] = &failures{until: now.Add(lockout)}
	}
}

// lift gives a Controller the Roles of a Challenge, in place of the UntrustedRole. // R-SEC.7
func (a *Agent) lift(ctx context.Context, r reader, ctl string, roles []string) error {
	untrusted := a.trust.Untrusted(r.v)
	have := slices.DeleteFunc(trust.List(r.str(ctl+"AssignedRole")), func(s string) bool { return s == untrusted })
	for _, role := range roles {
		if !slices.Contains(have, role) {
			have = append(have, role)
		}
	}
	res, err := a.engine.Apply(ctx, a.system, bridge.Change{Atomic: true, Ref: "challenge", Ops: []bridge.Op{{Kind: bridge.OpSet, Path: ctl,
		Settings: []bridge.Setting{{Name: "AssignedRole", Value: strings.Join(have, ","), Required: true}}}}})
	if err == nil {
		err = firstError(res)
	}
	return err
}
