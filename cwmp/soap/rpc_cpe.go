package soap

import (
	"iter"
	"time"
)

// Lengths in the comments are characters; the ones of CommandKey and ParameterKey are always enforced on receipt
// because they are stored and sent back, the others only with Options.Strict.

// ParameterValue is one ParameterValueStruct.
type ParameterValue struct {
	Name  string // <= 256
	Value string
	Type  Type
}

func (v *ParameterValue) fields(c codec) {
	c.text("Name", &v.Name, 256)
	c.value("Value", &v.Value, &v.Type)
}

// ParameterInfo is one ParameterInfoStruct.
type ParameterInfo struct {
	Name     string
	Writable bool
}

func (v *ParameterInfo) fields(c codec) {
	c.text("Name", &v.Name, 256)
	c.boolean("Writable", &v.Writable)
}

// ParameterAttribute is one ParameterAttributeStruct.
type ParameterAttribute struct {
	Name         string
	Notification int // 0..6
	AccessList   []string
}

func (v *ParameterAttribute) fields(c codec) {
	c.text("Name", &v.Name, 256)
	c.integer("Notification", &v.Notification, 0, 6)
	c.texts("AccessList", &v.AccessList, 64)
}

// SetAttribute is one SetParameterAttributesStruct. Notification and AccessList count only with their Change.
type SetAttribute struct {
	Name               string
	NotificationChange bool
	Notification       int
	AccessListChange   bool
	AccessList         []string
}

func (v *SetAttribute) fields(c codec) {
	c.text("Name", &v.Name, 256)
	c.boolean("NotificationChange", &v.NotificationChange)
	if !c.decoding() || v.NotificationChange {
		c.integer("Notification", &v.Notification, 0, 6)
	}
	c.boolean("AccessListChange", &v.AccessListChange)
	if !c.decoding() || v.AccessListChange {
		c.texts("AccessList", &v.AccessList, 64)
	}
}

// GetRPCMethods is sent by either side.
type GetRPCMethods struct{}

// GetRPCMethodsResponse lists the methods that work.
type GetRPCMethodsResponse struct{ MethodList []string }

// SetParameterValues has at least one parameter.
type SetParameterValues struct {
	ParameterList []ParameterValue
	ParameterKey  string // <= 32
}

// SetParameterValuesResponse: Status 0 applied, 1 stored but not yet applied.
type SetParameterValuesResponse struct{ Status int }

// GetParameterValues has at least one name; a partial path ends in a dot.
type GetParameterValues struct{ ParameterNames []string }

// GetParameterValuesResponse carries ParameterList, or, for writing only, Count values from the iterator Values.
type GetParameterValuesResponse struct {
	ParameterList []ParameterValue
	Count         int
	Values        iter.Seq[ParameterValue]
}

// GetParameterNames asks for everything below ParameterPath, or with NextLevel for its children.
type GetParameterNames struct {
	ParameterPath string // <= 256
	NextLevel     bool
}

// GetParameterNamesResponse carries ParameterList, or, for writing only, Count entries from the iterator Names.
type GetParameterNamesResponse struct {
	ParameterList []ParameterInfo
	Count         int
	Names         iter.Seq[ParameterInfo]
}

// SetParameterAttributes is all or nothing.
type SetParameterAttributes struct{ ParameterList []SetAttribute }

// SetParameterAttributesResponse is empty.
type SetParameterAttributesResponse struct{}

// GetParameterAttributes has at least one name.
type GetParameterAttributes struct{ ParameterNames []string }

// GetParameterAttributesResponse carries ParameterList, or, for writing only, Count entries from the iterator
// Attributes.
type GetParameterAttributesResponse struct {
	ParameterList []ParameterAttribute
	Count         int
	Attributes    iter.Seq[ParameterAttribute]
}

// AddObject: ObjectName is a table path with dot.
type AddObject struct {
	ObjectName   string
	ParameterKey string
}

// AddObjectResponse: InstanceNumber >= 1, Status 0 or 1.
type AddObjectResponse struct {
	InstanceNumber uint32
	Status         int
}

