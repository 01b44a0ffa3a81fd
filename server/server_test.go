package server

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/storetest"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
)

// port is a server of this package on a real port, with users 1 to 3.
type port struct {
	t       *testing.T
	address string
	server  *Server
	log     *logBuffer
	stop    func() error
}

type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Reset()
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start serves, with mounts besides Roster's own if there are any; wrap, if given, may replace the
// handler.
func start(t *testing.T, config Config, wrap func(http.Handler) http.Handler, more ...rpctest.Route) *port {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "roster.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := storetest.Put(t.Context(), store, []directory.User{
		{ID: 1, Name: "Ann", Age: 30, Email: "ann@example.com"},
		{ID: 2, Name: "Ben", Age: 0, Email: ""},
		{ID: 3, Name: strings.Repeat("C", 256), Age: 50, Email: strings.Repeat("c", 300) + "@c"},
	}...); err != nil {
		t.Fatal(err)
	}
	dir, err := directory.New(t.Context(), store, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dir.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &port{t: t, address: listener.Addr().String(), log: &logBuffer{}}
	if config.Directory == nil {
		config.Directory = dir
	}
	config.Log = slog.New(slog.NewTextHandler(p.log, nil))
	config.Mounts = rpctest.Mounts(t, more...)
	if p.server, err = New(config); err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		p.server.handler = wrap(p.server.handler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(ctx, listener) }()
	p.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() { p.stop() })
	return p
}

// client speaks HTTP/2 with prior knowledge, or HTTP/1.1.
func client(t *testing.T, http2 bool) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	transport.Protocols.SetUnencryptedHTTP2(http2)
	transport.Protocols.SetHTTP1(!http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// post sends one request and returns the reply, its trailers among the headers.
func (p *port) post(http2 bool, path, contentType string, body io.Reader, headers ...string) (*http.Response, string) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://"+p.address+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client(p.t, http2).Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	for name, values := range response.Trailer {
		response.Header[name] = values
	}
	return response, string(content)
}

// envelope is a gRPC message on the wire.
func envelope(flags byte, message []byte) []byte {
	framed := make([]byte, 5, 5+len(message))
	framed[0] = flags
	binary.BigEndian.PutUint32(framed[1:], uint32(len(message)))
	return append(framed, message...)
}

func zipped(content []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(content)
	w.Close()
	return out.Bytes()
}

