package h2

import (
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

// lingerTime is how long the server waits for the peer to close the connection after the last
// frame, and for the answer to the PING that follows the first GOAWAY.
const lingerTime = time.Second

var shutdownPing = [8]byte{'g', 'o', 'i', 'n', 'g', ' ', 'h', '2'}

// shutdownState is how far the graceful shutdown of a connection has come. It is guarded by
// conn.mu.
type shutdownState struct {
	started    bool   // the first GOAWAY was sent, which still allows all streams
	final      bool   // the GOAWAY that names the last stream was sent
	lastID     uint32 // the last stream that it allows
	close      bool   // close the connection once the output is written
	halfClosed bool
	timer      *time.Timer
}

// refuses reports whether a new stream comes after the last one that GOAWAY allows.
func (s *shutdownState) refuses(id uint32) bool { return s.final && id > s.lastID }

// due reports whether to close the server's side of the socket.
func (s *shutdownState) due() bool { return s.close && !s.halfClosed }

// shutdown starts the graceful shutdown of all connections. http.Server.Shutdown calls it and then
// waits until they have ended.
func (s *server) shutdown() {
	s.mu.Lock()
	s.shutting = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	if len(conns) == 0 {
		s.workers.releaseIdle()
	}
	for _, c := range conns {
		c.startShutdown()
	}
}

// startShutdown asks the client to open no more streams. It takes two steps, so that no request
// that is already on its way is lost (RFC 9113 §6.8): a GOAWAY that still allows all streams and,
// once the client has answered a PING that follows it, a GOAWAY that names the last stream.
func (c *conn) startShutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.started || c.dead {
		return
	}
	c.closing.started = true
	c.srv.stats.goAwaysSent.add(http2.ErrCodeNo)
	c.framer.WriteGoAway(maxWindow, http2.ErrCodeNo, nil)
	c.framer.WritePing(false, shutdownPing)
	for _, s := range c.streams.open {
		if s.answered() {
			c.stopRequest(s)
		}
	}
	c.closing.timer = time.AfterFunc(lingerTime, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.finishShutdown()
	})
	c.scheduleFlush()
}

// onPingAck handles the answer to one of our PINGs. c.mu is held.
func (c *conn) onPingAck(data [8]byte) {
	c.live.pingAnswered()
	if data == shutdownPing && c.closing.started {
		c.finishShutdown()
	}
}

// finishShutdown sends the second GOAWAY. c.mu is held.
func (c *conn) finishShutdown() {
	if c.closing.final || c.dead {
		return
	}
	c.closing.timer.Stop()
	c.writeLastGoAway(http2.ErrCodeNo, "")
	c.closing.close = c.active == 0
	c.scheduleFlush()
}

// writeLastGoAway sends a GOAWAY that names the last stream. A later one names the same, because the
// number must not rise (RFC 9113 §6.8): the client may have sent the streams beyond it elsewhere.
// c.mu is held.
func (c *conn) writeLastGoAway(code http2.ErrCode, reason string) {
	if !c.closing.final {
		c.closing.final, c.closing.lastID = true, c.streams.maxID
	}
	c.framer.WriteGoAway(c.closing.lastID, code, []byte(reason))
}

// becameIdle records that there is no stream any more. c.mu is held.
func (c *conn) becameIdle() {
	c.live.idleSince = c.live.now
	c.reportState(http.StateIdle)
	if c.setIdle != nil {
		c.setIdle(true)
	}
	if c.closing.final {
		c.closing.close = true
		c.scheduleFlush()
	}
}

// becameActive records that there is a stream again. c.mu is held.
func (c *conn) becameActive() {
	c.timer.wake(c)
	c.reportState(http.StateActive)
	if c.setIdle != nil {
		c.setIdle(false)
	}
}

// onGoAway handles a GOAWAY from the client, which means that it will open no more streams.
func (c *conn) onGoAway() { c.startShutdown() }

// goAway ends the connection because of an error (RFC 9113 §5.4.1).
func (c *conn) goAway(e connError) {
	c.mu.Lock()
	all := c.streams.all()
	for _, s := range all {
		c.closeStream(s, closedByUs, errConnClosed)
		if !s.started {
			c.abandonUnstarted(s)
		}
	}
	c.srv.stats.goAwaysSent.add(e.code)
	c.writeLastGoAway(e.code, e.reason)
	c.closing.started, c.closing.close = true, true
	c.scheduleFlush()
	c.mu.Unlock()
	for _, s := range all {
		s.interrupt(errConnClosed)
		if !s.started {
			s.release()
		}
	}
	c.waiting = nil
}

// halfClose closes the server's side of the socket and gives the peer lingerTime to close its own.
func (c *conn) halfClose() {
	c.in.linger()
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}
