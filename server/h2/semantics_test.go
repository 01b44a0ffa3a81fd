package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestRequestContextEnds(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(c *client, id uint32)
	}{
		{"on RST_STREAM", func(c *client, id uint32) { c.fr.WriteRSTStream(id, http2.ErrCodeCancel) }},
		{"on disconnect", func(c *client, id uint32) { c.nc.Close() }},
		{"on a connection error", func(c *client, id uint32) { c.fr.WriteData(0, false, nil) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			started, ended := make(chan bool), make(chan error, 2)
			s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				derived, cancel := context.WithTimeout(r.Context(), time.Hour)
				defer cancel()
				started <- true
				<-derived.Done()
				ended <- derived.Err()
				ended <- r.Context().Err()
			}), Config{})
			c := s.dial(t)
			id := c.request("", "/", true)
			<-started
			tc.end(c, id)
			for range 2 {
				select {
				case err := <-ended:
					if err != context.Canceled {
						t.Errorf("context ended with %v", err)
					}
				case <-time.After(5 * time.Second):
					t.Fatal("context did not end")
				}
			}
		})
	}
}

func TestRequestContextEndsWithHandler(t *testing.T) {
	ctxs := make(chan context.Context, 1)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { ctxs <- r.Context() }), Config{})
	s.dial(t).get("/")
	ctx := <-ctxs
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("context outlives its handler")
	}
	ran := make(chan bool)
	context.AfterFunc(ctx, func() { close(ran) })
	<-ran
}

func TestBaseAndConnContext(t *testing.T) {
	type key string
	base, cancelBase := context.WithCancel(context.WithValue(context.Background(), key("base"), "b"))
	defer cancelBase()
	waiting, cancelled := make(chan bool), make(chan bool)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(waiting)
			<-r.Context().Done()
			close(cancelled)
			return
		}
		fmt.Fprint(w, r.Context().Value(key("base")), r.Context().Value(key("conn")))
	}), Config{}, func(s *testServer) {
		s.BaseContext = func(net.Listener) context.Context { return base }
		s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { return context.WithValue(ctx, key("conn"), "c") }
	})
	c := s.dial(t)
	if r := c.get("/"); r.body != "bc" {
		t.Errorf("got %v", r)
	}
	c.request("", "/wait", true)
	<-waiting
	cancelBase()
	<-cancelled
}

// Config.RequestContext sees the connection's values, and what it makes ends with the request.
func TestRequestContext(t *testing.T) {
	type key string
	waiting, ended := make(chan struct{}), make(chan struct{})
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(waiting)
			<-r.Context().Done()
			close(ended)
			return
		}
		fmt.Fprint(w, r.Context().Value(key("request")))
	}), Config{RequestContext: func(ctx context.Context) context.Context {
		return context.WithValue(ctx, key("request"), fmt.Sprint("of ", ctx.Value(key("conn"))))
	}}, func(s *testServer) {
		s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { return context.WithValue(ctx, key("conn"), "c") }
	})
	c := s.dial(t)
	if r := c.get("/"); r.body != "of c" {
		t.Errorf("got %v", r)
	}
	id := c.request("", "/wait", true)
	<-waiting
	if err := c.fr.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestBidirectionalStream(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 16)
		for {
			n, err := r.Body.Read(buf)
			if err != nil {
				return
			}
			w.Write(bytes.ToUpper(buf[:n]))
			w.(http.Flusher).Flush()
		}
	}), Config{})
	c := s.dial(t)
	id := c.request("POST", "/", false)
	for _, word := range []string{"one", "two", "three"} {
		c.data(id, false, word)
		if got := nextFrame[*http2.DataFrame](c); string(got.Data()) != strings.ToUpper(word) {
			t.Fatalf("sent %q, got %q", word, got.Data())
		}
	}
	c.data(id, true, "")
	if r := c.read(id); !r.ended {
		t.Errorf("got %v", r)
	}
}

