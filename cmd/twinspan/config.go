package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Config is the agent's configuration file. configs/ has a commented example for each use. Everything a manager may
// change lives in the data model instead; the file gives it its factory values.
type Config struct {
	// Data is the directory of the database, transfers and the command-line socket; mode 0700. --data overrides it.
	Data   string       `toml:"data"`
	Device DeviceConfig `toml:"device"`
	Bridge BridgeConfig `toml:"bridge"`
	CWMP   CWMPConfig   `toml:"cwmp"`
	USP    USPConfig    `toml:"usp"`
	CLI    CLIConfig    `toml:"cli"`
	// Services is the USP Broker for programs of this device.
	Services ServicesConfig `toml:"services"`
	Log      LogConfig      `toml:"log"`
	Limits   LimitsConfig   `toml:"limits"`
	Hooks    HooksConfig    `toml:"hooks"`
	// Firmware is where images go; see FirmwareConfig.
	Firmware FirmwareConfig `toml:"firmware"`
	// Import is what an older CWMP client left; see ImportConfig.
	Import ImportConfig `toml:"import"`
	// Factory holds values after factory reset by canonical path, over those of the profile.
	Factory map[string]string `toml:"factory"`
	// MaxRows overrides the profile's limits on rows by canonical table path.
	MaxRows map[string]int `toml:"max_rows"`
	// Modules switches the simulated software modules on: environment is a list of execution environments.
	Modules map[string][]map[string]any `toml:"modules"`
	// Providers overrides options of the profile's providers.
	Providers map[string]map[string]any `toml:"providers"`
}

// DeviceConfig identifies the device to both kinds of manager.
type DeviceConfig struct {
	Profile         string `toml:"profile"` // built-in name (gateway, minimal, full) or a file
	Schema          string `toml:"schema"`  // a vendor's compiled schema; empty: the built-in TR-181
	Manufacturer    string `toml:"manufacturer"`
	ManufacturerOUI string `toml:"manufacturer_oui"` // 6 hex digits
	ProductClass    string `toml:"product_class"`
	SerialNumber    string `toml:"serial_number"` // empty: derived from the machine's id
	ModelName       string `toml:"model_name"`
	HardwareVersion string `toml:"hardware_version"`
	SoftwareVersion string `toml:"software_version"`
	// ClockKnownAfter is a moment that has passed: a clock before it was never set, and certificates are taken without their dates.
	ClockKnownAfter time.Time `toml:"clock_known_after"`
}

// BridgeConfig is the first form of arbitration: the phase's class order and rules by path.
type BridgeConfig struct {
	Phase      string            `toml:"phase"`       // cwmp-only, shadow, dual-cwmp, dual-usp, usp-only
	OnConflict string            `toml:"on_conflict"` // priority, yield, take, last
	Rule       []BridgeRule      `toml:"rule"`
	Classes    map[string]string `toml:"classes"` // Endpoint ID -> main, apps, user
	// Policy is a policy file, which replaces on_conflict and the rules; loaded again on SIGHUP.
	Policy string `toml:"policy"`
	// FaultStyle of refusals: standard or vendor codes in both protocols; empty: vendor codes in USP only.
	FaultStyle string `toml:"fault_style"`
	// CommitsPerSecond of each Controller without a policy, default 20 after the first 100; 0 takes the bound away.
	CommitsPerSecond *float64 `toml:"commits_per_second"`
	// Phase is that of a device that was never moved; afterwards the database knows. Migration is the pace.
	Migration     MigrationConfig `toml:"migration"`
	MetricsListen string          `toml:"metrics_listen"` // local address for Prometheus, empty: none
}

// BridgeRule sets what happens when two writers want different values below a path.
type BridgeRule struct {
	ID         string `toml:"id"`
	Path       string `toml:"path"`
	OnConflict string `toml:"on_conflict"`
}

// TLSFiles are PEM files; empty means the system's trusted roots and no client certificate.
type TLSFiles struct {
	CAFile   string `toml:"ca_file"`
	CertFile string `toml:"cert_file"`
	KeyFile  string `toml:"key_file"`
}

