package usp

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"twinspan/usp/uspmsg"
	"twinspan/usp/wire"
)

// MaxMsgID is the longest msg_id in bytes that we take. The standard has no bound, but msg_ids are kept and echoed.
const MaxMsgID = 512

// MessageError says why a message was refused as a whole.
type MessageError struct {
	Code  uint32
	Text  string
	MsgID string // "" if it could not be read
	// Answer: it is a Request with a msg_id, so the sender gets an Error message (Reply); otherwise silence. R-MTP.5
	Answer bool
}

func (e *MessageError) Error() string {
	return fmt.Sprintf("usp: message refused (%d): %s", e.Code, e.Text)
}

// Reply is the Error message to send if Answer is true.
func (e *MessageError) Reply() *uspmsg.Msg {
	return ErrorMessage(e.MsgID, Fault{Code: e.Code, Text: e.Text})
}

// DecodeMessage decodes and checks one message: limits, header and msg_id, exactly one alternative of every oneof, known
// enum values. Paths and values inside are not looked at. Errors are *MessageError.
func DecodeMessage(payload []byte, lim Limits) (*uspmsg.Msg, error) {
	fail := func(code uint32, text string) (*uspmsg.Msg, error) {
		id, isRequest, _ := peek(payload)
		return nil, &MessageError{Code: code, Text: text, MsgID: id, Answer: isRequest && id != ""}
	}
	if len(payload) > lim.RecordSize {
		return fail(CodeResourcesExceeded, fmt.Sprintf("message of %d bytes is larger than %d", len(payload), lim.RecordSize))
	}
	m, items := new(uspmsg.Msg), lim.Items
	if err := wire.Scan(payload, m, &items); err != nil { // finds what decoding would merge or drop, before anything is allocated
		switch {
		case errors.Is(err, wire.ErrOneof), errors.Is(err, wire.ErrTwice):
			return fail(CodeInvalidArguments, err.Error()) // R-ENC.5
		case errors.Is(err, wire.ErrItems):
			return fail(CodeResourcesExceeded, fmt.Sprintf("message holds more than %d elements", lim.Items))
		}
		return fail(CodeMessageFailed, "message cannot be decoded")
	}
	if err := wire.Unmarshal(payload, m); err != nil {
		return fail(CodeMessageFailed, "message cannot be decoded") // R-ENC.0, R-MSG.5
	}
	if code, text := checkMessage(m, payload); code != 0 {
		return fail(code, text)
	}
	return m, nil
}

func checkMessage(m *uspmsg.Msg, payload []byte) (code uint32, text string) {
	switch id := m.GetHeader().GetMsgId(); {
	case id == "":
		return CodeInvalidArguments, "msg_id is missing" // R-MSG.6, R-MSG.8
	case len(id) > MaxMsgID:
		return CodeInvalidArguments, fmt.Sprintf("msg_id of %d bytes is longer than %d", len(id), MaxMsgID)
	}
	switch b := m.GetBody().GetMsgBody().(type) { // R-MSG.7
	case *uspmsg.Body_Request:
		if b.Request.GetReqType() == nil {
			if _, _, unknown := peek(payload); unknown {
				return CodeMessageNotSupported, "unknown kind of request" // R-MSG.1
			}
			return CodeInvalidArguments, "request without a req_type" // R-ENC.3, R-ENC.5
		}
		if n := b.Request.GetNotify(); n != nil && n.Notification == nil {
			return CodeInvalidArguments, "Notify without a notification" // R-ENC.3
		}
		if c := b.Request.GetNotify().GetOperComplete(); c != nil && c.OperationResp == nil {
			return CodeInvalidArguments, "OperationComplete without an operation_resp" // R-ENC.3
		}
	case *uspmsg.Body_Response:
		if text := checkResponse(b.Response); text != "" {
			return CodeInvalidArguments, text
		}
	case *uspmsg.Body_Error:
	default:
		return CodeInvalidArguments, "message without a request, response or error" // R-ENC.3
	}
	// R-MSG.10: a known but wrong msg_type is no fault, the body decides.
	if _, known := uspmsg.Header_MsgType_name[int32(m.Header.MsgType)]; !known {
		return CodeInvalidArguments, fmt.Sprintf("unknown msg_type %d", m.Header.MsgType) // R-ENC.2
	}
	return 0, ""
}

