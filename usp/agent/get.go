package agent

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"twinspan/bridge"
	"twinspan/datamodel"
	"twinspan/usp"
	"twinspan/usp/uspmsg"
)

// Field numbers of the Get response, which is written straight to bytes: a Get of the whole tree has thousands of
// parameters, and building maps only to encode them would take most of the time and memory.
const (
	fHeader, fBody   = 1, 2 // Msg
	fMsgID, fMsgType = 1, 2 // Header
	fResponse        = 2    // Body
	fGetResp         = 1    // Response
	fPathResults     = 1    // GetResp
	fRequested       = 1    // RequestedPathResult
	fErrCode         = 2
	fErrMsg          = 3
	fResolvedResults = 4
	fResolvedPath    = 1 // ResolvedPathResult
	fResultParams    = 2
	fKey, fValue     = 1, 2 // map entry
)

func appendString(b []byte, num protowire.Number, s string) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendString(b, s)
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendBytes(b, v)
}

// getWriter collects one Get response.
type getWriter struct {
	r      *request
	v      *bridge.View
	total  []byte // GetResp
	result []byte // RequestedPathResult under construction
	object []byte // ResolvedPathResult under construction
	count  int    // parameters in object
	limit  int
}

// get answers a Get with the encoded message.
func (r *request) get(ctx context.Context, m *uspmsg.Get) ([]byte, error) {
	g := &getWriter{r: r, v: r.view(), limit: r.a.opt.Limits.ResponseSize}
	for _, path := range m.GetParamPaths() {
		mark := len(g.total)
		g.result = appendString(g.result[:0], fRequested, path)
		head := len(g.result)
		if err := g.path(ctx, path, m.GetMaxDepth()); err != nil {
			if len(g.result)+mark > g.limit {
				return nil, err
			}
			f := usp.ErrorFrom(err, usp.AtGet)
			g.result = protowire.AppendTag(g.result[:head], fErrCode, protowire.Fixed32Type)
			g.result = protowire.AppendFixed32(g.result, f.Code)
			g.result = appendString(g.result, fErrMsg, f.Text)
		}
		g.total = appendBytes(g.total, fPathResults, g.result)
		if len(g.total) > g.limit {
			return nil, g.tooLarge()
		}
	}
	return g.message(r.id), nil
}

func (g *getWriter) tooLarge() error {
	return datamodel.Fail(datamodel.Resources, "", fmt.Sprintf("the answer is larger than %d bytes; ask for less", g.limit))
}

// message wraps the collected GetResp into a message.
func (g *getWriter) message(id string) []byte {
	header := appendString(nil, fMsgID, id)
	header = protowire.AppendTag(header, fMsgType, protowire.VarintType)
	header = protowire.AppendVarint(header, uint64(uspmsg.Header_GET_RESP))
	resp := protowire.SizeTag(fGetResp) + protowire.SizeBytes(len(g.total))
	body := protowire.SizeTag(fResponse) + protowire.SizeBytes(resp)
	out := make([]byte, 0, len(header)+body+16)
	out = appendBytes(out, fHeader, header)
	out = protowire.AppendTag(out, fBody, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(body))
	out = protowire.AppendTag(out, fResponse, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(resp))
	return appendBytes(out, fGetResp, g.total)
}

// path answers one requested path.
func (g *getWriter) path(ctx context.Context, path string, depth uint32) error {
	// R-GET.0: a plain path must exist; a search that finds nothing is an empty success (R-GET.1a). Elements that the
	// peer cannot read are as good as not there (R-GET.1): the view sees to it.
	matches, err := resolve(g.v, path, datamodel.ResolvePolicy{
		Want: datamodel.WantObject | datamodel.WantParam, MissingIsError: true, AllowTable: true,
	})
	if err != nil {
		return err
	}
	for _, m := range matches {
		if m.Param != nil {
			err = g.param(ctx, m)
		} else {
			err = g.objects(ctx, m, depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// param answers a parameter: resolved_path is the object that holds it, with this parameter only. // R-GET.2, R-GET.3
func (g *getWriter) param(ctx context.Context, m datamodel.Match) error {
	value, err := g.v.Value(ctx, m)
	if err != nil {
		return err
	}
	object, name := datamodel.SplitParam(m.Path)
	g.begin(object)
	g.add(name, value)
	return g.end()
}

// objects answers an object and what lies below, each object on its own. // R-GET.5
func (g *getWriter) objects(ctx context.Context, m datamodel.Match, depth uint32) error {
	// Nothing is as deep as a thousand levels: larger numbers mean everything.
	var failed error
	err := g.v.Objects(m, int(min(depth, 1000)), func(o datamodel.Match) bool {
		g.begin(o.Path)
		failed = g.v.Params(ctx, o, func(p *datamodel.Param, value string) bool { // R-GET.4
			g.add(p.Name, value)
			return true
		})
		if failed == nil {
			failed = ctx.Err()
		}
		if failed == nil && g.count > 0 {
			failed = g.end()
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func (g *getWriter) begin(object string) {
	g.object = appendString(g.object[:0], fResolvedPath, object)
	g.count = 0
}

func (g *getWriter) add(name, value string) {
	if !utf8.ValidString(value) { // a provider may have read anything; a string of protobuf must be UTF-8
		value = strings.ToValidUTF8(value, "\uFFFD")
	}
	size := protowire.SizeTag(fKey) + protowire.SizeBytes(len(name)) + protowire.SizeTag(fValue) + protowire.SizeBytes(len(value))
	g.object = protowire.AppendTag(g.object, fResultParams, protowire.BytesType)
	g.object = protowire.AppendVarint(g.object, uint64(size))
	g.object = appendString(g.object, fKey, name)
	g.object = appendString(g.object, fValue, value)
	g.count++
}

func (g *getWriter) end() error {
	g.result = appendBytes(g.result, fResolvedResults, g.object)
	if len(g.total)+len(g.result) > g.limit {
		return g.tooLarge()
	}
	return nil
}
