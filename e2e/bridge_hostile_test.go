package e2e

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	bigendian "encoding/binary"
	"errors"
	"flag"

	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A hostile upstream answers each method with frames of its own.
type hostile struct {
	framer *http2.Framer
	write  sync.Mutex
	block  bytes.Buffer
	hpack  *hpack.Encoder
	conn   net.Conn

	mu     sync.Mutex
	window map[uint32]int // bytes that the client allows
	opened *sync.Cond
}

// allowed waits until the client allows data on a stream, and takes up to so much of it.
func (h *hostile) allowed(stream uint32, want int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.window != nil && h.window[stream] <= 0 {
		h.opened.Wait()
	}
	n := want
	if h.window != nil {
		n = min(want, h.window[stream])
		h.window[stream] -= n
	}
	return n
}

func (h *hostile) open(stream uint32, more int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.window != nil {
		h.window[stream] += more
	}
	h.opened.Broadcast()
}

func (h *hostile) headers(stream uint32, end bool, fields ...string) error {
	h.write.Lock()
	defer h.write.Unlock()
	h.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = h.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.block.Bytes(), EndHeaders: true, EndStream: end})
}

func (h *hostile) begin(stream uint32, more ...string) error {
	return h.headers(stream, false, append([]string{":status", "200", "content-type", "application/grpc"}, more...)...)
}

// data sends content as the client allows.
func (h *hostile) data(stream uint32, content []byte) error {
	return h.frames(stream, content, 16<<10, true)
}

func (h *hostile) frames(stream uint32, content []byte, size int, controlled bool) error {
	for len(content) > 0 {
		n := min(len(content), size)
		if controlled {
			n = h.allowed(stream, n)
		}
		piece := content[:n]
		content = content[len(piece):]
		h.write.Lock()
		err := h.framer.WriteData(stream, false, piece)
		h.write.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func prefixed(flag byte, promised int, content []byte) []byte {
	return append(bigendian.BigEndian.AppendUint32([]byte{flag}, uint32(promised)), content...)
}

// packed compresses content with gzip or deflate.
func packed(t testing.TB, encoding string, content []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if encoding == "deflate" {
		w = zlib.NewWriter(&out)
	}
	_, err := w.Write(content)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// serveHostile starts the upstream.
func serveHostile(t *testing.T, behaviours map[string]func(h *hostile, stream uint32) error) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go func() {
				defer conn.Close()
				if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				h := &hostile{framer: http2.NewFramer(conn, conn), conn: conn, window: make(map[uint32]int)}
				h.opened = sync.NewCond(&h.mu)
				defer func() {
					h.mu.Lock()
					defer h.mu.Unlock()
					h.window = nil
					h.opened.Broadcast()
				}()
				h.hpack = hpack.NewEncoder(&h.block)
				h.framer.AllowIllegalWrites = true
				h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
				if h.framer.WriteSettings() != nil {
					return
				}
				for {
					frame, err := h.framer.ReadFrame()
					if err != nil {
						return
					}
					switch frame := frame.(type) {
					case *http2.SettingsFrame:
						if !frame.IsAck() {
							h.write.Lock()
							_ = h.framer.WriteSettingsAck()
							h.write.Unlock()
						}
					case *http2.WindowUpdateFrame:
						h.open(frame.StreamID, int(frame.Increment))
					case *http2.RSTStreamFrame:
						h.open(frame.StreamID, 1<<30) // whoever waits goes on, in vain
					case *http2.MetaHeadersFrame:
						h.open(frame.StreamID, 64<<10)
						stream, path := frame.StreamID, frame.PseudoValue("path")
						if path == "/grpc.health.v1.Health/Watch" {
							_ = h.headers(stream, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "12")
						} else if behave := behaviours[path[strings.LastIndex(path, "/")+1:]]; behave != nil {
							go behave(h, stream)
						}
					}
				}
			}()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

// hostileSchema writes a descriptor set with one method for each behaviour, of messages that nest.
func hostileSchema(t *testing.T, methods []string) string {
	t.Helper()
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, list bool) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: &kind, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		if list {
			f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}
		if kind == descriptorpb.FieldDescriptorProto_TYPE_MESSAGE {
			f.TypeName = proto.String(".hostile.M")
		}
		return f
	}
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("hostile.proto"), Package: proto.String("hostile"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M"), Field: []*descriptorpb.FieldDescriptorProto{
			field("bytes", 1, descriptorpb.FieldDescriptorProto_TYPE_BYTES, false),
			field("numbers", 2, descriptorpb.FieldDescriptorProto_TYPE_INT32, true),
			field("messages", 3, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, true),
		}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S")}},
	}
	for _, name := range methods {
		file.Service[0].Method = append(file.Service[0].Method, &descriptorpb.MethodDescriptorProto{
			Name: &name, InputType: proto.String(".hostile.M"), OutputType: proto.String(".hostile.M"), ServerStreaming: proto.Bool(strings.HasPrefix(name, "Stream"))})
	}
	wire, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "hostile.binpb")
	if err := os.WriteFile(name, wire, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// peakOf is the most memory that a process has while work runs, in MiB.
func peakOf(t *testing.T, p *process, work func()) int {
	t.Helper()
	// Has the kernel forget the peak so far (proc(5)).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.command.Process.Pid), []byte("5"), 0o200); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("this system does not tell the peak of a time:", err)
	}
	work()
	return peakMemory(p.command.Process.Pid) >> 10
}

