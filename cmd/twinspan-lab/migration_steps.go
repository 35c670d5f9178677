package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"twinspan/cwmp/acs"
	"twinspan/cwmp/soap"
)

// migrationObject is the agent's own object with the prefix of the documentation domain.
const migrationObject = "Device.X_TWINSPAN-EXAMPLE_Migration."

// migrationPace compresses the migration: every window, gate and deadline is there, only shorter.
const migrationPace = `
[bridge.migration]
check_interval = "200ms"
failed_checks  = 3
contact_life   = "2s"
rescue         = "always"
rescue_after   = "3s"
rescue_stable  = "60s"
[[bridge.rule]]
id          = "last-wins"
path        = "Device.Time.Client.5.Servers"
on_conflict = "last"
[bridge.migration.confirm]
dual-cwmp = "15s"
dual-usp  = "15s"
usp-only  = "15s"
[[bridge.migration.gate.dual-cwmp]]
kpi = "usp_req_ok"
min = 0.99
window = "1s"
samples = 3
[[bridge.migration.gate.dual-usp]]
kpi = "conflict_rate"
max = 0.5
window = "2s"
[[bridge.migration.gate.dual-usp]]
kpi = "projection_diff"
max = 0.0
[[bridge.migration.gate.usp-only]]
kpi = "usp_session"
min = 0.5
window = "1s"
samples = 3
`

// selfSigned makes a certificate for the ACS of the sandbox and writes what the agent trusts.
func selfSigned(dir string) (*tls.Config, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(dir, "acs.pem")
	err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, file, err
}

// migrationSteps is a whole migration with what can go wrong in it.
func (sb *sandbox) migrationSteps() []step {
	return []step{
		{"agent", "starts in phase shadow and finds its ACS over TLS", sb.stepStart},
		{"ACS", "provisions the device", sb.stepProvision},
		{"ACS", "brings the USP side up", sb.stepBringUp},
		{"controller A", "writes in shadow: equal is fine, different is refused", sb.stepShadow},
		{"ACS", "moves to dual-cwmp when the gate passes, and confirms in its next session", sb.stepDualCWMP},
		{"ACS, A", "both set their own value again and again; the agent ends the war", sb.stepWriteWar},
		{"controller A", "moves to dual-usp; a confirmation over the old connection does not count", sb.stepDualUSP},
		{"agent", "sees the gate fail, and rolls back", sb.stepGateFails},
		{"controller A", "asks for usp-only; the power is cut inside the window, and CWMP is back", sb.stepPowerCut},
		{"controller A", "goes to usp-only for good; the ACS hears nothing any more", sb.stepUSPOnly},
		{"agent", "loses its Controllers, and goes to the ACS over https", sb.stepRescue},
		{"operator", "reads the history and how far both sides agree", sb.stepHistory},
		{"operator", "stops the agent and verifies its database", sb.stepCheck},
	}
}

