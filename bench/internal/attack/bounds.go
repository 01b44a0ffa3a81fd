package attack

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"example.com/roster/bench/internal/measure"
	"example.com/roster/server/h2/h2test"
)

const (
	// MostSum is what memory may grow by in all, in bytes, and PerConnection what each connection may
	// take besides.
	MostSum       = 256e6
	PerConnection = 15e3
	// addresses is from how many addresses of the loopback network the attackers of a bound call.
	addresses = 40
)

// part is one way to make a server hold memory: many connections that each do the same and then wait.
type part struct {
	connections int
	do          func(w *wire) error
}

// wire is one connection of a part.
type wire struct {
	net.Conn
	n int // which of the connections it is
}

// bound is an attack on one bound of the port.
type bound struct {
	title string
	most  float64 // what memory may grow by, in bytes, besides PerConnection
	part
}

// bounds are attacks on each part of what a caller without a token can make the port hold: see the
// design.
var bounds = []bound{
	{"gzip of 4 million ids, gRPC over HTTP/2", MostGrowth, part{50, streams(0, 4, grpcGzip, envelope(1, zipped(manyIDs)))}},
	{"gzip of 4 million ids, Connect over HTTP/2", MostGrowth, part{50, streams(0, 4, connectGzip, zipped(manyIDs))}},
	{"gzip of 4 million ids, gRPC-Web over HTTP/1.1", MostGrowth, part{100, again(post("/MyService/User", "application/grpc-web", "Grpc-Encoding: gzip\r\n", envelope(1, zipped(manyIDs))))}},
	{"gzip of 4 million ids, Connect over HTTP/1.1", MostGrowth, part{100, again(post("/MyService/User", "application/proto", "Content-Encoding: gzip\r\n", zipped(manyIDs)))}},
	{"GETs with a percent-encoded `compression`", MostGrowth, part{50, again(getGzip())}},
	{"watches with compressed requests", MostGrowth, part{4, streams(0, 250, watchGzip, envelope(1, zipped(make([]byte, 4<<20))))}},
	{"10,250 headers without bodies", MostSum, part{41, streams(0, 250, h2test.Call("/MyService/User"), nil)}},
	{"the same with `Expect: 100-continue`, nothing read", MostSum, part{41, silent(streams(0, 250, with(h2test.Call("/MyService/User"), 1, "expect", "100-continue"), nil))}},
	{"watches with 200 small header fields", MostSum, part{41, streams(0, 250, with(h2test.Call("/grpc.health.v1.Health/Watch"), 200, "a", "b"), envelope(0, nil))}},
	{"watches with cookies to be joined", MostSum, part{41, streams(0, 250, with(h2test.Call("/grpc.health.v1.Health/Watch"), 100, "cookie", strings.Repeat("c", 100)), envelope(0, nil))}},
	{"short replies over HTTP/2, not read", MostSum, part{41, streams(0, 250, h2test.Call("/MyService/User"), measure.Request(100))}},
	{"long replies over HTTP/2, socket not read", MostSum, part{200, silent(streams(1<<30, 60, h2test.Call("/MyService/User"), measure.Request(10_000)))}},
	{"long replies over HTTP/2, a byte at a time", MostSum, part{100, byteReader}},
	{"bodies that stop before their end, HTTP/2", MostSum, part{200, halfBodies}},
	{"header blocks that do not end", MostSum, part{2000, slowBlock}},
	{"header tables that are full", MostSum, part{2000, fullTable}},
	{"requests in pieces, HTTP/1.1", MostSum, part{400, cut(post("/MyService/User", "application/json", "", bytes.Repeat([]byte(" "), 300_000)), 10)}},
	{"short replies over HTTP/1.1, not read", MostSum, part{500, silent(repeated(200, post("/MyService/User", "application/json", "", idsJSON(40))))}},
	{"long replies over HTTP/1.1, not read", MostSum, part{400, silent(repeated(20, post("/MyService/User", "application/json", "", idsJSON(10_000))))}},
	{"long headers that do not end, HTTP/1.1", MostSum, part{2000, once([]byte("GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:b\r\n", 3000)))}},
	{"more connections than the maximum", MostSum, part{10_500, once([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))}},
}

