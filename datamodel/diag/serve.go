package diag

import (
	"context"
	"slices"
	"strconv"

	"twinspan/datamodel"
)

// constants are the parameters that say what the tests can do, by object and name. In CWMP some of them are part of the
// object of the test.
var constants = map[string]map[string]string{
	ipDiag: {
		"IPv4PingSupported": "true", "IPv6PingSupported": "true",
		"IPv4TraceRouteSupported": "true", "IPv6TraceRouteSupported": "true",
		"IPv4DownloadDiagnosticsSupported": "true", "IPv6DownloadDiagnosticsSupported": "true",
		"IPv4UploadDiagnosticsSupported": "true", "IPv6UploadDiagnosticsSupported": "true",
		"IPv4UDPEchoDiagnosticsSupported": "true", "IPv6UDPEchoDiagnosticsSupported": "true",
		"IPv4ServerSelectionDiagnosticsSupported": "true", "IPv6ServerSelectionDiagnosticsSupported": "true",
		"IPLayerCapacitySupported": "false",
		"DownloadTransports":       "HTTP", "UploadTransports": "HTTP",
		"DownloadDiagnosticMaxConnections":        strconv.Itoa(maxConnections),
		"UploadDiagnosticsMaxConnections":         strconv.Itoa(maxConnections),
		"DownloadDiagnosticsMaxIncrementalResult": strconv.Itoa(maxIncrements),
		"UploadDiagnosticsMaxIncrementalResult":   strconv.Itoa(maxIncrements),
		"UDPEchoDiagnosticsMaxResults":            strconv.Itoa(maxEchoResults),
	},
	ipDiag + "DownloadDiagnostics.": {
		"DownloadTransports":                      "HTTP",
		"DownloadDiagnosticMaxConnections":        strconv.Itoa(maxConnections),
		"DownloadDiagnosticsMaxIncrementalResult": strconv.Itoa(maxIncrements),
	},
	ipDiag + "UploadDiagnostics.": {
		"UploadTransports":                      "HTTP",
		"UploadDiagnosticsMaxConnections":       strconv.Itoa(maxConnections),
		"UploadDiagnosticsMaxIncrementalResult": strconv.Itoa(maxIncrements),
	},
	ipDiag + "UDPEchoDiagnostics.": {"UDPEchoDiagnosticsMaxResults": strconv.Itoa(maxEchoResults)},
}

var echoStatistics = []string{"EchoPlusSupported", "PacketsReceived", "PacketsResponded", "BytesReceived",
	"BytesResponded", "TimeFirstPacketReceived", "TimeLastPacketReceived"}

// Serves implements datamodel.Provider.
func (p *Provider) Serves() []string {
	var out []string
	for object, params := range constants {
		for name := range params {
			out = append(out, object+name)
		}
	}
	for _, name := range echoStatistics {
		out = append(out, echoConfig+name)
	}
	slices.Sort(out)
	return out
}

// Read implements datamodel.Provider.
func (p *Provider) Read(ctx context.Context, obj datamodel.ObjectRef, params []string, yield func(name, value string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, name := range params {
		v, ok := constants[obj.Path][name]
		if !ok && obj.Path == echoConfig {
			v, ok = p.echo.read(name)
		}
		if ok {
			yield(name, v)
		}
	}
	return nil
}

// Syncs implements datamodel.Syncer: only tables for which files are configured, so that rows of others stay.
func (p *Provider) Syncs() []string {
	var out []string
	if len(p.o.LogFiles) > 0 {
		out = append(out, logTab)
	}
	if len(p.o.ConfigFiles) > 0 {
		out = append(out, confTab)
	}
	return out
}

// Changed implements datamodel.Syncer: the files are those of the options.
func (*Provider) Changed() <-chan struct{} { return nil }

// Rows implements datamodel.Syncer.
func (p *Provider) Rows(ctx context.Context) ([]datamodel.Row, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out []datamodel.Row
	for _, f := range p.o.LogFiles {
		out = append(out, datamodel.Row{Table: logTab, Key: "Name", Values: map[string]string{
			"Name": f.Name, "MaximumSize": strconv.FormatUint(min(f.MaximumSize, 1<<32-1), 10), "Persistent": strconv.FormatBool(f.Persistent)}})
	}
	for _, f := range p.o.ConfigFiles {
		out = append(out, datamodel.Row{Table: confTab, Key: "Name", Values: map[string]string{
			"Name": f.Name, "Version": f.Version, "Description": f.Description,
			"UseForBackupRestore": strconv.FormatBool(f.Export != nil && f.Import != nil)}})
	}
	return out, nil
}