// DeleteObject: ObjectName is a row path with dot.
type DeleteObject struct {
	ObjectName   string
	ParameterKey string
}

// DeleteObjectResponse: Status 0 or 1.
type DeleteObjectResponse struct{ Status int }

// Reboot asks for one restart after the session.
type Reboot struct{ CommandKey string }

// RebootResponse is empty.
type RebootResponse struct{}

// FactoryReset has no arguments, not even a CommandKey.
type FactoryReset struct{}

// FactoryResetResponse is empty.
type FactoryResetResponse struct{}

// Download asks for a file transfer to the CPE.
type Download struct {
	CommandKey     string
	FileType       string // <= 64
	URL            string // <= 256
	Username       string
	Password       string
	FileSize       uint32 // bytes, 0 unknown
	TargetFileName string
	DelaySeconds   uint32
	SuccessURL     string
	FailureURL     string
}

// DownloadResponse: Status 0 done and applied, 1 later. A zero time is the unknown time of TR-069.
type DownloadResponse struct {
	Status                  int
	StartTime, CompleteTime time.Time
}

// Upload asks for a file transfer from the CPE.
type Upload struct {
	CommandKey   string
	FileType     string
	URL          string
	Username     string
	Password     string
	DelaySeconds uint32
}

// UploadResponse is as DownloadResponse.
type UploadResponse struct {
	Status                  int
	StartTime, CompleteTime time.Time
}

// ScheduleInform: DelaySeconds > 0.
type ScheduleInform struct {
	DelaySeconds uint32
	CommandKey   string
}

// ScheduleInformResponse is empty.
type ScheduleInformResponse struct{}

// Method names.
func (*GetRPCMethods) Method() string                  { return "GetRPCMethods" }
func (*GetRPCMethodsResponse) Method() string          { return "GetRPCMethodsResponse" }
func (*SetParameterValues) Method() string             { return "SetParameterValues" }
func (*SetParameterValuesResponse) Method() string     { return "SetParameterValuesResponse" }
func (*GetParameterValues) Method() string             { return "GetParameterValues" }
func (*GetParameterValuesResponse) Method() string     { return "GetParameterValuesResponse" }
func (*GetParameterNames) Method() string              { return "GetParameterNames" }
func (*GetParameterNamesResponse) Method() string      { return "GetParameterNamesResponse" }
func (*SetParameterAttributes) Method() string         { return "SetParameterAttributes" }
func (*SetParameterAttributesResponse) Method() string { return "SetParameterAttributesResponse" }
func (*GetParameterAttributes) Method() string         { return "GetParameterAttributes" }
func (*GetParameterAttributesResponse) Method() string { return "GetParameterAttributesResponse" }
func (*AddObject) Method() string                      { return "AddObject" }
func (*AddObjectResponse) Method() string              { return "AddObjectResponse" }
func (*DeleteObject) Method() string                   { return "DeleteObject" }
func (*DeleteObjectResponse) Method() string           { return "DeleteObjectResponse" }
func (*Reboot) Method() string                         { return "Reboot" }
func (*RebootResponse) Method() string                 { return "RebootResponse" }
func (*FactoryReset) Method() string                   { return "FactoryReset" }
func (*FactoryResetResponse) Method() string           { return "FactoryResetResponse" }
func (*Download) Method() string                       { return "Download" }
func (*DownloadResponse) Method() string               { return "DownloadResponse" }
func (*Upload) Method() string                         { return "Upload" }
func (*UploadResponse) Method() string                 { return "UploadResponse" }
func (*ScheduleInform) Method() string                 { return "ScheduleInform" }
func (*ScheduleInformResponse) Method() string         { return "ScheduleInformResponse" }

func (*GetRPCMethods) fields(codec)                  {}
func (*SetParameterAttributesResponse) fields(codec) {}
func (*RebootResponse) fields(codec)                 {}
func (*FactoryReset) fields(codec)                   {}
func (*FactoryResetResponse) fields(codec)           {}
func (*ScheduleInformResponse) fields(codec)         {}

func (m *GetRPCMethodsResponse) fields(c codec) { c.texts("MethodList", &m.MethodList, 64) }

