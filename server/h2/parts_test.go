package h2

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/net/http2/hpack"
)

// grpcHeaders are what a server of gRPC tells the engine about.
var grpcHeaders = []KnownHeader{
	{Name: "grpc-status", Trailer: true, NoContentLength: true},
	{Name: "Grpc-Message", Trailer: true, RarelyRepeats: true},
}

// What the encoder remembers must decode to the same fields, whatever happened to the dynamic table
// in between.
func TestHeaderEncoderMemos(t *testing.T) {
	names, err := newNameTable(grpcHeaders)
	if err != nil {
		t.Fatal(err)
	}
	var e headerEncoder
	e.init(&names, 4096)
	var got []hpack.HeaderField
	dec := hpack.NewDecoder(4096, func(f hpack.HeaderField) { got = append(got, f) })
	encode := func(status int, length int64, fields ...field) []byte {
		t.Helper()
		block := e.appendBlock(nil, status, fields, length)
		got = nil
		if _, err := dec.Write(block); err != nil {
			t.Fatal(err)
		}
		dec.Close()
		want := make(map[string]int)
		if status != 0 {
			want[":status "+fmt.Sprint(status)]++
		}
		for _, f := range fields {
			want[strings.ToLower(f.name)+" "+f.value]++
		}
		if length >= 0 {
			want["content-length "+fmt.Sprint(length)]++
		}
		for _, f := range got {
			want[f.Name+" "+f.Value]--
		}
		for f, n := range want {
			if n != 0 {
				t.Errorf("field %q: off by %d", f, n)
			}
		}
		return block
	}
	header := []field{{"Content-Type", "application/grpc"}, {"Date", "now"}}
	trailer := []field{{"Grpc-Message", ""}, {"Grpc-Status", "0"}}
	for i := range 50 {
		h := encode(200, -1, header...)
		tr := encode(0, -1, trailer...)
		if i%10 > 3 && i/5 != 5 && (len(h) > 3 || len(tr) > 2) {
			t.Errorf("round %d: repeated blocks take %d and %d bytes", i, len(h), len(tr))
		}
		encode(404, int64(i), field{"X-Request-Id", fmt.Sprint(i)}, field{"Grpc-Message", "odd"})
		if i%10 == 0 {
			encode(200, -1, field{"X-New", fmt.Sprint(i)}) // moves the table
		}
		if i == 25 {
			e.setTableSize(64)
		}
		if i == 28 {
			e.setTableSize(4096)
		}
	}
}

// decodeBlocks has a headerDecoder decode blocks, each of its own request, and compares it with a
// plain decoder. cut, if there is one, says where a block is divided between two frames; 0 is
// nowhere.
func decodeBlocks(t *testing.T, blocks [][]byte, cut func(block []byte) int) (recalled int) {
	t.Helper()
	var want headerBlock
	plain := hpack.NewDecoder(4096, want.add)
	var got headerBlock
	var d headerDecoder
	d.dec = hpack.NewDecoder(4096, got.add)
	for i, block := range blocks {
		want.begin(1, true, &Config{maxHeaderBytes: 16 << 10})
		_, wantErr := plain.Write(block)
		if wantErr == nil {
			wantErr = plain.Close()
		}
		got.begin(1, true, &Config{maxHeaderBytes: 16 << 10})
		if d.recall(&got, block) {
			recalled++
			got.begin(1, true, &Config{maxHeaderBytes: 16 << 10})
		}
		var err error
		rest := block
		if cut != nil && cut(block) > 0 {
			err = d.write(&got, block[:cut(block)], false)
			rest = block[cut(block):]
			got.frames = 2
		}
		if err == nil {
			err = d.write(&got, rest, true)
		}
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("block %d, %x: error %v, want %v", i, block, err, wantErr)
		}
		if err != nil {
			return recalled // the connection ends
		}
		if fmt.Sprintf("%+v", got.headerFields) != fmt.Sprintf("%+v", want.headerFields) {
			t.Fatalf("block %d, %x: got %+v, want %+v", i, block, got.headerFields, want.headerFields)
		}
		if got.invalid != want.invalid || got.tooLarge != want.tooLarge {
			t.Fatalf("block %d, %x: invalid %q, too large %v, want %q, %v", i, block, got.invalid, got.tooLarge, want.invalid, want.tooLarge)
		}
	}
	return recalled
}

