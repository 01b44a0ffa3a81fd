package h2

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func newOutput(cfg Config) *output {
	m := &memory{size: 1 << 20, addresses: make(map[netip.Prefix]*addressShare)}
	var o output
	o.init(new(bufferPools), m.join(nil), &cfg)
	return &o
}

// Each method makes the transitions that outputState lists, and no others.
func TestOutputStates(t *testing.T) {
	methods := map[string]func(o *output) bool{
		"claim":           (*output).claim,
		"claimForHandler": (*output).claimForHandler,
		"takeOver":        (*output).takeOver,
		"handOver":        func(o *output) bool { o.handOver(); return true },
		"beginWrite":      func(o *output) bool { o.beginWrite(); return true },
		"endWrite":        func(o *output) bool { o.endWrite(); return true },
		"rest":            func(o *output) bool { o.rest(true); return true },
		"rest, released":  func(o *output) bool { o.rest(false); return true },
	}
	type transition struct {
		from   outputState
		method string
	}
	allowed := map[transition]outputState{
		{outputIdle, "claim"}:             outputClaimed,
		{outputIdle, "claimForHandler"}:   outputClaimed,
		{outputDue, "takeOver"}:           outputClaimed,
		{outputDue, "claimForHandler"}:    outputClaimed,
		{outputClaimed, "handOver"}:       outputDue,
		{outputClaimed, "beginWrite"}:     outputWriting,
		{outputClaimed, "rest"}:           outputIdle,
		{outputClaimed, "rest, released"}: outputIdle,
		{outputWriting, "endWrite"}:       outputClaimed,
	}
	for _, from := range []outputState{outputIdle, outputDue, outputClaimed, outputWriting} {
		for name, method := range methods {
			o := newOutput(Config{})
			io.WriteString(o, "frame")
			if from != outputIdle {
				o.claim()
			}
			switch from {
			case outputDue:
				o.handOver()
			case outputWriting:
				o.beginWrite()
			}
			made := func() (made bool) {
				defer func() {
					if recover() != nil {
						made = false
					}
				}()
				return method(o)
			}()
			to, want := allowed[transition{from, name}]
			if !want {
				to = from
			}
			if made != want || o.state != to {
				t.Errorf("%s of an output that is %v: %v, then %v; want %v, then %v", name, from, made, o.state, want, to)
			}
		}
	}
}

// A handler's goroutine leaves the write to the worker while other handlers could add to it.
func TestHandlerTakesTheOutputOfAWorkerOnlyIfItIsTheLast(t *testing.T) {
	o := newOutput(Config{})
	o.claim()
	o.handOver()
	o.handlers.Store(1)
	if o.claimForHandler() {
		t.Error("taken although another handler is running")
	}
	o.handlers.Store(0)
	if !o.claimForHandler() {
		t.Error("not taken although no handler is running")
	}
	if o.takeOver() {
		t.Error("the worker has taken it too")
	}
}

// What is added during a write is written afterwards, in order, and the two buffers take turns.
func TestOutputDuringAWrite(t *testing.T) {
	o := newOutput(Config{outputBuffer: 100, maxQueuedControl: 2})
	io.WriteString(o, "one ")
	o.countControl()
	o.claim()
	var wrote []byte
	for i := range 5 {
		b := o.beginWrite()
		if !o.empty() || o.room() != 100 || o.control != 0 {
			t.Errorf("during a write: empty %v, room for %d, %d control frames", o.empty(), o.room(), o.control)
		}
		fmt.Fprintf(o, "more %d ", i)
		wrote = append(wrote, b...)
		o.endWrite()
	}
	if o.room() != 100-len("more 4 ") {
		t.Errorf("room for %d", o.room())
	}
	if got := string(wrote) + string(o.frames.b); got != "one more 0 more 1 more 2 more 3 more 4 " {
		t.Errorf("wrote %q", got)
	}
	if first, second, third := o.countControl(), o.countControl(), o.countControl(); !first || !second || third {
		t.Error("two answers to control frames may be unread, and no third")
	}
}