// A handler may keep references to what it was given. That must not change when the connection
// serves other requests.
func TestKeptReferencesStayAsTheyWere(t *testing.T) {
	type kept struct {
		r      *http.Request
		w      http.ResponseWriter
		want   string
		header http.Header
		body   []byte
	}
	var mu sync.Mutex
	var all []kept
	see := func(r *http.Request) string {
		return fmt.Sprint(r.Method, r.URL, r.Host, r.RequestURI, r.Header, r.Context().Value(http.ServerContextKey) != nil)
	}
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Path", r.URL.Path)
		w.Write(body)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, kept{r, w, see(r), r.Header, body})
	}), Config{})
	var wg sync.WaitGroup
	for conn := range 4 {
		wg.Go(func() {
			c := s.dial(t)
			for i := range 50 {
				body := fmt.Sprintf("body %d %d", conn, i)
				id := c.request("POST", fmt.Sprintf("/%d/%d", conn, i), false, "x-number", fmt.Sprint(i))
				c.data(id, true, body)
				if r := c.read(id); r.body != body {
					t.Errorf("sent %q, got %v", body, r)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for _, k := range all {
		if got := see(k.r); got != k.want {
			t.Errorf("request changed from %s to %s", k.want, got)
		}
		if path := k.w.Header().Get("X-Path"); path != k.r.URL.Path {
			t.Errorf("reply header of %s changed to %s", k.r.URL.Path, path)
		}
		if want := strings.ReplaceAll("body "+strings.TrimPrefix(k.r.URL.Path, "/"), "/", " "); string(k.body) != want {
			t.Errorf("body of %s changed to %q", k.r.URL.Path, k.body)
		}
	}
}

// Writers and bodies used after their handler has returned fail and leave other streams alone.
func TestLateUseIsHarmless(t *testing.T) {
	release := make(chan bool)
	var late sync.WaitGroup
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.URL.Path)
		late.Go(func() {
			<-r.Context().Done()
			<-release
			for range 20 {
				if _, err := io.WriteString(w, "LATE"); err == nil {
					t.Error("a late Write succeeded")
				}
				if http.NewResponseController(w).Flush() == nil {
					t.Error("a late Flush succeeded")
				}
				w.WriteHeader(500)
				http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Hour))
				http.NewResponseController(w).SetReadDeadline(time.Now().Add(-time.Hour))
				if n, err := r.Body.Read(make([]byte, 10)); n != 0 || err == nil {
					t.Error("a late Read succeeded")
				}
				r.Body.Close()
			}
		})
	}), Config{})
	c := s.dial(t)
	for i := range 100 {
		if i == 50 {
			close(release)
		}
		path := fmt.Sprintf("/%d", i)
		id := c.request("POST", path, false)
		c.data(id, true, "x")
		if r := c.read(id); r.body != path {
			t.Errorf("asked for %s, got %v", path, r)
		}
	}
	late.Wait()
}

func TestPanicIsLoggedWithStack(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("kaboom")
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/exit":
			runtime.Goexit()
		}
	}), Config{})
	c := s.dial(t)
	for _, path := range []string{"/abort", "/exit", "/panic"} {
		if r := c.get(path); !r.reset || r.code != http2.ErrCodeInternal {
			t.Errorf("%s: got %v", path, r)
		}
	}
	if r := c.get("/fine"); r.status != "200" {
		t.Errorf("after panics: %v", r)
	}
	if l := s.log.String(); !strings.HasPrefix(l, "http: panic serving ") || strings.Count(l, "panic serving") != 1 || !strings.Contains(l, "kaboom") || !strings.Contains(l, "semantics_test.go") {
		t.Errorf("log:\n%s", l)
	}
}

func TestHeaderListTooLarge(t *testing.T) {
	s := newServer(t, http.HandlerFunc(wroteNothing), Config{
		maxHeaderBytes: 1000,
		HeaderTooLarge: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Protocol") != "own" {
				HeaderTooLarge(w, r)
				return
			}
			w.Header().Set("X-Status", fmt.Sprint(r.Method, " ", r.URL, " ", sortedKeys(r.Header)))
		},
	})
	c := s.dial(t)
	if r := c.get("/", "x-large", strings.Repeat("v", 1200)); r.status != "431" || !strings.Contains(r.body, "Too Large") {
		t.Errorf("one large field: %v", r)
	}
	// The request has the fields that came before the limit, without malformed names.
	r := c.get("/", "x-protocol", "own", "X-Upper", "1", "x-large", strings.Repeat("v", 1200), "x-after", "1")
	if r.status != "200" || fmt.Sprint(r.header["x-status"]) != "[GET  [X-Protocol]]" {
		t.Errorf("with a reply of its own: %v", r)
	}
	if r := c.get("/"); r.status != "200" {
		t.Errorf("afterwards: %v", r)
	}
	if code := func() http2.ErrCode {
		c.get("/", "x-large", strings.Repeat("~", 9000))
		return 0
	}(); code != 0 {
		t.Error(code)
	}
}

