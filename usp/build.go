package usp

import (
	"unicode/utf8"

	"twinspan/usp/uspmsg"
)

func validText(b []byte) bool { return utf8.Valid(b) }

// TypeOf gives the msg_type that belongs to the body, ERROR if there is none.
func TypeOf(m *uspmsg.Msg) uspmsg.Header_MsgType {
	switch b := m.GetBody().GetMsgBody().(type) {
	case *uspmsg.Body_Request:
		switch b.Request.GetReqType().(type) {
		case *uspmsg.Request_Get:
			return uspmsg.Header_GET
		case *uspmsg.Request_GetSupportedDm:
			return uspmsg.Header_GET_SUPPORTED_DM
		case *uspmsg.Request_GetInstances:
			return uspmsg.Header_GET_INSTANCES
		case *uspmsg.Request_Set:
			return uspmsg.Header_SET
		case *uspmsg.Request_Add:
			return uspmsg.Header_ADD
		case *uspmsg.Request_Delete:
			return uspmsg.Header_DELETE
		case *uspmsg.Request_Operate:
			return uspmsg.Header_OPERATE
		case *uspmsg.Request_Notify:
			return uspmsg.Header_NOTIFY
		case *uspmsg.Request_GetSupportedProtocol:
			return uspmsg.Header_GET_SUPPORTED_PROTO
		case *uspmsg.Request_Register:
			return uspmsg.Header_REGISTER
		case *uspmsg.Request_Deregister:
			return uspmsg.Header_DEREGISTER
		}
	case *uspmsg.Body_Response:
		switch b.Response.GetRespType().(type) {
		case *uspmsg.Response_GetResp:
			return uspmsg.Header_GET_RESP
		case *uspmsg.Response_GetSupportedDmResp:
			return uspmsg.Header_GET_SUPPORTED_DM_RESP
		case *uspmsg.Response_GetInstancesResp:
			return uspmsg.Header_GET_INSTANCES_RESP
		case *uspmsg.Response_SetResp:
			return uspmsg.Header_SET_RESP
		case *uspmsg.Response_AddResp:
			return uspmsg.Header_ADD_RESP
		case *uspmsg.Response_DeleteResp:
			return uspmsg.Header_DELETE_RESP
		case *uspmsg.Response_OperateResp:
			return uspmsg.Header_OPERATE_RESP
		case *uspmsg.Response_NotifyResp:
			return uspmsg.Header_NOTIFY_RESP
		case *uspmsg.Response_GetSupportedProtocolResp:
			return uspmsg.Header_GET_SUPPORTED_PROTO_RESP
		case *uspmsg.Response_RegisterResp:
			return uspmsg.Header_REGISTER_RESP
		case *uspmsg.Response_DeregisterResp:
			return uspmsg.Header_DEREGISTER_RESP
		}
	}
	return uspmsg.Header_ERROR
}

// NewRequest makes the message of a request: NewRequest(id, &uspmsg.Request{ReqType: &uspmsg.Request_Get{...}}).
func NewRequest(msgID string, r *uspmsg.Request) *uspmsg.Msg {
	m := &uspmsg.Msg{
		Header: &uspmsg.Header{MsgId: msgID},
		Body:   &uspmsg.Body{MsgBody: &uspmsg.Body_Request{Request: r}},
	}
	m.Header.MsgType = TypeOf(m)
	return m
}

// NewResponse makes the message of a response to the request msgID. R-MSG.9
func NewResponse(msgID string, r *uspmsg.Response) *uspmsg.Msg {
	m := &uspmsg.Msg{
		Header: &uspmsg.Header{MsgId: msgID},
		Body:   &uspmsg.Body{MsgBody: &uspmsg.Body_Response{Response: r}},
	}
	m.Header.MsgType = TypeOf(m)
	return m
}
