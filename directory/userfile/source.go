package userfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// sniffBytes is how much of a file is looked at to find out what it is.
const sniffBytes = 64 << 10

// A gzip of a few kilobytes can be terabytes. Real files of users are seldom packed to a tenth;
// beyond maxFreeUnpacked bytes they may unpack to maxUnpackFactor times their size.
const (
	maxFreeUnpacked = 64 << 20
	maxUnpackFactor = 250
)

// source remembers how the text of a file is got.
type source struct {
	notes []string
	last  byte // of the text so far
}

// newSource finds out in which way r is text, and returns it as UTF-8 with line feeds.
func newSource(r io.Reader) (*source, *bufio.Reader, error) {
	s := &source{}
	packed := &counter{reader: r}
	file := bufio.NewReaderSize(packed, sniffBytes)
	start, err := peek(file)
	if err != nil {
		return nil, nil, err
	}
	if isGzip(start) {
		unpacked, err := gzip.NewReader(file)
		if err != nil {
			return nil, nil, gzipError(err)
		}
		s.notes = append(s.notes, "unpacked from gzip")
		file = bufio.NewReaderSize(&boundedGzip{unpacked, packed, 0}, sniffBytes)
		if start, err = peek(file); err != nil {
			return nil, nil, err
		}
		if isGzip(start) {
			return nil, nil, errors.New("the file is gzip inside gzip: unpack it once with gunzip")
		}
	}
	if len(start) == 0 {
		return nil, nil, errors.New("the file is empty")
	}
	if name, remedy := otherFormat(start); name != "" {
		return nil, nil, fmt.Errorf("the file is %s: %s", name, remedy)
	}
	text, err := s.decode(file, start)
	if err != nil {
		return nil, nil, err
	}
	return s.lineEnds(text)
}

// peek returns the beginning of a file, all of it if it is short.
func peek(r *bufio.Reader) ([]byte, error) {
	start, err := r.Peek(sniffBytes)
	if err == io.EOF {
		err = nil
	}
	return start, err
}

func isGzip(start []byte) bool { return bytes.HasPrefix(start, []byte{0x1f, 0x8b}) }

// decode returns the text of a file in UTF-8 and without a byte order mark.
func (s *source) decode(file *bufio.Reader, start []byte) (*bufio.Reader, error) {
	begin := [4]byte{'x', 'x', 'x', 'x'}
	copy(begin[:], start)
	// null has where the first characters have bytes of zero, which are of ASCII in every file that
	// Roster reads.
	var null [4]bool
	for i, b := range begin {
		null[i] = b == 0
	}
	var utf16 unicode.Endianness
	policy := unicode.ExpectBOM
	switch {
	case begin == [4]byte{0xff, 0xfe, 0, 0}, begin == [4]byte{0, 0, 0xfe, 0xff},
		null == [4]bool{false, true, true, true}, null == [4]bool{true, true, true, false}:
		return nil, errors.New("the file is UTF-32: save it as UTF-8")
	case begin[0] == 0xff && begin[1] == 0xfe:
		utf16 = unicode.LittleEndian
	case begin[0] == 0xfe && begin[1] == 0xff:
		utf16 = unicode.BigEndian
	case null == [4]bool{false, true, false, true}:
		utf16, policy = unicode.LittleEndian, unicode.IgnoreBOM
	case null == [4]bool{true, false, true, false}:
		utf16, policy = unicode.BigEndian, unicode.IgnoreBOM
	default:
		if bytes.HasPrefix(start, []byte("\xef\xbb\xbf")) {
			file.Discard(3)
		}
		return file, nil
	}
	s.notes = append(s.notes, "decoded from UTF-16")
	decoder := unicode.UTF16(utf16, policy).NewDecoder()
	return bufio.NewReaderSize(transform.NewReader(file, decoder), sniffBytes), nil
}

// lineEnds returns text with the line ends of old Macs, a carriage return alone, as line feeds.
func (s *source) lineEnds(text *bufio.Reader) (*source, *bufio.Reader, error) {
	start, err := peek(text)
	if err != nil {
		return nil, nil, err
	}
	if len(start) == 0 {
		return nil, nil, errors.New("the file is empty")
	}
	watched := &watched{reader: text, source: s}
	if at := bytes.IndexAny(start, "\r\n"); at >= 0 && start[at] == '\r' && (at+1 == len(start) || start[at+1] != '\n') {
		watched.cr = true
		s.notes = append(s.notes, "lines end with CR")
	}
	return s, bufio.NewReaderSize(watched, sniffBytes), nil
}

