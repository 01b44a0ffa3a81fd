package h2

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"time"
)

// Config limits what one connection may use, and tells the engine about the protocol that the
// handlers speak. The zero value of each field selects its default. The defaults are meant for a
// port that is reachable from the internet.
type Config struct {
	// MaxConcurrentStreams is how many streams one connection may have open. A client that resets a
	// stream may open another although the handler of the first still runs, but a connection has at
	// most four times as many running handlers, so a client cannot start any number of them by
	// resetting streams. Streams beyond either limit are refused with REFUSED_STREAM, which clients
	// may retry (RFC 9113 §8.7). Default 250.
	MaxConcurrentStreams uint32

	// MaxHeaderBytes limits the header list of a request as RFC 9113 §6.5.2 counts it: names,
	// values and 32 bytes for each field. A request with a longer list is answered by
	// HeaderTooLarge, and other requests of the connection are not affected, as long as the encoded
	// header block takes at most four times as much and 1 KiB; a longer block ends the connection
	// with ENHANCE_YOUR_CALM. Default: http.Server.MaxHeaderBytes if that is set, else 32 KiB.
	MaxHeaderBytes int

	// MaxHeaderFields limits the number of fields of a request's header, and of its trailers. A
	// field can take a single byte on the wire, but takes fifty in memory. A request with more
	// fields is answered by HeaderTooLarge. Default 256.
	MaxHeaderFields int

	// HeaderTooLarge replies in place of the handler to a request whose header list is longer than
	// MaxHeaderBytes or has more fields than MaxHeaderFields. That request has only the header
	// fields that came before the limit was reached, its Content-Type wherever that came, and an
	// empty URL. Default: the function [HeaderTooLarge], which replies with status
	// 431 (RFC 6585 §5).
	HeaderTooLarge http.HandlerFunc

	// KnownHeaders lists header fields of the protocol that the handlers speak, such as those of an
	// RPC protocol; the common fields of HTTP are built in. Known fields cost a little less in
	// requests and replies, and can have properties. Fields that are not listed work too. Default:
	// none.
	KnownHeaders []KnownHeader

	// MaxContinuations is how many CONTINUATION frames may follow one HEADERS frame. Default: as
	// many full frames as the longest header block takes, at least 16.
	MaxContinuations int

	// HeaderTableSize is the size in bytes of HPACK's dynamic table for requests, and the largest
	// size of that for replies, which the peer chooses (RFC 7541 §4.2). Default 4096.
	HeaderTableSize uint32

	// MaxFrameSize is the largest frame payload in bytes that a peer may send, from 16,384 to
	// 16,777,215. Default 16,384.
	MaxFrameSize uint32

	// StreamWindow is how many bytes of a request body are kept for a handler that does not read
	// them, the stream's flow-control window (RFC 9113 §6.9). Default 256 KiB.
	StreamWindow int32

	// ConnWindow is how many bytes of request bodies are kept for all handlers of a connection
	// together, at least 65,535 (the protocol's initial window). Default 1 MiB.
	ConnWindow int32

	// MaxMemory is how many bytes of memory the connections of the server may hold together beyond
	// what each of them needs: for open streams (12 KiB each and the header of the request), for
	// bodies that handlers have not read, for frames and header blocks that are under way, and for
	// output that peers do not read. If there is not enough, further streams are refused with
	// REFUSED_STREAM, the stream of a body that finds no room is reset with ENHANCE_YOUR_CALM, output
	// buffers are small, and connections that send long frames slowly are closed with
	// ENHANCE_YOUR_CALM. Of the last quarter, an address that holds more than a
	// sixteenth of what is free gets nothing.
	// Default 64 MiB.
	MaxMemory int

	// OutputBuffer is how many bytes of frames a connection buffers before handlers have to wait
	// for the socket. Default 64 KiB.
	OutputBuffer int

	// MaxQueuedControl is how many replies to control frames (SETTINGS and PING acknowledgements,
	// resets, window updates) may be queued for a peer that does not read them. One more ends the
	// connection with ENHANCE_YOUR_CALM. Default 1000.
	MaxQueuedControl int

	// ResetBurst and ResetRate limit the streams that end in a reset, whether the peer sends it
	// (Rapid Reset, CVE-2023-44487) or makes the server send it (MadeYouReset, CVE-2025-8671):
	// ResetBurst at once, then ResetRate per second. Exceeding them ends the connection with
	// ENHANCE_YOUR_CALM. Each stream that ends normally allows one more, so a busy client may
	// cancel as many requests as it completes. Defaults 2000 and 200.
	ResetBurst, ResetRate int

	// OverheadBurst and OverheadRate limit frames that carry no request and no data, at once and
	// per second: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown types. Requests and
	// DATA frames, sent or received, allow more of them, so a busy client does not reach the limit.
	// Exceeding it ends the connection with ENHANCE_YOUR_CALM. Defaults 2000 and 200.
	OverheadBurst, OverheadRate int

	// HandshakeTimeout limits the wait for the client's preface and first SETTINGS frame. Default:
	// http.Server.ReadHeaderTimeout if that is set, else 10 s.
	HandshakeTimeout time.Duration

	// HeaderTimeout limits the time from the first byte of a frame that is not DATA, or of a header
	// block, to its last, and the time that the first nine bytes of a DATA frame take. Default: http.Server.ReadHeaderTimeout if that is set, else 10 s.
	HeaderTimeout time.Duration

	// IdleTimeout is how long a connection without open streams is kept. Default:
	// http.Server.IdleTimeout if that is set, else 10 minutes. Negative: no timeout.
	IdleTimeout time.Duration

	// StallTimeout resets a stream that has made no progress for this long, which means at least 64
	// bytes: the peer has left the flow-control window of a reply, or that of the connection, at
	// zero, or has not sent a request body whose length it has declared. A reply that waits for its
	// turn behind others, and a client that waits for status 100, are not stuck. StallTimeout also
	// closes a connection if writing one output buffer to its socket takes longer. Default 30 s. Negative: no timeout.
	StallTimeout time.Duration

	// StreamIdleTimeout resets a stream that still awaits request data of undeclared length (a
	// client stream or a bidirectional one) when neither side has sent anything on it for this
	// long. Default 1 hour. Negative: no timeout.
	StreamIdleTimeout time.Duration

	// RequestContext, if set, derives the request's context from the one that it would have, as
	// http.Server.ConnContext does for a connection. It is called when the header is complete, on
	// the goroutine that reads the connection, so it must be quick. Unlike http.Request.WithContext
	// in a handler, it does not copy the request.
	RequestContext func(context.Context) context.Context

	// PingInterval is how long a connection with open streams may be silent before it is probed
	// with a PING, and PingTimeout how long the answer may take before the connection is closed. A
	// peer that reads slowly has more time if much was written before the PING, and while a write
	// is blocked, only StallTimeout counts. Defaults 30 s and 15 s. A negative interval sends no PING.
	PingInterval, PingTimeout time.Duration

	// WorkerIdleTimeout is how long a goroutine that has run a handler is kept for the next one.
	// Default 10 s.
	WorkerIdleTimeout time.Duration

	// MaxIdleWorkers is how many such goroutines are kept. Default 1024.
	MaxIdleWorkers int

	// Stats, if set, counts what the connections do. Each server needs one of its own.
	Stats *Stats
}

