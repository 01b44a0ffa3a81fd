package h2

import (
	"golang.org/x/net/http2"
)

// maxSettings is how many settings one frame may hold. Fewer than a dozen are defined.
const maxSettings = 64

// onSettings applies the peer's settings in order and acknowledges them (RFC 9113 §6.5).
func (c *conn) onSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sawSetting, c.live.settled = true, true
	if err := f.ForeachSetting(c.applySetting); err != nil {
		return err
	}
	c.framer.WriteSettingsAck()
	return c.countControl()
}

// applySetting applies one setting. c.mu is held.
func (c *conn) applySetting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.headers.enc.setTableSize(s.Val)
	case http2.SettingInitialWindowSize:
		// RFC 9113 §6.9.2: a change applies to open streams too and may make their windows
		// negative.
		change := c.flow.setInitial(s.Val)
		for _, st := range c.streams.open {
			if !st.flow.send.grow(change) {
				return connError{http2.ErrCodeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE overflows a stream's window"}
			}
			c.enqueue(st)
		}
	}
	return nil
}

// onPing answers a PING, or handles the answer to one of ours (RFC 9113 §6.7).
func (c *conn) onPing(f *http2.PingFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.IsAck() {
		c.onPingAck(f.Data)
		return nil
	}
	c.framer.WritePing(true, f.Data)
	return c.countControl()
}

// onWindowUpdate enlarges the send window of a stream or of the connection (RFC 9113 §6.9).
func (c *conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		if !c.flow.send.grow(int64(f.Increment)) {
			return connError{http2.ErrCodeFlowControl, "WINDOW_UPDATE overflows the connection's window"}
		}
		return nil
	}
	s := c.streams.open[f.StreamID]
	if s == nil {
		if c.streams.idle(f.StreamID) {
			return protocolError("WINDOW_UPDATE on an idle stream")
		}
		return nil
	}
	if !s.flow.send.grow(int64(f.Increment)) {
		return streamError{s.id, http2.ErrCodeFlowControl, "WINDOW_UPDATE overflows the stream's window"}
	}
	c.enqueue(s)
	return nil
}

// onReset closes a stream that the peer has reset (RFC 9113 §6.4).
func (c *conn) onReset(f *http2.RSTStreamFrame) error {
	c.srv.stats.resetsReceived.add(f.ErrCode)
	c.mu.Lock()
	if c.streams.idle(f.StreamID) {
		c.mu.Unlock()
		return protocolError("RST_STREAM on an idle stream")
	}
	s := c.streams.open[f.StreamID]
	if s == nil {
		c.mu.Unlock()
		return nil
	}
	c.closeStream(s, closedByPeer, errStreamReset)
	allowed := c.resets.take()
	c.mu.Unlock()
	c.cleanUpClosed(s)
	if !allowed {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many streams were reset"}
	}
	return nil
}

// countControl counts a reply to a control frame, and returns an error if the peer has left too
// many unread. c.mu is held.
func (c *conn) countControl() error {
	if !c.out.countControl() {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many unread answers to control frames"}
	}
	return nil
}
