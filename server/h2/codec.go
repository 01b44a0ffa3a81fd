package h2

import (
	"errors"
	"net/http"
	"net/textproto"
	"net/url"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

var errBlockTooLarge = connError{http2.ErrCodeEnhanceYourCalm, "header block is too large"}

// headerCodec turns the header blocks of a connection into what net/http has for them, and those of
// replies into bytes. All that remembers something from one block to the next is in here: HPACK's two
// dynamic tables, blocks that were decoded or encoded, names and paths. So the same bytes may cost
// less the second time, and must mean the same; what is remembered has a bound.
//
// The blocks of requests are decoded by the reader goroutine, one at a time:
//
//	begin, then for each frame of the block reserve and decode, then end
//
// Between the last decode and end, block has what was decoded, and header, partialHeader and trailer
// make maps of it. Every block must be decoded, also that of a refused request, because all blocks of
// a connection share HPACK's state (RFC 9113 §4.3); an error of reserve or decode therefore ends the
// connection, while one of the others ends the stream.
//
// The blocks of replies are encoded by enc, which is guarded by conn.mu.
type headerCodec struct {
	cfg   *Config
	share *share // of the server's memory

	dec      headerDecoder
	block    headerBlock
	names    []knownName       // of the last requests, by position
	learned  map[string]string // canonical names that are not in the name table
	paths    []parsedPath      // of the last requests
	nextPath int               // the path to overwrite next, once there are maxPaths

	enc headerEncoder
}

// maxPaths and maxNames limit the paths and field names that a connection remembers. The slices
// grow as needed, since an idle connection has often seen only one path and a few names.
const (
	maxPaths = 4
	maxNames = 12
)

// maxLearnedNames and maxLearnedLength limit the names that a connection remembers besides those of
// the name table.
const (
	maxLearnedNames  = 12
	maxLearnedLength = 100
)

func (h *headerCodec) init(cfg *Config, names *nameTable, share *share) {
	h.cfg, h.share = cfg, share
	h.dec.dec = hpack.NewDecoder(cfg.headerTableSize, h.block.add)
	// A longer string is longer than the longest block, also when Huffman's code has shortened it.
	h.dec.dec.SetMaxStringLength(2 * cfg.maxBlock())
	h.enc.init(names, cfg.headerTableSize)
}

// underWay reports whether a block has begun and not ended.
func (h *headerCodec) underWay() bool { return h.block.id != 0 }

// begin begins the header block of a stream.
func (h *headerCodec) begin(id uint32, endStream bool) { h.block.begin(id, endStream, h.cfg) }

// reserve makes room for the next frame of the block, which has n bytes. It returns an error if the
// block is longer than any that is worth decoding or has too many frames, or if there is no memory for
// it. A block that comes in one frame is decoded at once, and needs none: its fields are charged with
// its stream.
func (h *headerCodec) reserve(n int, last bool) error {
	b := &h.block
	if b.frames++; int(b.frames) > 1+h.cfg.maxContinuations() {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many CONTINUATION frames"}
	}
	if b.bytes += n; b.bytes > h.cfg.maxBlock() {
		return errBlockTooLarge
	}
	if b.frames == 1 && last {
		return nil
	}
	// The decoded fields, and what the decoder keeps of a string that has not ended.
	more := h.cfg.maxHeaderBytes + b.bytes - b.charged
	if !h.share.take(more) {
		return errMemory
	}
	b.charged += more
	return nil
}

// decode decodes the next piece of the block.
func (h *headerCodec) decode(p []byte, last bool) error {
	err := h.dec.write(&h.block, p, last)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, hpack.ErrStringLength):
		return errBlockTooLarge
	}
	return connError{http2.ErrCodeCompression, err.Error()}
}

// end forgets the block. It keeps no large array that one large request needed.
func (h *headerCodec) end() {
	b := &h.block
	b.id = 0
	if b.charged > 0 {
		h.share.give(b.charged)
		b.charged = 0
	}
	if cap(b.fields) > maxMemoFields {
		b.fields = nil
	}
}

// fewFields is how many fields a usual request has at most. A request with more takes only the memory
// that its distinct names and its values need.
const fewFields = 32

// header makes the header map of the block. All values share one array, to save an allocation for
// each.
func (h *headerCodec) header() (http.Header, error) {
	header := make(http.Header, min(len(h.block.fields), fewFields))
	values := make([]string, len(h.block.fields))
	if more := min(len(h.block.fields), maxNames) - len(h.names); more > 0 {
		h.names = append(h.names, make([]knownName, more)...)
	}
	for i, f := range h.block.fields {
		key := h.headerKey(i, f.Name)
		if key == "" {
			return nil, streamError{h.block.id, http2.ErrCodeProtocol, "malformed field name"}
		}
		if earlier, repeated := header[key]; repeated {
			if len(h.block.fields) > fewFields {
				return h.groupFields()
			}
			header[key] = append(earlier, f.Value)
			continue
		}
		values[i] = f.Value
		header[key] = values[i : i+1 : i+1]
	}
	return header, nil
}