// watched passes text on and remembers its last byte. If cr is set, it replaces carriage returns by
// line feeds.
type watched struct {
	reader io.Reader
	source *source
	cr     bool
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.reader.Read(p)
	if n == 0 {
		return n, err
	}
	if w.cr {
		for i, b := range p[:n] {
			if b == '\r' {
				p[i] = '\n'
			}
		}
	}
	w.source.last = p[n-1]
	return n, err
}

// counter counts the bytes that were read.
type counter struct {
	reader io.Reader
	read   int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	c.read += int64(n)
	return n, err
}

// boundedGzip unpacks until the text is too large for its packed size.
type boundedGzip struct {
	reader *gzip.Reader
	packed *counter
	read   int64
}

func (b *boundedGzip) Read(p []byte) (int, error) {
	n, err := b.reader.Read(p)
	if b.read += int64(n); b.read > maxFreeUnpacked && b.read > maxUnpackFactor*b.packed.read {
		return n, fmt.Errorf("the file unpacks to more than %d times its size: if that is right, unpack it with gunzip first", maxUnpackFactor)
	}
	return n, gzipError(err)
}

// gzipError says in words what is wrong with compressed data.
func gzipError(err error) error {
	switch {
	case err == nil, err == io.EOF:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the gzip data ends too early: the file was cut, get it again")
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), strings.HasPrefix(err.Error(), "flate:"):
		return fmt.Errorf("the gzip data is damaged, get the file again: %w", err)
	}
	return err
}

// otherFormat returns the name of the format that a file begins like, and what to do with it; empty
// if it may be text of users.
func otherFormat(start []byte) (name, remedy string) {
	const spreadsheet = "save it as CSV (UTF-8) in the program that made it"
	const convert = "export it as CSV or NDJSON"
	if bytes.HasPrefix(start, []byte("PK\x03\x04")) {
		switch {
		case bytes.Contains(start, []byte("xl/")), bytes.Contains(start, []byte("[Content_Types].xml")):
			return "an Excel workbook (xlsx)", spreadsheet
		case bytes.Contains(start, []byte("opendocument")):
			return "an OpenDocument spreadsheet (ods)", spreadsheet
		}
		return "a zip archive", "unpack it, and import the file in it"
	}
	for _, format := range []struct {
		at                  int
		magic, name, remedy string
	}{
		{0, "PK\x05\x06", "an empty zip archive", "get the file again"},
		{0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (xls)", spreadsheet},
		{0, "%PDF-", "a PDF", spreadsheet},
		{0, "{\\rtf", "rich text (RTF)", "save it as plain text"},
		{0, "PAR1", "Parquet", convert},
		{0, "PARE", "encrypted Parquet", convert},
		{0, "ARROW1", "Arrow", convert},
		{0, "FEA1", "Feather", convert},
		{0, "ORC", "ORC", convert},
		{0, "Obj\x01", "Avro", convert},
		{0, "\x89HDF", "HDF5", convert},
		{0, "SQLite format 3\x00", "a SQLite database", "serve it with --store if it is Roster's, else " + convert},
		{0, "BZh", "compressed with bzip2", "unpack it with bunzip2"},
		{0, "\xfd7zXZ\x00", "compressed with xz", "unpack it with unxz"},
		{0, "\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it with unzstd"},
		{0, "\x04\x22\x4d\x18", "compressed with lz4", "unpack it with unlz4"},
		{0, "\x1f\x9d", "compressed with compress (.Z)", "unpack it with uncompress"},
		{0, "7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and import the file in it"},
		{0, "Rar!", "a RAR archive", "unpack it, and import the file in it"},
		{257, "ustar", "a tar archive", "unpack it, and import the file in it"},
		{0, "-----BEGIN PGP", "encrypted with PGP", "decrypt it first"},
	} {
		if len(start) > format.at && bytes.HasPrefix(start[format.at:], []byte(format.magic)) {
			return format.name, format.remedy
		}
	}
	text := bytes.ToLower(bytes.TrimLeft(bytes.TrimPrefix(start, []byte("\xef\xbb\xbf")), " \t\r\n"))
	switch {
	case bytes.HasPrefix(text, []byte("<!doctype html")), bytes.HasPrefix(text, []byte("<html")):
		return "a web page (HTML)", "a download may have failed or need a login: look at it in a browser"
	case bytes.HasPrefix(text, []byte("<")):
		return "XML", convert
	}
	return "", ""
}
