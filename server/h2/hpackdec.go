package h2

import (
	"bytes"

	"golang.org/x/net/http2/hpack"
)

// headerDecoder decodes the header blocks of a connection's requests. Clients of an API repeat the
// same few blocks, since the encoding of a header stays the same while the dynamic table does. It
// remembers such blocks and what they decode to. It belongs to the reader goroutine.
type headerDecoder struct {
	dec   *hpack.Decoder
	memos []requestMemo // up to maxRequestMemos, valid while the table does not change
	next  int           // the memo to overwrite next, once there are maxRequestMemos
}

// requestMemo is a header block and what it decodes to.
type requestMemo struct {
	block  []byte
	fields headerFields
}

const (
	maxRequestMemos = 2
	// maxMemoBlock (in bytes) and maxMemoFields limit a memo. A longer block costs more memory than
	// it is likely to save time.
	maxMemoBlock  = 512
	maxMemoFields = 32
)

// write decodes a piece of the header block b and adds its fields to b. No other block comes
// between the pieces (RFC 9113 §4.3), so the memos need an update only after the last.
func (d *headerDecoder) write(b *headerBlock, p []byte, last bool) error {
	whole := last && b.frames <= 1
	if whole && d.recall(b, p) {
		return nil
	}
	if _, err := d.dec.Write(p); err != nil || !last {
		return err
	}
	if err := d.dec.Close(); err != nil {
		return err
	}
	if whole && !changesTable(p) {
		d.remember(b, p)
	} else {
		d.forget() // the table has changed, or may have
	}
	return nil
}

// recall sets b to what block decodes to, and reports whether that was remembered.
func (d *headerDecoder) recall(b *headerBlock, block []byte) bool {
	for i := range d.memos {
		if m := &d.memos[i]; bytes.Equal(m.block, block) {
			b.headerFields.copy(&m.fields)
			return true
		}
	}
	return false
}

// remember stores that block decodes to b. block must not have changed the table.
func (d *headerDecoder) remember(b *headerBlock, block []byte) {
	if b.invalid != "" || b.tooLarge || len(block) > maxMemoBlock || len(b.fields) > maxMemoFields {
		return
	}
	if len(d.memos) < maxRequestMemos {
		d.memos = append(d.memos, requestMemo{})
		d.next = len(d.memos) - 1
	}
	m := &d.memos[d.next]
	d.next = (d.next + 1) % maxRequestMemos
	m.block = append(m.block[:0], block...)
	m.fields.copy(&b.headerFields)
}

// forget drops all memos. Together with the strings that they refer to, they take at most 4 KB per
// connection.
func (d *headerDecoder) forget() {
	clear(d.memos)
	d.memos = d.memos[:0]
}

// changesTable reports whether a header block has a representation that changes the dynamic table:
// a literal with incremental indexing or a size update (RFC 7541 §6.2.1, §6.3). It returns true for
// a block that it cannot parse.
func changesTable(block []byte) bool {
	for len(block) > 0 {
		ok := true
		switch first := block[0]; {
		case first&0x80 != 0: // indexed (§6.1)
			_, block, ok = readInteger(block, 7)
		case first&0xe0 != 0: // with incremental indexing, or a size update
			return true
		default: // a literal that is not indexed (§6.2.2, §6.2.3)
			var index int
			if index, block, ok = readInteger(block, 4); ok && index == 0 {
				block, ok = skipString(block)
			}
			if ok {
				block, ok = skipString(block)
			}
		}
		if !ok {
			return true
		}
	}
	return false
}

// skipString returns the bytes after a string literal (RFC 7541 §5.2).
func skipString(p []byte) (rest []byte, ok bool) {
	if len(p) == 0 {
		return nil, false
	}
	n, rest, ok := readInteger(p, 7)
	if !ok || n > len(rest) {
		return nil, false
	}
	return rest[n:], true
}

// readInteger reads an integer with a prefix of the given number of bits (RFC 7541 §5.1). It fails
// if more than three bytes follow the first, which no valid block needs.
func readInteger(p []byte, bits uint) (n int, rest []byte, ok bool) {
	most := 1<<bits - 1
	n = int(p[0]) & most
	if n < most {
		return n, p[1:], true
	}
	for i, shift := 1, 0; i < len(p) && i <= 3; i, shift = i+1, shift+7 {
		n += int(p[i]&0x7f) << shift
		if p[i]&0x80 == 0 {
			return n, p[i+1:], true
		}
	}
	return 0, nil, false
}
