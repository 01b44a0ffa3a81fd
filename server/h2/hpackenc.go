package h2

import (
	"slices"
	"strconv"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// field is a field of a reply, its name in the canonical form of http.Header.
type field struct{ name, value string }

// headerEncoder encodes the header blocks of a connection's replies. Replies of an API repeat the
// same few blocks. Once all fields of a block are in the dynamic table, its encoding stays the same
// until the table changes, so it is remembered.
type headerEncoder struct {
	names   *nameTable
	enc     *hpack.Encoder
	out     sliceWriter // what enc writes to
	changes uint        // counts changes of the dynamic table
	memos   []blockMemo // up to maxMemos
	next    int         // the memo to overwrite next, once there are maxMemos
}

const maxMemos = 4

// blockMemo is a list of fields and its encoding, valid while headerEncoder.changes is the same.
type blockMemo struct {
	status  int
	changes uint
	fields  []field
	block   []byte
}

type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

func (e *headerEncoder) init(names *nameTable, tableLimit uint32) {
	e.names = names
	e.enc = hpack.NewEncoder(&e.out)
	e.enc.SetMaxDynamicTableSizeLimit(tableLimit)
	e.changes = 1
}

// setTableSize applies the peer's SETTINGS_HEADER_TABLE_SIZE.
func (e *headerEncoder) setTableSize(n uint32) {
	e.enc.SetMaxDynamicTableSize(n)
	e.changes++
}

// appendBlock appends the encoding of a status (0 in trailers), the fields and, unless negative, a
// content length.
func (e *headerEncoder) appendBlock(dst []byte, status int, fields []field, length int64) []byte {
	dst = e.appendStable(dst, status, fields)
	for _, f := range fields {
		if e.names.rarelyRepeats(f) {
			dst = e.appendField(dst, f)
		}
	}
	if length >= 0 {
		// A literal without indexing, its name number 28 of the static table (RFC 7541 §6.2.2):
		// lengths seldom repeat.
		var digits [20]byte
		text := strconv.AppendInt(digits[:0], length, 10)
		dst = append(dst, 0x0f, 28-15, byte(len(text)))
		dst = append(dst, text...)
	}
	return dst
}

// appendStable appends the status and the fields whose values repeat, from a memo if there is one.
func (e *headerEncoder) appendStable(dst []byte, status int, fields []field) []byte {
	for i := range e.memos {
		if m := &e.memos[i]; m.changes == e.changes && m.status == status && e.sameStable(m.fields, fields) {
			return append(dst, m.block...)
		}
	}
	start, before := len(dst), e.changes
	if status != 0 {
		dst = e.encode(dst, hpack.HeaderField{Name: ":status", Value: statusText(status)})
	}
	for _, f := range fields {
		if !e.names.rarelyRepeats(f) {
			dst = e.appendField(dst, f)
		}
	}
	if e.changes == before && len(fields) <= 16 && len(dst)-start <= 256 {
		if len(e.memos) < maxMemos {
			e.memos = append(e.memos, blockMemo{})
			e.next = len(e.memos) - 1
		}
		m := &e.memos[e.next]
		e.next = (e.next + 1) % maxMemos
		m.status, m.changes = status, e.changes
		m.block = append(m.block[:0], dst[start:]...)
		m.fields = m.fields[:0]
		for _, f := range fields {
			if !e.names.rarelyRepeats(f) {
				m.fields = append(m.fields, f)
			}
		}
	}
	return dst
}

// sameStable reports whether the fields whose values repeat are those of the memo.
func (e *headerEncoder) sameStable(memo, fields []field) bool {
	i := 0
	for _, f := range fields {
		if e.names.rarelyRepeats(f) {
			continue
		}
		if i == len(memo) || memo[i] != f {
			return false
		}
		i++
	}
	return i == len(memo)
}

// appendField appends one field, or nothing if it must not go on the wire (RFC 9113 §8.2).
func (e *headerEncoder) appendField(dst []byte, f field) []byte {
	name, ok := e.names.toWire(f.name)
	if !ok || !httpguts.ValidHeaderFieldValue(f.value) {
		return dst
	}
	// A value that rarely repeats is kept out of the dynamic table, where it would displace others.
	return e.encode(dst, hpack.HeaderField{Name: name, Value: f.value, Sensitive: e.names.rarelyRepeats(f)})
}

func (e *headerEncoder) encode(dst []byte, f hpack.HeaderField) []byte {
	e.out.b = dst
	start := len(dst)
	if err := e.enc.WriteField(f); err != nil {
		// The encoder fails only if its writer fails, and sliceWriter does not.
		panic("h2: hpack encoder: " + err.Error())
	}
	dst, e.out.b = e.out.b, nil
	// A literal with incremental indexing begins with the bits 01 and a size update with 001 (RFC
	// 7541 §6). Both change the table.
	if first := dst[start]; first&0xc0 == 0x40 || first&0xe0 == 0x20 {
		e.changes++
	}
	return dst
}

func statusText(code int) string {
	switch code {
	case 200:
		return "200"
	case 404:
		return "404"
	}
	return strconv.Itoa(code)
}

// sortFields orders fields by name, so that equal replies have equal encodings although maps have
// no order.
func sortFields(fields []field) {
	if len(fields) > 12 {
		slices.SortStableFunc(fields, func(a, b field) int {
			switch {
			case a.name < b.name:
				return -1
			case a.name > b.name:
				return 1
			}
			return 0
		})
		return
	}
	for i := 1; i < len(fields); i++ {
		for j := i; j > 0 && fields[j].name < fields[j-1].name; j-- {
			fields[j], fields[j-1] = fields[j-1], fields[j]
		}
	}
}
