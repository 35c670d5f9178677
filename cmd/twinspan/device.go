package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	"twinspan/configs/profiles"
	"twinspan/datamodel"
	"twinspan/datamodel/tr181"
)

// loadProfile finds the device profile and lays the configuration's factory values over it.
func (c *Config) loadProfile() (*datamodel.Profile, error) {
	p, err := profiles.Load(c.Device.Profile)
	if err != nil {
		return nil, err
	}
	if c.Services.Enabled { // whatever the profile says
		p.Supports = append(p.Supports, "Device.USPServices.")
	}
	factory, err := c.factoryValues()
	if err != nil {
		return nil, err
	}
	if p.Factory == nil {
		p.Factory = map[string]string{}
	}
	for path, value := range factory {
		p.Factory[path] = value
	}
	for i, ctl := range c.USP.Controller {
		row := fmt.Sprintf("Device.LocalAgent.Controller.%d.AssignedRole", i+1)
		if _, own := c.Factory[row]; own || ctl.Role == "" {
			continue
		}
		if p.Factory[row], err = rolePath(p.Factory, ctl.Role); err != nil {
			return nil, fmt.Errorf("usp.controller[%d]: %w", i, err)
		}
	}
	if p.MaxRows == nil {
		p.MaxRows = map[string]int{}
	}
	for table, n := range c.MaxRows {
		p.MaxRows[table] = n
	}
	if p.Providers == nil {
		p.Providers = map[string]map[string]any{}
	}
	for name, opts := range c.Providers {
		if p.Providers[name] == nil {
			p.Providers[name] = map[string]any{}
		}
		for k, v := range opts {
			p.Providers[name][k] = v
		}
	}
	return p, nil
}

// loadSchema loads the built-in TR-181 or the vendor's own compiled model.
func (c *Config) loadSchema(p *datamodel.Profile) (*datamodel.Schema, error) {
	if c.Device.Schema != "" {
		return tr181.LoadFile(c.Device.Schema, p)
	}
	return tr181.Load(p)
}

// factoryValues turns the [cwmp], [usp] and [factory] parts of the configuration into values of the data model.
func (c *Config) factoryValues() (map[string]string, error) {
	f := map[string]string{"Device.ManagementServer.EnableCWMP": strconv.FormatBool(c.CWMP.Enabled)}
	if c.CWMP.URL != "" {
		f["Device.ManagementServer.URL"] = c.CWMP.URL
	}
	if c.CWMP.Username != "" {
		f["Device.ManagementServer.Username"] = c.CWMP.Username
	}
	password, err := readSecret(c.CWMP.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("cwmp.password_file: %w", err)
	}
	if password != "" {
		f["Device.ManagementServer.Password"] = password
	}
	if n := c.CWMP.PeriodicInformInterval; n > 0 {
		f["Device.ManagementServer.PeriodicInformEnable"] = "true"
		f["Device.ManagementServer.PeriodicInformInterval"] = strconv.Itoa(n)
	}
	for path, value := range fullAccess {
		f[path] = value
	}
	for i, ctl := range c.USP.Controller {
		if err := ctl.factory(f, i+1, c.endpointID()); err != nil {
			return nil, fmt.Errorf("usp.controller[%d]: %w", i, err)
		}
	}
	for path, value := range c.Factory {
		f[path] = value
	}
	return f, nil
}

// fullRole is the Role that may do everything; it exists after a factory reset, so that somebody can bring USP up by naming it.
// Controllers without a Role can do nothing.
const fullRole = "Device.LocalAgent.ControllerTrust.Role.1."

var fullAccess = map[string]string{
	fullRole + "Enable":                       "true",
	fullRole + "Name":                         "Full Access",
	fullRole + "Permission.1.Enable":          "true",
	fullRole + "Permission.1.Order":           "0",
	fullRole + "Permission.1.Targets":         "Device.",
	fullRole + "Permission.1.Param":           "rw-n",
	fullRole + "Permission.1.Obj":             "rw-n",
	fullRole + "Permission.1.InstantiatedObj": "rw-n",
	fullRole + "Permission.1.CommandEvent":    "r-xn",
}

// rolePath finds the Role that a configuration names by its path or its Name among the factory values. A Controller with the
// Role of a typing mistake would be refused everything without a word.
func rolePath(factory map[string]string, role string) (string, error) {
	table := strings.TrimSuffix(fullRole, "1.")
	path := strings.TrimSuffix(role, ".")
	var names []string
	for key, value := range factory {
		row, param, _ := strings.Cut(strings.TrimPrefix(key, table), ".")
		switch {
		case !strings.HasPrefix(key, table):
		case path == table+row:
			return path, nil
		case param == "Name" && value == role:
			return table + row, nil
		case param == "Name":
			names = append(names, strconv.Quote(value))
		}
	}
	sort.Strings(names)
	return "", fmt.Errorf("role = %q: no such Role; there are %s", role, strings.Join(names, ", "))
}

