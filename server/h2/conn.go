package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// conn is one HTTP/2 connection. run reads all frames. It runs on the reader goroutine, which is
// the one that net/http started for the connection or one of the engine's own (see NewListener).
// State that handlers and timers use too is guarded by mu. Nothing blocks while it holds mu.
//
// What has invariants of its own is a type of its own, with its own tests: the codec of headers, the
// output, the streams, flow control, liveness. The methods of conn are what happens between them.
type conn struct {
	srv        *server
	nc         net.Conn
	handler    http.Handler
	ctx        context.Context
	tls        *tls.ConnectionState
	remoteAddr string
	share      *share // of the server's memory

	// Owned by the reader goroutine.
	in         readBuffer
	framer     *http2.Framer // also writes control frames into out, under mu
	headers    headerCodec   // its part for replies is guarded by mu
	waiting    []*stream     // streams without a handler yet, because their requests are not complete
	sawSetting bool
	atBoundary bool // what is read next is no part of a header, see inputMarks
	handed     bool // net/http no longer holds it (see NewListener); never changes
	overhead   bucket

	mu        sync.Mutex
	out       output
	streams   streamTable
	flow      connFlow
	active    uint32 // streams that count against MaxConcurrentStreams
	moved     uint32 // bytes sent in DATA frames
	opened    uint64 // streams so far
	resets    bucket
	earned    int // tokens for the overhead bucket, collected by the reader goroutine
	live      liveness
	timer     connTimer
	closing   shutdownState
	setIdle   func(idle bool)  // see Config.Idle; may be nil
	states    []http.ConnState // to be reported to http.Server.ConnState
	reporting bool             // a worker is reporting them
	dead      bool             // nothing more is read or written
	cancelled bool             // the connection's context has ended
}

var clientPreface = []byte(http2.ClientPreface)

func (s *server) newConn(nc net.Conn, h http.Handler, ctx context.Context) *conn {
	c := &conn{
		srv:        s,
		nc:         nc,
		handler:    h,
		ctx:        ctx,
		remoteAddr: nc.RemoteAddr().String(),
		streams:    streamTable{open: make(map[uint32]*stream)},
		overhead:   newBucket(s.cfg.overheadBurst, overheadRate),
		resets:     newBucket(s.cfg.resetBurst, s.cfg.resetRate),
		share:      s.memory.join(nc.RemoteAddr()),
	}
	c.live.clock = &s.clock
	c.flow.init(s.cfg.connWindow)
	c.in.init(nc, &s.buffers, c.share, c.beforeRead)
	c.out.init(&s.buffers, c.share, &s.cfg)
	c.framer = http2.NewFramer(&c.out, &c.in)
	c.framer.SetMaxReadFrameSize(s.cfg.maxFrameSize)
	c.headers.init(&s.cfg, &s.names, c.share)
	return c
}

// serve runs the connection until it has ended; net/http then closes the socket.
func (c *conn) serve(sawPreface bool) {
	c.open()
	shutting := c.srv.add(c)
	defer c.srv.remove(c)
	if shutting {
		c.startShutdown()
	}
	c.run(sawPreface)
}

// open sends the server's part of the preface. It runs before the connection is registered with the
// server, because nothing may be sent before SETTINGS, not even the GOAWAY of a shutdown (RFC 9113
// §3.4).
func (c *conn) open() {
	// net/http may have set deadlines on the connection.
	c.nc.SetDeadline(time.Time{})
	c.timer.start(c)
	c.sendSettings()
	if own := c.srv.cfg.Idle; own != nil {
		set := own(c.ctx, c.startShutdown)
		c.mu.Lock()
		c.setIdle = set
		c.mu.Unlock()
	}
}