func marshal(t *testing.T, ids ...int32) []byte {
	t.Helper()
	data, err := proto.Marshal(&apipb.UserReq{UserIDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestJSONHasEveryField(t *testing.T) {
	p := start(t, Config{}, nil)
	tests := []struct{ path, body, want string }{
		{"/MyService/User", `{"userIDs":[2,1,9,2]}`, `{"message":"success","data":[{"name":"Ben","age":0,"email":""},` +
			`{"name":"Ann","age":30,"email":"ann@example.com"},{"name":"Ben","age":0,"email":""}]}`},
		{"/MyService/User", `{}`, `{"message":"success","data":[]}`},
		{"/MyService/User", `{"userIDs":[9]}`, `{"message":"success","data":[]}`},
		{"/MyService/Health", `{}`, `{}`},
	}
	for _, http2 := range []bool{false, true} {
		for _, test := range tests {
			for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"} {
				response, body := p.post(http2, test.path, contentType, strings.NewReader(test.body))
				if response.StatusCode != 200 || body != test.want {
					t.Errorf("HTTP/2 %v, %s %s: %d %s", http2, test.path, test.body, response.StatusCode, body)
				}
			}
		}
	}
}

func TestBadInputOverConnect(t *testing.T) {
	p := start(t, Config{MaxBatch: 3}, nil)
	big := bytes.Repeat([]byte{0x20}, rpc.MaxMessageBytes+1)
	huge := bytes.Repeat([]byte{0x20}, 16<<20)
	tests := []struct {
		name, path, contentType string
		body                    []byte
		headers                 []string
		status                  int
		want                    string
	}{
		{"over the batch limit", "/MyService/User", "application/json", []byte(`{"userIDs":[1,2,3,4]}`), nil, 429,
			`{"code":"resource_exhausted","message":"4 ids in one call, this server takes at most 3 (--max-batch): split them over several calls"}`},
		{"not JSON", "/MyService/User", "application/json", []byte(`userIDs=1`), nil, 400, `"code":"invalid_argument"`},
		{"empty body", "/MyService/User", "application/json", nil, nil, 400, `an empty body is not JSON: send {} for an empty UserReq`},
		{"a key in the wrong case", "/MyService/User", "application/json", []byte(`{"userIds":[1]}`), nil, 400, `unknown field \"userIds\": do you mean \"userIDs\"?`},
		{"an id out of range", "/MyService/User", "application/json", []byte(`{"userIDs":[3000000000]}`), nil, 400, `invalid value for int32 field userIDs: 3000000000`},
		{"malformed protobuf", "/MyService/User", "application/proto", []byte{0x0a, 0xff}, nil, 400, `"code":"invalid_argument"`},
		{"malformed gzip", "/MyService/User", "application/proto", []byte("this is no gzip at all"), []string{"Content-Encoding", "gzip"}, 400, `get decompressor: gzip: invalid header`},
		{"cut gzip", "/MyService/User", "application/json", zipped(big[:10_000])[:20], []string{"Content-Encoding", "gzip"}, 400, `unexpected EOF`},
		{"unknown encoding", "/MyService/User", "application/json", []byte(`{}`), []string{"Content-Encoding", "zstd"}, 501, `unknown compression \"zstd\": supported encodings are gzip`},
		{"a message over the limit", "/MyService/User", "application/json", big, nil, 429, `a message is longer than 16480 bytes, before or after compression (as much as --max-batch allows): split it over several calls`},
		{"a message far over the limit", "/MyService/User", "application/json", huge, nil, 429, `a message is longer than 16480 bytes, before or after compression (as much as --max-batch allows): split it over several calls`},
		{"a message that unpacks to over the limit", "/MyService/User", "application/json", zipped(huge), []string{"Content-Encoding", "gzip"}, 429, `a message is longer than 16480 bytes, before or after compression (as much as --max-batch allows): split it over several calls`},
		{"unknown procedure", "/MyService/Users", "application/json", []byte(`{}`), nil, 404, `no such procedure: this server has /MyService/Health, /MyService/User`},
		{"unknown service", "/YourService/User", "application/proto", nil, nil, 404, `no such procedure`},
		{"unknown content type", "/MyService/User", "text/plain", []byte(`{}`), nil, 415, `content-type "text/plain" is not one of application/json, application/proto, application/grpc`},
		{"form data, as curl sends by default", "/MyService/User", "application/x-www-form-urlencoded", []byte(`{}`), nil, 415, `content-type "application/x-www-form-urlencoded" is not one of application/json`},
		{"JSON that is not UTF-8", "/MyService/User", "application/json; charset=latin-1", []byte("{\"\xe9\":1}"), nil, 400, `"code":"invalid_argument"`},
		{"a stream's content type", "/MyService/User", "application/connect+json", []byte(`{}`), nil, 415, `content-type "application/connect+json" is not one of application/json`},
		{"bad timeout", "/MyService/User", "application/json", []byte(`{}`), []string{"Connect-Timeout-Ms", "1.5"}, 400, `"message":"connect-timeout-ms: \"1.5\" is not a deadline: send a whole number of milliseconds with up to 10 digits, such as 1500"`},
	}
	for _, http2 := range []bool{false, true} {
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", test.name, http2), func(t *testing.T) {
				if test.name == "a message far over the limit" && !http2 {
					return // an HTTP/1.1 client may see the connection close while it still sends
				}
				response, body := p.post(http2, test.path, test.contentType, bytes.NewReader(test.body), test.headers...)
				if response.StatusCode != test.status || !strings.Contains(body, test.want) {
					t.Errorf("%d %s\nwant %d %s", response.StatusCode, body, test.status, test.want)
				}
			})
		}
	}
	if response, _ := p.post(true, "/MyService/Health", "application/json", strings.NewReader("{}")); response.StatusCode != 200 {
		t.Errorf("not healthy after all that: %d", response.StatusCode)
	}
}