const (
	minFrameSize  = 1 << 14   // RFC 9113 §4.2
	maxFrameSize  = 1<<24 - 1 // RFC 9113 §4.2
	initialWindow = 1<<16 - 1 // RFC 9113 §6.9.2
	maxWindow     = 1<<31 - 1 // RFC 9113 §6.9.1
)

// maxBlock is how long an encoded header block may be. One that is too large for a request, but not
// longer than this, is decoded all the same, because all blocks of a connection share HPACK's state
// (RFC 9113 §4.3): the request alone is refused.
func (cfg *Config) maxBlock() int { return 4*cfg.MaxHeaderBytes + 1024 }

// takeStandard sets the fields that are zero from http.Server.HTTP2, as far as that has the same
// settings, and returns an error for those that it has in addition.
func (cfg *Config) takeStandard(std *http.HTTP2Config) error {
	for _, setting := range []struct {
		name, instead string
		used          bool
	}{
		{"MaxEncoderHeaderTableSize", "Config.HeaderTableSize, which limits both tables", std.MaxEncoderHeaderTableSize != 0 &&
			std.MaxEncoderHeaderTableSize != int(cmp.Or(cfg.HeaderTableSize, uint32(std.MaxDecoderHeaderTableSize), 4096))},
		{"WriteByteTimeout", "Config.StallTimeout", std.WriteByteTimeout != 0},
		{"PermitProhibitedCipherSuites", "TLS 1.3 or a suite that RFC 9113 permits", std.PermitProhibitedCipherSuites},
		{"CountError", "Config.Stats", std.CountError != nil},
	} {
		if setting.used {
			return fmt.Errorf("h2: http.Server.HTTP2 sets %s, which this engine does not have; use %s", setting.name, setting.instead)
		}
	}
	for _, size := range []struct {
		name  string
		value int
		limit int
	}{
		{"MaxConcurrentStreams", std.MaxConcurrentStreams, math.MaxInt32},
		{"MaxDecoderHeaderTableSize", std.MaxDecoderHeaderTableSize, math.MaxInt32},
		{"MaxReadFrameSize", std.MaxReadFrameSize, maxFrameSize},
		{"MaxReceiveBufferPerStream", std.MaxReceiveBufferPerStream, maxWindow},
		{"MaxReceiveBufferPerConnection", std.MaxReceiveBufferPerConnection, maxWindow},
	} {
		if size.value < 0 || size.value > size.limit {
			return fmt.Errorf("h2: http.Server.HTTP2.%s is %d, want 0 to %d", size.name, size.value, size.limit)
		}
	}
	cfg.MaxConcurrentStreams = cmp.Or(cfg.MaxConcurrentStreams, uint32(std.MaxConcurrentStreams))
	cfg.HeaderTableSize = cmp.Or(cfg.HeaderTableSize, uint32(std.MaxDecoderHeaderTableSize))
	cfg.MaxFrameSize = cmp.Or(cfg.MaxFrameSize, uint32(std.MaxReadFrameSize))
	cfg.StreamWindow = cmp.Or(cfg.StreamWindow, int32(std.MaxReceiveBufferPerStream))
	cfg.ConnWindow = cmp.Or(cfg.ConnWindow, int32(std.MaxReceiveBufferPerConnection))
	cfg.PingInterval = cmp.Or(cfg.PingInterval, std.SendPingTimeout)
	cfg.PingTimeout = cmp.Or(cfg.PingTimeout, std.PingTimeout)
	return nil
}