// run reads frames until the connection ends.
func (c *conn) run(sawPreface bool) {
	if c.ctx.Done() != nil {
		stop := context.AfterFunc(c.ctx, c.cancelStreams)
		defer stop()
	}
	defer c.teardown()
	if !sawPreface {
		p, err := c.in.peek(len(clientPreface))
		if err != nil || !bytes.Equal(p, clientPreface) {
			return
		}
		c.in.discard(len(p))
	}
	c.mu.Lock()
	c.reportState(http.StateActive)
	c.reportState(http.StateIdle)
	c.mu.Unlock()

	err := c.readFrames()
	var ce connError
	if errors.As(err, &ce) {
		c.goAway(ce)
		c.drain()
	}
}

// reject refuses a connection whose TLS parameters are too weak (RFC 9113 §9.2).
func (c *conn) reject(reason string) {
	c.nc.SetDeadline(time.Now().Add(time.Second))
	http2.NewFramer(c.nc, nil).WriteGoAway(0, http2.ErrCodeInadequateSecurity, []byte(reason))
}

// sendSettings sends the server's part of the preface (RFC 9113 §3.4) and enlarges the connection's
// window.
func (c *conn) sendSettings() {
	cfg := &c.srv.cfg
	settings := []http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: cfg.MaxConcurrentStreams},
		{ID: http2.SettingInitialWindowSize, Val: uint32(cfg.streamWindow)},
		{ID: http2.SettingMaxHeaderListSize, Val: uint32(cfg.maxHeaderBytes)},
	}
	if cfg.maxFrameSize != minFrameSize {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxFrameSize, Val: cfg.maxFrameSize})
	}
	if cfg.headerTableSize != 4096 {
		settings = append(settings, http2.Setting{ID: http2.SettingHeaderTableSize, Val: cfg.headerTableSize})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.framer.WriteSettings(settings...)
	if extra := uint32(cfg.connWindow) - initialWindow; extra > 0 {
		c.framer.WriteWindowUpdate(0, extra)
	}
	c.scheduleFlush()
}

// beforeRead runs when the reader goroutine has parsed all that it has read and is about to read
// more. It starts the handlers of incomplete requests and has the output written. It reports
// whether the connection is idle.
func (c *conn) beforeRead() (idle bool) {
	for i, s := range c.waiting {
		c.waiting[i] = nil
		c.start(s)
	}
	c.waiting = c.waiting[:0]
	marks := &c.live.input
	marks.reads.Add(1)
	if !c.atBoundary || c.in.buffered() > 0 {
		marks.headerBegins()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if marks.underWay() {
		c.timer.wake(c)
	}
	c.scheduleFlush()
	return c.active == 0
}

// cancelStreams ends the contexts of all requests, because the context of the connection has ended.
func (c *conn) cancelStreams() {
	c.mu.Lock()
	c.cancelled = true
	all := c.streams.all()
	c.mu.Unlock()
	for _, s := range all {
		s.ctx.cancel()
	}
}

// teardown closes the remaining streams once nothing more will be read, and the socket.
func (c *conn) teardown() {
	c.stopTimer()
	c.mu.Lock()
	c.dead = true
	all := c.streams.all()
	for _, s := range all {
		c.closeStream(s, closedByPeer, errConnClosed)
		if !s.started {
			c.abandonUnstarted(s)
		}
	}
	c.out.release()
	c.mu.Unlock()
	for _, s := range all {
		s.interrupt(errConnClosed)
		if !s.started {
			s.release()
		}
	}
	c.waiting = nil
	c.nc.Close()
	c.in.release()
	c.headers.end()
	c.share.leave()
}

// fail closes the socket without sending anything more. c.mu is held.
func (c *conn) fail() {
	if !c.dead {
		c.dead = true
		// Close makes the reader goroutine return, which does the rest. Close may block, since TLS
		// sends close_notify.
		go c.nc.Close()
	}
}

// drain reads and drops input after a GOAWAY until the peer has closed the connection or a second
// has passed. Closing a socket with unread input resets the connection, and the peer could lose the
// GOAWAY.
func (c *conn) drain() {
	c.stopTimer()
	c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	io.Copy(io.Discard, io.LimitReader(c.nc, 64<<20))
}
