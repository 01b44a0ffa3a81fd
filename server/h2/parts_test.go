package h2

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/net/http2/hpack"
)

// What the encoder remembers must decode to the same fields, whatever happened to the dynamic table in between.
func TestHeaderEncoderMemos(t *testing.T) {
	names := newNameTable()
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
		b.init(src, &pools, func() bool { idle = !idle; return idle })
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
				p, err := b.some(n)
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
