package h2

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// codecPeer encodes header blocks as a client does, for a headerCodec without a connection.
type codecPeer struct {
	*testing.T
	headerCodec
	memory memory
	enc    *hpack.Encoder
	buf    bytes.Buffer
	id     uint32
}

func newCodecPeer(t *testing.T, cfg Config) *codecPeer {
	t.Helper()
	cfg, err := cfg.withDefaults(&http.Server{})
	if err != nil {
		t.Fatal(err)
	}
	names, err := newNameTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &codecPeer{T: t, memory: memory{size: int64(cfg.MaxMemory), addresses: make(map[netip.Prefix]*addressShare)}}
	p.enc = hpack.NewEncoder(&p.buf)
	p.headerCodec.init(&cfg, &names, p.memory.join(nil))
	return p
}

// encode returns the block of names and values.
func (p *codecPeer) encode(kv ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(kv); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return bytes.Clone(p.buf.Bytes())
}

// receive begins a block that comes in frames of at most size bytes, and decodes all of it.
func (p *codecPeer) receive(block []byte, size int) error {
	p.id += 2
	p.begin(p.id-1, true)
	for {
		n := min(size, len(block))
		last := n == len(block)
		if err := p.reserve(n, last); err != nil {
			return err
		}
		if err := p.decode(block[:n], last); err != nil || last {
			return err
		}
		block = block[n:]
	}
}

func code(err error) http2.ErrCode {
	var ce connError
	var se streamError
	switch {
	case errors.As(err, &ce):
		return ce.code
	case errors.As(err, &se):
		return se.code
	}
	return http2.ErrCodeNo
}

// The same request means the same however often it comes, in however many frames, and whatever came
// before it.
func TestHeaderCodecRepeats(t *testing.T) {
	p := newCodecPeer(t, Config{})
	for i := range 60 {
		kv := []string{":method", "GET", ":path", fmt.Sprint("/a/", i%7), "accept", "x", "X-Odd-" + fmt.Sprint(i%5), "1", "x-rare", fmt.Sprint(i % 11)}
		want := make(http.Header)
		for j := range kv {
			if j%2 == 0 && kv[j][0] != ':' {
				kv[j] = strings.ToLower(kv[j])
				want.Add(kv[j], kv[j+1])
			}
		}
		if err := p.receive(p.encode(kv...), 5+i%90); err != nil {
			t.Fatal(err)
		}
		got, err := p.header()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("request %d: got %v, %v, want %v", i, got, err, want)
		}
		for range 2 {
			if u, err := p.parsePath(p.block.path); err != nil || u.Path != kv[3] {
				t.Errorf("request %d: path %v, %v", i, u, err)
			}
		}
		p.end()
		if p.underWay() || p.memory.used.Load() != 0 {
			t.Errorf("request %d: after the end, under way %v, %d bytes charged", i, p.underWay(), p.memory.used.Load())
		}
	}
}

