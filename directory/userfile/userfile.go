// Package userfile reads files of users: CSV with the columns id, name, age and email, and JSON with
// objects of those keys, one a line (NDJSON), in an array, or printed over several lines. It reads row
// by row, so its memory does not grow with the file. The error of a bad row says where it is and what
// is wrong with it. The package stores nothing.
//
// What can be read with certainty is read as people have it: gzip, UTF-16, line ends of old Macs,
// fields separated by semicolons or tabs ([Reader.Notes] tells which). What cannot is refused, with its
// name and what to do. Nothing is lost unnoticed: the lines of [Counts] add up, and where it is not
// certain which lines a broken quote has swallowed, the file is refused.
//
//	reader, err := userfile.NewReader(file, userfile.Options{Format: userfile.CSV})
//	for {
//		user, err := reader.Next()
//		if bad := (*userfile.RowError)(nil); errors.As(err, &bad) {
//			continue // the rows after it can be read
//		}
//		…
//	}
package userfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"example.com/roster/directory"
)

// Format is a file format.
type Format string

// The formats. JSON is an array of objects, or one object after another; a file of either format may
// have the form of the other.
const (
	CSV    Format = "csv"
	NDJSON Format = "ndjson"
	JSON   Format = "json"
)

// FormatOf returns the format by the extension of a file's name; one of .gz after it does not count.
func FormatOf(name string) (Format, error) {
	base := name
	if ext := filepath.Ext(base); strings.EqualFold(ext, ".gz") {
		base = strings.TrimSuffix(base, ext)
	}
	switch strings.ToLower(filepath.Ext(base)) {
	case ".csv", ".tsv", ".txt": // spreadsheets export tab-separated text as .txt
		return CSV, nil
	case ".ndjson", ".jsonl":
		return NDJSON, nil
	case ".json":
		return JSON, nil
	}
	return "", fmt.Errorf("cannot tell the format of %q from its name (.csv, .tsv, .txt, .ndjson, .jsonl or .json, each also with .gz)", name)
}

// Fields are the names of what a user consists of, in the order of the usual file.
var Fields = [...]string{"id", "name", "age", "email"}

const fieldList = "id,name,age,email"

// Options say how a file is read.
type Options struct {
	Format Format
	// Columns has the name of the column, or of the key, that holds a field if it is another than the
	// field's own.
	Columns map[string]string
	// IgnoreColumns leaves out columns and keys that are none of a user. Without it they are refused.
	IgnoreColumns bool
	// EmptyAge, if set, is the age of a user without one. Without it such a row is bad.
	EmptyAge *int32
	// KeepText has [Reader.Text] and RowError.Text keep the text of each row.
	KeepText bool
}

// RowError is the error of a row that is not a valid user. The rows after it can still be read.
type RowError struct {
	// Line and End are the numbers of the first and the last line of the row, from 1.
	Line, End int
	// Text is the row as it is in the file, in UTF-8 and without its line end, if Options.KeepText is
	// set. It can be read again, after the text of [Reader.Header].
	Text string
	Err  error
}

func (e *RowError) Error() string {
	if e.End > e.Line {
		return fmt.Sprintf("lines %d to %d: %v", e.Line, e.End, e.Err)
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Err)
}

func (e *RowError) Unwrap() error { return e.Err }

// Counts says what became of the lines that were read: Read is always the sum of the others. In a
// file of JSON that is not one object a line, objects are counted in place of lines.
type Counts struct {
	Objects bool // whether these are counts of objects
	Read    int
	// Header is the line with the names of the columns, and one with "sep=" before it.
	Header int
	// Blank lines are empty, or have nothing but separators.
	Blank int
	// Taken is the lines of users that Next returned, LeftOut those of bad rows.
	Taken, LeftOut int
}

// Reader reads users one by one.
type Reader struct {
	options Options
	// nextRow reads the next row into line, end and text and returns its user, not normalized. If err
	// is not nil, it is io.EOF, the reason why the file cannot be read any further, or, if bad is set,
	// what is wrong with the row.
	nextRow   func() (user directory.User, bad bool, err error)
	source    *source
	line, end int
	text      string
	header    string
	notes     []string
	counts    Counts
}

