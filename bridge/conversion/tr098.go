package conversion

import "strings"

const (
	oldRoot = "InternetGatewayDevice."
	newRoot = "Device."
)

// renamed are the parts of TR-098 whose rows and values mean the same elsewhere in TR-181, row by row; the longest prefix that
// fits counts. "" is no place: the path after the change of the root would mean something else. Everything that is not here keeps
// its path after the root, if TR-181 has that.
var renamed = []struct{ from, to string }{
	{"Time.LocalTimeZoneName", "Time.LocalTimeZone"}, // a POSIX zone in both
	{"Time.LocalTimeZone", ""},                       // an offset there, a POSIX zone here
	{"User.", "Users.User."},
	{"UDPEchoConfig.", "IP.Diagnostics.UDPEchoConfig."},
	{"Layer3Forwarding.Forwarding.", "Routing.Router.1.IPv4Forwarding."},
	{"WANDevice.", ""},
	{"LANDevice.", ""},
	{"UserInterface.BackgroundColor", ""}, // texts there, hexBinary here
	{"UserInterface.ButtonColor", ""},
	{"UserInterface.ButtonTextColor", ""},
	{"UserInterface.TextColor", ""},
}

// forwarding are the parameters of a forwarding row that mean the same in both models.
var forwarding = map[string]bool{"": true, "Enable": true, "DestIPAddress": true, "DestSubnetMask": true, "GatewayIPAddress": true, "ForwardingMetric": true}

// translate gives a path of the file as TR-181 has it; false if it is not a mere renaming.
func (f *File) translate(path string) (string, bool) {
	if !f.TR098 {
		return path, true
	}
	rest := strings.TrimPrefix(path, oldRoot)
	for _, r := range renamed {
		tail, ok := strings.CutPrefix(rest, r.from)
		if !ok || tail != "" && r.from[len(r.from)-1] != '.' {
			continue
		}
		if r.to == "" {
			return "", false
		}
		if _, column, row := strings.Cut(tail, "."); r.from == "Layer3Forwarding.Forwarding." && row && !forwarding[column] {
			return "", false // the interface is named by its path in the old model
		}
		return newRoot + r.to + tail, true
	}
	return newRoot + rest, true
}