var hostileUpstream = flag.Bool("hostile-upstream", false, "run all attacks of an upstream on the bridge, which takes more than a minute, and not only some")

// An upstream that does what it can to hurt takes at most 64 MB, and the calls of the port's own
// services are answered meanwhile.
func TestBridgeStandsAHostileUpstream(t *testing.T) {
	const maxMessage = 4 << 20
	bomb, deflated := packed(t, "gzip", make([]byte, maxMessage-100)), packed(t, "deflate", make([]byte, maxMessage-100))
	tooLarge, tooLargeDeflated := bomb, deflated
	if *hostileUpstream {
		tooLarge, tooLargeDeflated = packed(t, "gzip", make([]byte, 400<<20)), packed(t, "deflate", make([]byte, 400<<20))
	}
	zeros := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), make([]byte, maxMessage-100))
	var empty []byte // messages that are two bytes each, and much longer in JSON
	for len(empty) < maxMessage-100 {
		empty = append(empty, 0x1a, 0)
	}
	forever := func(h *hostile, step func() error) error {
		for {
			if err := step(); err != nil {
				return err
			}
		}
	}
	reply := func(encoding string, content []byte) func(h *hostile, stream uint32) error {
		return func(h *hostile, stream uint32) error {
			_ = h.begin(stream, "grpc-encoding", encoding)
			flag := byte(1)
			if encoding == "identity" {
				flag = 0
			}
			_ = h.data(stream, prefixed(flag, len(content), content))
			return h.headers(stream, true, "grpc-status", "0")
		}
	}
	behaviours := map[string]func(h *hostile, stream uint32) error{
		"EndlessHeader": func(h *hostile, stream uint32) error {
			h.write.Lock()
			defer h.write.Unlock()
			_ = h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x88}})
			return forever(h, func() error { return h.framer.WriteContinuation(stream, false, bytes.Repeat([]byte{0x82}, 16<<10)) })
		},
		"LargeHeader": func(h *hostile, stream uint32) error { return h.begin(stream, "big", strings.Repeat("x", 1<<20)) },
		"ManyHeaders": func(h *hostile, stream uint32) error {
			return forever(h, func() error { return h.begin(stream, "a", "b") })
		},
		"LargeTrailer": func(h *hostile, stream uint32) error {
			_ = h.begin(stream)
			return h.headers(stream, true, "grpc-status", "0", "big", strings.Repeat("x", 1<<20))
		},
		"Bomb":              reply("gzip", bomb),
		"LargerBomb":        reply("gzip", tooLarge),
		"DeflateBomb":       reply("deflate", deflated),
		"LargerDeflateBomb": reply("deflate", tooLargeDeflated),
		"Large":             reply("identity", make([]byte, maxMessage)),
		"Lie": func(h *hostile, stream uint32) error { // promises, and sends nothing
			_ = h.begin(stream)
			return h.data(stream, prefixed(0, maxMessage, make([]byte, 10)))
		},
		"Liar": func(h *hostile, stream uint32) error {
			_ = h.begin(stream)
			return h.data(stream, prefixed(0, 4<<30-1, make([]byte, 10)))
		},
		"Short": func(h *hostile, stream uint32) error {
			_ = h.begin(stream)
			_ = h.data(stream, prefixed(0, 1000, make([]byte, 10)))
			return h.headers(stream, true, "grpc-status", "0")
		},
		"Partial": func(h *hostile, stream uint32) error { // everything except the last byte
			_ = h.begin(stream)
			return h.data(stream, prefixed(0, maxMessage, make([]byte, maxMessage-1)))
		},
		"PartialInSmallFrames": func(h *hostile, stream uint32) error {
			_ = h.begin(stream)
			content := prefixed(0, maxMessage, make([]byte, maxMessage-1))
			return h.frames(stream, content, 1000, true)
		},
		"Flood": func(h *hostile, stream uint32) error { // beyond every window
			_ = h.begin(stream)
			return forever(h, func() error { return h.frames(stream, make([]byte, 16<<10), 16<<10, false) })
		},
		"BadFrame": func(h *hostile, stream uint32) error {
			h.write.Lock()
			defer h.write.Unlock()
			return h.framer.WriteRawFrame(http2.FrameHeaders, 0xff, stream, []byte{1, 2, 3})
		},
		"Garbage": func(h *hostile, stream uint32) error {
			h.write.Lock()
			defer h.write.Unlock()
			_, err := h.conn.Write(bytes.Repeat([]byte("garbage"), 10_000))
			return err
		},
		"Pings": func(h *hostile, stream uint32) error {
			return forever(h, func() error {
				h.write.Lock()
				defer h.write.Unlock()
				return h.framer.WritePing(false, [8]byte{})
			})
		},
		"Settings": func(h *hostile, stream uint32) error {
			return forever(h, func() error {
				h.write.Lock()
				defer h.write.Unlock()
				return h.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
			})
		},
		"Silent": func(h *hostile, stream uint32) error { return nil },
		"Zeros":  reply("identity", zeros),
		"Empty":  reply("identity", empty),
		"StreamBombs": func(h *hostile, stream uint32) error {
			_ = h.begin(stream, "grpc-encoding", "gzip")
			return forever(h, func() error { return h.data(stream, prefixed(1, len(bomb), bomb)) })
		},
		"StreamDeflateBombs": func(h *hostile, stream uint32) error {
			_ = h.begin(stream, "grpc-encoding", "deflate")
			return forever(h, func() error { return h.data(stream, prefixed(1, len(deflated), deflated)) })
		},
		"StreamLarge": func(h *hostile, stream uint32) error {
			_ = h.begin(stream)
			large := prefixed(0, maxMessage, make([]byte, maxMessage))
			return forever(h, func() error { return h.data(stream, large) })
		},
	}
	methods := []string{"BadFrame", "DeflateBomb", "EndlessHeader", "Garbage", "LargeTrailer", "Lie", "Short"}
	if *hostileUpstream {
		methods = slices.Sorted(maps.Keys(behaviours))
	}
	schema := hostileSchema(t, methods)
	for _, name := range methods {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, address := serve(t, "--max-deadline", "1s", "--access-log", "off", "--bridge", "hostile.S=http://"+serveHostile(t, behaviours), "--bridge-schema", schema)
			eventually(t, "the hostile service to be mounted", func() bool { return strings.Contains(p.log(), "bridge: mounted") })
			// Others are served all the time.
			ctx, stop := context.WithCancel(t.Context())
			var answered, slowest atomic.Int64
			var others sync.WaitGroup
			others.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					code, text := postJSON(t, "http://"+address+"/MyService/User", `{"userIDs":[1]}`)
					if code != http.StatusOK {
						t.Error("MyService:", code, text)
						return
					}
					answered.Add(1)
					slowest.Store(max(slowest.Load(), time.Since(began).Milliseconds()))
					time.Sleep(5 * time.Millisecond)
				}
			})
			eventually(t, "the first answers", func() bool { return answered.Load() > 20 })
			before := peakOf(t, p, func() {})
			var example string
			peak := peakOf(t, p, func() { example = callHostile(t, address, name) })
			stop()
			others.Wait()
			t.Logf(name+" grew by %d MiB; %d calls of MyService answered, the slowest in %d ms; %.300s", peak-before, answered.Load(), slowest.Load(), example)
			if peak-before > 64 {
				t.Errorf("the port grew from %d to %d MiB", before, peak)
			}
			if strings.Contains(p.log(), "panic") {
				t.Error("a panic")
			}
		})
	}
}

// callHostile makes many calls of a method at a time, and returns an error of one.
func callHostile(t *testing.T, address, method string) (example string) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const callers = 60
	var calls sync.WaitGroup
	failures := make(chan string, callers)
	for i := range callers {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			var err error
			switch {
			case strings.HasPrefix(method, "Stream"): // the caller does not read
				var stream grpc.ClientStream
				if stream, err = conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/hostile.S/"+method); err == nil {
					err = errors.Join(stream.SendMsg(new([]byte)), stream.CloseSend())
				}
				<-ctx.Done()
			case i%2 == 0:
				request, reply := []byte{}, []byte(nil)
				err = conn.Invoke(ctx, "/hostile.S/"+method, &request, &reply)
			default:
				err = postHostile(ctx, "http://"+address+"/hostile.S/"+method)
			}
			if err != nil {
				failures <- err.Error()
			}
		})
	}
	calls.Wait()
	close(failures)
	counted := make(map[string]int)
	for text := range failures {
		counted[text]++
	}
	return fmt.Sprint(counted)
}

func postHostile(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("%s: %s", answer.Status, text)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
