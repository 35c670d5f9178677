package cwmp

import (
	"context"
	"slices"
	"strings"
	"time"

	"twinspan/bridge"
	"twinspan/cwmp/soap"
	"twinspan/datamodel"
)

// maxInformParams bounds the ParameterList of one Inform: changed parameters beyond it wait for the next one.
const maxInformParams = 1024

// forcedInform lists, in CWMP's spelling, the parameters that the model wants in every Inform (TR-181; INF-02).
func forcedInform(s *datamodel.Schema) []string {
	var out []string
	walkParams(s.Root(), func(p *datamodel.Param, f *datamodel.Facts) {
		if f.ForcedInform && !strings.Contains(p.Path(), "{i}") {
			if path, ok := datamodel.FromCanonical(datamodel.CWMP, p.Path()); ok {
				out = append(out, path)
			}
		}
	})
	return out
}

// buildInform reads what the Inform tells from the newest version (TR-069 A.3.3.1).
func (c *CPE) buildInform(ctx context.Context, job sessionJob) (*soap.Inform, error) {
	v := c.e.View(acsWriter)
	id := c.deviceID(ctx, v)
	m := &soap.Inform{
		DeviceID:     soap.DeviceID{Manufacturer: id.manufacturer, OUI: id.oui, ProductClass: id.productClass, SerialNumber: id.serial},
		MaxEnvelopes: 1,
		CurrentTime:  time.Now(),
		RetryCount:   uint32(job.retryCount),
	}
	if c.o.TimeKnown != nil && !c.o.TimeKnown() {
		m.CurrentTime = time.Time{} // TR-069 A.2.1: the unknown time
	}
	for _, e := range job.events {
		m.Event = append(m.Event, soap.Event{EventCode: e.Code, CommandKey: e.Key})
	}
	names := slices.Clone(c.forced)
	for _, path := range job.changed {
		if p, ok := datamodel.FromCanonical(datamodel.CWMP, path); ok {
			names = append(names, p)
		}
	}
	names = append(names, c.informParameters(ctx, v, job.events)...)
	seen, sp := map[string]bool{}, newSpeller(ctx, v)
	for _, name := range names {
		ms, err := resolve(v, name)
		if err != nil {
			continue // the row is gone since; a name that matches nothing adds nothing (IPT-04)
		}
		for _, match := range ms {
			if match.Param == nil || seen[match.Path] || len(m.ParameterList) >= 2*maxInformParams { // INF-12
				continue
			}
			seen[match.Path] = true
			if m.ParameterList, err = appendValues(ctx, v, sp, match, m.ParameterList); err != nil {
				continue
			}
		}
	}
	return m, nil
}

// informParameters gives the names of the enabled InformParameter rows whose EventList fits: an empty list stands for every
// event but "4 VALUE CHANGE" (TR-181 ManagementServer.InformParameter). IPT-02, IPT-05
func (c *CPE) informParameters(ctx context.Context, v *bridge.View, events []event) []string {
	const table = msPath + "InformParameter."
	ms, err := v.Resolve(table, datamodel.ResolvePolicy{AllowTable: true})
	if err != nil || len(ms) != 1 {
		return nil // not in the profile
	}
	var out []string
	v.Objects(ms[0], 1, func(row datamodel.Match) bool {
		var enabled bool
		var name, list string
		err := v.Params(ctx, row, func(p *datamodel.Param, value string) bool {
			switch p.Name {
			case "Enable":
				enabled = value == "true"
			case "ParameterName":
				name = value
			case "EventList":
				list = value
			}
			return true
		})
		if err == nil && enabled && name != "" && eventListed(list, events) {
			out = append(out, name)
		}
		return len(out) < maxInformParams
	})
	return out
}

func eventListed(list string, events []event) bool {
	for _, e := range events {
		if list == "" {
			if e.Code != evValueChange {
				return true
			}
			continue
		}
		for code := range strings.SplitSeq(list, ",") {
			if strings.TrimSpace(code) == e.Code {
				return true
			}
		}
	}
	return false
}

// deviceID reads who this device is. An OUI must be six upper-case hex digits to be sent at all.
func (c *CPE) deviceID(ctx context.Context, v *bridge.View) deviceID {
	get := func(name string) string {
		ms, err := v.Resolve("Device.DeviceInfo."+name, datamodel.ResolvePolicy{Want: datamodel.WantParam, MissingIsError: true})
		if err != nil || len(ms) != 1 {
			return ""
		}
		value, err := v.Value(ctx, ms[0])
		if err != nil {
			return ""
		}
		return cut(value, 64)
	}
	return deviceID{manufacturer: get("Manufacturer"), oui: strings.ToUpper(get("ManufacturerOUI")),
		productClass: get("ProductClass"), serial: get("SerialNumber")}
}