// factory writes the rows of one Controller: its own, its MTP and, for MQTT, the client and the agent's MTP.
func (ctl *ControllerConfig) factory(f map[string]string, n int, self string) error {
	row := fmt.Sprintf("Device.LocalAgent.Controller.%d.", n)
	f[row+"Enable"] = "true"
	f[row+"EndpointID"] = ctl.EndpointID
	role := ctl.Role
	if role == "" {
		role = strings.TrimSuffix(fullRole, ".")
	}
	f[row+"AssignedRole"] = role
	if ctl.PeriodicNotifInterval > 0 {
		f[row+"PeriodicNotifInterval"] = strconv.Itoa(ctl.PeriodicNotifInterval)
	}
	link := row + "MTP.1."
	f[link+"Enable"] = "true"
	if w := ctl.WebSocket; w != nil {
		f[link+"Protocol"] = "WebSocket"
		f[link+"WebSocket.Host"] = w.Host
		f[link+"WebSocket.Port"] = strconv.Itoa(w.Port)
		f[link+"WebSocket.Path"] = w.Path
		f[link+"WebSocket.EnableEncryption"] = strconv.FormatBool(w.TLS)
		return nil
	}
	m := ctl.MQTT
	password, err := readSecret(m.PasswordFile)
	if err != nil {
		return fmt.Errorf("mqtt.password_file: %w", err)
	}
	client := fmt.Sprintf("Device.MQTT.Client.%d.", n)
	agentMTP := fmt.Sprintf("Device.LocalAgent.MTP.%d.", n)
	f[link+"Protocol"] = "MQTT"
	f[link+"MQTT.AgentMTPReference"] = strings.TrimSuffix(agentMTP, ".")
	f[link+"MQTT.Topic"] = m.Topic
	f[client+"Enable"] = "true"
	f[client+"BrokerAddress"] = m.Host
	f[client+"ProtocolVersion"] = "5.0"
	f[client+"TransportProtocol"] = "TCP/IP"
	if m.TLS {
		f[client+"TransportProtocol"] = "TLS"
	}
	if m.Port > 0 {
		f[client+"BrokerPort"] = strconv.Itoa(m.Port)
	}
	if m.Username != "" {
		f[client+"Username"] = m.Username
	}
	if password != "" {
		f[client+"Password"] = password
	}
	topic := m.AgentTopic
	if topic == "" {
		topic = "usp/agent/" + self
	}
	f[agentMTP+"Enable"] = "true"
	f[agentMTP+"Protocol"] = "MQTT"
	f[agentMTP+"MQTT.Reference"] = strings.TrimSuffix(client, ".")
	f[agentMTP+"MQTT.ResponseTopicConfigured"] = topic
	return nil
}

// endpointID is the agent's own: configured, or os::OUI-SerialNumber as TR-369 has it for devices that speak CWMP too.
func (c *Config) endpointID() string {
	if c.USP.EndpointID != "" {
		return c.USP.EndpointID
	}
	return "os::" + c.Device.ManufacturerOUI + "-" + c.serial()
}

// serial is the configured serial number, or one derived from the machine's id: stable, and no secret.
func (c *Config) serial() string {
	if c.Device.SerialNumber != "" {
		return c.Device.SerialNumber
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(strings.TrimSpace(string(id))) == 0 {
		host, _ := os.Hostname() // "" is as good a last resort as any other
		id = []byte(host)
	}
	sum := sha256.Sum256(append([]byte("twinspan serial "), id...))
	return strings.ToUpper(hex.EncodeToString(sum[:6]))
}

// identity serves what the configuration says of the device. It is live, not stored, so that a new firmware's version shows
// at its first start.
type identity struct{ values map[string]string }

var _ datamodel.Provider = (*identity)(nil)

func newIdentity(c *Config) *identity {
	values := map[string]string{
		"Manufacturer": c.Device.Manufacturer, "ManufacturerOUI": c.Device.ManufacturerOUI, "ProductClass": c.Device.ProductClass,
		"SerialNumber": c.serial(), "ModelName": c.Device.ModelName, "HardwareVersion": c.Device.HardwareVersion, "SoftwareVersion": c.Device.SoftwareVersion,
	}
	for k, v := range values {
		if v == "" {
			delete(values, k)
		}
	}
	return &identity{values}
}

// Name implements datamodel.Provider.
func (*identity) Name() string { return "identity" }

// Serves implements datamodel.Provider.
func (d *identity) Serves() []string {
	var paths []string
	for _, name := range sortedKeys(d.values) {
		paths = append(paths, "Device.DeviceInfo."+name)
	}
	return paths
}

// Read implements datamodel.Provider.
func (d *identity) Read(_ context.Context, _ datamodel.ObjectRef, params []string, yield func(name, value string)) error {
	for _, name := range params {
		if v, ok := d.values[name]; ok {
			yield(name, v)
		}
	}
	return nil
}

// dataDir makes the data directory, or refuses one that others can write.
func dataDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if !st.IsDir() {
		return errors.New("data directory: " + path + " is not a directory")
	}
	if st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("data directory %s: mode %04o lets others write; chmod 700 it", path, st.Mode().Perm())
	}
	return nil
}
