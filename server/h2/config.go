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
//
// Limits that http.Server has a field for are set there: MaxHeaderBytes, ReadHeaderTimeout (for a
// header, and for the client's first frames; by default 10 s), IdleTimeout (for a connection without
// streams; by default 10 minutes, negative for none) and HTTP2 (sizes of tables, frames and windows).
type Config struct {
	// MaxConcurrentStreams is how many streams one connection may have open. A client that resets a
	// stream may open another although the handler of the first still runs, but a connection has at
	// most four times as many running handlers, so a client cannot start any number of them by
	// resetting streams. Streams beyond either limit are refused with REFUSED_STREAM, which clients
	// may retry (RFC 9113 §8.7). Default 250.
	MaxConcurrentStreams uint32

	// HeaderTooLarge replies in place of the handler to a request whose header list is longer than
	// http.Server.MaxHeaderBytes, by default 32 KiB, or has more than 256 fields. RFC 9113 §6.5.2
	// counts 32 bytes for each field besides its name and value. That request has only the header
	// fields that came before the limit was reached, its Content-Type wherever that came, and an
	// empty URL. Default: the function [HeaderTooLarge], which replies with status
	// 431 (RFC 6585 §5).
	HeaderTooLarge http.HandlerFunc

	// KnownHeaders lists header fields of the protocol that the handlers speak, such as those of an
	// RPC protocol; the common fields of HTTP are built in. Known fields cost a little less in
	// requests and replies, and can have properties. Fields that are not listed work too. Default:
	// none.
	KnownHeaders []KnownHeader

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

	// StallTimeout resets a stream that has made no progress for this long, which means at least 64
	// bytes: the peer has left the flow-control window of a reply, or that of the connection, at
	// zero, or has not sent a request body whose length it has declared. A reply that waits for its
	// turn behind others, and a client that waits for status 100, are not stuck. StallTimeout also
	// closes a connection if writing one output buffer to its socket takes longer. Default 30 s.
	// Negative: no timeout.
	StallTimeout time.Duration

	// RequestContext, if set, derives the request's context from the one that it would have, as
	// http.Server.ConnContext does for a connection. It is called when the header is complete, on
	// the goroutine that reads the connection, so it must be quick. Unlike http.Request.WithContext
	// in a handler, it does not copy the request.
	RequestContext func(context.Context) context.Context

	// Idle, if set, is called once for each connection, with its context and a function that closes the
	// connection without losing a request, as http.Server.Shutdown does. What Idle returns, unless it
	// is nil, is called with false when the connection has a stream and with true when it has none
	// any more; a new connection has none. It must return at once, and must not call shutdown, since
	// the connection is locked meanwhile. A server with too many connections can close idle ones.
	Idle func(ctx context.Context, shutdown func()) (set func(idle bool))

	// PingInterval is how long a connection with open streams may be silent before it is probed
	// with a PING, and PingTimeout how long the answer may take before the connection is closed. A
	// peer that reads slowly has more time if much was written before the PING, and while a write
	// is blocked, only StallTimeout counts. Defaults 30 s and 15 s. A negative interval sends no PING.
	PingInterval, PingTimeout time.Duration

	// Stats, if set, counts what the connections do. Each server needs one of its own.
	Stats *Stats

	// The rest is taken from the http.Server or is the same for every server. Only tests set it.

	// maxHeaderBytes limits the header list of a request as RFC 9113 §6.5.2 counts it: names, values
	// and 32 bytes for each field. It is http.Server.MaxHeaderBytes or 32 KiB. A request with a
	// longer list is answered by HeaderTooLarge, and other requests of the connection are not
	// affected, as long as the encoded header block takes at most maxBlock bytes; a longer block ends
	// the connection with ENHANCE_YOUR_CALM.
	maxHeaderBytes int

	// These are fields of http.Server.HTTP2, or else headerTableSize is 4096 bytes, maxFrameSize
	// 16,384 bytes, streamWindow 256 KiB and connWindow 1 MiB. headerTableSize is the size of HPACK's
	// dynamic table for requests, and the largest size of that for replies, which the peer chooses
	// (RFC 7541 §4.2). The windows are how many bytes of request bodies are kept for a handler that
	// does not read them, and for all handlers of a connection together (RFC 9113 §6.9).
	headerTableSize          uint32
	maxFrameSize             uint32
	streamWindow, connWindow int32

	// outputBuffer is how many bytes of frames a connection buffers before handlers have to wait for
	// the socket: 64 KiB.
	outputBuffer int

	// maxQueuedControl is how many replies to control frames (SETTINGS and PING acknowledgements,
	// resets, window updates) may be queued for a peer that does not read them: 1000. One more ends
	// the connection with ENHANCE_YOUR_CALM.
	maxQueuedControl int

	// resetBurst and resetRate limit the streams that end in a reset, whether the peer sends it
	// (Rapid Reset, CVE-2023-44487) or makes the server send it (MadeYouReset, CVE-2025-8671): 2000
	// at once, then 200 per second. Exceeding them ends the connection with ENHANCE_YOUR_CALM. Each
	// stream that ends normally allows one more, so a busy client may cancel as many requests as it
	// completes.
	resetBurst, resetRate int

	// overheadBurst limits frames that carry no request and no data, at once: PING, SETTINGS,
	// PRIORITY, WINDOW_UPDATE, empty DATA, unknown types. It is 2000, and then overheadRate per
	// second. Requests and DATA frames, sent or received, allow more of them, so a busy client does
	// not reach the limit. Exceeding it ends the connection with ENHANCE_YOUR_CALM.
	overheadBurst int

	// handshakeTimeout limits the wait for the client's preface and first SETTINGS frame, and
	// headerTimeout the time from the first byte of a frame that is not DATA, or of a header block,
	// to its last, and the time that the first nine bytes of a DATA frame take. Both are
	// http.Server.ReadHeaderTimeout or 10 s.
	handshakeTimeout, headerTimeout time.Duration

	// idleTimeout is how long a connection without open streams is kept: http.Server.IdleTimeout or
	// 10 minutes. Negative: no timeout.
	idleTimeout time.Duration

	// streamIdleTimeout resets a stream that still awaits request data of undeclared length (a client
	// stream or a bidirectional one) when neither side has sent anything on it for this long: 1 hour.
	streamIdleTimeout time.Duration
}