func TestTwoConnectionsOneStuckHandler(t *testing.T) {
	block := make(chan bool)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stuck" {
			<-block
		}
	}), Config{})
	defer close(block)
	c := s.dial(t)
	c.request("", "/stuck", true)
	id := c.request("POST", "/stuck", false)
	c.data(id, false, strings.Repeat("x", 1000))
	for range 10 {
		if r := c.get("/"); r.status != "200" {
			t.Fatalf("got %v", r)
		}
	}
}

// One stream's huge reply and another's closed window leave the rest of the connection alone.
func TestRepliesShareTheConnection(t *testing.T) {
	huge := strings.Repeat("h", 8<<20)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/huge" {
			io.WriteString(w, huge)
			return
		}
		io.WriteString(w, "small")
	}), Config{})
	c := s.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	c.fr.WriteWindowUpdate(0, 1<<28)
	hugeID := c.request("", "/huge", true) // stops at 1 MiB
	for range 10 {
		if r := c.get("/small"); r.body != "small" {
			t.Fatalf("got %v", r)
		}
	}
	c.fr.WriteWindowUpdate(hugeID, 1<<24)
	smallID := c.request("", "/small", true)
	all := c.readAll(smallID)
	if all[smallID].body != "small" {
		t.Errorf("got %v", all[smallID])
	}
}

func TestLargeReplyAndUpload(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), Config{})
	for _, useTLS := range []bool{false, true} {
		if useTLS {
			s = newServer(t, s.Handler, Config{}, withTLS)
		}
		hc := httpClient(t, s)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				r, err := hc.Post(s.url("/"), "application/octet-stream", bytes.NewReader(big))
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Body.Close()
				got, err := io.ReadAll(r.Body)
				if err != nil || !bytes.Equal(got, big) || r.ProtoMajor != 2 {
					t.Errorf("tls=%v: %d bytes, %v, %v", useTLS, len(got), err, r.Proto)
				}
			})
		}
		wg.Wait()
	}
}

func TestWriteDeadlineUnblocksHandler(t *testing.T) {
	failed := make(chan error, 1)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(30 * time.Millisecond))
		_, err := w.Write(make([]byte, 1<<20))
		failed <- err
	}), Config{})
	c := s.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	id := c.request("", "/", true)
	if r := c.read(id); !r.reset || r.code != http2.ErrCodeInternal {
		t.Errorf("got %v", r)
	}
	if err := <-failed; err == nil {
		t.Error("the write succeeded")
	}
}

func TestPushIsNotOffered(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(http.Pusher); ok {
			t.Error("ResponseWriter is a Pusher")
		}
	}), Config{})
	c := s.dial(t)
	c.get("/")
	c.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: c.Block(":method", "GET"), EndHeaders: true})
	if code := c.goAway(); code != http2.ErrCodeProtocol {
		t.Errorf("got %v", code)
	}
}

func TestSettingsChangeWindows(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 100)) }), Config{})
	c := s.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	id := c.request("", "/", true)
	if f := nextFrame[*http2.DataFrame](c); f.Length != 10 {
		t.Errorf("first DATA: %v", f)
	}
	c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}) // window is now -7
	c.fr.WriteWindowUpdate(id, 8)                                                 // 1
	if f := nextFrame[*http2.DataFrame](c); f.Length != 1 {
		t.Errorf("second DATA: %v", f)
	}
	c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	if f := nextFrame[*http2.DataFrame](c); f.Length != 89 || !f.StreamEnded() {
		t.Errorf("third DATA: %v", f)
	}
}