// awaitPhase waits until the phase is one, and settled or not.
func (sb *sandbox) awaitPhase(ctx context.Context, want string) error {
	var last string
	for {
		out, err := sb.agent.Command(ctx, "phase", "--socket", sb.socket(), "--json")
		var st struct{ Phase string }
		if err == nil {
			err = json.Unmarshal([]byte(out), &st)
		}
		if last = st.Phase; err == nil && last == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the phase is %q, not %q (%v)", last, want, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// retry repeats what a gate may refuse for a while.
func retry(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// request asks for a phase as Controller A.
func (sb *sandbox) request(ctx context.Context, phase string) (token string, err error) {
	err = retry(ctx, func() error {
		out, _, err := sb.a.Operate(ctx, migrationObject+"RequestPhase()", "move", map[string]string{"Phase": phase})
		token = out["Token"]
		return err
	})
	return token, err
}

// reconnectA has the agent connect to the broker anew: only then does a confirmation prove anything.
func (sb *sandbox) reconnectA(ctx context.Context) error {
	sb.a.Forget()
	short, cancel := context.WithTimeout(ctx, time.Second)
	_, _, _ = sb.a.Operate(short, "Device.MQTT.Client.1.ForceReconnect()", "again", nil) // its answer may be lost with the link
	cancel()
	return sb.a.WaitConnect(ctx)
}

func (sb *sandbox) confirmA(ctx context.Context, token string) error {
	_, _, err := sb.a.Operate(ctx, migrationObject+"Confirm()", "confirm", map[string]string{"Token": token})
	return err
}

func (sb *sandbox) stepShadow(ctx context.Context, s *scene) error {
	if err := sb.a.Set(ctx, map[string]string{contested: "ntp.operator.example"}); err != nil {
		return fmt.Errorf("an equal value was refused: %w", err)
	}
	err := sb.a.Set(ctx, map[string]string{contested: "ntp.other.example"})
	if err == nil || !strings.Contains(err.Error(), "shadow") {
		return fmt.Errorf("a different value in shadow: %v", err)
	}
	s.Observe("different value: %v", err)
	return nil
}

func (sb *sandbox) stepDualCWMP(ctx context.Context, s *scene) error {
	ask := func() error {
		return sb.inSession(ctx, func(ctx context.Context) error {
			return sb.setValues(ctx, "", migrationObject+"RequestedPhase", "dual-cwmp")
		})
	}
	if err := ask(); err != nil {
		s.Observe("not yet: %v", err)
	}
	for range 5 { // what the gate wants to have seen
		if _, err := sb.a.Value(ctx, contested); err != nil {
			return err
		}
	}
	if err := retry(ctx, ask); err != nil {
		return err
	}
	if err := sb.awaitPhase(ctx, "dual-cwmp"); err != nil {
		return err
	}
	if err := sb.quiet(ctx); err != nil {
		return err
	}
	if err := sb.inSession(ctx, func(ctx context.Context) error { return sb.setValues(ctx, "", migrationObject+"Confirm", "1") }); err != nil {
		return err
	}
	s.Observe("dual-cwmp, confirmed by the ACS in a session of its own")
	return sb.a.Set(ctx, map[string]string{burstLeaf: "ntp.usp.example"})
}

// warLeaf is under a rule by which the last writer counts, so that two masters can fight for ever.
const warLeaf = "Device.Time.Client.5.Servers"

// stepWriteWar has two managers that set their own value whenever they are told of another, as level-triggered masters do:
// the ACS is told by an active notification, and answers in the same session.
func (sb *sandbox) stepWriteWar(ctx context.Context, s *scene) error {
	const ours, theirs = "ntp.acs.example", "ntp.a.example"
	err := sb.inSession(ctx, func(ctx context.Context) error {
		if _, err := sb.device.Call(ctx, &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: warLeaf, NotificationChange: true, Notification: 2}}}); err != nil {
			return err
		}
		return sb.setValues(ctx, "", warLeaf, ours)
	})
	if err != nil {
		return err
	}
	round := func() error {
		if err := sb.quiet(ctx); err != nil {
			return err
		}
		release := sb.device.Hold()
		defer release()
		if err := sb.a.Set(ctx, map[string]string{warLeaf: theirs}); err != nil {
			return err
		}
		return sb.setValues(ctx, "", warLeaf, ours) // in the session that tells of it
	}
	rounds := 1
	for err = round(); err == nil && rounds < 9; err = round() {
		rounds++
	}
	if err == nil || rounds > 3 || !strings.Contains(err.Error(), "fought over it") {
		return fmt.Errorf("the war does not end in %d rounds: %v", rounds, err)
	}
	s.Observe("round %d: %v", rounds, err)
	if !strings.Contains(err.Error(), "left to cwmp") {
		return errors.New("between equals the ACS goes first in dual-cwmp")
	}
	refused := 1
	for ; refused < 5; refused++ { // who lost does not give in
		if err := sb.a.Set(ctx, map[string]string{warLeaf: theirs}); err == nil || !strings.Contains(err.Error(), "fought over it") {
			return fmt.Errorf("the war begins anew: %v", err)
		}
	}
	v, err := sb.a.Value(ctx, warLeaf)
	if err != nil || v != ours {
		return fmt.Errorf("the value is %q (%v)", v, err)
	}
	s.Observe("the value stays %s, whatever controller A goes on to ask for", v)
	return sb.readConflict(ctx, s, refused)
}