// groupFields is header for many fields, some of which have the same name: it counts the values of
// each name first, so that no slice grows.
func (h *headerCodec) groupFields() (http.Header, error) {
	counts := make(map[string]int, fewFields)
	for i, f := range h.block.fields {
		key := h.headerKey(i, f.Name)
		if key == "" {
			return nil, streamError{h.block.id, http2.ErrCodeProtocol, "malformed field name"}
		}
		counts[key]++
	}
	header := make(http.Header, len(counts))
	values := make([]string, len(h.block.fields))
	for i, f := range h.block.fields {
		key := h.headerKey(i, f.Name)
		if header[key] == nil {
			n := counts[key]
			header[key], values = values[:0:n], values[n:]
		}
		header[key] = append(header[key], f.Value)
	}
	return header, nil
}

// partialHeader makes the header map of a block whose header list is too large. It has the fields
// that came before the limit was reached, without those whose name is malformed.
func (h *headerCodec) partialHeader() http.Header {
	header := make(http.Header, min(len(h.block.fields), fewFields))
	for _, f := range h.block.fields {
		if validWireName(f.Name) {
			key := h.canonicalName(f.Name)
			header[key] = append(header[key], f.Value)
		}
	}
	return header
}

// knownName is a valid field name as the client sent it, and its key in http.Header.
type knownName struct{ wire, key string }

// headerKey returns the key in http.Header of the i-th field of a request, or "" if its name is
// malformed. Clients send the same names in the same order, request after request, so the last ones
// are remembered by position.
func (h *headerCodec) headerKey(i int, wire string) string {
	if i < len(h.names) && h.names[i].wire == wire {
		return h.names[i].key
	}
	key, known := h.enc.names.canonical[wire]
	if !known {
		if !validWireName(wire) {
			return ""
		}
		key = h.canonicalName(wire)
	}
	if i < len(h.names) && len(wire) <= maxLearnedLength {
		h.names[i] = knownName{wire, key}
	}
	return key
}

// trailer returns the trailers of the block, or with wanted unset only checks their names.
func (h *headerCodec) trailer(wanted bool) (http.Header, error) {
	malformed := func(reason string) (http.Header, error) {
		return nil, streamError{h.block.id, http2.ErrCodeProtocol, reason}
	}
	var trailer http.Header
	if wanted {
		trailer = make(http.Header, min(len(h.block.fields), fewFields))
	}
	for _, f := range h.block.fields {
		if !validWireName(f.Name) {
			return malformed("malformed field name")
		}
		if !wanted {
			continue
		}
		key := h.canonicalName(f.Name)
		if !httpguts.ValidTrailerHeader(key) {
			return malformed("field is not allowed in trailers")
		}
		trailer[key] = append(trailer[key], f.Value)
	}
	return trailer, nil
}

// canonicalName returns the http.Header key for a valid field name from the wire.
func (h *headerCodec) canonicalName(wire string) string {
	if name, ok := h.enc.names.canonical[wire]; ok {
		return name
	}
	if name, ok := h.learned[wire]; ok {
		return name
	}
	name := textproto.CanonicalMIMEHeaderKey(wire)
	if len(h.learned) < maxLearnedNames && len(wire) <= maxLearnedLength {
		if h.learned == nil {
			h.learned = make(map[string]string)
		}
		h.learned[wire] = name
	}
	return name
}

// parsePath parses :path. Clients of an API use the same few paths, so the last ones are
// remembered.
func (h *headerCodec) parsePath(path string) (url.URL, error) {
	for i := range h.paths {
		if h.paths[i].RequestURI == path {
			return h.paths[i].URL, nil
		}
	}
	if path[0] != '/' && path != "*" {
		return url.URL{}, errors.New("neither absolute nor *")
	}
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return url.URL{}, err
	}
	if len(path) <= 128 {
		if len(h.paths) < maxPaths {
			h.paths = append(h.paths, parsedPath{path, *u})
		} else {
			h.paths[h.nextPath] = parsedPath{path, *u}
			h.nextPath = (h.nextPath + 1) % maxPaths
		}
	}
	return *u, nil
}

// parsedPath is a :path and its URL. The URL contains no pointers, so requests can have copies of
// it.
type parsedPath struct {
	RequestURI string
	URL        url.URL
}