// boundAttacks returns the attacks of the table by title: one for each bound, and the sum.
func boundAttacks() (titles []string, attacks map[string]attack) {
	attacks = make(map[string]attack)
	sum := attack{most: MostSum}
	for _, b := range bounds {
		titles = append(titles, b.title)
		attacks[b.title] = attack{parts: []part{b.part}, most: b.most}
		// All at once they must leave sockets for each other, and for the well-behaved caller.
		sum.parts = append(sum.parts, part{min(b.connections, 400), b.do})
	}
	titles = append(titles, everything)
	attacks[everything] = sum
	return titles, attacks
}

const everything = "all of these at once"

// connections is how many connections the parts of an attack have.
func (a attack) connections() (n int) {
	for _, p := range a.parts {
		n += p.connections
	}
	return n
}

// hold attacks with one connection of a part until it is closed or ctx ends.
func (p part) hold(ctx context.Context, addr string, n int) error {
	dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 9, byte(1+n%addresses))}}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := p.do(&wire{conn, n}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// start attacks with all parts, and returns what waits for them.
func (a attack) start(ctx context.Context, addr string, cutOff *atomic.Int64) (wait func()) {
	done := make(chan struct{})
	left := atomic.Int64{}
	left.Store(int64(a.connections()))
	for _, p := range a.parts {
		for n := range p.connections {
			go func() {
				for ctx.Err() == nil {
					if err := p.hold(ctx, addr, n); err != nil && ctx.Err() == nil {
						cutOff.Add(1)
						sleep(ctx, 50*time.Millisecond)
					}
				}
				if left.Add(-1) == 0 {
					close(done)
				}
			}()
		}
	}
	return func() { <-done }
}

// Requests and how they are sent.

var (
	grpcGzip    = append(h2test.Call("/MyService/User"), "grpc-encoding", "gzip")
	watchGzip   = append(h2test.Call("/grpc.health.v1.Health/Watch"), "grpc-encoding", "gzip")
	connectGzip = []string{":method", "POST", ":scheme", "http", ":path", "/MyService/User", ":authority", "localhost",
		"content-type", "application/proto", "content-encoding", "gzip"}
	// manyIDs is a UserReq of 4 MB, each of whose ids is one byte.
	manyIDs = append(binary.AppendUvarint([]byte{0x0a}, 4_000_000), bytes.Repeat([]byte{1}, 4_000_000)...)
)

func zipped(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(data) // to memory, which does not fail
	_ = w.Close()
	return out.Bytes()
}

func envelope(flags byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message))), message...)
}

// with adds a header field n times.
func with(fields []string, n int, name, value string) []string {
	fields = slices.Clone(fields)
	for range n {
		fields = append(fields, name, value)
	}
	return fields
}

func idsJSON(n int) []byte { return []byte(`{"userIDs":[` + strings.Repeat("3,", n-1) + "3]}") }

func post(path, contentType, header string, body []byte) []byte {
	return append(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n", path, contentType, header, len(body)), body...)
}

func getGzip() []byte {
	message := base64.RawURLEncoding.EncodeToString(zipped(manyIDs))
	return fmt.Appendf(nil, "GET /roster.v1.DirectoryService/BatchGetUsers?connect=v1&encoding=proto&base64=1&c%%6Fmpression=gzip&message=%s HTTP/1.1\r\nHost: x\r\n\r\n",
		url.QueryEscape(message))
}

// read drops what the server sends.
func (w *wire) read() {
	go func() { _, _ = io.Copy(io.Discard, w.Conn) }()
}

// quiet is a connection whose answers stay in the sockets, which are small.
type quiet struct{ net.Conn }

func (quiet) Read([]byte) (int, error) { return 0, io.EOF }

// silent does not read what the server sends.
func silent(do func(*wire) error) func(*wire) error {
	return func(w *wire) error {
		if tcp, ok := w.Conn.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(4 << 10) // a larger one would only take more of this machine
		}
		return do(&wire{quiet{w.Conn}, w.n})
	}
}