// However many goroutines add frames, each frame is written once, in the order in which they were
// added, and by one goroutine at a time.
func TestOutputHasOneOwner(t *testing.T) {
	o := newOutput(Config{})
	var mu sync.Mutex
	var added, wrote []byte
	owners := 0
	write := func() { // the caller owns o and holds mu
		if owners++; owners > 1 {
			t.Error("two owners")
		}
		for !o.empty() {
			b := o.beginWrite()
			mu.Unlock()
			runtime.Gosched()
			wrote = append(wrote, b...) // the race detector sees a second writer
			mu.Lock()
			o.endWrite()
		}
		owners--
		o.rest(len(added)%2 == 0)
	}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 200 {
				o.handlers.Add(1)
				frame := fmt.Sprintf("%d.%d ", g, i)
				o.handlers.Add(-1)
				mu.Lock()
				io.WriteString(o, frame)
				added = append(added, frame...)
				switch {
				case i%2 == 0 && o.claim():
					o.handOver()
					all.Go(func() {
						o.yield()
						mu.Lock()
						defer mu.Unlock()
						if o.takeOver() {
							write()
						}
					})
				case i%2 == 1 && o.claimForHandler():
					write()
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if !bytes.Equal(wrote, added) || o.state != outputIdle {
		t.Errorf("%d bytes were added and %d written; the output is %v", len(added), len(wrote), o.state)
	}
}

func TestOutputBuffers(t *testing.T) {
	o := newOutput(Config{})
	for _, step := range []struct{ n, want int }{{10, smallBuffer}, {smallBuffer, largeBuffer}, {largeBuffer, hugeBuffer}, {hugeBuffer, hugeBuffer}} {
		b := o.reserve(step.n)
		if cap(b.b) < step.want || string(b.b) != strings.Repeat("x", len(b.b)) {
			t.Errorf("%d more bytes: capacity %d, want %d; content %.20q", step.n, cap(b.b), step.want, b.b)
		}
		b.b = append(b.b, 'x')
	}
	o.claim()
	o.release()
	if o.frames == nil {
		t.Error("an output that has an owner was released")
	}
	o.beginWrite()
	o.endWrite()
	o.buffer()
	o.rest(true)
	if o.spare != nil || o.frames == nil {
		t.Error("an open connection keeps a small buffer and no large one")
	}
	if o.release(); o.frames != nil {
		t.Error("an output without an owner was not released")
	}
}

// A long header block is divided into frames that a Framer puts together again.
func TestOutputFrames(t *testing.T) {
	names, err := newNameTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	var e headerEncoder
	e.init(&names, 4096)
	o := newOutput(Config{})
	long := strings.Repeat("~", 3*minFrameSize)
	o.addHeaders(&e, 1, 200, []field{{"X-A", "b"}}, 7, false)
	data := [2][]byte{[]byte("ab"), []byte("cdefg")}
	o.addData(1, &data, 3, false)
	o.addData(1, &data, 4, false)
	if len(data[0])+len(data[1]) != 0 {
		t.Errorf("%q is left", data)
	}
	o.addData(1, &data, 0, true)
	o.addHeaders(&e, 3, 0, []field{{"X-Long", long}}, -1, true)

	fr := http2.NewFramer(nil, bytes.NewReader(o.frames.b))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.MaxHeaderListSize = 1 << 20
	var got []string
	for {
		f, err := fr.ReadFrame()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			text := fmt.Sprint(f.StreamID, " ", f.StreamEnded())
			for _, h := range f.Fields {
				text += " " + h.Name + "=" + strings.Replace(h.Value, long, "long", 1)
			}
			got = append(got, text)
		case *http2.DataFrame:
			got = append(got, fmt.Sprintf("%d %v %s", f.StreamID, f.StreamEnded(), f.Data()))
		default:
			t.Errorf("unexpected %v", f)
		}
	}
	want := []string{"1 false :status=200 x-a=b content-length=7", "1 false abc", "1 false defg", "1 true ", "3 true x-long=long"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReadyQueue(t *testing.T) {
	var q readyQueue
	streams := make([]stream, 6)
	model := []*stream{}
	check := func(step string) {
		t.Helper()
		var got []*stream
		for s := q.head; s != nil; s = s.nextReady {
			got = append(got, s)
		}
		if !slices.Equal(got, model) || q.n != len(model) || q.n > 0 && q.tail != model[len(model)-1] || q.n == 0 && q.tail != nil {
			t.Fatalf("%s: %d streams, n is %d, want %d", step, len(got), q.n, len(model))
		}
		for i := range streams {
			if streams[i].queued != slices.Contains(model, &streams[i]) {
				t.Fatalf("%s: stream %d does not know whether it is queued", step, i)
			}
		}
	}
	// Every stream is removed from every place, then pushed and popped.
	for place := range streams {
		for i := range streams {
			q.push(&streams[i])
			q.push(&streams[i])
			model = append(model, &streams[i])
			check("push")
		}
		q.remove(&streams[place])
		model = slices.Delete(model, place, place+1)
		check("remove")
		q.remove(&streams[place])
		check("remove again")
		q.push(&streams[place])
		model = append(model, &streams[place])
		check("push after remove")
		for len(model) > 0 {
			if s := q.pop(); s != model[0] {
				t.Fatal("pop returns another stream than the first")
			}
			model = model[1:]
			check("pop")
		}
	}
	q.push(&streams[0])
	q.remove(&streams[0])
	model = model[:0]
	check("remove the only one")
}
