package broker

import (
	"context"
	"sort"
	"strconv"
	"strings"

	"twinspan/datamodel"
)

const servicePath = "Device.USPServices.USPService."

func rowPath(n uint32) string { return servicePath + strconv.FormatUint(uint64(n), 10) + "." }

// Name implements datamodel.Provider.
func (b *Broker) Name() string { return "services" }

// Serves implements datamodel.Provider.
func (b *Broker) Serves() []string { return []string{servicePath + "{i}."} }

// Lists implements datamodel.Lister.
func (b *Broker) Lists() []string { return []string{servicePath} }

// Instances implements datamodel.Lister.
func (b *Broker) Instances(context.Context, string) ([]uint32, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []uint32
	for _, s := range b.byID {
		if s.row != 0 {
			out = append(out, s.row)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out, nil
}

// Read implements datamodel.Provider.
func (b *Broker) Read(_ context.Context, obj datamodel.ObjectRef, _ []string, yield func(name, value string)) error {
	b.mu.Lock()
	var found *service
	var paths string
	for _, s := range b.byID {
		if s.row != 0 && rowPath(s.row) == obj.Path {
			found, paths = s, strings.Join(s.asked, ",")
		}
	}
	b.mu.Unlock()
	if found == nil {
		return nil
	}
	yield("EndpointID", found.endpoint)
	yield("Protocol", "UDS")
	yield("DataModelPaths", paths)
	yield("HasController", strconv.FormatBool(b.agent.HasController(found.endpoint)))
	return nil
}

var (
	_ datamodel.Provider = (*Broker)(nil)
	_ datamodel.Lister   = (*Broker)(nil)
)