// withDefaults returns the configuration in force for srv.
func (cfg Config) withDefaults(srv *http.Server) (Config, error) {
	if srv.HTTP2 != nil {
		if err := cfg.takeStandard(srv.HTTP2); err != nil {
			return cfg, err
		}
	}
	cfg.MaxConcurrentStreams = cmp.Or(cfg.MaxConcurrentStreams, 250)
	cfg.MaxHeaderBytes = cmp.Or(cfg.MaxHeaderBytes, srv.MaxHeaderBytes, 32<<10)
	cfg.MaxHeaderFields = cmp.Or(cfg.MaxHeaderFields, 256)
	cfg.MaxContinuations = cmp.Or(cfg.MaxContinuations, max(16, cfg.maxBlock()/minFrameSize))
	cfg.HeaderTableSize = cmp.Or(cfg.HeaderTableSize, 4096)
	cfg.MaxFrameSize = cmp.Or(cfg.MaxFrameSize, minFrameSize)
	cfg.StreamWindow = cmp.Or(cfg.StreamWindow, 256<<10)
	cfg.ConnWindow = cmp.Or(cfg.ConnWindow, 1<<20)
	cfg.MaxMemory = cmp.Or(cfg.MaxMemory, 64<<20)
	cfg.OutputBuffer = cmp.Or(cfg.OutputBuffer, 64<<10)
	cfg.MaxQueuedControl = cmp.Or(cfg.MaxQueuedControl, 1000)
	cfg.ResetBurst = cmp.Or(cfg.ResetBurst, 2000)
	cfg.ResetRate = cmp.Or(cfg.ResetRate, 200)
	cfg.OverheadBurst = cmp.Or(cfg.OverheadBurst, 2000)
	cfg.OverheadRate = cmp.Or(cfg.OverheadRate, 200)
	cfg.HandshakeTimeout = cmp.Or(cfg.HandshakeTimeout, srv.ReadHeaderTimeout, 10*time.Second)
	cfg.HeaderTimeout = cmp.Or(cfg.HeaderTimeout, srv.ReadHeaderTimeout, 10*time.Second)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, srv.IdleTimeout, 10*time.Minute)
	cfg.StallTimeout = cmp.Or(cfg.StallTimeout, 30*time.Second)
	cfg.StreamIdleTimeout = cmp.Or(cfg.StreamIdleTimeout, time.Hour)
	cfg.PingInterval = cmp.Or(cfg.PingInterval, 30*time.Second)
	cfg.PingTimeout = cmp.Or(cfg.PingTimeout, 15*time.Second)
	cfg.WorkerIdleTimeout = cmp.Or(cfg.WorkerIdleTimeout, 10*time.Second)
	cfg.MaxIdleWorkers = cmp.Or(cfg.MaxIdleWorkers, 1024)
	if cfg.HeaderTooLarge == nil {
		cfg.HeaderTooLarge = HeaderTooLarge
	}
	if cfg.Stats == nil {
		cfg.Stats = new(Stats)
	}

	switch {
	case cfg.MaxFrameSize < minFrameSize || cfg.MaxFrameSize > maxFrameSize:
		return cfg, fmt.Errorf("h2: Config.MaxFrameSize is %d, want %d to %d",
			cfg.MaxFrameSize, minFrameSize, maxFrameSize)
	case cfg.ConnWindow < initialWindow:
		return cfg, fmt.Errorf("h2: Config.ConnWindow is %d, want at least %d", cfg.ConnWindow, initialWindow)
	}
	for _, size := range []struct {
		name  string
		value int
	}{
		{"StreamWindow", int(cfg.StreamWindow)},
		{"MaxHeaderBytes", cfg.MaxHeaderBytes},
		{"MaxHeaderFields", cfg.MaxHeaderFields},
		{"MaxContinuations", cfg.MaxContinuations},
		{"OutputBuffer", cfg.OutputBuffer},
		{"MaxMemory", cfg.MaxMemory},
		{"MaxQueuedControl", cfg.MaxQueuedControl},
		{"ResetBurst", cfg.ResetBurst},
		{"OverheadBurst", cfg.OverheadBurst},
		{"MaxIdleWorkers", cfg.MaxIdleWorkers},
	} {
		if size.value < 0 {
			return cfg, fmt.Errorf("h2: Config.%s is %d, want 0 for the default or more", size.name, size.value)
		}
	}
	return cfg, nil
}