// readConflict compares what both sides read of the one row about the war.
func (sb *sandbox) readConflict(ctx context.Context, s *scene, refused int) error {
	fromUSP, err := sb.a.Get(ctx, migrationObject+"Conflict.")
	if err != nil {
		return err
	}
	row := ""
	for path, v := range fromUSP {
		if !strings.HasSuffix(path, ".Path") || v != warLeaf {
			continue
		}
		if row != "" {
			return fmt.Errorf("two rows about one war: %s and %s", row, path)
		}
		row = strings.TrimSuffix(path, "Path")
	}
	if got := fromUSP[row+"Count"]; row == "" || got != fmt.Sprint(refused) {
		return fmt.Errorf("the Conflict row counts %q, not %d: %v", got, refused, fromUSP)
	}
	return sb.inSession(ctx, func(ctx context.Context) error {
		for _, name := range []string{"Path", "Loser", "Winner", "Count", "Rule"} {
			if v, err := sb.getValue(ctx, row+name); err != nil || v != fromUSP[row+name] {
				return fmt.Errorf("the ACS reads %s = %q, Controller A %q (%v)", row+name, v, fromUSP[row+name], err)
			}
		}
		s.Observe("both read in %s: %s lost to %s, %s times, rule %s", row, fromUSP[row+"Loser"], fromUSP[row+"Winner"], fromUSP[row+"Count"], fromUSP[row+"Rule"])
		return nil
	})
}

func (sb *sandbox) stepDualUSP(ctx context.Context, s *scene) error {
	token, err := sb.request(ctx, "dual-usp")
	if err != nil {
		return err
	}
	if err := sb.confirmA(ctx, token); err == nil || !strings.Contains(err.Error(), "connection") {
		return fmt.Errorf("the confirmation over the old connection: %v", err)
	} else {
		s.Observe("old connection: %v", err)
	}
	if err := sb.reconnectA(ctx); err != nil {
		return err
	}
	if err := sb.confirmA(ctx, token); err != nil {
		return err
	}
	s.Observe("confirmed over a new connection")
	return sb.awaitPhase(ctx, "dual-usp")
}

