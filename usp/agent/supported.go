package agent

import (
	"strings"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

type (
	supReq    = uspmsg.GetSupportedDM
	supResult = uspmsg.GetSupportedDMResp_RequestedObjectResult
	supObject = uspmsg.GetSupportedDMResp_SupportedObjectResult
)

// dataModelURI is the instance document that describes a schema: TR-181 of the version in use.
func dataModelURI(s *datamodel.Schema) string {
	return "urn:broadband-forum-org:tr-181-" + strings.ReplaceAll(s.Version, ".", "-") + "-0-usp"
}

// getSupportedDM answers GetSupportedDM.
func (r *request) getSupportedDM(m *supReq) *uspmsg.Msg {
	v := r.view()
	resp := &uspmsg.GetSupportedDMResp{}
	for _, path := range m.GetObjPaths() {
		res := &supResult{ReqObjPath: path}
		if err := r.supported(v, path, m, res); err != nil {
			f := usp.ErrorFrom(err, usp.AtPath)
			res.ErrCode, res.ErrMsg, res.SupportedObjs = f.Code, f.Text, nil
		} else {
			res.DataModelInstUri = dataModelURI(r.a.schema)
		}
		resp.ReqObjResults = append(resp.ReqObjResults, res)
	}
	return r.response(&uspmsg.Response{RespType: &uspmsg.Response_GetSupportedDmResp{GetSupportedDmResp: resp}})
}

// supported answers one requested path: an object with what lies below it, or a single command, event or parameter.
func (r *request) supported(v *bridge.View, path string, m *supReq, res *supResult) error {
	match, err := r.lookupSupported(v, path)
	if err != nil {
		return err
	}
	object := shown(match.Object.Path)
	if match.Param != nil || match.Command != nil || match.Event != nil {
		// The flags do not count for a single element. // TP-469 1.105, 1.106, 1.107
		o := r.describe(match.Object, object)
		switch {
		case match.Param != nil:
			o.SupportedParams = append(o.SupportedParams, describeParam(match.Param))
		case match.Command != nil:
			o.SupportedCommands = append(o.SupportedCommands, describeCommand(match.Command))
		default:
			o.SupportedEvents = append(o.SupportedEvents, describeEvent(match.Event))
		}
		res.SupportedObjs = append(res.SupportedObjs, o)
		return nil
	}
	r.describeTree(v, match.Object, object, m, res, 0)
	return nil
}

// lookupSupported finds what a path names. It may be a path of the supported data model ({i} for instances, the last one
// and the final dot may be missing) or name something that exists.
func (r *request) lookupSupported(v *bridge.View, path string) (datamodel.Match, error) {
	unknown := datamodel.Fail(datamodel.NotSupported, path, "")
	p, err := datamodel.ParsePath(path)
	if err != nil {
		return datamodel.Match{}, err
	}
	template, instance := false, false
	for _, s := range p.Steps {
		switch s.Kind {
		case datamodel.StepTemplate:
			template = true
		case datamodel.StepInstance:
			if template {
				return datamodel.Match{}, datamodel.Fail(datamodel.PathSyntax, path, "an instance number behind {i}")
			}
			instance = true
		case datamodel.StepName:
		default:
			return datamodel.Match{}, datamodel.Fail(datamodel.PathSyntax, path, "search paths are not for GetSupportedDM")
		}
	}
	canonical, ok := datamodel.ToCanonical(datamodel.USP, path)
	if !ok {
		return datamodel.Match{}, unknown
	}
	match, ok := r.a.schema.Lookup(canonical)
	if !ok {
		match, ok = r.a.schema.Lookup(withDot(canonical)) // TP-469 1.99
	}
	if !ok || !match.Object.Protocols.Has(datamodel.USP) {
		return datamodel.Match{}, unknown
	}
	if match.Param != nil && !match.Param.Protocols.Has(datamodel.USP) {
		return datamodel.Match{}, unknown
	}
	if instance && !template {
		if _, err := v.Resolve(path, datamodel.ResolvePolicy{MissingIsError: true, AllowTable: true}); err != nil {
			return datamodel.Match{}, err
		}
	}
	if !r.readable(v, match) { // R-GSP.0
		return datamodel.Match{}, unknown
	}
	return match, nil
}

// readable asks for the right to know of an element; {i} stands for some instance.
func (r *request) readable(v *bridge.View, m datamodel.Match) bool {
	switch {
	case m.Param != nil:
		return r.allowed(v, m.Param.Path(), bridge.ReadParam)
	case m.Command != nil:
		return r.allowed(v, m.Object.Path+m.Command.Name, bridge.ReadCommand)
	case m.Event != nil:
		return r.allowed(v, m.Object.Path+m.Event.Name, bridge.ReadCommand)
	}
	return r.allowed(v, m.Object.Path, bridge.ReadObj)
}

// describeTree adds an object and its children. With first_level_only the children come without their contents.
// TP-469 1.73, 1.74, 1.75
func (r *request) describeTree(v *bridge.View, o *datamodel.Object, path string, m *supReq, res *supResult, depth int) {
	if r.readable(v, datamodel.Match{Object: o}) { // R-GSP.0
		d := r.describe(o, path)
		if depth == 0 || !m.GetFirstLevelOnly() {
			r.contents(v, o, m, d)
		}
		res.SupportedObjs = append(res.SupportedObjs, d)
	}
	if depth > 0 && m.GetFirstLevelOnly() {
		return
	}
	datamodel.ViewChildren(datamodel.USP, o, func(name string, c *datamodel.Object) bool {
		below := path + name + "."
		if c.Multi {
			below += "{i}."
		}
		r.describeTree(v, c, below, m, res, depth+1)
		return true
	})
}

func (r *request) describe(o *datamodel.Object, path string) *supObject {
	d := &supObject{SupportedObjPath: path, IsMultiInstance: o.Multi}
	if o.Multi && o.Access(datamodel.USP) == datamodel.ReadWrite {
		d.Access = uspmsg.GetSupportedDMResp_OBJ_ADD_DELETE
	}
	return d
}

// contents adds what the flags ask for.
func (r *request) contents(v *bridge.View, o *datamodel.Object, m *supReq, d *supObject) {
	if m.GetReturnParams() {
		for _, p := range o.Params {
			if p.Protocols.Has(datamodel.USP) && r.readable(v, datamodel.Match{Object: o, Param: p}) {
				d.SupportedParams = append(d.SupportedParams, describeParam(p))
			}
		}
	}
	if m.GetReturnCommands() {
		for _, c := range o.Commands {
			if r.readable(v, datamodel.Match{Object: o, Command: c}) {
				d.SupportedCommands = append(d.SupportedCommands, describeCommand(c))
			}
		}
	}
	if m.GetReturnEvents() {
		for _, e := range o.Events {
			if r.readable(v, datamodel.Match{Object: o, Event: e}) {
				d.SupportedEvents = append(d.SupportedEvents, describeEvent(e))
			}
		}
	}
	if m.GetReturnUniqueKeySets() {
		for _, k := range o.Keys {
			set := &uspmsg.GetSupportedDMResp_SupportedUniqueKeySet{}
			for _, name := range k.Params {
				if p := o.Param(name); p != nil && p.Protocols.Has(datamodel.USP) {
					set.KeyNames = append(set.KeyNames, name)
				}
			}
			if len(set.KeyNames) == len(k.Params) {
				d.UniqueKeySets = append(d.UniqueKeySets, set)
			}
		}
	}
}

var valueTypes = [...]uspmsg.GetSupportedDMResp_ParamValueType{
	datamodel.TypeString:       uspmsg.GetSupportedDMResp_PARAM_STRING,
	datamodel.TypeBoolean:      uspmsg.GetSupportedDMResp_PARAM_BOOLEAN,
	datamodel.TypeInt:          uspmsg.GetSupportedDMResp_PARAM_INT,
	datamodel.TypeUnsignedInt:  uspmsg.GetSupportedDMResp_PARAM_UNSIGNED_INT,
	datamodel.TypeLong:         uspmsg.GetSupportedDMResp_PARAM_LONG,
	datamodel.TypeUnsignedLong: uspmsg.GetSupportedDMResp_PARAM_UNSIGNED_LONG,
	datamodel.TypeDecimal:      uspmsg.GetSupportedDMResp_PARAM_DECIMAL,
	datamodel.TypeDateTime:     uspmsg.GetSupportedDMResp_PARAM_DATE_TIME,
	datamodel.TypeBase64:       uspmsg.GetSupportedDMResp_PARAM_BASE_64,
	datamodel.TypeHexBinary:    uspmsg.GetSupportedDMResp_PARAM_HEX_BINARY,
}

func describeParam(p *datamodel.Param) *uspmsg.GetSupportedDMResp_SupportedParamResult {
	f := p.Facts(datamodel.USP)
	d := &uspmsg.GetSupportedDMResp_SupportedParamResult{ParamName: p.Name,
		ValueChange: uspmsg.GetSupportedDMResp_VALUE_CHANGE_ALLOWED}
	if f == nil {
		return d
	}
	if f.Access != datamodel.ReadOnly { // writeOnceReadOnly counts as writable here
		d.Access = uspmsg.GetSupportedDMResp_PARAM_READ_WRITE
	}
	// A list is one string on the wire, whatever its items are.
	d.ValueType = uspmsg.GetSupportedDMResp_PARAM_STRING
	if !f.List && int(f.Type) < len(valueTypes) {
		d.ValueType = valueTypes[f.Type]
	}
	if ignoresChange(f) {
		d.ValueChange = uspmsg.GetSupportedDMResp_VALUE_CHANGE_WILL_IGNORE
	}
	return d
}

// ignoresChange reports whether ValueChange never fires for a parameter: counters and the like, which the model lets a
// device deny. The notifier keeps to it.
func ignoresChange(f *datamodel.Facts) bool { return f.ActiveNotify == "canDeny" }

func describeCommand(c *datamodel.Command) *uspmsg.GetSupportedDMResp_SupportedCommandResult {
	d := &uspmsg.GetSupportedDMResp_SupportedCommandResult{CommandName: c.Name, CommandType: uspmsg.GetSupportedDMResp_CMD_SYNC}
	if c.Async {
		d.CommandType = uspmsg.GetSupportedDMResp_CMD_ASYNC
	}
	for _, a := range c.Inputs {
		d.InputArgNames = append(d.InputArgNames, a.Name)
	}
	for _, a := range c.Outputs {
		d.OutputArgNames = append(d.OutputArgNames, a.Name)
	}
	return d
}

func describeEvent(e *datamodel.Event) *uspmsg.GetSupportedDMResp_SupportedEventResult {
	d := &uspmsg.GetSupportedDMResp_SupportedEventResult{EventName: e.Name}
	for _, a := range e.Args {
		d.ArgNames = append(d.ArgNames, a.Name)
	}
	return d
}
