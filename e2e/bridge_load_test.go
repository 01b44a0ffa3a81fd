package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// While one of four processes is killed, paused, slow, flapping or restarted with another schema, under
// 1,000 calls a second over one client connection, the other three go on. The log has the figures.
func TestBridgeFaultsUnderLoad(t *testing.T) {
	code := faultsCode(t)
	other := faultsCode(t, [2]string{"int32 process = 1;", "int32 process = 1;\n  string added = 99;"})
	servers := startSeveral(t, 4, code, "--health")
	p, address := bridgeTo(t, servers)
	conn := dial(t, address)
	const perSecond = 1000
	short := func() []byte { return callRequest(10*time.Millisecond, nil) }

	// scenario runs what is to happen to one process under load, once the load has run for a moment. It is
	// another one than before where that is left alone for 10 s, so that at most two of four are.
	scenario := func(t *testing.T, bad *faultServer, timeout time.Duration, happen func(t *testing.T, l *faultLoad)) *faultLoad {
		l := newLoad(conn)
		l.timeout = timeout
		l.warm(t, bad)
		ctx, stop := context.WithCancel(t.Context())
		var loading sync.WaitGroup
		loading.Go(func() { l.at(ctx, perSecond, short) })
		eventually(t, "some calls", func() bool { return l.answered() > 200 })
		happen(t, l)
		before := l.answered()
		eventually(t, "more calls", func() bool { return l.answered() > before+200 })
		stop()
		loading.Wait()
		t.Log(l)
		return l
	}
	// onlyRunning fails the test if more calls were lost than were running at a time, or calls that began
	// when the process had been dead for a while, or by another code than UNAVAILABLE.
	onlyRunning := func(t *testing.T, l *faultLoad, kills int, killed time.Time) {
		t.Helper()
		if n, most := l.lost(), int(l.most.Load()); n > kills*most {
			t.Errorf("%d calls were lost, and at most %d were running at a time", n, most)
		}
		if l.lost() != l.lost(codes.Unavailable) {
			t.Error("a lost call is not UNAVAILABLE")
		}
		if l.lastLost.After(killed.Add(2 * time.Second)) {
			t.Errorf("a call was lost that began %v after the process was killed", l.lastLost.Sub(killed))
		}
	}

	t.Run("killed", func(t *testing.T) {
		bad := servers[0]
		var killed time.Time
		l := scenario(t, bad, 20*time.Second, func(t *testing.T, l *faultLoad) {
			killed = time.Now()
			bad.stop(syscall.SIGKILL)
			time.Sleep(inFull(time.Second, 5*time.Second))
		})
		onlyRunning(t, l, 1, killed)
		bad.again(code)
	})
	t.Run("slow", func(t *testing.T) {
		bad := servers[1]
		l := scenario(t, bad, 20*time.Second, func(t *testing.T, l *faultLoad) {
			bad.signal(syscall.SIGUSR1)
			time.Sleep(100 * time.Millisecond)
			l.reset()
			time.Sleep(inFull(1500*time.Millisecond, 10*time.Second))
			bad.signal(syscall.SIGUSR2)
		})
		if n := l.lost(); n > 0 {
			t.Errorf("%d calls were lost", n)
		}
		if n := l.answeredBy(bad.pid()); n > l.answered()/6 {
			t.Errorf("the slow one of four processes answered %d calls of %d", n, l.answered())
		}
	})
	t.Run("paused", func(t *testing.T) {
		bad := servers[2]
		l := scenario(t, bad, time.Second, func(t *testing.T, l *faultLoad) {
			bad.signal(syscall.SIGSTOP)
			time.Sleep(inFull(3*time.Second, 10*time.Second))
			bad.signal(syscall.SIGCONT)
		})
		// In turn it would have got a quarter of them.
		if n := l.lost(); n > l.answered()/20 || n != l.lost(codes.DeadlineExceeded) {
			t.Errorf("%d calls were lost of %d", n, n+l.answered())
		}
	})
	t.Run("paused for less than the deadline", func(t *testing.T) {
		bad := servers[1]
		l := scenario(t, bad, 30*time.Second, func(t *testing.T, l *faultLoad) {
			bad.signal(syscall.SIGSTOP)
			time.Sleep(time.Second)
			bad.signal(syscall.SIGCONT)
		})
		if n := l.lost(); n > 0 {
			t.Errorf("%d calls were lost", n)
		}
	})
	t.Run("restarted with another schema", func(t *testing.T) {
		bad := servers[1]
		l := scenario(t, bad, 20*time.Second, func(t *testing.T, l *faultLoad) {
			bad.restart(other)
			l.up(t, bad)
			time.Sleep(inFull(time.Second, 5*time.Second))
			bad.restart(code)
			l.up(t, bad)
		})
		if n := l.lost(); n > 0 {
			t.Errorf("%d calls were lost", n)
		}
	})
	t.Run("paused, with one call at a time", func(t *testing.T) {
		bad := servers[3]
		l := newLoad(conn)
		l.timeout = 200 * time.Millisecond
		l.warm(t, bad)
		ctx, stop := context.WithTimeout(t.Context(), 4*time.Second)
		defer stop()
		bad.signal(syscall.SIGSTOP)
		l.callers(ctx, 1, short)
		bad.signal(syscall.SIGCONT)
		t.Log(l)
		// After five in a row it is left alone.
		if n := l.lost(); n > 6 || n != l.lost(codes.DeadlineExceeded) {
			t.Errorf("%d calls were lost", n)
		}
	})
	t.Run("flapping", func(t *testing.T) {
		bad := servers[0]
		flaps := inFull(3, 10)
		var killed time.Time
		l := scenario(t, bad, 20*time.Second, func(t *testing.T, l *faultLoad) {
			for range flaps {
				killed = time.Now()
				bad.stop(syscall.SIGKILL)
				bad.again(code)
				time.Sleep(inFull(200*time.Millisecond, 5*time.Second))
			}
		})
		onlyRunning(t, l, flaps, killed)
	})
	if strings.Contains(p.log(), "panic") {
		t.Error("a panic")
	}
}

