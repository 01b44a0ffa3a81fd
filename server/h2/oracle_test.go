package h2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// oracleCase is a handler, and what a client sends it. Both engines must give the same answer.
type oracleCase struct {
	name    string
	handler http.HandlerFunc
	send    func(c *client) uint32
	// differs explains why the engines are known to differ, and says what ours must answer instead.
	differs string
	ours    func(reply) bool
}

func get(kv ...string) func(*client) uint32 { return method("GET", kv...) }

func method(m string, kv ...string) func(*client) uint32 {
	return func(c *client) uint32 { return c.request(m, "/path?q=1", true, kv...) }
}

// authority is a GET of another authority than that of the client's requests.
func authority(host string) func(*client) uint32 {
	return func(c *client) uint32 {
		id := c.NextID
		c.headers(id, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", host)
		return id
	}
}

func post(body string, kv ...string) func(*client) uint32 {
	return func(c *client) uint32 {
		id := c.request("POST", "/path", false, kv...)
		c.data(id, true, body)
		return id
	}
}

func wasReset(code http2.ErrCode) func(reply) bool {
	return func(r reply) bool { return r.reset && r.code == code }
}

func wroteNothing(w http.ResponseWriter, r *http.Request) {}

// describe replies with everything that a handler can see of a request.
func describe(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s %s host=%q uri=%q length=%d tls=%v remote=%v\n", r.Method, r.URL, r.Proto, r.URL.Path, r.Host,
		r.RequestURI, r.ContentLength, r.TLS != nil, r.RemoteAddr != "")
	fmt.Fprintf(w, "major=%d minor=%d close=%v te=%v query=%q\n", r.ProtoMajor, r.ProtoMinor, r.Close, r.TransferEncoding, r.URL.RawQuery)
	for _, k := range sortedKeys(r.Header) {
		fmt.Fprintf(w, "%s=%q\n", k, r.Header[k])
	}
	for _, k := range sortedKeys(r.Trailer) {
		fmt.Fprintf(w, "trailer %s=%q\n", k, r.Trailer[k])
	}
	fmt.Fprintf(w, "body=%q err=%v\n", body, err)
	fmt.Fprintf(w, "ctx server=%v addr=%v\n", r.Context().Value(http.ServerContextKey) != nil, r.Context().Value(http.LocalAddrContextKey) != nil)
}

// noLength is why a reply of gRPC has no Content-Length unless the handler sets it.
const noLength = "net/http adds a Content-Length; a gRPC client takes it for metadata"