// CWMPConfig is what the CWMP side needs besides the data model.
type CWMPConfig struct {
	Enabled bool `toml:"enabled"`
	// URL, Username, password and PeriodicInformInterval (seconds) are factory values of Device.ManagementServer.
	URL                    string   `toml:"url"`
	Username               string   `toml:"username"`
	PasswordFile           string   `toml:"password_file"`
	PeriodicInformInterval int      `toml:"periodic_inform_interval"`
	AllowPlaintext         bool     `toml:"allow_plaintext"`           // permit an http:// ACS URL
	ConnectionRequest      string   `toml:"connection_request_listen"` // address, empty: none
	UDPListen              string   `toml:"udp_listen"`                // UDP connection requests; empty: as above, "off": none
	ConnectionRequestHost  string   `toml:"connection_request_host"`   // in the URL told to the ACS; empty: the address that routes to it
	DHCPFiles              []string `toml:"dhcp_files"`                // hook or lease files that may offer an ACS
	LegacyCiphers          bool     `toml:"legacy_ciphers"`            // RSA key exchange for ACSs that know no other (TR-069 3.3)
	BasicOverHTTP          bool     `toml:"basic_over_http"`           // answer Basic without TLS; needs allow_plaintext
	TLS                    TLSFiles `toml:"tls"`
	Timeout                duration `toml:"timeout"`
}

// USPConfig is what the USP side needs besides the data model.
type USPConfig struct {
	Enabled        bool   `toml:"enabled"`
	EndpointID     string `toml:"endpoint_id"` // empty: os::<OUI>-<SerialNumber>
	AllowPlaintext bool   `toml:"allow_plaintext"`
	// TrustBroker believes every encrypted broker about who sends; else only one with a Credential for MTP-and-broker.
	TrustBroker bool `toml:"trust_broker"`
	// TrustServerName takes a server whose certificate names its host, not its Endpoint ID, for the Controller configured there.
	TrustServerName bool               `toml:"trust_server_name"`
	TLS             TLSFiles           `toml:"tls"`
	Controller      []ControllerConfig `toml:"controller"`
}

// ControllerConfig becomes the rows of one Controller at first start.
type ControllerConfig struct {
	EndpointID string           `toml:"endpoint_id"`
	Role       string           `toml:"role"` // instance path or name of a Role of the profile; empty: full access
	MQTT       *MQTTConfig      `toml:"mqtt"`
	WebSocket  *WebSocketConfig `toml:"websocket"`
	// PeriodicNotifInterval in seconds, 0: the model's default.
	PeriodicNotifInterval int `toml:"periodic_notif_interval"`
}

// MQTTConfig reaches a Controller through a broker.
type MQTTConfig struct {
	Host         string `toml:"host"`
	Port         int    `toml:"port"`
	TLS          bool   `toml:"tls"`
	Username     string `toml:"username"`
	PasswordFile string `toml:"password_file"`
	Topic        string `toml:"controller_topic"`
	AgentTopic   string `toml:"agent_topic"` // used if the broker gives none; empty: usp/agent/<EndpointID>
}

// WebSocketConfig reaches a Controller that listens.
type WebSocketConfig struct {
	Host string `toml:"host"`
	Port int    `toml:"port"`
	Path string `toml:"path"`
	TLS  bool   `toml:"tls"`
}

// CLIConfig is the Unix domain socket of the command line.
type CLIConfig struct {
	Socket string `toml:"socket"` // empty: <data>/twinspan.sock
}

// ServicesConfig is the USP Broker: where USP Services connect to register their part of the data model.
type ServicesConfig struct {
	Enabled bool   `toml:"enabled"`
	Socket  string `toml:"socket"`
	Mode    string `toml:"mode"` // of the sockets, octal; who may open them may register
	// ControllerSocket is where the Controllers of Services connect, empty: nowhere. They inherit ControllerRole, by its Name.
	ControllerSocket string `toml:"controller_socket"`
	ControllerRole   string `toml:"controller_role"`
	Max              int    `toml:"max"` // Services connected at a time
}

// mode is the file mode of the socket; the text was validated.
func (s *ServicesConfig) mode() os.FileMode {
	n, _ := strconv.ParseUint(s.Mode, 8, 32)
	return os.FileMode(n)
}

