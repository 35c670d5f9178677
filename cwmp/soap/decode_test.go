package soap

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wrap makes an envelope with unusual prefixes, so that every test compares by namespace.
func wrap(header, body string) []byte {
	return []byte(`<?xml version="1.0"?><E:Envelope xmlns:E="` + NSEnvelope + `" xmlns:ns7="` + NSCWMP12 + `" xmlns:q="` + NSSchema +
		`" xmlns:i="` + NSInstance + `" xmlns:c="` + NSEncoding + `"><E:Header>` + header + `</E:Header><E:Body>` + body + `</E:Body></E:Envelope>`)
}

func TestFieldPractice(t *testing.T) {
	id := `<ns7:ID E:mustUnderstand="1">7</ns7:ID>`
	for name, c := range map[string]struct {
		body []byte
		want Message
	}{
		"unusual prefixes": {wrap(id, `<ns7:Reboot><CommandKey>k</CommandKey></ns7:Reboot>`), &Reboot{CommandKey: "k"}},
		"default namespace": {[]byte(`<Envelope xmlns="` + NSEnvelope + `"><Header><ID xmlns="` + NSCWMP10 + `">7</ID></Header><Body><Reboot xmlns="` +
			NSCWMP10 + `"><CommandKey>k</CommandKey></Reboot></Body></Envelope>`), &Reboot{CommandKey: "k"}},
		"qualified arguments": {wrap(id, `<ns7:Reboot><ns7:CommandKey>k</ns7:CommandKey></ns7:Reboot>`), &Reboot{CommandKey: "k"}},
		"comments, CDATA, instructions": {wrap(id, `<!-- a --><ns7:Reboot><?x y?><CommandKey>a<!-- b --><![CDATA[<&]]>c</CommandKey></ns7:Reboot>`),
			&Reboot{CommandKey: "a<&c"}},
		"unknown elements and attributes": {wrap(id, `<ns7:Reboot a="1" i:b="2"><X_Foo><CommandKey>no</CommandKey></X_Foo><CommandKey z="">k</CommandKey></ns7:Reboot>`),
			&Reboot{CommandKey: "k"}},
		"other order": {wrap(id, `<ns7:AddObject><ParameterKey>p</ParameterKey><ObjectName>Device.A.</ObjectName></ns7:AddObject>`),
			&AddObject{ObjectName: "Device.A.", ParameterKey: "p"}},
		"wrong count, other item names": {wrap(id, `<ns7:GetParameterValues><ParameterNames c:arrayType="q:string[9]"><item>Device.</item><string> x </string></ParameterNames></ns7:GetParameterValues>`),
			&GetParameterValues{ParameterNames: []string{"Device.", " x "}}},
		"no arrayType, empty list":            {wrap(id, `<ns7:GetParameterValues><ParameterNames/></ns7:GetParameterValues>`), &GetParameterValues{}},
		"NextLevel true":                      {wrap(id, `<ns7:GetParameterNames><ParameterPath/><NextLevel> true </NextLevel></ns7:GetParameterNames>`), &GetParameterNames{NextLevel: true}},
		"NextLevel 0":                         {wrap(id, `<ns7:GetParameterNames><ParameterPath>Device.</ParameterPath><NextLevel>0</NextLevel></ns7:GetParameterNames>`), &GetParameterNames{ParameterPath: "Device."}},
		"values of all kinds of types":        {wrap(id, spv), spvWant},
		"empty elements without Change":       {wrap(id, `<ns7:SetParameterAttributes><ParameterList><s><Name>Device.</Name><NotificationChange>false</NotificationChange><Notification/><AccessListChange>0</AccessListChange><AccessList/></s></ParameterList></ns7:SetParameterAttributes>`), &SetParameterAttributes{ParameterList: []SetAttribute{{Name: "Device."}}}},
		"InformResponse without MaxEnvelopes": {wrap(id, `<ns7:InformResponse/>`), &InformResponse{}},
		"Download with holes": {wrap(id, `<ns7:Download><CommandKey/><FileType>1 Firmware Upgrade Image</FileType><URL>`+strings.Repeat("u", 600)+`</URL><FileSize/></ns7:Download>`),
			&Download{FileType: "1 Firmware Upgrade Image", URL: strings.Repeat("u", 600)}},
		"time with fraction and without zone": {wrap(id, `<ns7:UploadResponse><Status>0</Status><StartTime>2026-01-02T03:04:05.678</StartTime><CompleteTime>2026-01-02T03:04:05+01:00</CompleteTime></ns7:UploadResponse>`),
			&UploadResponse{StartTime: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC), CompleteTime: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))}},
		"unknown method":       {wrap(id, `<ns7:X_Foo><a/></ns7:X_Foo>`), &UnknownMethod{Name: "X_Foo", Namespace: NSCWMP12}},
		"method of no one":     {wrap(id, `<Reboot/>`), &UnknownMethod{Name: "Reboot"}},
		"future namespace":     {wrap(id, `<z:Reboot xmlns:z="urn:dslforum-org:cwmp-2-0"/>`), &UnknownMethod{Name: "Reboot", Namespace: "urn:dslforum-org:cwmp-2-0"}},
		"fault, qualified":     {wrap(id, `<E:Fault><faultcode>E:Server</faultcode><faultstring>CWMP fault</faultstring><detail><ns7:Fault><FaultCode>8005</FaultCode></ns7:Fault></detail></E:Fault>`), &Fault{Code: 8005, SOAPCode: "Server", SOAPString: "CWMP fault"}},
		"fault without detail": {wrap(id, `<E:Fault><faultcode>Client</faultcode><faultstring>no</faultstring></E:Fault>`), &Fault{SOAPCode: "Client", SOAPString: "no"}},
	} {
		t.Run(name, func(t *testing.T) {
			env, err := Decode(c.body, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if env.Header.ID != "7" {
				t.Errorf("ID %q", env.Header.ID)
			}
			if up, ok := env.Body.(*UploadResponse); ok { // zones are compared as moments
				want := c.want.(*UploadResponse)
				if !up.StartTime.Equal(want.StartTime) || !up.CompleteTime.Equal(want.CompleteTime) {
					t.Errorf("%+v", up)
				}
				return
			}
			if !reflect.DeepEqual(env.Body, c.want) {
				t.Errorf("got  %+v\nwant %+v", env.Body, c.want)
			}
		})
	}
}