func TestBadInputOverGRPC(t *testing.T) {
	p := start(t, Config{MaxBatch: 3}, nil)
	tests := []struct {
		name, path   string
		body         []byte
		encoding     string
		status, want string
	}{
		{"good", "/MyService/User", envelope(0, marshal(t, 1)), "", "0", ""},
		{"good, gzip", "/MyService/User", envelope(1, zipped(marshal(t, 1))), "gzip", "0", ""},
		{"over the batch limit", "/MyService/User", envelope(0, marshal(t, 1, 2, 3, 4)), "", "8", "4 ids in one call, this server takes at most 3 (--max-batch)"},
		{"malformed protobuf", "/MyService/User", envelope(0, []byte{0x0a, 0xff}), "", "3", "not a UserReq in protobuf"},
		{"malformed gzip", "/MyService/User", envelope(1, []byte("this is no gzip at all")), "gzip", "3", "invalid header"},
		{"a bomb", "/MyService/User", envelope(1, bytes.Repeat(zipped(make([]byte, 16<<20)), 64)), "gzip", "8", "a message is longer than 16480 bytes, before or after compression (as much as --max-batch allows)"},
		{"a message over the limit", "/MyService/User", envelope(0, make([]byte, rpc.MaxMessageBytes+1)), "", "8", "a message is longer than 16480 bytes, before or after compression (as much as --max-batch allows)"},
		{"an envelope that ends early", "/MyService/User", envelope(0, make([]byte, 100))[:50], "", "13", "promised 100 bytes in enveloped message, got 45 bytes"},
		{"an envelope that promises 4 GiB", "/MyService/User", []byte{0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}, "", "8", "16480"},
		{"two messages in a unary call", "/MyService/User", append(envelope(0, marshal(t, 1)), envelope(0, marshal(t, 2))...), "", "12", "unary request has multiple messages"},
		{"no message", "/MyService/User", nil, "", "12", "unary request has zero messages"},
		{"unknown procedure", "/MyService/Users", envelope(0, nil), "", "12", "no such procedure: this server has /MyService/Health, /MyService/User"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			response, _ := p.post(true, test.path, "application/grpc", bytes.NewReader(test.body), "Te", "trailers", "Grpc-Encoding", test.encoding)
			took := time.Since(began)
			status, message := response.Header.Get("Grpc-Status"), response.Header.Get("Grpc-Message")
			if response.StatusCode != 200 || status != test.status || !strings.Contains(message, test.want) {
				t.Errorf("HTTP %d, grpc-status %s, %q\nwant %s, %q", response.StatusCode, status, message, test.status, test.want)
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("allocated %d MiB", grown>>20)
			}
			if took > 2*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestOtherMethods(t *testing.T) {
	p := start(t, Config{}, nil)
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS"} {
		request, _ := http.NewRequest(method, "http://"+p.address+"/grpc.health.v1.Health/Check?connect=v1", nil)
		response, err := client(t, true).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != 405 || response.Header.Get("Allow") != "POST" ||
			method != "HEAD" && !strings.Contains(string(body), "/grpc.health.v1.Health/Check is a remote procedure: call it with POST") {
			t.Errorf("%s: %d, Allow %q, %s", method, response.StatusCode, response.Header.Get("Allow"), body)
		}
	}
}

func TestThePage(t *testing.T) {
	p := start(t, Config{}, nil)
	response, err := client(t, false).Get("http://" + p.address + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != 200 || !strings.Contains(string(body), "<title>") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func TestAHeaderOver16KiBIsRefused(t *testing.T) {
	p := start(t, Config{}, nil)
	for _, http2 := range []bool{false, true} {
		if response, _ := p.post(http2, "/MyService/Health", "application/json", strings.NewReader("{}"), "X-Long", strings.Repeat("x", 14<<10)); response.StatusCode != 200 {
			t.Errorf("HTTP/2 %v: 14 KiB got %d", http2, response.StatusCode)
		}
		if http2 {
			continue // Go's client obeys the limit that SETTINGS gave it, and sends no more
		}
		if response, _ := p.post(http2, "/MyService/Health", "application/json", strings.NewReader("{}"), "X-1", strings.Repeat("x", 7<<10), "X-2", strings.Repeat("x", 7<<10), "X-3", strings.Repeat("x", 7<<10)); response.StatusCode != 431 {
			t.Errorf("HTTP/2 %v: 21 KiB got %d, want 431", http2, response.StatusCode)
		}
	}
}

// An upgrade to h2c was a way to smuggle requests past a proxy: RFC 9113 §3.1
// dropped it. The request is answered as the HTTP/1.1 that it is.
func TestUpgradeToH2CIsIgnored(t *testing.T) {
	p := start(t, Config{}, nil)
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /MyService/User HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"+
		"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"userIDs\":[1]}")
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, response.ContentLength)
	io.ReadFull(response.Body, body)
	if response.StatusCode != 200 || response.Proto != "HTTP/1.1" || !strings.Contains(string(body), "Ann") {
		t.Errorf("%s %d %s", response.Proto, response.StatusCode, body)
	}
}

func TestABodyThatStallsIsGivenUp(t *testing.T) {
	p := start(t, Config{stallTimeout: 300 * time.Millisecond}, nil)
	for _, http2 := range []bool{false, true} {
		reader, writer := io.Pipe()
		go func() {
			for range 5 { // slow, yet never still for long: that is no stall
				writer.Write(bytes.Repeat([]byte(" "), 64))
				time.Sleep(150 * time.Millisecond)
			}
			for { // less than 64 bytes in the time of a stall, which are no progress
				if _, err := writer.Write([]byte(" ")); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		began := time.Now()
		response, body := p.post(http2, "/MyService/User", "application/json", reader)
		took := time.Since(began)
		writer.Close()
		if response.StatusCode == 200 || took < 900*time.Millisecond || took > 5*time.Second {
			t.Errorf("HTTP/2 %v: %d after %v: %s", http2, response.StatusCode, took, body)
		}
	}
}

func TestAPeerThatStopsReadingIsCut(t *testing.T) {
	returned := make(chan error, 1)
	p := start(t, Config{stallTimeout: 200 * time.Millisecond}, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, err := w.Write(make([]byte, 64<<20))
			returned <- err
		})
	})
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case err := <-returned:
		if err == nil {
			t.Error("64 MiB were written to a peer that does not read")
		}
	case <-time.After(10 * time.Second):
		t.Error("the write still hangs after 10 s")
	}
}