func (m *SetParameterValues) fields(c codec) {
	list(c, "ParameterList", "ParameterValueStruct", &m.ParameterList, func(c codec, v *ParameterValue) { v.fields(c) })
	c.key("ParameterKey", &m.ParameterKey)
}

func (m *SetParameterValuesResponse) fields(c codec) { c.integer("Status", &m.Status, 0, 1) }

func (m *GetParameterValues) fields(c codec) { c.texts("ParameterNames", &m.ParameterNames, 256) }

func (m *GetParameterValuesResponse) fields(c codec) {
	seq(c, "ParameterList", "ParameterValueStruct", &m.ParameterList, m.Count, m.Values, func(c codec, v *ParameterValue) { v.fields(c) })
}

func (m *GetParameterNames) fields(c codec) {
	c.text("ParameterPath", &m.ParameterPath, 256)
	c.boolean("NextLevel", &m.NextLevel)
}

func (m *GetParameterNamesResponse) fields(c codec) {
	seq(c, "ParameterList", "ParameterInfoStruct", &m.ParameterList, m.Count, m.Names, func(c codec, v *ParameterInfo) { v.fields(c) })
}

func (m *SetParameterAttributes) fields(c codec) {
	list(c, "ParameterList", "SetParameterAttributesStruct", &m.ParameterList, func(c codec, v *SetAttribute) { v.fields(c) })
}

func (m *GetParameterAttributes) fields(c codec) { c.texts("ParameterNames", &m.ParameterNames, 256) }

func (m *GetParameterAttributesResponse) fields(c codec) {
	seq(c, "ParameterList", "ParameterAttributeStruct", &m.ParameterList, m.Count, m.Attributes,
		func(c codec, v *ParameterAttribute) { v.fields(c) })
}

func (m *AddObject) fields(c codec) {
	c.text("ObjectName", &m.ObjectName, 256)
	c.key("ParameterKey", &m.ParameterKey)
}

func (m *AddObjectResponse) fields(c codec) {
	c.unsigned("InstanceNumber", &m.InstanceNumber)
	c.integer("Status", &m.Status, 0, 1)
}

func (m *DeleteObject) fields(c codec) {
	c.text("ObjectName", &m.ObjectName, 256)
	c.key("ParameterKey", &m.ParameterKey)
}

func (m *DeleteObjectResponse) fields(c codec) { c.integer("Status", &m.Status, 0, 1) }

func (m *Reboot) fields(c codec) { c.key("CommandKey", &m.CommandKey) }

func (m *Download) fields(c codec) {
	c.key("CommandKey", &m.CommandKey)
	c.text("FileType", &m.FileType, 64)
	c.text("URL", &m.URL, 256)
	c.text("Username", &m.Username, 256)
	c.text("Password", &m.Password, 256)
	c.optUnsigned("FileSize", &m.FileSize)
	c.text("TargetFileName", &m.TargetFileName, 256)
	c.optUnsigned("DelaySeconds", &m.DelaySeconds)
	c.text("SuccessURL", &m.SuccessURL, 256)
	c.text("FailureURL", &m.FailureURL, 256)
}

func (m *DownloadResponse) fields(c codec) {
	c.integer("Status", &m.Status, 0, 1)
	c.time("StartTime", &m.StartTime)
	c.time("CompleteTime", &m.CompleteTime)
}

func (m *Upload) fields(c codec) {
	c.key("CommandKey", &m.CommandKey)
	c.text("FileType", &m.FileType, 64)
	c.text("URL", &m.URL, 256)
	c.text("Username", &m.Username, 256)
	c.text("Password", &m.Password, 256)
	c.optUnsigned("DelaySeconds", &m.DelaySeconds)
}

func (m *UploadResponse) fields(c codec) {
	c.integer("Status", &m.Status, 0, 1)
	c.time("StartTime", &m.StartTime)
	c.time("CompleteTime", &m.CompleteTime)
}

func (m *ScheduleInform) fields(c codec) {
	c.unsigned("DelaySeconds", &m.DelaySeconds)
	c.key("CommandKey", &m.CommandKey)
}