// checkResponse looks for oneofs without an alternative and unknown enum values in responses. R-ENC.2, R-ENC.3
func checkResponse(r *uspmsg.Response) string {
	missing := func(what string) string { return what + " without an alternative of its oneof" }
	switch t := r.GetRespType().(type) {
	case nil:
		return missing("response")
	case *uspmsg.Response_AddResp:
		for _, o := range t.AddResp.CreatedObjResults {
			if o.GetOperStatus().GetOperStatus() == nil {
				return missing("AddResp.oper_status")
			}
		}
	case *uspmsg.Response_SetResp:
		for _, o := range t.SetResp.UpdatedObjResults {
			if o.GetOperStatus().GetOperStatus() == nil {
				return missing("SetResp.oper_status")
			}
		}
	case *uspmsg.Response_DeleteResp:
		for _, o := range t.DeleteResp.DeletedObjResults {
			if o.GetOperStatus().GetOperStatus() == nil {
				return missing("DeleteResp.oper_status")
			}
		}
	case *uspmsg.Response_OperateResp:
		for _, o := range t.OperateResp.OperationResults {
			if o.OperationResp == nil {
				return missing("OperateResp.operation_resp")
			}
		}
	case *uspmsg.Response_RegisterResp:
		for _, o := range t.RegisterResp.RegisteredPathResults {
			if o.GetOperStatus().GetOperStatus() == nil {
				return missing("RegisterResp.oper_status")
			}
		}
	case *uspmsg.Response_DeregisterResp:
		for _, o := range t.DeregisterResp.DeregisteredPathResults {
			if o.GetOperStatus().GetOperStatus() == nil {
				return missing("DeregisterResp.oper_status")
			}
		}
	case *uspmsg.Response_GetSupportedDmResp:
		return checkSupportedEnums(t.GetSupportedDmResp)
	}
	return ""
}

func checkSupportedEnums(r *uspmsg.GetSupportedDMResp) string {
	for _, req := range r.ReqObjResults {
		for _, o := range req.SupportedObjs {
			_, ok := uspmsg.GetSupportedDMResp_ObjAccessType_name[int32(o.Access)]
			for _, p := range o.SupportedParams {
				_, a := uspmsg.GetSupportedDMResp_ParamAccessType_name[int32(p.Access)]
				_, v := uspmsg.GetSupportedDMResp_ParamValueType_name[int32(p.ValueType)]
				_, c := uspmsg.GetSupportedDMResp_ValueChangeType_name[int32(p.ValueChange)]
				ok = ok && a && v && c
			}
			for _, c := range o.SupportedCommands {
				_, k := uspmsg.GetSupportedDMResp_CmdType_name[int32(c.CommandType)]
				ok = ok && k
			}
			if !ok {
				return "unknown enum value below " + clip(o.SupportedObjPath)
			}
		}
	}
	return ""
}

// peek reads, as far as the bytes make sense, the msg_id of an encoded message, whether its body is a request, and whether
// that request is of a kind that we do not know.
func peek(payload []byte) (id string, isRequest, unknownKind bool) {
	each(payload, func(num protowire.Number, v []byte) {
		switch num {
		case 1: // header
			each(v, func(num protowire.Number, v []byte) {
				if num == 1 && len(v) <= MaxMsgID && validText(v) {
					id = string(v)
				}
			})
		case 2: // body
			each(v, func(num protowire.Number, v []byte) {
				if num == 1 {
					isRequest = true
					each(v, func(num protowire.Number, _ []byte) {
						unknownKind = unknownKind || !wire.Has((*uspmsg.Request)(nil), num)
					})
				}
			})
		}
	})
	return id, isRequest, unknownKind
}

// each calls f for every length-delimited field of b until the bytes make no sense.
func each(b []byte, f func(protowire.Number, []byte)) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		m := protowire.ConsumeFieldValue(num, typ, b)
		if m < 0 {
			return
		}
		if typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b)
			f(num, v)
		}
		b = b[m:]
	}
}