func TestHeaderTableSizeIsFollowed(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Path", r.URL.Path)
		io.WriteString(w, "x")
	}), Config{})
	c := s.dial(t)
	for i, size := range []uint32{4096, 0, 100, 4096, 65536} {
		c.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size})
		for j := range 4 {
			path := fmt.Sprintf("/%d/%d", i, j/2)
			if r := c.get(path); r.header["x-path"][0] != path {
				t.Fatalf("table size %d: got %v", size, r)
			}
		}
	}
}

func TestConcurrentMixedLoad(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Trailer", "X-Sum")
		for i := 0; i < len(body); i += 1000 {
			if _, err := w.Write(body[i:min(i+1000, len(body))]); err != nil {
				return
			}
			if i%3000 == 0 {
				w.(http.Flusher).Flush()
			}
		}
		w.Header().Set("X-Sum", fmt.Sprint(len(body)))
	}), Config{})
	hc := httpClient(t, s)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 40 {
				ctx, cancel := context.WithCancel(t.Context())
				body := strings.Repeat("m", (g*37+i*911)%40000)
				req, _ := http.NewRequestWithContext(ctx, "POST", s.url("/"), strings.NewReader(body))
				if i%7 == 0 {
					time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
				}
				r, err := hc.Do(req)
				if err == nil {
					var got []byte
					got, err = io.ReadAll(r.Body)
					r.Body.Close()
					if err == nil && (string(got) != body || r.Trailer.Get("X-Sum") != fmt.Sprint(len(body))) {
						t.Errorf("sent %d bytes, got %d, trailer %v", len(body), len(got), r.Trailer)
					}
				}
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

func TestConfigureRejectsNonsense(t *testing.T) {
	for _, cfg := range []Config{
		{MaxMemory: -1},
		{KnownHeaders: []KnownHeader{{Name: "two words"}}},
		{KnownHeaders: []KnownHeader{{Name: ""}}},
		{KnownHeaders: []KnownHeader{{Name: "content-length", Trailer: true}}},
	} {
		if err := Configure(&http.Server{}, cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
	for name, srv := range map[string]*http.Server{
		"MaxHeaderBytes":                {MaxHeaderBytes: -1},
		"MaxReadFrameSize":              {HTTP2: &http.HTTP2Config{MaxReadFrameSize: 1}},
		"MaxReceiveBufferPerConnection": {HTTP2: &http.HTTP2Config{MaxReceiveBufferPerConnection: 100}},
	} {
		if err := Configure(srv, Config{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Configure(nil, Config{}); err == nil {
		t.Error("no server was accepted")
	}
}

// A client whose calls time out now and then is no attacker: completed requests earn the resets of
// cancelled ones.
func TestGivingUpCallsNowAndThenIsNoAttack(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
		}
	}), Config{resetBurst: 20, resetRate: 1})
	c := s.dial(t)
	for range 200 {
		if r := c.get("/quick"); r.refused() {
			t.Fatalf("a call was refused: %v", r)
		}
		id := c.request("GET", "/slow", true)
		c.must(c.fr.WriteRSTStream(id, http2.ErrCodeCancel))
	}
}

// A reply that is sent before the request has ended is complete, and the stream is not reset if
// little of the request is still to come.
func TestAnEarlyReplyLetsTheRequestEnd(t *testing.T) {
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}), Config{PingInterval: 200 * time.Millisecond}) // ticks of 50 ms

	c := s.dial(t)
	quick := c.request("POST", "/", false)
	if r := c.read(quick); r.status != "403" || r.reset {
		t.Fatalf("reply: %v", r)
	}
	c.data(quick, true, "too late")
	if r := c.get("/"); r.status != "403" || r.refused() {
		t.Fatalf("the next request: %v", r)
	}

	resetOf := func(what string, id uint32) {
		t.Helper()
		f := nextFrame[*http2.RSTStreamFrame](c)
		if f.StreamID != id || f.ErrCode != http2.ErrCodeNo {
			t.Fatalf("%s: stream %d was reset with %v, want %d with NO_ERROR", what, f.StreamID, f.ErrCode, id)
		}
	}
	long := c.request("POST", "/", false)
	c.read(long)
	for range maxSurplus/16384 + 1 {
		c.data(long, false, strings.Repeat("x", 16384))
	}
	resetOf("a long rest", long)

	silent := c.request("POST", "/", false)
	c.read(silent)
	resetOf("silence", silent)
}