// stepGateFails has the ACS fight for what USP owns until the share of conflicts is beyond the gate.
func (sb *sandbox) stepGateFails(ctx context.Context, s *scene) error {
	began := time.Now()
	err := sb.inSession(ctx, func(ctx context.Context) error {
		for i := range 12 {
			if err := sb.setValues(ctx, "", burstLeaf, fmt.Sprintf("ntp%d.acs.example", i)); err == nil {
				return errors.New("the ACS may write what USP owns in dual-usp")
			} else if i == 0 {
				s.Observe("the ACS is refused: %v", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := sb.awaitPhase(ctx, "dual-cwmp"); err != nil {
		return err
	}
	s.Observe("back in dual-cwmp %d ms after the first refusal", time.Since(began).Milliseconds())
	if _, _, err := sb.a.Operate(ctx, migrationObject+"RequestPhase()", "move", map[string]string{"Phase": "dual-usp"}); err == nil || !strings.Contains(err.Error(), "held") {
		return fmt.Errorf("the migration is not held after the failure: %v", err)
	} else {
		s.Observe("and held: %v", err)
	}
	if _, err := sb.agent.Command(ctx, "phase", "release", "--socket", sb.socket()); err != nil {
		return err
	}
	token, err := sb.request(ctx, "dual-usp") // when the conflicts are over
	if err != nil {
		return err
	}
	if err := sb.reconnectA(ctx); err != nil {
		return err
	}
	return sb.confirmA(ctx, token)
}

func (sb *sandbox) stepPowerCut(ctx context.Context, s *scene) error {
	if _, err := sb.request(ctx, "usp-only"); err != nil {
		return err
	}
	on, err := sb.a.Value(ctx, "Device.CWMPManagementServer.EnableCWMP")
	if err != nil {
		return err
	}
	s.Observe("usp-only waits for its confirmation, EnableCWMP is %s", on)
	if on != "false" {
		return errors.New("CWMP is still on")
	}
	if err := sb.agent.Kill(); err != nil {
		return err
	}
	sb.a.Forget()
	sb.b.Forget()
	began := time.Now()
	if err := sb.agent.Start(); err != nil {
		return err
	}
	if _, err := sb.device.WaitEvent(ctx, began, "1 BOOT"); err != nil {
		return fmt.Errorf("the ACS was not told: %w", err)
	}
	s.Observe("the ACS has the device back %d ms after the start", time.Since(began).Milliseconds())
	if err := sb.a.WaitConnect(ctx); err != nil {
		return err
	}
	return sb.awaitPhase(ctx, "dual-usp")
}

func (sb *sandbox) stepUSPOnly(ctx context.Context, s *scene) error {
	if err := sb.quiet(ctx); err != nil {
		return err
	}
	token, err := sb.request(ctx, "usp-only")
	if err != nil {
		return err
	}
	if err := sb.reconnectA(ctx); err != nil {
		return err
	}
	if err := sb.confirmA(ctx, token); err != nil {
		return err
	}
	informs := len(sb.device.Informs())
	if err := sb.a.Set(ctx, map[string]string{firstCome: "ntp.only-usp.example"}); err != nil { // the ACS has active notification on it
		return err
	}
	if err := sb.device.ConnectionRequest(ctx); err == nil {
		return errors.New("a connection request was answered with CWMP off")
	}
	if n := len(sb.device.Informs()); n > informs+1 {
		return fmt.Errorf("%d Informs after CWMP was switched off", n-informs)
	}
	s.Observe("confirmed; the ACS is refused at the connection-request port and hears nothing of the next write")
	return sb.awaitPhase(ctx, "usp-only")
}

func (sb *sandbox) stepRescue(ctx context.Context, s *scene) error {
	began := time.Now()
	if err := sb.broker.Close(); err != nil {
		return err
	}
	sb.brokerGone = true
	sb.cancel() // both Controllers are gone
	r, err := sb.device.WaitInform(ctx, func(r *acs.InformRecord) bool { return r.At.After(began.Add(time.Second)) })
	if err != nil {
		return fmt.Errorf("no Inform: %w", err)
	}
	s.Observe("Inform over %s %d ms after the Controllers were lost: %s", strings.SplitN(sb.acs.URL(), ":", 2)[0], r.At.Sub(began).Milliseconds(), events(&r))
	if err := sb.awaitPhase(ctx, "rescue"); err != nil {
		return err
	}
	if err := sb.quiet(ctx); err != nil {
		return err
	}
	return sb.inSession(ctx, func(ctx context.Context) error {
		err := sb.setValues(ctx, "", "Device.DeviceInfo.ProvisioningCode", "rescued")
		if err == nil {
			return errors.New("in a rescue the ACS may write anything")
		}
		s.Observe("the ACS is kept to what USP needs: %v", err)
		return sb.setValues(ctx, "", migrationObject+"RequestedPhase", "dual-usp")
	})
}

func (sb *sandbox) stepHistory(ctx context.Context, s *scene) error {
	if err := sb.awaitPhase(ctx, "dual-usp"); err != nil {
		return err
	}
	for _, verb := range []string{"phase", "gates", "convergence"} {
		out, err := sb.agent.Command(ctx, verb, "--socket", sb.socket())
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		s.Observe("%s", strings.Join(lines[:min(len(lines), 14)], "\n"))
	}
	return nil
}