// What the decoder remembers is what the block means, whatever happened to the dynamic table in
// between.
func TestHeaderDecoderMemos(t *testing.T) {
	var buf bytes.Buffer
	e := hpack.NewEncoder(&buf)
	block := func(kv ...string) []byte {
		buf.Reset()
		for i := 0; i < len(kv); i += 2 {
			e.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1], Sensitive: kv[i] == "authorization"})
		}
		return bytes.Clone(buf.Bytes())
	}
	user := []string{":method", "POST", ":scheme", "http", ":path", "/MyService/User", "content-type", "application/grpc", "authorization", "Bearer x"}
	health := []string{":method", "POST", ":scheme", "http", ":path", "/MyService/Health", "te", "trailers"}
	var blocks [][]byte
	for range 4 {
		blocks = append(blocks, block(user...), block(health...))
	}
	if n := decodeBlocks(t, blocks, nil); n != 4 {
		t.Errorf("%d of these 8 blocks were remembered, want the last 4", n)
	}
	// The same bytes mean another field once the table has moved.
	blocks = append(blocks, block("x-new", "1"))
	moved := [][]byte{blocks[2], block(user...)}
	if bytes.Equal(moved[0], moved[1]) {
		t.Fatal("the table has not moved")
	}
	blocks = append(blocks, moved...)
	e.SetMaxDynamicTableSize(0)
	e.SetMaxDynamicTableSize(4096)
	blocks = append(blocks, block(user...), block(user...), block(user...))
	if n := decodeBlocks(t, blocks, nil); n != 5 {
		t.Errorf("%d of these blocks were remembered, want 5", n)
	}
	if n := decodeBlocks(t, [][]byte{{0x00, 1, 'A', 0}, {0x00, 1, 'A', 0}}, nil); n != 1 {
		t.Errorf("a name in upper case, remembered %d times: the name is judged for each request", n)
	}
	// A block that is refused is refused again.
	if n := decodeBlocks(t, [][]byte{{0x00, 2, 't', 'e', 1, 'x'}, {0x00, 2, 't', 'e', 1, 'x'}}, nil); n != 0 {
		t.Errorf("a malformed block was remembered %d times", n)
	}
}

func TestWorkersAreReusedAndSweptAway(t *testing.T) {
	ws := &workers{maxIdle: 4, idleTimeout: 20 * time.Millisecond}
	idle := func() int {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		return len(ws.idle)
	}
	var wg sync.WaitGroup
	release := make(chan bool)
	for range 10 {
		wg.Add(1)
		ws.run(taskFunc(func() { <-release; wg.Done() }))
	}
	close(release)
	wg.Wait()
	eventually(t, "no more than maxIdle wait", func() bool { return idle() > 0 && idle() <= 4 })
	eventually(t, "unneeded workers end", func() bool { return idle() == 0 })
	done := make(chan bool)
	ws.run(taskFunc(func() { close(done) }))
	<-done
	eventually(t, "the last one ends too", func() bool { return idle() == 0 })
}

type taskFunc func()

func (f taskFunc) run() { f() }

func TestBucket(t *testing.T) {
	b := newBucket(3, 1000)
	for i := range 3 {
		if !b.take() {
			t.Fatalf("token %d is missing", i)
		}
	}
	b.filled = time.Now()
	if b.take() {
		t.Error("more than the burst")
	}
	time.Sleep(5 * time.Millisecond)
	if !b.take() {
		t.Error("no token after a while")
	}
	b.filled = time.Now().Add(-time.Hour)
	b.tokens = 0
	for range 3 {
		if !b.take() {
			t.Error("the burst has not come back")
		}
	}
	if b.tokens != 0 {
		t.Errorf("%d tokens above the burst", b.tokens)
	}
}

// withoutDeadline is a source that never waits.
type withoutDeadline struct{ io.Reader }

func (withoutDeadline) SetReadDeadline(time.Time) error { return nil }

func TestReadBuffer(t *testing.T) {
	data := make([]byte, 200<<10)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for name, src := range map[string]io.Reader{
		"all at once":    bytes.NewReader(data),
		"byte by byte":   iotest.OneByteReader(bytes.NewReader(data)),
		"half of it":     iotest.HalfReader(bytes.NewReader(data)),
		"data with EOF":  iotest.DataErrReader(bytes.NewReader(data)),
		"small segments": &segments{data: data, size: 100},
	} {
		var pools bufferPools
		var b readBuffer
		idle := false
		b.init(withoutDeadline{src}, &pools, nil, func() bool { idle = !idle; return idle })
		var got []byte
		for step := 0; len(got) < len(data); step++ {
			left := len(data) - len(got)
			switch n := min(left, step*step%20000+1); step % 3 {
			case 0:
				p, err := b.peek(n)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got = append(got, p...)
				b.discard(n)
			case 1:
				p, err := b.peekSome(n)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got = append(got, p...)
				b.discard(len(p))
			default:
				p := make([]byte, n)
				k, err := io.ReadFull(&b, p)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got = append(got, p[:k]...)
			}
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%s: bytes differ", name)
		}
		if _, err := b.peek(1); err != io.ErrUnexpectedEOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

// segments delivers data in pieces of size.
type segments struct {
	data []byte
	size int
}

func (s *segments) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data[:min(s.size, len(s.data))])
	s.data = s.data[n:]
	return n, nil
}

// deadlines is a socket whose reads fail at once, and which notes the last deadline of a read.
type deadlines struct {
	last  time.Time
	reads int
	then  func() // before the second read
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.last = t; return nil }

func (d *deadlines) Read(p []byte) (int, error) {
	if d.reads++; d.reads > 1 {
		d.then()
		return 0, io.EOF
	}
	return 0, os.ErrDeadlineExceeded
}

// A read that is recalled just when the connection begins to linger does not remove that deadline.
func TestRecalledReadKeepsTheLastDeadline(t *testing.T) {
	for _, lingers := range []bool{false, true} {
		var pools bufferPools
		var b readBuffer
		src := &deadlines{}
		src.then = func() {
			if src.last.IsZero() == lingers {
				t.Errorf("lingers %v: the deadline is %v", lingers, src.last)
			}
		}
		b.init(src, &pools, nil, func() bool { return false })
		b.makeRoom(1000)
		b.recall()
		if lingers {
			b.linger()
		}
		if err := b.fill(); err != io.EOF || src.reads != 2 {
			t.Errorf("lingers %v: %v after %d reads", lingers, err, src.reads)
		}
	}
}