func once(request []byte) func(*wire) error {
	return func(w *wire) error {
		w.read()
		_, err := w.Write(request)
		return err
	}
}

// cut sends all but the last bytes of a request.
func cut(request []byte, last int) func(*wire) error { return once(request[:len(request)-last]) }

func repeated(times int, request []byte) func(*wire) error { return once(bytes.Repeat(request, times)) }

// again sends a request as often as the server takes it.
func again(request []byte) func(*wire) error {
	return func(w *wire) error {
		w.read()
		for {
			if _, err := w.Write(request); err != nil {
				return err
			}
		}
	}
}

// client begins HTTP/2 with a window for replies.
func (w *wire) client(window uint32) (*h2test.Client, error) {
	w.read()
	c := h2test.New(bufio.NewReadWriter(bufio.NewReader(w.Conn), bufio.NewWriterSize(w.Conn, 16<<10)))
	err := c.Hello(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	if window > 0 {
		err = errors.Join(err, c.WriteWindowUpdate(0, window))
	}
	return c, errors.Join(err, c.Flush())
}

// streams opens streams with a body; without one they are left open.
func streams(window uint32, many int, fields []string, body []byte) func(*wire) error {
	return func(w *wire) error {
		c, err := w.client(window)
		for range many {
			if err != nil {
				return err
			}
			id, openErr := c.Open(false, fields...)
			err = openErr
			for part := range slices.Chunk(body, 16<<10) {
				err = errors.Join(err, c.WriteData(id, false, part))
			}
			if body != nil {
				err = errors.Join(err, c.WriteData(id, true, nil))
			}
			err = errors.Join(err, c.Flush())
		}
		return err
	}
}

// byteReader opens the windows of its replies by one byte at a time.
func byteReader(w *wire) error {
	c, err := w.client(0)
	for range 20 {
		id, openErr := c.Open(false, h2test.Call("/MyService/User")...)
		err = errors.Join(err, openErr)
		for part := range slices.Chunk(measure.Request(5000), 16<<10) {
			err = errors.Join(err, c.WriteData(id, false, part))
		}
		err = errors.Join(err, c.WriteData(id, true, nil))
	}
	for n := uint32(0); err == nil; n++ {
		err = errors.Join(c.WriteWindowUpdate(1+2*(n%20), 1), c.Flush())
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// halfBodies sends much of each of its requests and not the end.
func halfBodies(w *wire) error {
	c, err := w.client(0)
	for range 4 {
		id, openErr := c.Open(false, h2test.Call("/MyService/User")...)
		err = errors.Join(err, openErr, c.WriteData(id, false, []byte{0, 0, 4, 0, 0}))
		for range 15 {
			err = errors.Join(err, c.WriteData(id, false, make([]byte, 16<<10)), c.Flush())
		}
	}
	return err
}

func slowBlock(w *wire) error {
	c, err := w.client(0)
	return errors.Join(err, c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.Block(h2test.Call("/MyService/User")...)}),
		c.WriteContinuation(1, false, []byte(strings.Repeat("\x00\x01a\x01b", 230))), c.Flush())
}

// fullTable fills the table of HPACK with short fields, twice, and the names and paths that a server may
// remember.
func fullTable(w *wire) error {
	c, err := w.client(1 << 20)
	for round := range 4 {
		fields := h2test.Call(fmt.Sprintf("/%d/%d/%s", w.n, round, strings.Repeat("p", 100)))
		for j := range 60 {
			fields = append(fields, fmt.Sprintf("x-%d-%d-%d", w.n, round, j), "v")
		}
		_, openErr := c.Open(true, fields...)
		err = errors.Join(err, openErr)
	}
	return errors.Join(err, c.Flush())
}
