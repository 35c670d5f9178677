package cwmp

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"twinspan/cwmp/soap"
	"twinspan/datamodel/diag"
)

// DIA-02, DIA-09, DIA-10: real tests of package diag, started by the ACS.
func TestDIA09Real(t *testing.T) {
	t.Parallel()
	const size = 200_000
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(strings.Repeat("x", size)))
	}))
	t.Cleanup(files.Close)
	r := newRig(t, func(o *Options) {
		p, err := diag.New(diag.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		if err := o.Engine.AddProvider(p); err != nil {
			t.Fatal(err)
		}
	}, nil)
	const download, ping = "Device.IP.Diagnostics.DownloadDiagnostics.", "Device.IP.Diagnostics.IPPing."
	test := func(object string, kv ...string) map[string]string {
		r.ended(1)
		n := r.acs.count()
		if m, ok := r.set(append(kv, object+stateParam, stateRequested)...).(*soap.SetParameterValuesResponse); !ok {
			t.Fatalf("%s refused: %#v", object, m)
		}
		r.sessionWith(n, evDiagnostics)
		return valuesOf(t, r.rpc(&soap.GetParameterValues{ParameterNames: []string{object}}))
	}
	got := test(download, download+"DownloadURL", files.URL+"/file")
	moment := func(name string) time.Time {
		at, err := time.Parse(time.RFC3339Nano, got[download+name])
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return at
	}
	bytes, _ := strconv.Atoi(got[download+"TestBytesReceived"])
	total, _ := strconv.Atoi(got[download+"TotalBytesReceived"])
	if got[download+stateParam] != stateComplete || bytes < size || total < bytes ||
		moment("ROMTime").After(moment("BOMTime")) || moment("BOMTime").After(moment("EOMTime")) {
		t.Errorf("download: %v", got)
	}
	got = test(download, download+"DownloadURL", deadAddress(t))
	if got[download+stateParam] != "Error_InitConnectionFailed" || got[download+"TestBytesReceived"] != "0" {
		t.Errorf("dead port: %v", got)
	}
	got = test(ping, ping+"Host", "nobody.invalid", ping+"NumberOfRepetitions", "1", ping+"Timeout", "1000")
	if got[ping+stateParam] != "Error_CannotResolveHostName" {
		t.Errorf("no host: %v", got)
	}
}
