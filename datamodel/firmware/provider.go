package firmware

import (
	"context"
	"strconv"
	"strings"

	"twinspan/datamodel"
)

const (
	info  = "Device.DeviceInfo."
	table = info + "FirmwareImage."
)

var (
	_ datamodel.Provider  = (*Manager)(nil)
	_ datamodel.Syncer    = (*Manager)(nil)
	_ datamodel.Applier   = (*Manager)(nil)
	_ datamodel.Commander = (*Manager)(nil)
)

// Name implements datamodel.Provider.
func (*Manager) Name() string { return "firmware" }

// Serves implements datamodel.Provider.
func (*Manager) Serves() []string {
	return []string{info + "ActiveFirmwareImage", info + "BootFirmwareImage", table + "{i}.Status", table + "{i}.Version", table + "{i}.BootFailureLog"}
}

// Read implements datamodel.Provider.
func (m *Manager) Read(_ context.Context, obj datamodel.ObjectRef, params []string, yield func(name, value string)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := ""
	if obj.Path != info {
		name = obj.Stored(obj.Path + "Name")
		if m.lay.bank(name) == nil {
			return nil
		}
	}
	for _, p := range params {
		switch p {
		case "ActiveFirmwareImage":
			yield(p, rowOf(obj.Stored, m.lay.Active))
		case "BootFirmwareImage":
			yield(p, rowOf(obj.Stored, m.s.Boot))
		case "Status":
			status := m.s.Banks[name].Status
			if name == m.lay.Active && status == available {
				status = active
			}
			yield(p, status)
		case "Version":
			yield(p, m.lay.bank(name).Version)
		case "BootFailureLog":
			yield(p, m.s.Banks[name].Log)
		}
	}
	return nil
}

// rowOf finds the row of a bank, without final dot.
func rowOf(stored func(path string) string, bank string) string {
	for i := 1; i <= 8*maxBanks; i++ {
		row := table + strconv.Itoa(i)
		if stored(row+".Name") == bank {
			return row
		}
	}
	return ""
}

// flag reads a stored parameter of the row of a bank. The caller holds mu.
func (m *Manager) flag(bank, name string) string {
	return m.value(rowOf(m.value, bank) + "." + name)
}

// Syncs implements datamodel.Syncer.
func (*Manager) Syncs() []string { return []string{table} }

// Changed implements datamodel.Syncer: banks neither come nor go.
func (*Manager) Changed() <-chan struct{} { return nil }

// Rows implements datamodel.Syncer.
func (m *Manager) Rows(context.Context) ([]datamodel.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []datamodel.Row
	for _, b := range m.lay.Banks {
		out = append(out, datamodel.Row{Table: table, Key: "Name", Values: map[string]string{"Name": b.Name, "Available": "true"}})
	}
	return out, nil
}

// Applies implements datamodel.Applier.
func (*Manager) Applies() []string {
	return []string{info + "BootFirmwareImage", table + "{i}.Available"}
}

// Prepare implements datamodel.Applier.
func (m *Manager) Prepare(_ context.Context, writes []datamodel.Write) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range writes {
		if m.value == nil || w.Added || w.Deleted {
			continue // the rows are ours
		}
		object, name := datamodel.SplitParam(w.Path)
		bank := m.value(object + "Name")
		switch {
		case name == "BootFirmwareImage":
			bank = m.value(strings.TrimSuffix(w.Value, ".") + ".Name")
			if err := m.bootable("", bank); err != nil || w.Value == "" {
				return datamodel.Fail(datamodel.InvalidValue, w.Path, "it must name an image whose Status is Available or Active")
			}
			if t := m.onTrial(); t != nil && t.BootID != m.lay.BootID && bank != t.To {
				return datamodel.Fail(datamodel.InvalidValue, w.Path, "the image that runs is not proven yet")
			}
			m.chosen, m.before = bank, m.s.Boot
		case name == "Available" && w.Value == "false" && (bank == m.lay.Active || bank == m.s.Boot):
			return datamodel.Fail(datamodel.InvalidValue, w.Path, "this image runs, or is chosen for the next start")
		}
	}
	return nil
}

// Apply implements datamodel.Applier.
func (m *Manager) Apply(ctx context.Context, writes []datamodel.Write) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range writes {
		if w.Path != info+"BootFirmwareImage" || m.value == nil {
			continue
		}
		bank := m.value(strings.TrimSuffix(w.Value, ".") + ".Name")
		if w.Value == "" { // put back to where nobody had set it
			bank = m.before
		}
		if m.lay.bank(bank) == nil || bank != m.chosen && bank != m.before || bank == m.s.Boot && (m.s.Trial != nil || bank == m.lay.Active) {
			continue // done already
		}
		if err := m.arm(ctx, bank); err != nil {
			return err
		}
	}
	return nil
}

// Commands implements datamodel.Commander.
func (*Manager) Commands() []string {
	return []string{table + "{i}.Download()", table + "{i}.Activate()"}
}

// Run implements datamodel.Commander. The bridge grants one such command at a time.
func (m *Manager) Run(ctx context.Context, inv datamodel.Invocation) (map[string]string, error) {
	if inv.Object.Stored == nil {
		return nil, datamodel.Fail(datamodel.NotSupported, inv.Command, "")
	}
	if err := m.begin(inv.Command); err != nil {
		return nil, err
	}
	defer m.finish()
	bank := inv.Object.Stored(inv.Object.Path + "Name")
	if strings.HasSuffix(inv.Command, ".Download()") {
		return nil, m.download(ctx, inv, bank)
	}
	return nil, m.activate(ctx, inv, bank)
}
