//go:build omit_reach

package cwmp

import (
	"testing"

	"twinspan/cwmp/soap"
)

// A program without these parts says so and refuses to switch them on.
func TestReachOmitted(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	if got := r.get(msPath + "SupportedConnReqMethods"); got != "HTTP" {
		t.Error(got)
	}
	for _, kv := range [][2]string{{"STUNEnable", "true"}, {"LightweightNotificationProtocolsUsed", "UDP"}} {
		wantFault(t, r.rpc(&soap.SetParameterValues{ParameterList: values(msPath+kv[0], kv[1])}), soap.InvalidArguments)
	}
	a := &soap.SetParameterAttributes{ParameterList: []soap.SetAttribute{{Name: msPath + "URL", NotificationChange: true, Notification: 5}}}
	wantFault(t, r.rpc(a), soap.NotificationRejected) // ATT-09
	if (&Options{DiscoveryFiles: []string{"x"}}).checkReach() == nil {
		t.Error("discovery was taken")
	}
}