func TestAPanicIsOneCallsMatter(t *testing.T) {
	p := start(t, Config{}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Panic") != "" {
				panic("boom")
			}
			next.ServeHTTP(w, r)
		})
	})
	shared := client(t, true)
	call := func(header string) (*http.Response, error) {
		request, _ := http.NewRequest("POST", "http://"+p.address+"/MyService/Health", strings.NewReader("{}"))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-Panic", header)
		response, err := shared.Do(request)
		if err == nil {
			response.Body.Close()
		}
		return response, err
	}
	for range 3 {
		if _, err := call("yes"); err == nil {
			t.Error("a panic was answered")
		}
		if response, err := call(""); err != nil || response.StatusCode != 200 {
			t.Errorf("the next call on the connection: %v, %v", response, err)
		}
	}
	if !strings.Contains(p.log.String(), "boom") {
		t.Errorf("the log has no word of it:\n%s", p.log.String())
	}
}

func TestDrain(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	slow := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Slow") != "" {
				entered <- struct{}{}
				<-release
			}
			next.ServeHTTP(w, r)
		})
	}
	for _, http2 := range []bool{false, true} {
		p := start(t, Config{}, slow)
		answered := make(chan string)
		go func() {
			_, body := p.post(http2, "/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`), "X-Slow", "1")
			answered <- body
		}()
		<-entered
		stopped := make(chan error)
		go func() { stopped <- p.stop() }()
		for {
			conn, err := net.Dial("tcp", p.address)
			if err != nil {
				break // no new connections
			}
			conn.Close()
			time.Sleep(5 * time.Millisecond)
		}
		release <- struct{}{}
		if body := <-answered; !strings.Contains(body, "Ann") {
			t.Errorf("HTTP/2 %v: the running call got %q", http2, body)
		}
		if err := <-stopped; err != nil {
			t.Errorf("HTTP/2 %v: %v", http2, err)
		}
	}
}

func TestDrainTimeoutCutsWhatIsLeft(t *testing.T) {
	entered := make(chan struct{})
	p := start(t, Config{DrainTimeout: 200 * time.Millisecond}, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		})
	})
	go func() {
		request, _ := http.NewRequest("POST", "http://"+p.address+"/", nil)
		if response, err := client(t, true).Do(request); err == nil {
			response.Body.Close()
		}
	}()
	<-entered
	if err := p.stop(); err == nil || !strings.Contains(err.Error(), "calls still running after the drain timeout of 200ms were cut") {
		t.Errorf("got %v", err)
	}
}

