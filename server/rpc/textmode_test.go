package rpc_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc"
)

// inPieces encodes content in pieces of some bytes each, every one with its padding.
func inPieces(content []byte, size int) string {
	var text strings.Builder
	for len(content) > 0 {
		n := min(size, len(content))
		text.WriteString(base64.StdEncoding.EncodeToString(content[:n]))
		content = content[n:]
	}
	return text.String()
}

func TestARequestInTextMode(t *testing.T) {
	content := make([]byte, 10_000)
	for i := range content {
		content[i] = byte(rand.IntN(256))
	}
	for _, size := range []int{1, 2, 3, 4, 5, 1000, len(content)} {
		for name, arrive := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader,
			"in halves": iotest.HalfReader, "with its end": iotest.DataErrReader,
		} {
			r := httptest.NewRequest("POST", "/", arrive(strings.NewReader(inPieces(content, size))))
			r.Header.Set("Content-Type", "application/grpc-web-text; charset=x")
			_, end := rpc.TextMode(httptest.NewRecorder(), r)
			got, err := io.ReadAll(r.Body)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("in pieces of %d bytes, %s: %d bytes, %v", size, name, len(got), err)
			}
			if got := r.Header.Get("Content-Type"); got != "application/grpc-web" || r.ContentLength != -1 {
				t.Errorf("the handler sees %q with %d bytes", got, r.ContentLength)
			}
			end()
		}
	}
}

func TestABodyThatIsNotBase64(t *testing.T) {
	for body, want := range map[string]string{
		"AAAAAAE":                          "ends within a group",
		"AAAA\nAAAA":                       "line break",
		"AAA\r\n":                          "line break",
		"AAAA====":                         "illegal base64",
		"A=AA":                             "illegal base64",
		"AA=A":                             "illegal base64",
		"AAAA AAA":                         "illegal base64",
		"AAAA-_AA":                         "illegal base64",
		"\x00\x00\x00\x00\x00\x00\x00\x00": "illegal base64",
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/grpc-web-text")
		rpc.TextMode(httptest.NewRecorder(), r)
		_, err := io.ReadAll(r.Body)
		if err == nil || connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", body, err, want)
		}
	}
}

// The content type says how the request is read, and Accept how the reply is written.
func TestWhoGetsAReplyInTextMode(t *testing.T) {
	for _, test := range []struct{ contentType, accept, want string }{
		{"application/grpc-web-text", "", "application/grpc-web-text+proto"},
		{"application/grpc-web-text+proto", "application/grpc-web-text", "application/grpc-web-text+proto"},
		{"application/grpc-web-text+json", "*/*", "application/grpc-web-text+json"},
		{"application/grpc-web-text", "application/grpc-web+proto", "application/grpc-web"},
		{"application/grpc-web+proto", "application/grpc-web-text", "application/grpc-web-text+proto"},
		{"application/grpc-web", "text/html, application/grpc-web-text;q=1", "application/grpc-web-text+proto"},
		{"application/grpc-web", "application/grpc-web", "application/grpc-web"},
		{"application/grpc-web+json", "", "application/grpc-web+json"},
		{"application/grpc", "application/grpc-web-text", "application/grpc"},
		{"application/json", "application/grpc-web-text", "application/json"},
	} {
		r := httptest.NewRequest("POST", "/", http.NoBody)
		r.Header.Set("Content-Type", test.contentType)
		if test.accept != "" {
			r.Header.Set("Accept", test.accept)
		}
		recorder := httptest.NewRecorder()
		w, end := rpc.TextMode(recorder, r)
		w, second := rpc.TextMode(w, r) // as a refusal does
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		for _, part := range []string{"a", "message", "and", "trailers"} {
			io.WriteString(w, part)
			if part == "message" {
				w.(http.Flusher).Flush()
			}
		}
		second()
		end()
		body := recorder.Body.String()
		want := "amessageandtrailers"
		if strings.HasPrefix(test.want, "application/grpc-web-text") {
			want = "YW1lc3NhZ2U=" + "YW5kdHJhaWxlcnM="
		}
		if got := recorder.Header().Get("Content-Type"); got != test.want || body != want {
			t.Errorf("%+v: got %q, %q", test, got, body)
		}
	}
}

func TestOnlyGRPCWebIsWrittenInTextMode(t *testing.T) {
	r := httptest.NewRequest("POST", "/", http.NoBody)
	r.Header.Set("Content-Type", "application/grpc-web-text")
	recorder := httptest.NewRecorder()
	w, end := rpc.TextMode(recorder, r)
	http.Error(w, "words", http.StatusUnsupportedMediaType)
	end()
	if got := recorder.Body.String(); got != "words\n" || recorder.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("got %q, %v", got, recorder.Header())
	}
}