const (
	// maxHeaderFields limits the number of fields of a request's header, and of its trailers. A field
	// can take a single byte on the wire, but takes fifty in memory. A request with more fields is
	// answered by Config.HeaderTooLarge.
	maxHeaderFields = 256

	// overheadRate goes with Config.overheadBurst, per second.
	overheadRate = 200

	// workerIdleTimeout is how long a goroutine that has run a handler is kept for the next one, and
	// maxIdleWorkers how many are kept.
	workerIdleTimeout = 10 * time.Second
	maxIdleWorkers    = 1024
)

const (
	minFrameSize  = 1 << 14   // RFC 9113 §4.2
	maxFrameSize  = 1<<24 - 1 // RFC 9113 §4.2
	initialWindow = 1<<16 - 1 // RFC 9113 §6.9.2
	maxWindow     = 1<<31 - 1 // RFC 9113 §6.9.1
)

// maxBlock is how long an encoded header block may be. One that is too large for a request, but not
// longer than this, is decoded all the same, because all blocks of a connection share HPACK's state
// (RFC 9113 §4.3): the request alone is refused.
func (cfg *Config) maxBlock() int { return 4*cfg.maxHeaderBytes + 1024 }

// maxContinuations is how many CONTINUATION frames may follow one HEADERS frame: as many full ones as
// the longest header block takes, and at least 16.
func (cfg *Config) maxContinuations() int { return max(16, cfg.maxBlock()/minFrameSize) }