// A stream whose server is killed ends with UNAVAILABLE in every protocol, and never as if it were whole.
// What the server had sent arrives.
func TestBridgeStreamsThatAreCut(t *testing.T) {
	server := startFaults(t, faultsCode(t), "127.0.0.1:0")
	_, address := bridgeTo(t, []*faultServer{server})
	l := newLoad(dial(t, address))
	l.warm(t, server)
	// DownRequest{pause_ms: 20}, which is without end.
	request := []byte{0x18, 20}
	began, ended := make(chan string), make(chan error)
	byGRPC := func(kind string) {
		stream, err := l.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, faultService+"Down")
		if err == nil {
			err = errors.Join(stream.SendMsg(&request), stream.CloseSend())
		}
		if err == nil {
			err = stream.RecvMsg(new([]byte))
		}
		began <- kind
		for err == nil {
			err = stream.RecvMsg(new([]byte))
		}
		if status.Code(err) == codes.Unavailable {
			err = nil
		}
		ended <- err
	}
	byConnect := func(kind string, options ...connect.ClientOption) {
		client := connect.NewClient[rawMessage, rawMessage](http.DefaultClient, "http://"+address+faultService+"Down",
			append(options, connect.WithCodec(rawCodec{}))...)
		stream, err := client.CallServerStream(t.Context(), connect.NewRequest(&rawMessage{request}))
		if err == nil {
			stream.Receive()
		}
		began <- kind
		for err == nil && stream.Receive() {
		}
		if err == nil {
			err = stream.Err()
		}
		switch {
		case connect.CodeOf(err) == connect.CodeUnavailable:
			err = nil
		case err == nil:
			err = errors.New("a clean end")
		}
		ended <- err
	}
	byJSON := func(kind string) {
		body := `{"pauseMs":20}`
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+faultService+"Down",
			bytes.NewReader(append([]byte{0, 0, 0, 0, byte(len(body))}, body...)))
		if err != nil {
			t.Error(err)
		}
		request.Header.Set("Content-Type", "application/connect+json")
		reply, err := http.DefaultClient.Do(request)
		var all []byte
		if err == nil {
			defer reply.Body.Close()
			reader := bufio.NewReader(reply.Body)
			all, err = reader.Peek(10)
			began <- kind
			if err == nil {
				all, err = io.ReadAll(reader)
			}
		} else {
			began <- kind
		}
		if err == nil && !strings.Contains(string(all), `"code":"unavailable"`) {
			err = errors.New("no unavailable: " + string(all))
		}
		ended <- err
	}
	kinds := []func(){
		func() { byGRPC("gRPC") },
		func() { byConnect("gRPC-Web over HTTP/1.1", connect.WithGRPCWeb()) },
		func() { byConnect("Connect over HTTP/1.1") },
		func() { byJSON("Connect in JSON over HTTP/1.1") },
	}
	for _, kind := range kinds {
		go kind()
	}
	for range kinds {
		t.Log("streaming:", <-began)
	}
	server.stop(syscall.SIGKILL)
	for range kinds {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// rawMessage is a message in protobuf, for Connect's client.
type rawMessage struct{ wire []byte }

type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(m any) ([]byte, error) { return m.(*rawMessage).wire, nil }
func (rawCodec) Unmarshal(wire []byte, m any) error {
	m.(*rawMessage).wire = bytes.Clone(wire)
	return nil
}
