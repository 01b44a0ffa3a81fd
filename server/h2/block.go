package h2

import (
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// headerBlock collects the fields of a HEADERS frame and its CONTINUATION frames. It belongs to the
// reader goroutine.
type headerBlock struct {
	id         uint32 // the stream, 0 between blocks
	frames     uint32 // how many so far
	endStream  bool
	selfDep    bool // priority depends on the stream itself
	tooLarge   bool
	typed      bool   // there was a content-type
	bytes      int    // encoded bytes so far
	charged    int    // of the server's memory, while the block is under way
	room       int    // what is left of Config.maxHeaderBytes
	roomFields int    // what is left of maxHeaderFields
	cookies    int    // bytes of fields that will be joined
	invalid    string // why the block is malformed, if it is
	headerFields
}

// headerFields is what a header block decodes to.
type headerFields struct {
	// Pseudo-header fields (RFC 9113 §8.3.1).
	method, scheme, authority, path string
	seen                            pseudoSet
	pseudo                          bool // there was a pseudo-header field
	fields                          []hpack.HeaderField
}

// copy makes f equal to other, in f's own array of fields.
func (f *headerFields) copy(other *headerFields) {
	fields := append(f.fields[:0], other.fields...)
	*f = *other
	f.fields = fields
}

// pseudoSet is the set of pseudo-header fields that a block had so far.
type pseudoSet uint8

const (
	sawMethod pseudoSet = 1 << iota
	sawScheme
	sawAuthority
	sawPath
)

// begin empties b for the block of a stream.
func (b *headerBlock) begin(id uint32, endStream bool, cfg *Config) {
	clear(b.fields) // keep no strings of the last request
	*b = headerBlock{id: id, endStream: endStream, room: cfg.maxHeaderBytes, roomFields: maxHeaderFields,
		headerFields: headerFields{fields: b.fields[:0]}}
}

// size returns the size of the fields in memory, about. Cookies are joined to one field, so their
// bytes count twice.
func (b *headerBlock) size(cfg *Config) int {
	return cfg.maxHeaderBytes - max(b.room, 0) + b.cookies
}

// add adds a field, for the HPACK decoder. Checks follow RFC 9113 §8.2 and §8.3.
func (b *headerBlock) add(f hpack.HeaderField) {
	if b.tooLarge {
		b.addType(f)
		return
	}
	if b.invalid != "" {
		return
	}
	b.room -= int(f.Size())
	b.roomFields--
	if b.room < 0 || b.roomFields < 0 {
		b.tooLarge = true
		b.addType(f)
		return
	}
	if !httpguts.ValidHeaderFieldValue(f.Value) {
		b.invalid = "field value has a forbidden character"
		return
	}
	if strings.HasPrefix(f.Name, ":") {
		b.addPseudo(f)
		return
	}
	if connectionSpecific(f.Name) {
		b.invalid = "connection-specific field"
		return
	}
	switch f.Name {
	case "content-type":
		b.typed = true
	case "cookie":
		b.cookies += len(f.Value)
	case "te":
		if f.Value != "trailers" && f.Value != "" {
			b.invalid = "TE other than trailers"
			return
		}
	}
	b.fields = append(b.fields, f)
}

// maxLateType is how long a Content-Type may be that is kept although the header list is too large.
const maxLateType = 100

// addType adds the first Content-Type of a header list that is too large, which tells HeaderTooLarge
// the protocol of the request. Some clients send it last.
func (b *headerBlock) addType(f hpack.HeaderField) {
	if f.Name != "content-type" || b.typed || len(f.Value) > maxLateType || !httpguts.ValidHeaderFieldValue(f.Value) {
		return
	}
	b.typed = true
	b.fields = append(b.fields, f)
}

func (b *headerBlock) addPseudo(f hpack.HeaderField) {
	b.pseudo = true
	if len(b.fields) > 0 {
		b.invalid = "pseudo-header field after a regular one"
		return
	}
	var bit pseudoSet
	switch f.Name {
	case ":method":
		bit, b.method = sawMethod, f.Value
	case ":scheme":
		bit, b.scheme = sawScheme, f.Value
	case ":authority":
		bit, b.authority = sawAuthority, f.Value
	case ":path":
		bit, b.path = sawPath, f.Value
	default:
		b.invalid = "unknown pseudo-header field"
		return
	}
	if b.seen&bit != 0 {
		b.invalid = "repeated pseudo-header field"
	}
	b.seen |= bit
}