func oracleCases() []oracleCase {
	big := strings.Repeat("0123456789abcdef", 20<<10/16)
	return []oracleCase{
		{name: "a handler that writes nothing", handler: wroteNothing, send: get()},
		{name: "a short body", handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }, send: get()},
		{name: "a body of exactly the buffer", handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, big[:4096]) }, send: get()},
		{name: "a body one longer than the buffer", handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, big[:4097]) }, send: get()},
		{name: "a body in small pieces beyond the buffer", handler: func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < 100; i++ {
				io.WriteString(w, big[:99])
			}
		}, send: get()},
		{name: "a body of 20 KiB", handler: func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(big)) }, send: get()},
		{name: "the request as the handler sees it", handler: describe, send: get("user-agent", "x", "x-odd_name", "1", "accept", "a", "accept", "b")},
		{name: "a request with a body", handler: describe, send: post("payload", "content-type", "text/plain")},
		{name: "a request with a declared length", handler: describe, send: post("payload", "content-length", "7")},
		{name: "cookies are joined", handler: describe, send: get("cookie", "a=1", "cookie", "b=2", "cookie", "c=3")},
		{name: "te trailers", handler: describe, send: get("te", "trailers")},
		{name: "Host instead of authority", handler: describe, send: func(c *client) uint32 {
			id := c.NextID
			c.headers(id, true, ":method", "GET", ":scheme", "http", ":path", "/", "host", "other.example")
			return id
		}, differs: "net/http of Go 1.26 leaves Host in the header map, against http.Request's documentation",
			ours: func(r reply) bool {
				return strings.Contains(r.body, `host="other.example"`) && !strings.Contains(r.body, "Host=")
			}},
		{name: "Host equal to authority", handler: describe, send: get("host", "example.com"), differs: "as above",
			ours: func(r reply) bool {
				return strings.Contains(r.body, `host="example.com"`) && !strings.Contains(r.body, "Host=")
			}},
		{name: "Host unlike authority", handler: describe, send: get("host", "evil.example"),
			differs: "net/http of Go 1.26 prefers :authority; RFC 9113 §8.3.1 has servers treat it as malformed",
			ours:    func(r reply) bool { return r.status == "400" }},
		{name: "Host in other letters and with the default port", handler: describe, send: get("host", "EXAMPLE.com:80"),
			differs: "as for a Host that is equal to the authority",
			ours: func(r reply) bool {
				return strings.Contains(r.body, `host="example.com"`) && !strings.Contains(r.body, "Host=")
			}},
		{name: "Host twice", handler: describe, send: get("host", "example.com", "host", "example.com"),
			differs: "net/http prefers :authority", ours: func(r reply) bool { return r.status == "400" }},
		{name: "the path of a Unix socket as authority", handler: describe, send: authority("/run/x.sock")},
		{name: "the path of a Unix socket as authority, encoded", handler: describe, send: authority("%2Frun%2Fx.sock")},
		{name: "userinfo in authority", handler: describe, send: func(c *client) uint32 {
			id := c.NextID
			c.headers(id, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "user@example.com")
			return id
		}},
		{name: "OPTIONS *", handler: describe, send: func(c *client) uint32 { return c.request("OPTIONS", "*", true) }},
		{name: "escapes in the path", handler: describe, send: func(c *client) uint32 { return c.request("GET", "/a%2Fb/%C3%A9?x=%20", true) }},
		{name: "a path that is no URI", handler: describe, send: func(c *client) uint32 { return c.request("GET", "/%zz", true) }},
		{name: "a relative path", handler: describe, send: func(c *client) uint32 { return c.request("GET", "relative", true) }},
		{name: "an absolute URI as path", handler: describe, send: func(c *client) uint32 { return c.request("GET", "http://x/y", true) },
			differs: "RFC 9113 §8.3.1: :path starts with a slash or is an asterisk", ours: wasReset(http2.ErrCodeProtocol)},
		{name: "request trailers, announced", handler: describe, send: func(c *client) uint32 {
			id := c.request("POST", "/", false, "trailer", "X-Sum, x-other", "trailer", "Content-Length")
			c.data(id, false, "body")
			c.headers(id, true, "x-sum", "42", "x-unannounced", "1")
			return id
		}},
		{name: "request trailers, not announced", handler: describe, send: func(c *client) uint32 {
			id := c.request("POST", "/", false)
			c.data(id, false, "body")
			c.headers(id, true, "x-sum", "42")
			return id
		}},
		{name: "forbidden request trailer", handler: describe, send: func(c *client) uint32 {
			id := c.request("POST", "/", false, "trailer", "x-sum")
			c.headers(id, true, "content-length", "42")
			return id
		}},
		{name: "pseudo-header field in trailers", handler: describe, send: func(c *client) uint32 {
			id := c.request("POST", "/", false, "trailer", "x-sum")
			c.headers(id, true, ":path", "/")
			return id
		}},
		{name: "trailers without the end", handler: describe, send: func(c *client) uint32 {
			id := c.request("POST", "/", false, "trailer", "x-sum")
			c.headers(id, false, "x-sum", "1")
			return id
		}},
		{name: "HEAD with a small body", handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }, send: method("HEAD")},
		{name: "HEAD with a large body", handler: func(w http.ResponseWriter, r *http.Request) {
			n, err := io.WriteString(w, big)
			if n != len(big) || err != nil {
				panic("HEAD write failed")
			}
		}, send: method("HEAD")},
		{name: "HEAD with nothing", handler: wroteNothing, send: method("HEAD")},
		{name: "HEAD with a length", handler: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "99") }, send: method("HEAD")},
		{name: "HEAD with Flush", handler: func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			io.WriteString(w, "x")
		}, send: method("HEAD")},
		{name: "204", handler: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(204)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}, send: get()},
		{name: "304 with etag", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		}, send: get()},
		{name: "404 by http.Error", handler: func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 404) }, send: get()},
		{name: "redirect", handler: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/there", http.StatusFound) }, send: get()},
		{name: "header set after WriteHeader is lost", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Before", "1")
			w.WriteHeader(200)
			w.Header().Set("X-After", "1")
			w.Header().Set("X-Before", "2")
			w.WriteHeader(500)
		}, send: get()},
		{name: "many values", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
			w.Header()["X-Empty"] = []string{""}
			w.Header()["X-None"] = nil
			w.Header()["lower-case"] = []string{"v"}
		}, send: get()},
		{name: "many fields", handler: func(w http.ResponseWriter, r *http.Request) {
			for i := range 40 {
				w.Header().Set(fmt.Sprintf("X-Field-%d", i), strings.Repeat("v", i))
			}
		}, send: get()},
		{name: "a header block of 40 KiB", handler: func(w http.ResponseWriter, r *http.Request) {
			for i := range 10 {
				w.Header().Set(fmt.Sprintf("X-Field-%d", i), strings.Repeat("\x7e{", 2048))
			}
			io.WriteString(w, "after")
		}, send: get()},
		{name: "invalid names and values are left out", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Bad Name"] = []string{"v"}
			w.Header()["Größe"] = []string{"v"}
			w.Header()["X-Bad-Value"] = []string{"a\nb"}
			w.Header()["X-Good"] = []string{"a\tb"}
		}, send: get()},
		{name: "Content-Type suppressed", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html>")
		}, send: get()},
		{name: "sniffed HTML", handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html><body>") }, send: get()},
		{name: "sniffed over two writes", handler: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "<ht")
			io.WriteString(w, "ml>")
		}, send: get()},
		{name: "not sniffed when encoded", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "xx")
		}, send: get()},
		{name: "own Date", handler: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Date", "yesterday") }, send: get()},
		{name: "no Date", handler: func(w http.ResponseWriter, r *http.Request) { w.Header()["Date"] = nil }, send: get()},
		{name: "declared length, met", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
		}, send: get()},
		{name: "declared length that is no number", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "five")
			io.WriteString(w, "hello")
		}, send: get()},
		{name: "declared length, not met", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, "hello")
		}, send: get()},
		{name: "declared length, exceeded", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
			if _, err := io.WriteString(w, " world"); err == nil {
				w.Header().Set(http.TrailerPrefix+"X-Too-Much", "accepted")
			}
		}, send: get(),
			differs: "net/http accepts it while the header is not sent yet, and so sends a malformed reply",
			ours: func(r reply) bool {
				return r.ended && r.body == "hello" && r.header["content-length"][0] == "5" && len(r.trailer) == 0
			}},
		{name: "announced trailers", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-A, X-B")
			w.Header().Add("Trailer", "X-C")
			io.WriteString(w, "body")
			w.Header().Set("X-A", "1")
			w.Header().Set("X-C", "3")
			w.Header().Set("X-D", "4")
		}, send: get()},
		{name: "announced trailers, none set", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-A")
			io.WriteString(w, "body")
		}, send: get()},
		{name: "trailers by prefix", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Write([]byte{0, 0, 0, 0, 0})
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			w.Header().Set(http.TrailerPrefix+"grpc-message", "")
			w.Header().Set(http.TrailerPrefix+"Content-Length", "12")
		}, send: get()},
		{name: "trailers and no body", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "12")
		}, send: get(), differs: noLength, ours: func(r reply) bool {
			return r.ended && r.header["content-length"] == nil && r.trailer["grpc-status"][0] == "12"
		}},
		{name: "trailers by prefix, not flushed", handler: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "body")
			w.Header().Set(http.TrailerPrefix+"X-T", "0")
		}, send: get()},
		{name: "announced trailers of gRPC", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Grpc-Status")
			w.WriteHeader(200)
			w.Header().Set("Grpc-Status", "12")
		}, send: get(), differs: noLength, ours: func(r reply) bool {
			return r.ended && r.header["content-length"] == nil && r.trailer["grpc-status"][0] == "12"
		}},
		{name: "trailers-only of gRPC", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Grpc-Status", "12")
		}, send: get(), differs: noLength, ours: func(r reply) bool {
			return r.ended && r.header["content-length"] == nil && r.header["grpc-status"][0] == "12"
		}},
		{name: "gRPC, not flushed", handler: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "body")
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		}, send: get(), differs: noLength, ours: func(r reply) bool {
			return r.ended && r.header["content-length"] == nil && r.body == "body" && r.trailer["grpc-status"][0] == "0"
		}},
		{name: "trailers on HEAD", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(http.TrailerPrefix+"X-T", "1")
		}, send: method("HEAD")},
		{name: "Flush before anything", handler: func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			io.WriteString(w, "late")
		}, send: get()},
		{name: "Flush in between", handler: func(w http.ResponseWriter, r *http.Request) {
			for i := range 5 {
				fmt.Fprintf(w, "part %d;", i)
				if err := http.NewResponseController(w).Flush(); err != nil {
					panic(err)
				}
			}
		}, send: get()},
		{name: "103 and 102", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(103)
			w.WriteHeader(102)
			io.WriteString(w, "done")
		}, send: get()},
		{name: "Expect: 100-continue", handler: describe, send: func(c *client) uint32 {
			id := c.request("POST", "/", false, "expect", "100-continue", "content-length", "4")
			time.Sleep(20 * time.Millisecond)
			c.data(id, true, "body")
			return id
		}},
		{name: "Expect, not read", handler: wroteNothing, send: func(c *client) uint32 {
			return c.request("POST", "/", false, "expect", "100-continue", "content-length", "4")
		}},
		{name: "a request whose body is not read", handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "no thanks") },
			send: func(c *client) uint32 {
				id := c.request("POST", "/", false)
				c.data(id, false, "some")
				return id
			}},
		{name: "panic before the header", handler: func(w http.ResponseWriter, r *http.Request) { panic("boom") }, send: get()},
		{name: "panic after a flush", handler: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "some")
			w.(http.Flusher).Flush()
			panic("boom")
		}, send: get()},
		{name: "http.ErrAbortHandler", handler: func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, send: get()},
		{name: "invalid status", handler: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(42) }, send: get()},
		{name: "read deadline", handler: func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := io.ReadAll(r.Body)
			fmt.Fprint(w, errors.Is(err, os.ErrDeadlineExceeded))
		}, send: func(c *client) uint32 { return c.request("POST", "/", false) }},
		{name: "read deadline in the past", handler: func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(-time.Second))
			_, err := io.ReadAll(r.Body)
			fmt.Fprint(w, errors.Is(err, os.ErrDeadlineExceeded))
		}, send: func(c *client) uint32 { return c.request("POST", "/", false) }},
		{name: "write deadline in the past", handler: func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(-time.Second))
			time.Sleep(10 * time.Millisecond)
			if err := http.NewResponseController(w).Flush(); err == nil {
				panic("flush after the deadline succeeded")
			}
		}, send: get()},
		{name: "full duplex", handler: func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				panic(err)
			}
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			io.Copy(w, r.Body)
		}, send: func(c *client) uint32 {
			id := c.request("POST", "/", false)
			nextFrame[*http2.MetaHeadersFrame](c)
			c.data(id, true, "echo")
			return id
		}, differs: "status is read by send", ours: func(r reply) bool { return r.body == "echo" && r.ended }},
		{name: "Connection and friends are dropped", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "keep-alive")
			w.Header().Set("Transfer-Encoding", "chunked")
			io.WriteString(w, "x")
		}, send: get()},
		{name: "body shorter than declared", handler: describe, send: post("four", "content-length", "9"),
			differs: "net/http lets the handler find out; RFC 9113 §8.1.1 calls the request malformed",
			ours:    wasReset(http2.ErrCodeProtocol)},
		{name: "body longer than declared", handler: describe, send: post("far too long", "content-length", "3")},
		{name: "connection-specific field", handler: describe, send: get("connection", "close"),
			differs: "net/http replies 400; RFC 9113 §8.2.2 calls the request malformed", ours: wasReset(http2.ErrCodeProtocol)},
		{name: "te other than trailers", handler: describe, send: get("te", "gzip"),
			differs: "as above", ours: wasReset(http2.ErrCodeProtocol)},
		{name: "upper case in a name", handler: describe, send: get("X-Upper", "1")},
		{name: "line feed in a value", handler: describe, send: get("x-evil", "a\nb")},
		{name: "unknown pseudo-header field", handler: describe, send: get(":evil", "1")},
		{name: "no path", handler: describe, send: func(c *client) uint32 {
			c.headers(1, true, ":method", "GET", ":scheme", "http", ":authority", "example.com")
			return 1
		}},
		{name: "odd scheme", handler: describe, send: func(c *client) uint32 {
			c.headers(1, true, ":method", "GET", ":scheme", "ftp", ":path", "/", ":authority", "example.com")
			return 1
		}},
		{name: "CONNECT with a path", handler: describe, send: func(c *client) uint32 {
			c.headers(1, true, ":method", "CONNECT", ":scheme", "http", ":path", "/", ":authority", "example.com:80")
			return 1
		}},
		{name: "CONNECT", handler: describe, send: func(c *client) uint32 {
			c.headers(1, true, ":method", "CONNECT", ":authority", "example.com:80")
			return 1
		}, differs: "net/http hands it to the handler; we are no proxy", ours: func(r reply) bool { return r.status == "501" }},
		{name: "malformed length", handler: describe, send: post("x", "content-length", "-1"),
			differs: "net/http takes it as 0", ours: wasReset(http2.ErrCodeProtocol)},
	}
}