const spv = `<ns7:SetParameterValues><ParameterList><ParameterValueStruct><Name>a</Name><Value i:type="q:unsignedInt"> 5 </Value></ParameterValueStruct>` +
	`<ParameterValueStruct><Name>b</Name><Value i:type="xsd:base64">eA==</Value></ParameterValueStruct>` +
	`<ParameterValueStruct><Name>c</Name><Value>` + "x\r\ny" + `</Value></ParameterValueStruct>` +
	`<ParameterValueStruct><Name>d</Name><Value i:type="q:anyURI">u</Value></ParameterValueStruct>` +
	`<ParameterValueStruct><Value type="int">&#233;&amp;&#xD;</Value><Name>e</Name></ParameterValueStruct></ParameterList><ParameterKey/></ns7:SetParameterValues>`

var spvWant = &SetParameterValues{ParameterList: []ParameterValue{{"a", " 5 ", UnsignedInt}, {"b", "eA==", Base64}, {"c", "x\ny", NoType}, {"d", "u", OtherType}, {"e", "é&\r", NoType}}}

func TestHeaders(t *testing.T) {
	env, err := Decode(wrap(`<ns7:ID E:mustUnderstand="1">a b/&lt;&amp;é-1</ns7:ID><ns7:HoldRequests E:mustUnderstand="1">1</ns7:HoldRequests>`+
		`<ns7:NoMoreRequests>1</ns7:NoMoreRequests><ns7:SessionTimeout>45</ns7:SessionTimeout>`+
		`<ns7:SupportedCWMPVersions>1.0, 1.4</ns7:SupportedCWMPVersions><ns7:UseCWMPVersion E:mustUnderstand="1"> 1.4 </ns7:UseCWMPVersion>`+
		`<x:Trace xmlns:x="urn:x">1</x:Trace><x:Far xmlns:x="urn:x" E:mustUnderstand="1" E:actor="urn:else">1</x:Far><ns7:Later/>`, `<ns7:FactoryReset/>`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := Header{ID: "a b/<&é-1", HasID: true, HoldRequests: new(true), SessionTimeout: 45, SupportedCWMPVersions: []string{"1.0", "1.4"}, UseCWMPVersion: "1.4"}
	if !reflect.DeepEqual(env.Header, want) || !env.Header.Held() || env.Namespace != NSCWMP12 {
		t.Errorf("%+v", env)
	}
	env, err = Decode(wrap(``, `<ns7:FactoryReset/>`), Options{})
	if err != nil || env.Header.HasID || env.Header.Held() {
		t.Errorf("%+v %v", env, err)
	}
}

func TestSurrogatesAsText(t *testing.T) {
	env, err := Decode(wrap(``, `<ns7:Reboot><CommandKey>&#65;<![CDATA[&#xD800;]]><!-- &#55296; -->&#x1F6F0;</CommandKey></ns7:Reboot>`), Options{})
	if err != nil || env.Body.(*Reboot).CommandKey != "A&#xD800;\U0001F6F0" {
		t.Errorf("%+v %v", env, err)
	}
	if many := strings.Repeat("&#xD8", 200_000); refersToSurrogate([]byte("<![CDATA["+many)) || refersToSurrogate([]byte(many)) {
		t.Error("there is none")
	}
}

// Everything refused: with the kind that decides the answer, and the ID where it can be had.
func TestRefused(t *testing.T) {
	id := `<ns7:ID E:mustUnderstand="1">7</ns7:ID>`
	names := `<ns7:GetParameterValues><ParameterNames>` + strings.Repeat("<string>Device.</string>", 80) + `</ParameterNames></ns7:GetParameterValues>`
	for name, c := range map[string]struct {
		body []byte
		kind Kind
		id   bool
	}{
		"nothing":               {nil, Malformed, false},
		"no XML":                {[]byte("hello"), Malformed, false},
		"cut":                   {wrap(id, "")[:120], Malformed, false},
		"two colons":            {wrap(id, `<E:ns7:Fault/>`), Malformed, false},
		"unbound prefix":        {[]byte(`<E:Envelope><E:Body/></E:Envelope>`), Malformed, false},
		"two roots":             {append(wrap(id, `<ns7:FactoryReset/>`), `<a/>`...), Malformed, false},
		"text after":            {append(wrap(id, `<ns7:FactoryReset/>`), `text`...), Malformed, false},
		"DTD":                   {append([]byte(`<!DOCTYPE a [<!ENTITY b "c">]>`), wrap(id, `<ns7:FactoryReset/>`)[21:]...), Malformed, false},
		"unknown entity":        {wrap(id, `<ns7:Reboot><CommandKey>&b;</CommandKey></ns7:Reboot>`), Malformed, false},
		"invalid UTF-8":         {wrap(id, "<ns7:Reboot><CommandKey>\xff</CommandKey></ns7:Reboot>"), Malformed, false},
		"half a surrogate":      {wrap(id, `<ns7:Reboot><CommandKey><![CDATA[&#xD800;]]><!-- &#55296; -->&#xD800;</CommandKey></ns7:Reboot>`), Malformed, false},
		"half in decimals":      {wrap(id, `<ns7:Reboot><CommandKey>&#65;&#0055296;</CommandKey></ns7:Reboot>`), Malformed, false},
		"other charset":         {[]byte(`<?xml version="1.0" encoding="EBCDIC"?><a/>`), Malformed, false},
		"not an envelope":       {[]byte(`<html/>`), Malformed, false},
		"SOAP 1.2":              {[]byte(`<E:Envelope xmlns:E="http://www.w3.org/2003/05/soap-envelope"><E:Body/></E:Envelope>`), VersionMismatch, false},
		"no Body":               {[]byte(`<E:Envelope xmlns:E="` + NSEnvelope + `"/>`), Malformed, false},
		"two Bodies":            {[]byte(`<E:Envelope xmlns:E="` + NSEnvelope + `"><E:Body/><E:Body/></E:Envelope>`), Malformed, false},
		"two methods":           {wrap(id, `<ns7:FactoryReset/><ns7:FactoryReset/>`), Malformed, true},
		"empty Body":            {wrap(id, ``), BadArguments, true},
		"unknown header":        {wrap(id+`<x:T xmlns:x="urn:x" E:mustUnderstand="1"/>`, `<ns7:FactoryReset/>`), MustUnderstand, true},
		"unknown cwmp header":   {wrap(id+`<ns7:T E:mustUnderstand="true"/>`, `<ns7:FactoryReset/>`), MustUnderstand, true},
		"bad HoldRequests":      {wrap(id+`<ns7:HoldRequests>maybe</ns7:HoldRequests>`, `<ns7:FactoryReset/>`), BadArguments, true},
		"no list":               {wrap(id, `<ns7:GetParameterValues/>`), BadArguments, true},
		"no NextLevel":          {wrap(id, `<ns7:GetParameterNames><ParameterPath/></ns7:GetParameterNames>`), BadArguments, true},
		"bad NextLevel":         {wrap(id, `<ns7:GetParameterNames><ParameterPath/><NextLevel>2</NextLevel></ns7:GetParameterNames>`), BadArguments, true},
		"no Value":              {wrap(id, `<ns7:SetParameterValues><ParameterList><s><Name>a</Name></s></ParameterList><ParameterKey/></ns7:SetParameterValues>`), BadArguments, true},
		"long ParameterKey":     {wrap(id, `<ns7:AddObject><ObjectName>a.</ObjectName><ParameterKey>`+strings.Repeat("é", 33)+`</ParameterKey></ns7:AddObject>`), BadArguments, true},
		"Notification 7":        {wrap(id, `<ns7:SetParameterAttributes><ParameterList><s><Name>a</Name><NotificationChange>1</NotificationChange><Notification>7</Notification><AccessListChange>0</AccessListChange></s></ParameterList></ns7:SetParameterAttributes>`), BadArguments, true},
		"DelaySeconds negative": {wrap(id, `<ns7:ScheduleInform><DelaySeconds>-1</DelaySeconds><CommandKey/></ns7:ScheduleInform>`), BadArguments, true},
		"DelaySeconds 2^32":     {wrap(id, `<ns7:ScheduleInform><DelaySeconds>4294967296</DelaySeconds><CommandKey/></ns7:ScheduleInform>`), BadArguments, true},
		"bad time":              {wrap(id, `<ns7:UploadResponse><Status>0</Status><StartTime>now</StartTime></ns7:UploadResponse>`), BadArguments, true},
		"unknown operation":     {wrap(id, `<ns7:ChangeDUState><Operations i:type="ns7:Other"/></ns7:ChangeDUState>`), BadArguments, true},
		"65 events":             {wrap(id, `<ns7:Inform><DeviceId/><Event>`+strings.Repeat(`<e><EventCode>M Reboot</EventCode><CommandKey/></e>`, 65)+`</Event><ParameterList/></ns7:Inform>`), BadArguments, true},
		"too long":              {wrap(id, `<ns7:Reboot><CommandKey>`+strings.Repeat("x", 20000)+`</CommandKey></ns7:Reboot>`), TooLarge, true},
		"too deep":              {wrap(id, `<ns7:Reboot>`+strings.Repeat("<a>", 40)+strings.Repeat("</a>", 40)+`</ns7:Reboot>`), TooLarge, true},
		"too many elements":     {wrap(id, `<ns7:Reboot>`+strings.Repeat("<a/>", 500)+`</ns7:Reboot>`), TooLarge, true},
		"too many comments":     {wrap(id, `<ns7:Reboot>`+strings.Repeat("<!---->", 500)+`</ns7:Reboot>`), TooLarge, true},
		"too many attributes":   {wrap(id, `<ns7:Reboot `+attributes(500)+`/>`), TooLarge, true},
		"too many items":        {wrap(id, names), TooLarge, true},
	} {
		t.Run(name, func(t *testing.T) {
			env, err := Decode(c.body, Options{Limits: Limits{MaxBytes: 16384, MaxDepth: 32, MaxElements: 300, MaxAttributes: 300, MaxList: 70}})
			var e *Error
			if !errors.As(err, &e) || e.Kind != c.kind {
				t.Fatalf("error %v", err)
			}
			if c.id && (env == nil || env.Header.ID != "7") {
				t.Errorf("the ID is lost: %+v", env)
			}
			if c.kind == BadArguments && name != "empty Body" && env.Body == nil {
				t.Error("the method is lost")
			}
			if _, err := Append(nil, &Envelope{Header: Header{ID: "7"}, Body: e.Fault()}); err != nil {
				t.Error("the answer cannot be written:", err)
			}
		})
	}
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("a" + strconv.Itoa(i) + `="x" `)
	}
	return b.String()
}

func TestFaultOfError(t *testing.T) {
	for kind, want := range map[Kind]Fault{
		TooLarge:        {Code: 9004, FaultString: "e: t"},
		BadArguments:    {Code: 9003, FaultString: "e: t"},
		MustUnderstand:  {SOAPCode: "MustUnderstand", SOAPString: "e: t"},
		VersionMismatch: {SOAPCode: "VersionMismatch", SOAPString: "e: t"},
		Malformed:       {SOAPCode: "Client", SOAPString: "e: t"},
	} {
		if got := (&Error{Kind: kind, Element: "e", Text: "t"}).Fault(); !reflect.DeepEqual(*got, want) {
			t.Errorf("%v: %+v", kind, got)
		}
	}
}

// A flood of the shortest elements must be refused before a document is built of it.
func TestElementFloodIsCheap(t *testing.T) {
	flood := []byte(strings.Repeat("<a/>", 250_000))
	if n := testing.AllocsPerRun(3, func() { _, _ = Decode(flood, Options{}) }); n > 100 {
		t.Errorf("%v allocations for a body that is refused", n)
	}
}

func TestCharsets(t *testing.T) {
	text := "<E:Envelope xmlns:E=\"" + NSEnvelope + "\" xmlns:c=\"" + NSCWMP12 + "\"><E:Body><c:Reboot><CommandKey>caf\xe9</CommandKey></c:Reboot></E:Body></E:Envelope>"
	for name, c := range map[string]struct{ body, charset string }{
		"declared":          {`<?xml version="1.0" encoding="ISO-8859-1"?>` + text, ""},
		"in HTTP":           {text, "iso-8859-1"},
		"HTTP wins":         {`<?xml version="1.0" encoding="UTF-8"?>` + text, "ISO-8859-1"},
		"UTF-8":             {`<?xml version="1.0" encoding="utf-8"?>` + strings.ReplaceAll(text, "\xe9", "é"), "utf-8"},
		"byte order mark":   {"\xef\xbb\xbf" + strings.ReplaceAll(text, "\xe9", "é"), ""},
		"long, over blocks": {"<!--" + strings.Repeat("\xe9 ", 3001) + "-->" + text, "latin1"},
	} {
		env, err := Decode([]byte(c.body), Options{Charset: c.charset})
		if err != nil || env.Body.(*Reboot).CommandKey != "café" {
			t.Errorf("%s: %+v %v", name, env, err)
		}
	}
}

func TestStrict(t *testing.T) {
	for name, body := range map[string]string{
		"no xsi:type":      `<ns7:SetParameterValues><ParameterList c:arrayType="x[1]"><s><Name>a</Name><Value>1</Value></s></ParameterList><ParameterKey/></ns7:SetParameterValues>`,
		"unknown xsi:type": `<ns7:SetParameterValues><ParameterList c:arrayType="x[1]"><s><Name>a</Name><Value i:type="q:anyURI">1</Value></s></ParameterList><ParameterKey/></ns7:SetParameterValues>`,
		"count":            `<ns7:GetParameterValues><ParameterNames c:arrayType="q:string[2]"><string>a</string></ParameterNames></ns7:GetParameterValues>`,
		"no count":         `<ns7:GetParameterValues><ParameterNames><string>a</string></ParameterNames></ns7:GetParameterValues>`,
		"long name":        `<ns7:GetParameterValues><ParameterNames c:arrayType="q:string[1]"><string>` + strings.Repeat("a", 257) + `</string></ParameterNames></ns7:GetParameterValues>`,
		"missing element":  `<ns7:Download><CommandKey/></ns7:Download>`,
	} {
		if _, err := Decode(wrap("", body), Options{}); err != nil {
			t.Errorf("%s: refused without Strict: %v", name, err)
		}
		var e *Error
		if _, err := Decode(wrap("", body), Options{Strict: true}); !errors.As(err, &e) || e.Kind != BadArguments {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTypes(t *testing.T) {
	for typ := String; typ <= Decimal; typ++ {
		if got := ParseType(typ.String()); got != typ {
			t.Errorf("%v reads as %v", typ, got)
		}
	}
	for name, want := range map[string]Type{"": NoType, "xsd:base64": Base64, "xs:base64Binary": Base64, " int ": Int, "xsd:": NoType, "foo": OtherType} {
		if got := ParseType(name); got != want {
			t.Errorf("ParseType(%q) = %v", name, got)
		}
	}
	if Base64.String() != "soap-enc:base64" || Type(200).String() != "" {
		t.Error("names of types")
	}
}

func TestFaultCodes(t *testing.T) {
	for code := MethodNotSupported; code <= DUVersionExists; code++ {
		if strings.HasPrefix(code.String(), "Fault ") {
			t.Errorf("no meaning for %d", code)
		}
	}
	for code := ACSMethodNotSupported; code <= ACSVersionIncompatible; code++ {
		if strings.HasPrefix(code.String(), "Fault ") {
			t.Errorf("no meaning for %d", code)
		}
	}
	for code, want := range map[FaultCode]string{9000: "Server", 9001: "Server", 9002: "Server", 9003: "Client", 9004: "Server", 9005: "Client",
		9006: "Client", 9007: "Client", 9008: "Client", 9009: "Server", 9010: "Server", 9013: "Server", 8003: "Client", 8005: "Server"} {
		if got := code.SOAPCode(); got != want {
			t.Errorf("%d is of the %s", code, got)
		}
	}
	if FaultCode(9809).String() != "Fault 9809" {
		t.Error("vendor code")
	}
}

// The texts on the wire, byte for byte. Run with UPDATE_GOLDEN=1 after a wanted change, and read the difference.
func TestGolden(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for name, env := range map[string]*Envelope{
		"inform": {Header: Header{ID: "1", SessionTimeout: 60, SupportedCWMPVersions: []string{"1.0", "1.4"}}, Body: &Inform{
			DeviceID: DeviceID{"Twin & Span", "00D09E", "Box", "42"}, Event: []Event{{"1 BOOT", ""}, {"M Reboot", "key"}}, MaxEnvelopes: 1,
			CurrentTime: at, RetryCount: 2, ParameterList: []ParameterValue{{"Device.RootDataModelVersion", "2.19", String}, {"Device.X", "eA==", Base64}}}},
		"informresponse":   {Header: Header{ID: "1", HoldRequests: new(false), UseCWMPVersion: "1.4"}, Body: &InformResponse{MaxEnvelopes: 1}},
		"gpvresponse":      {Header: Header{ID: "a<b"}, Body: &GetParameterValuesResponse{ParameterList: []ParameterValue{{"Device.A", "1 < 2 & \"3\"\r\n\t\x01é", String}, {"Device.B", "7", UnsignedInt}}}},
		"gpvempty":         {Header: Header{ID: "2"}, Body: &GetParameterValuesResponse{}},
		"gpn10":            {Namespace: NSCWMP10, Header: Header{HasID: true}, Body: &GetParameterNamesResponse{ParameterList: []ParameterInfo{{"Device.", false}}}},
		"fault":            {Header: Header{ID: "3"}, Body: &Fault{Code: 9003, SetParameterValuesFault: []SetParameterValuesFault{{"Device.A", 9005, ""}, {"Device.B", 9007, "not <1>"}}}},
		"mustunderstand":   {Body: &Fault{SOAPCode: "MustUnderstand", SOAPString: "T: header not understood"}},
		"transfercomplete": {Header: Header{ID: "4"}, Body: &TransferComplete{CommandKey: "k", StartTime: at}},
		"changedustate": {Header: Header{ID: "5"}, Body: &ChangeDUState{CommandKey: "k", Operations: []DUOperation{
			{Kind: Install, URL: "http://x/", UUID: "u"}, {Kind: Update}, {Kind: Uninstall, UUID: "u", Version: "1"}}}},
		"dustatechangecomplete": {Header: Header{ID: "6"}, Body: &DUStateChangeComplete{Results: []DUResult{{UUID: "u", CurrentState: "Installed", Resolved: true, StartTime: at, CompleteTime: at}}}},
	} {
		got, err := Append(nil, env)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", "golden", name+".xml")
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
		if _, err := Decode(got, Options{Strict: true}); err != nil && name != "gpn10" {
			t.Errorf("%s does not read strictly: %v", name, err)
		}
	}
}

func TestNotWritable(t *testing.T) {
	for name, env := range map[string]*Envelope{
		"no body":      {},
		"unknown":      {Body: &UnknownMethod{Name: "X"}},
		"namespace":    {Namespace: `urn:x" evil="`, Body: &FactoryReset{}},
		"Status 2":     {Body: &SetParameterValuesResponse{Status: 2}},
		"no operation": {Body: &ChangeDUState{Operations: []DUOperation{{}}}},
		"year 10000":   {Body: &Inform{CurrentTime: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"65 events":    {Body: &Inform{Event: make([]Event, 65)}},
	} {
		if out, err := Append([]byte("kept"), env); err == nil || string(out) != "kept" {
			t.Errorf("%s: %q %v", name, out, err)
		}
	}
	if err := Encode(brokenWriter{}, bigResponse(5000)); !errors.Is(err, errBroken) {
		t.Errorf("broken writer: %v", err)
	}
}

type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// The budget of the response of 5,000 parameters, in what a test can count reliably.
func TestEncodeAllocations(t *testing.T) {
	env := bigResponse(5000)
	buf := make([]byte, 0, 2<<20)
	perValue := testing.AllocsPerRun(5, func() {
		if _, err := Append(buf, env); err != nil {
			t.Fatal(err)
		}
	}) / 5000
	if perValue > 1.1 { // one for each value that needs escaping
		t.Errorf("%.2f allocations for each parameter", perValue)
	}
}
