package rpc_test

import (
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

func TestMediaTypes(t *testing.T) {
	for contentType, want := range map[string]rpc.MediaType{
		"application/grpc":                      {Protocol: rpc.GRPC, Enveloped: true},
		"application/grpc+proto":                {Protocol: rpc.GRPC, Enveloped: true},
		"application/grpc+json":                 {Protocol: rpc.GRPC, Codec: rpc.JSON, Enveloped: true},
		"application/grpc-web":                  {Protocol: rpc.GRPCWeb, Enveloped: true},
		"application/grpc-web+proto":            {Protocol: rpc.GRPCWeb, Enveloped: true},
		"application/grpc-web+json":             {Protocol: rpc.GRPCWeb, Codec: rpc.JSON, Enveloped: true},
		"application/connect+proto":             {Protocol: rpc.Connect, Enveloped: true},
		"application/connect+json":              {Protocol: rpc.Connect, Codec: rpc.JSON, Enveloped: true},
		"application/proto":                     {Protocol: rpc.Connect, InStatus: true},
		"application/json":                      {Protocol: rpc.Connect, Codec: rpc.JSON, InStatus: true},
		"application/json; charset=utf-8":       {Protocol: rpc.Connect, Codec: rpc.JSON, InStatus: true},
		"application/json;charset=UTF-8":        {Protocol: rpc.Connect, Codec: rpc.JSON, InStatus: true},
		"Application/JSON ; Charset=\"utf-8\"":  {Protocol: rpc.Connect, Codec: rpc.JSON, InStatus: true},
		"application/json; v=1":                 {Protocol: rpc.Connect, Codec: rpc.JSON, InStatus: true},
		"application/connect+json;charset=x":    {Protocol: rpc.Connect, Codec: rpc.JSON, Enveloped: true},
		"application/grpc;proto":                {Protocol: rpc.GRPC, Enveloped: true},
		"application/grpc; charset=utf-8; v=1":  {Protocol: rpc.GRPC, Enveloped: true},
		"application/proto; charset=utf-8":      {Protocol: rpc.Connect, InStatus: true},
		"application/grpc+json; charset=UTF-8":  {Protocol: rpc.GRPC, Codec: rpc.JSON, Enveloped: true},
		"application/grpc-web+json; charset=":   {Protocol: rpc.GRPCWeb, Codec: rpc.JSON, Enveloped: true},
		"application/json; charset=iso-8859-1":  {Protocol: rpc.Connect, Codec: rpc.JSON, InStatus: true},
		"application/grpc+thrift":               {Protocol: rpc.GRPC, Enveloped: true, UnknownCodec: true},
		"application/grpc+":                     {},
		"application/grpc+a b":                  {},
		"application/grpcx":                     {},
		"application/grpc-web+thrift":           {Protocol: rpc.GRPCWeb, Enveloped: true, UnknownCodec: true},
		"application/grpc-web-text+thrift":      {Protocol: rpc.GRPCWeb, Enveloped: true, Text: true, UnknownCodec: true},
		"application/grpc+json+x":               {Protocol: rpc.GRPC, Enveloped: true, UnknownCodec: true},
		"application/json+x":                    {},
		"application/grpc-web-text":             {Protocol: rpc.GRPCWeb, Enveloped: true, Text: true},
		"application/grpc-web-text+proto":       {Protocol: rpc.GRPCWeb, Enveloped: true, Text: true},
		"application/grpc-web-text+json":        {Protocol: rpc.GRPCWeb, Codec: rpc.JSON, Enveloped: true, Text: true},
		"application/grpc-web-texts":            {},
		"text/plain; application/json":          {},
		"application/x-www-form-urlencoded":     {},
		"multipart/form-data; boundary=x":       {},
		"text/plain":                            {},
		"text/plain; charset=utf-8":             {},
		"application/json, application/json":    {},
		"application/json; charset=utf-8; ; ;;": {Protocol: rpc.Connect, Codec: rpc.JSON, InStatus: true},
		"":                                      {},
	} {
		got, ok := rpc.ParseMediaType(contentType)
		if got != want || ok != (want != rpc.MediaType{}) {
			t.Errorf("%q is %+v, an RPC %v, want %+v", contentType, got, ok, want)
		}
	}
}

func TestTheMediaTypeOfAGET(t *testing.T) {
	for query, want := range map[string]rpc.MediaType{
		"encoding=json":               {Protocol: rpc.Connect, Codec: rpc.JSON, InStatus: true},
		"encoding=proto&message=":     {Protocol: rpc.Connect, InStatus: true},
		"%65ncoding=json":             {Protocol: rpc.Connect, Codec: rpc.JSON, InStatus: true},
		"message=encoding%3Djson":     {},
		"":                            {},
		"encoding=grpc":               {},
		"encoding=grpc&encoding=json": {},
	} {
		r := httptest.NewRequest("GET", "/MyService/User?"+query, nil)
		if got, ok := rpc.RequestMediaType(r); got != want || ok != (want != rpc.MediaType{}) {
			t.Errorf("%q is %+v, an RPC %v, want %+v", query, got, ok, want)
		}
	}
}

// A parameter is recognized however its name and its value are percent-encoded.
func TestCompressed(t *testing.T) {
	for query, want := range map[string]bool{
		"compression=gzip": true, "%63ompression=gzip": true, "compression=%67zip": true,
		"": false, "compression=identity": false, "compression=": false, "message=compression%3Dgzip": false,
	} {
		if got := rpc.Compressed(httptest.NewRequest("GET", "/?"+query, nil)); got != want {
			t.Errorf("GET ?%s: %v, want %v", query, got, want)
		}
	}
	for contentType, reads := range map[string]string{
		"application/grpc": "Grpc-Encoding", "application/grpc-web+json": "Grpc-Encoding",
		"application/json": "Content-Encoding", "application/connect+proto": "Connect-Content-Encoding",
	} {
		for _, name := range []string{"Grpc-Encoding", "Content-Encoding", "Connect-Content-Encoding"} {
			for value, compressed := range map[string]bool{"gzip": true, "br": true, "identity": false, "": false} {
				r := httptest.NewRequest("POST", "/?compression=gzip", nil)
				r.Header.Set("Content-Type", contentType)
				r.Header.Set(name, value)
				if got, want := rpc.Compressed(r), compressed && name == reads; got != want {
					t.Errorf("%s, %s: %s: %v, want %v", contentType, name, value, got, want)
				}
			}
		}
	}
}

// The statuses are those of the Connect protocol. A status is read as the code that it was written
// for, or as the usual code of the status.
func TestCodesAndStatuses(t *testing.T) {
	for code, want := range map[connect.Code]struct {
		status int
		read   connect.Code
	}{
		connect.CodeCanceled:           {499, connect.CodeCanceled},
		connect.CodeUnknown:            {500, connect.CodeInternal},
		connect.CodeInvalidArgument:    {400, connect.CodeInvalidArgument},
		connect.CodeDeadlineExceeded:   {504, connect.CodeDeadlineExceeded},
		connect.CodeNotFound:           {404, connect.CodeUnimplemented},
		connect.CodeAlreadyExists:      {409, connect.CodeAlreadyExists},
		connect.CodePermissionDenied:   {403, connect.CodePermissionDenied},
		connect.CodeResourceExhausted:  {429, connect.CodeResourceExhausted},
		connect.CodeFailedPrecondition: {400, connect.CodeInvalidArgument},
		connect.CodeAborted:            {409, connect.CodeAlreadyExists},
		connect.CodeOutOfRange:         {400, connect.CodeInvalidArgument},
		connect.CodeUnimplemented:      {501, connect.CodeUnimplemented},
		connect.CodeInternal:           {500, connect.CodeInternal},
		connect.CodeUnavailable:        {503, connect.CodeUnavailable},
		connect.CodeDataLoss:           {500, connect.CodeInternal},
		connect.CodeUnauthenticated:    {401, connect.CodeUnauthenticated},
		connect.Code(99):               {500, connect.CodeInternal},
	} {
		status := rpc.HTTPStatus(code)
		read, ok := rpc.CodeOfStatus(status)
		if status != want.status || read != want.read || !ok {
			t.Errorf("%v is %d, read as %v (%v), want %d and %v", code, status, read, ok, want.status, want.read)
		}
	}
	if code, ok := rpc.CodeOfStatus(413); code != connect.CodeResourceExhausted || !ok {
		t.Errorf("413 is %v, %v", code, ok)
	}
	for _, status := range []int{0, 200, 204, 302, 415, 418} {
		if code, ok := rpc.CodeOfStatus(status); ok {
			t.Errorf("%d is the code %v, want none", status, code)
		}
	}
}
