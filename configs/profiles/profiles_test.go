package profiles

import (
	"strings"
	"testing"

	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
)

func TestBuiltInProfilesLoad(t *testing.T) {
	if len(Names()) != 3 {
		t.Fatalf("built-in profiles: %v", Names())
	}
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			p, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			if p.Name != name {
				t.Errorf("profile %s calls itself %q", name, p.Name)
			}
			s, err := tr181.Load(p)
			if err != nil {
				t.Fatal(err)
			}
			objects, params := 0, 0
			s.Root().Walk(func(o *datamodel.Object) bool {
				objects++
				params += len(o.Params)
				return true
			})
			t.Logf("%d objects, %d parameters", objects, params)
		})
	}
}

// TestFactoryStateIsValid: every parameter that a manager may write and that exists once has a value it accepts itself.
func TestFactoryStateIsValid(t *testing.T) {
	for _, name := range []string{"gateway", "minimal"} {
		p, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := tr181.Load(p)
		if err != nil {
			t.Fatal(err)
		}
		s.Root().Walk(func(o *datamodel.Object) bool {
			for _, param := range o.Params {
				f := param.Any()
				value, set := p.Factory[param.Path()]
				switch {
				case strings.Contains(o.Path, "{i}") || f.Access == datamodel.ReadOnly || f.Command:
					continue
				case !set && f.HasDefault:
					value = f.Default
				case !set:
					value = f.Zero()
				}
				if _, err := f.Canonical(value); err != nil && f.EnumRef == "" {
					t.Errorf("%s: %s starts as %q: %v", name, param.Path(), value, err)
				}
			}
			return true
		})
	}
}

// TestNeededByTheProtocols: without these neither protocol can be spoken.
func TestNeededByTheProtocols(t *testing.T) {
	for _, name := range []string{"gateway", "minimal"} {
		p, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := tr181.Load(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{
			"Device.RootDataModelVersion", "Device.DeviceInfo.HardwareVersion", "Device.DeviceInfo.SoftwareVersion",
			"Device.DeviceInfo.ProvisioningCode", "Device.ManagementServer.AliasBasedAddressing",
			"Device.ManagementServer.ConnectionRequestURL", "Device.ManagementServer.ParameterKey",
			"Device.ManagementServer.EnableCWMP", "Device.LocalAgent.EndpointID", "Device.LocalAgent.Subscription.{i}.ID",
			"Device.LocalAgent.Request.{i}.Command", "Device.LocalAgent.Controller.{i}.MTP.{i}.MQTT.Topic",
			"Device.LocalAgent.ControllerTrust.Role.{i}.Permission.{i}.Targets", "Device.LocalAgent.Periodic!",
			"Device.LocalAgent.TransferComplete!", "Device.LocalAgent.AddCertificate", "Device.LocalAgent.AddCertificate()",
			"Device.LocalAgent.Controller.{i}.SendOnBoardRequest()", "Device.MQTT.Client.{i}.BrokerAddress",
			"Device.UnixDomainSockets.UnixDomainSocket.{i}.Path", "Device.Boot!", "Device.Reboot()", "Device.FactoryReset()",
			"Device.DeviceInfo.FirmwareImage.{i}.Download()",
		} {
			if _, ok := s.Lookup(path); !ok {
				t.Errorf("%s lacks %s", name, path)
			}
		}
	}
}

func TestLoadNamesTheMissingProfile(t *testing.T) {
	_, err := Load("router")
	if err == nil || !strings.Contains(err.Error(), `"router"`) || !strings.Contains(err.Error(), "gateway") {
		t.Fatalf("error %v", err)
	}
	if _, err := Load("./nowhere.toml"); err == nil || !strings.Contains(err.Error(), "nowhere.toml") {
		t.Fatalf("error %v", err)
	}
}

// BenchmarkLoadGateway: from the text of the profile to the schema, as at the agent's start.
func BenchmarkLoadGateway(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		p, err := Load("gateway")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tr181.Load(p); err != nil {
			b.Fatal(err)
		}
	}
}