// grpcio breaks on a reply with an empty Grpc-Encoding.
func TestAnUnknownCompressionIsNamed(t *testing.T) {
	p := start(t, Config{}, nil)
	for _, contentType := range []string{"application/grpc", "application/grpc-web"} {
		response, body := p.post(true, "/MyService/User", contentType, bytes.NewReader(envelope(1, []byte("?"))),
			"Te", "trailers", "Grpc-Encoding", "snappy")
		message := response.Header.Get("Grpc-Message") + body
		if _, empty := response.Header["Grpc-Encoding"]; empty || response.Header.Get("Grpc-Status")+body == "" ||
			!strings.Contains(message, `unknown compression "snappy": supported encodings are gzip,deflate`) ||
			response.Header.Get("Grpc-Accept-Encoding") != "gzip,deflate" {
			t.Errorf("%s: %v %q", contentType, response.Header, body)
		}
	}
}

// The limit holds for the message before compression: the caller has the same limit after
// unpacking.
func TestAReplyOver4MiBIsRefused(t *testing.T) {
	p := start(t, Config{}, nil)
	ids := make([]int32, 10_000)
	for i := range ids {
		ids[i] = 3 // a user of some 560 bytes
	}
	list := strings.TrimSuffix(strings.Repeat("3,", len(ids)), ",")
	const want = "bytes, the limit is 4194304 (fixed, no flag): ask for fewer ids"
	for contentType, body := range map[string][]byte{
		"application/json":  []byte(`{"userIDs":[` + list + `]}`),
		"application/proto": marshal(t, ids...),
	} {
		response, text := p.post(true, "/MyService/User", contentType, bytes.NewReader(body), "Accept-Encoding", "gzip")
		if response.Header.Get("Content-Encoding") == "gzip" {
			text = unzipped(t, text)
		}
		if response.StatusCode != 429 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %.200s", contentType, response.StatusCode, text)
		}
	}
}

func unzipped(t *testing.T, text string) string {
	t.Helper()
	reader, err := gzip.NewReader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Whatever the reply to an HTTP/1.1 request, the server does not wait for the rest of its body for
// longer than the stall timeout.
func TestABodyThatNeverComesIsGivenUp(t *testing.T) {
	p := start(t, Config{stallTimeout: 200 * time.Millisecond}, nil)
	for name, head := range map[string]string{
		"a look-up":             "POST /MyService/User HTTP/1.1\r\nContent-Type: application/json\r\n",
		"the page":              "GET / HTTP/1.1\r\n",
		"a wrong method":        "PUT /MyService/User HTTP/1.1\r\nContent-Type: application/json\r\n",
		"a wrong content type":  "POST /MyService/User HTTP/1.1\r\nContent-Type: text/plain\r\n",
		"an unknown procedure":  "POST /MyService/Nope HTTP/1.1\r\nContent-Type: application/json\r\n",
		"an unknown compressor": "POST /MyService/User HTTP/1.1\r\nContent-Type: application/json\r\nContent-Encoding: zstd\r\n",
	} {
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%sHost: x\r\nContent-Length: 100\r\n\r\n", head)
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if name == "a look-up" {
			if body, _ := io.ReadAll(response.Body); !strings.Contains(string(body), "the request's body stood still for 200ms") {
				t.Errorf("%s: %s", name, body)
			}
		}
		conn.Close()
	}
	if err := p.stop(); err != nil {
		t.Errorf("the drain: %v", err)
	}
}

// A call whose message is there but whose request never ends is refused once the request has stood
// still for the stall timeout, also if its replies would be a stream.
func TestARequestWithoutAnEndIsRefused(t *testing.T) {
	for _, standard := range []bool{false, true} {
		p := start(t, Config{stallTimeout: 200 * time.Millisecond, StandardHTTP2: standard}, nil)
		for _, path := range []string{"/MyService/User", "/grpc.health.v1.Health/Watch"} {
			for _, http2 := range []bool{true, false} {
				body, open := io.Pipe()
				go open.Write(envelope(0, nil)) // and no end
				contentType, place := "application/grpc", func(r *http.Response) http.Header { return r.Trailer }
				if !http2 {
					// gRPC-Web has a status without a message in the header.
					contentType, place = "application/grpc-web+proto", func(r *http.Response) http.Header { return r.Header }
				}
				response, _ := p.post(http2, path, contentType, body)
				status, message := place(response).Get("Grpc-Status"), place(response).Get("Grpc-Message")
				if status != "4" || !strings.Contains(message, "the request's body stood still for 200ms") {
					t.Errorf("%s, HTTP/2 %v, net/http %v: status %q %q", path, http2, standard, status, message)
				}
				open.Close()
			}
		}
	}
}