// takeStandard sets the fields that are zero from http.Server.HTTP2, as far as that has the same
// settings, and returns an error for those that it has in addition.
func (cfg *Config) takeStandard(std *http.HTTP2Config) error {
	for _, setting := range []struct {
		name, instead string
		used          bool
	}{
		{"MaxEncoderHeaderTableSize", "MaxDecoderHeaderTableSize, which limits both tables", std.MaxEncoderHeaderTableSize != 0 &&
			std.MaxEncoderHeaderTableSize != int(cmp.Or(cfg.headerTableSize, uint32(std.MaxDecoderHeaderTableSize), 4096))},
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
	cfg.headerTableSize = cmp.Or(cfg.headerTableSize, uint32(std.MaxDecoderHeaderTableSize))
	cfg.maxFrameSize = cmp.Or(cfg.maxFrameSize, uint32(std.MaxReadFrameSize))
	cfg.streamWindow = cmp.Or(cfg.streamWindow, int32(std.MaxReceiveBufferPerStream))
	cfg.connWindow = cmp.Or(cfg.connWindow, int32(std.MaxReceiveBufferPerConnection))
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
	cfg.maxHeaderBytes = cmp.Or(cfg.maxHeaderBytes, srv.MaxHeaderBytes, 32<<10)
	cfg.headerTableSize = cmp.Or(cfg.headerTableSize, 4096)
	cfg.maxFrameSize = cmp.Or(cfg.maxFrameSize, minFrameSize)
	cfg.streamWindow = cmp.Or(cfg.streamWindow, 256<<10)
	cfg.connWindow = cmp.Or(cfg.connWindow, 1<<20)
	cfg.MaxMemory = cmp.Or(cfg.MaxMemory, 64<<20)
	cfg.outputBuffer = cmp.Or(cfg.outputBuffer, 64<<10)
	cfg.maxQueuedControl = cmp.Or(cfg.maxQueuedControl, 1000)
	cfg.resetBurst = cmp.Or(cfg.resetBurst, 2000)
	cfg.resetRate = cmp.Or(cfg.resetRate, 200)
	cfg.overheadBurst = cmp.Or(cfg.overheadBurst, 2000)
	cfg.handshakeTimeout = cmp.Or(cfg.handshakeTimeout, srv.ReadHeaderTimeout, 10*time.Second)
	cfg.headerTimeout = cmp.Or(cfg.headerTimeout, srv.ReadHeaderTimeout, 10*time.Second)
	cfg.idleTimeout = cmp.Or(cfg.idleTimeout, srv.IdleTimeout, 10*time.Minute)
	cfg.StallTimeout = cmp.Or(cfg.StallTimeout, 30*time.Second)
	cfg.streamIdleTimeout = cmp.Or(cfg.streamIdleTimeout, time.Hour)
	cfg.PingInterval = cmp.Or(cfg.PingInterval, 30*time.Second)
	cfg.PingTimeout = cmp.Or(cfg.PingTimeout, 15*time.Second)
	if cfg.HeaderTooLarge == nil {
		cfg.HeaderTooLarge = HeaderTooLarge
	}
	if cfg.Stats == nil {
		cfg.Stats = new(Stats)
	}

	if cfg.maxFrameSize < minFrameSize || cfg.maxFrameSize > maxFrameSize {
		return cfg, fmt.Errorf("h2: http.Server.HTTP2.MaxReadFrameSize is %d, want %d to %d",
			cfg.maxFrameSize, minFrameSize, maxFrameSize)
	}
	if cfg.connWindow < initialWindow {
		return cfg, fmt.Errorf("h2: http.Server.HTTP2.MaxReceiveBufferPerConnection is %d, want at least %d",
			cfg.connWindow, initialWindow)
	}
	if cfg.maxHeaderBytes < 0 {
		return cfg, fmt.Errorf("h2: http.Server.MaxHeaderBytes is %d, want 0 for the default or more", cfg.maxHeaderBytes)
	}
	if cfg.MaxMemory < 0 {
		return cfg, fmt.Errorf("h2: Config.MaxMemory is %d, want 0 for the default or more", cfg.MaxMemory)
	}
	return cfg, nil
}