// Whatever a client sends, what the codec remembers has a bound.
func TestHeaderCodecRemembersLittle(t *testing.T) {
	p := newCodecPeer(t, Config{})
	for i := range 200 {
		kv := []string{":path", fmt.Sprint("/", i)}
		for j := range 100 {
			kv = append(kv, fmt.Sprintf("x-%d-%d%s", i, j, strings.Repeat("y", j%3*maxLearnedLength)), "v")
		}
		kv[1] += strings.Repeat("z", i%3*100)
		if err := p.receive(p.encode(kv...), 1<<20); err != nil {
			t.Fatal(err)
		}
		if _, err := p.header(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.parsePath(p.block.path); err != nil {
			t.Fatal(err)
		}
		p.end()
	}
	if len(p.learned) > maxLearnedNames || len(p.names) > maxNames || len(p.paths) > maxPaths || cap(p.block.fields) > maxMemoFields {
		t.Errorf("remembered: %d names, %d positions, %d paths, room for %d fields", len(p.learned), len(p.names), len(p.paths), cap(p.block.fields))
	}
	for name := range p.learned {
		if len(name) > maxLearnedLength {
			t.Errorf("a name of %d bytes is remembered", len(name))
		}
	}
	for _, path := range p.paths {
		if len(path.RequestURI) > 128 {
			t.Errorf("a path of %d bytes is remembered", len(path.RequestURI))
		}
	}
}

// An error of a block ends the connection with the code that says why.
func TestHeaderCodecRefusesBlocks(t *testing.T) {
	long := strings.Repeat("~", 300)
	for _, tc := range []struct {
		name  string
		cfg   Config
		block func(p *codecPeer) []byte
		size  int
		want  http2.ErrCode
	}{
		{"usual", Config{}, func(p *codecPeer) []byte { return p.encode("x-a", "b") }, 100, http2.ErrCodeNo},
		{"longer than worthwhile", Config{maxHeaderBytes: 100}, func(p *codecPeer) []byte { return p.encode(strings.Fields("x-a " + strings.Repeat(long, 5))...) }, 1 << 20, http2.ErrCodeEnhanceYourCalm},
		{"too long but worthwhile", Config{maxHeaderBytes: 100}, func(p *codecPeer) []byte { return p.encode("x-a", long) }, 1 << 20, http2.ErrCodeNo},
		{"many frames", Config{}, func(p *codecPeer) []byte { return p.encode("x-a", strings.Repeat("~", 30)) }, 1, http2.ErrCodeEnhanceYourCalm},
		{"no memory", Config{MaxMemory: 1000}, func(p *codecPeer) []byte { return p.encode("x-a", "b") }, 3, http2.ErrCodeEnhanceYourCalm},
		{"no memory needed", Config{MaxMemory: 1000}, func(p *codecPeer) []byte { return p.encode("x-a", "b") }, 100, http2.ErrCodeNo},
		{"no HPACK", Config{}, func(p *codecPeer) []byte { return []byte{0xff, 0xff, 0xff, 0xff, 0xff} }, 100, http2.ErrCodeCompression},
		{"ends within a field", Config{}, func(p *codecPeer) []byte { return p.encode("x-a", "b")[:2] }, 100, http2.ErrCodeCompression},
	} {
		p := newCodecPeer(t, tc.cfg)
		err := p.receive(tc.block(p), tc.size)
		if code(err) != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		p.end()
		if used := p.memory.used.Load(); used != 0 {
			t.Errorf("%s: %d bytes are still charged", tc.name, used)
		}
	}
}

func TestHeaderCodecTrailers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		wanted bool
		want   http.Header
		code   http2.ErrCode
	}{
		{"x-sum", true, http.Header{"X-Sum": {"v"}}, http2.ErrCodeNo},
		{"x-sum", false, nil, http2.ErrCodeNo},
		{"content-length", true, nil, http2.ErrCodeProtocol},
		{"content-length", false, nil, http2.ErrCodeNo},
		{"X-Sum", true, nil, http2.ErrCodeProtocol},
		{"X-Sum", false, nil, http2.ErrCodeProtocol},
	} {
		p := newCodecPeer(t, Config{})
		if err := p.receive(p.encode(tc.name, "v"), 100); err != nil {
			t.Fatal(err)
		}
		got, err := p.trailer(tc.wanted)
		if code(err) != tc.code || fmt.Sprint(got) != fmt.Sprint(tc.want) || (got == nil) != (tc.want == nil) {
			t.Errorf("%s, wanted %v: got %v, %v", tc.name, tc.wanted, got, err)
		}
	}
}

// Fields are grouped by name in the order in which they came, also if there are many.
func TestGroupedFields(t *testing.T) {
	for _, n := range []int{3, fewFields, fewFields + 1, 200} {
		p := newCodecPeer(t, Config{})
		var kv []string
		want := make(http.Header)
		for i := range n {
			name := fmt.Sprint("x-", i*i%7)
			kv = append(kv, name, fmt.Sprint(i))
			want[textproto.CanonicalMIMEHeaderKey(name)] = append(want[textproto.CanonicalMIMEHeaderKey(name)], fmt.Sprint(i))
		}
		if err := p.receive(p.encode(kv...), 1<<20); err != nil {
			t.Fatal(err)
		}
		got, err := p.header()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%d fields: got %v, %v, want %v", n, got, err, want)
		}
		for name, values := range got {
			_ = append(values, "one more")
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%d fields: appending to %s has changed another", n, name)
			}
		}
	}
}