// NewReader returns a Reader of r. It fails if the file cannot be read at all: it is of another
// format, empty, or a CSV without the columns.
func NewReader(r io.Reader, options Options) (*Reader, error) {
	if !slices.Contains([]Format{CSV, NDJSON, JSON}, options.Format) {
		return nil, fmt.Errorf("unknown format %q: want csv, ndjson or json", options.Format)
	}
	source, text, err := newSource(r)
	if err != nil {
		return nil, err
	}
	reader := &Reader{options: options, source: source, notes: source.notes}
	if options.Format == CSV {
		err = reader.openCSV(text)
	} else {
		err = reader.openJSON(text)
	}
	if err != nil {
		return nil, err
	}
	return reader, nil
}

// Next returns the next user, which is valid and normalized. Its error is io.EOF at the end and a
// *RowError for a bad row. After any other error nothing more can be read.
func (r *Reader) Next() (directory.User, error) {
	user, bad, err := r.nextRow()
	if err == nil {
		user, err = directory.Normalize(user)
		bad = err != nil
		if !utf8.ValidString(user.Name) || !utf8.ValidString(user.Email) {
			err = fmt.Errorf("%w: save the file as UTF-8, or convert it, as by iconv -f WINDOWS-1252 -t UTF-8", err)
		}
	}
	lines := r.end - r.line + 1
	if r.counts.Objects {
		lines = 1
	}
	switch {
	case bad:
		r.counts.Read += lines
		r.counts.LeftOut += lines
		return user, &RowError{Line: r.line, End: r.end, Text: r.text, Err: err}
	case err == nil:
		r.counts.Read += lines
		r.counts.Taken += lines
	}
	return user, err
}

// blank counts blank lines.
func (r *Reader) blank(lines int) {
	if !r.counts.Objects {
		r.counts.Read += lines
		r.counts.Blank += lines
	}
}

// Line and End return the numbers, from 1, of the first and the last line of the row that Next
// returned last.
func (r *Reader) Line() int { return r.line }

// End is described at Line.
func (r *Reader) End() int { return r.end }

// Text returns the text of that row, as RowError.Text.
func (r *Reader) Text() string { return r.text }

// Header returns the line of a CSV that names the columns, without its line end.
func (r *Reader) Header() string { return r.header }

// Counts returns what has been read so far.
func (r *Reader) Counts() Counts { return r.counts }

// Notes says in what way the file is not a plain one: compressed, in another encoding, with other
// separators, with columns that are ignored.
func (r *Reader) Notes() []string { return r.notes }

// Warning returns, once Next has returned io.EOF, what makes it doubtful that the file is whole, empty
// if nothing does. RFC 4180 §2 allows a last line without a line end, and a file that was cut has one.
func (r *Reader) Warning() string {
	if r.counts.Objects || r.source.last == '\n' {
		return ""
	}
	return fmt.Sprintf("the last line (line %d) has no line end: if the file was cut there, its last user is not complete "+
		"and others may be missing", r.counts.Read)
}

// maxRowBytes bounds the memory of one row. A longer row is usually due to a quote that is never
// closed.
const maxRowBytes = 1 << 20

var errRowTooLong = fmt.Errorf("a row of more than %d bytes: is a quote not closed?", maxRowBytes)

// A tape passes text on and keeps that of the current row. It fails when one row takes more than
// maxRowBytes to read.
type tape struct {
	reader io.Reader
	kept   []byte
	base   int64 // the offset of kept[0]
	start  int64 // the offset at which the current row begins
	left   int
}

func newTape(r io.Reader) *tape { return &tape{reader: r, left: maxRowBytes} }

func (t *tape) Read(p []byte) (int, error) {
	if t.left <= 0 {
		return 0, errRowTooLong
	}
	n, err := t.reader.Read(p)
	t.left -= n
	t.kept = append(t.kept, p[:n]...)
	return n, err
}

// row ends the current row at an offset and returns its text, which is valid until the next call of
// Read or row.
func (t *tape) row(end int64) []byte {
	if t.start-t.base > 64<<10 {
		t.kept = append(t.kept[:0], t.kept[t.start-t.base:]...)
		t.base = t.start
	}
	row := t.kept[t.start-t.base : end-t.base]
	t.start = end
	t.left = maxRowBytes
	return row
}

// peekLine returns the first line of text, or as much of it as the buffer holds.
func peekLine(text *bufio.Reader) (string, error) {
	start, err := text.Peek(text.Size())
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return "", err
	}
	line, _, _ := strings.Cut(string(start), "\n")
	return line, nil
}