func TestOracle(t *testing.T) {
	for _, plain := range []bool{true, false} {
		for _, tc := range oracleCases() {
			t.Run(fmt.Sprintf("plain=%v/%s", plain, tc.name), func(t *testing.T) {
				t.Parallel()
				var opts []serverOption
				if !plain {
					opts = append(opts, withTLS)
				}
				ask := func(s *testServer) reply {
					c := s.dial(t)
					return c.read(tc.send(c))
				}
				got := ask(newServer(t, tc.handler, Config{KnownHeaders: grpcHeaders}, opts...))
				if tc.differs != "" {
					if !tc.ours(got) {
						t.Errorf("got %v", got)
					}
					return
				}
				want := ask(newOracle(t, tc.handler, opts...))
				compareReplies(t, got, want)
			})
		}
	}
}

func compareReplies(t *testing.T, got, want reply) {
	t.Helper()
	for _, r := range []*reply{&got, &want} {
		if d := r.header["date"]; len(d) == 1 && strings.HasSuffix(d[0], " GMT") {
			r.header["date"] = []string{"now"}
		}
		for _, h := range []fields{r.header, r.trailer} {
			for k := range h {
				slices.Sort(h[k])
			}
		}
		if r.reset || r.goAway {
			r.body = "" // how much of a broken reply got through is a matter of luck
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ours:     %v\nnet/http: %v", got, want)
	}
}
