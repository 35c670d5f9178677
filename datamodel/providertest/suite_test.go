package providertest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
)

// bad does everything wrong that the suite can see.
type bad struct{}

func (bad) Name() string { return "b ad" }
func (bad) Serves() []string {
	return []string{"Device.NoSuch.", "Device.DeviceInfo.UpTime", "Device.Hosts.Host.{i}.", "Device.Hosts.Host.{i}."}
}
func (bad) Read(_ context.Context, obj datamodel.ObjectRef, _ []string, yield func(name, value string)) error {
	if obj.Path == "Device.DeviceInfo." {
		yield("UpTime", "+007")
		yield("SoftwareVersion", "not asked for")
		yield("NoSuch", "")
		return nil
	}
	yield("Active", "yes")
	return errors.New("always")
}
func (bad) Lists() []string { return []string{"Device.Hosts.Host.", "Device.Hosts."} }
func (bad) Instances(context.Context, string) ([]uint32, error) {
	return []uint32{3, 2, 2, 0}, nil
}
func (bad) Syncs() []string { return []string{"Device.IP."} }
func (bad) Rows(context.Context) ([]datamodel.Row, error) {
	row := datamodel.Row{Table: "Device.Ethernet.Interface.", Key: "Name", Values: map[string]string{"Name": "x", "Enable": "maybe", "No": ""}}
	return []datamodel.Row{row, row}, nil
}
func (bad) Changed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
func (bad) Applies() []string                                { return []string{"Device.Reboot()"} }
func (bad) Prepare(context.Context, []datamodel.Write) error { return errors.New("no") }
func (bad) Apply(context.Context, []datamodel.Write) error   { return errors.New("never") }
func (bad) Commands() []string                               { return []string{"Device.DeviceInfo."} }
func (bad) Run(context.Context, datamodel.Invocation) (map[string]string, error) {
	time.Sleep(budget)
	return map[string]string{"NoSuch": ""}, nil
}

// TestSuiteFindsFaults runs the suite on a bad provider in a process of its own and looks for what it must complain of.
func TestSuiteFindsFaults(t *testing.T) {
	if os.Getenv("PROVIDERTEST_BAD") != "" {
		s, err := tr181.Load(nil)
		if err != nil {
			t.Fatal(err)
		}
		Run(t, Case{Provider: bad{}, Schema: s, MinValues: 1000, Writes: []datamodel.Write{{Path: "Device.Time.Enable"}},
			Runs: []datamodel.Invocation{{Command: "Device.Reboot()"}}})
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSuiteFindsFaults$")
	cmd.Env = append(os.Environ(), "PROVIDERTEST_BAD=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("the suite is content with a bad provider:\n%s", out)
	}
	for _, want := range []string{
		"cannot be part of a writer's name", "serves Device.NoSuch.,", "serves Device.Hosts.Host.{i}. twice", "applies Device.Reboot(),",
		"runs Device.DeviceInfo.,", "syncs Device.IP.,", `the key Name="x" is empty or not unique`, "Enable = \"maybe\"",
		"Interface.1.No is no parameter", "which Syncs does not name", "Changed is closed", "lists Device.Hosts.,",
		"numbers are not ascending", "a foreign table is no error", `"+007" is not canonical`, "SoftwareVersion was not asked for",
		"NoSuch is no parameter", "Host.2.: always", `Active = "yes"`, "expected 1000", "ran to its end although", "the methods took",
		"nothing was vetoed", "apply: never", "NoSuch is no output argument", "a foreign command is no error",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the suite does not complain %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