// LogConfig chooses level (debug, info, warn, error) and format (text, json).
type LogConfig struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// LimitsConfig bounds what peers may ask for. Zero values mean the defaults.
type LimitsConfig struct {
	SOAPBytes      int   `toml:"soap_bytes"`      // one inbound envelope, default 1 MiB
	SOAPDepth      int   `toml:"soap_depth"`      // nesting, default 64
	RecordBytes    int   `toml:"record_bytes"`    // one USP record, default 1 MiB
	DatabaseBytes  int64 `toml:"database_bytes"`  // default 256 MiB
	JournalEntries int   `toml:"journal_entries"` // default 2000
	TransferBytes  int64 `toml:"transfer_bytes"`  // one downloaded file, default 64 MiB
}

// HooksConfig names the programs that act on the machine. Without reboot, a reboot restarts the agent only.
type HooksConfig struct {
	Reboot  []string `toml:"reboot"`
	Install []string `toml:"install"` // called with the path of a downloaded image
}

// ImportConfig names what an older CWMP client left (docs/import.md). It is read at the first start of a database only.
type ImportConfig struct {
	File string `toml:"file"`
	// OnError: stop (the default) does not start, so that no Inform says BOOTSTRAP by mistake; bootstrap starts as a new device.
	OnError string `toml:"on_error"`
}

// FirmwareConfig says where the banks of firmware images are. Without banks there are no FirmwareImage rows.
type FirmwareConfig struct {
	Banks   string   `toml:"banks"`   // empty: none; simulated: two files in the data directory; command: a program
	Command []string `toml:"command"` // of banks = "command"
	Ask     []string `toml:"ask"`     // called with a UserMessage, exit status 0 is the user's consent; empty: nobody is asked
	Idle    []string `toml:"idle"`    // exit status 0: the device is idle (windows of the mode WhenIdle); empty: it always is
	// ConfirmWithin is how long a new image may take to reach a manager; default 10 min, 0 for ever.
	ConfirmWithin *duration `toml:"confirm_within"`
	TLS           TLSFiles  `toml:"tls"` // of file servers
}

// duration is a time.Duration written as "30s" in TOML.
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = duration(v)
	return err
}

// defaultConfig is what an empty file means.
func defaultConfig() Config {
	return Config{
		Data:   "/var/lib/twinspan",
		Device: DeviceConfig{Profile: "gateway", Manufacturer: "twinspan", ManufacturerOUI: "00005E", ProductClass: "twinspan", HardwareVersion: "1", SoftwareVersion: version, ClockKnownAfter: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)},
		Bridge: BridgeConfig{Phase: "dual-cwmp", OnConflict: "priority"},
		CWMP:   CWMPConfig{Enabled: true, ConnectionRequest: ":7547", Timeout: duration(60 * time.Second)},
		USP:    USPConfig{Enabled: true},
		Log:    LogConfig{Level: "info", Format: "text"},

		Services: ServicesConfig{Socket: "/var/run/usp/broker_controller_path", Mode: "0600", Max: 16},
	}
}

// loadConfig reads and validates a file. Unknown keys are errors: a misspelt key must not silently mean its default.
func loadConfig(path string) (Config, error) {
	c := defaultConfig()
	md, err := toml.DecodeFile(path, &c)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return c, fmt.Errorf("%s:%d: %s", path, pe.Position.Line, pe.Message)
		}
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if un := md.Undecoded(); len(un) > 0 {
		names := make([]string, len(un))
		for i, k := range un {
			names[i] = k.String()
		}
		return c, fmt.Errorf("%s: unknown key %s", path, strings.Join(names, ", "))
	}
	if err := c.validate(); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// socket is the path of the command-line socket.
func (c *Config) socket() string {
	if c.CLI.Socket != "" {
		return c.CLI.Socket
	}
	return filepath.Join(c.Data, "twinspan.sock")
}

// logger builds the agent's logger on standard error.
func (c *Config) logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level)) // validated
	o := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// readSecret reads a secret from a file that only its owner may read.
func readSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: mode %04o lets others read a secret; chmod 600 it", path, st.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	return strings.TrimRight(string(b), "\r\n"), err
}
