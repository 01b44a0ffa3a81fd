// Package userfile reads files of users: CSV with the columns id, name, age and email, and NDJSON
// with one object with those keys on each line. It reads row by row, so its memory does not grow
// with the file. The error of a bad row says where it is and what is wrong with it. The package
// stores nothing.
//
//	reader, err := userfile.NewReader(file, userfile.CSV)
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
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"example.com/roster/directory"
)

// Format is a file format.
type Format string

// The formats.
const (
	CSV    Format = "csv"
	NDJSON Format = "ndjson"
)

// FormatOf returns the format by the extension of a file's name: .csv, or .ndjson and .jsonl.
func FormatOf(name string) (Format, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return CSV, nil
	case ".ndjson", ".jsonl":
		return NDJSON, nil
	}
	return "", fmt.Errorf("cannot tell the format of %q from its name (.csv, .ndjson or .jsonl)", name)
}

// RowError is the error of a row that is not a valid user. The rows after it can still be read.
type RowError struct {
	// Line is the number of the line on which the row begins, from 1.
	Line int
	Err  error
}

func (e *RowError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *RowError) Unwrap() error { return e.Err }

// maxRowBytes bounds the memory of one row. A longer row is usually due to a quote that is never
// closed.
const maxRowBytes = 1 << 20

// Reader reads users one by one.
type Reader struct {
	next func() (directory.User, error)
	line int
}

// NewReader returns a Reader of r. It fails if the file cannot be read at all: an unsupported
// encoding, or a CSV without the columns.
func NewReader(r io.Reader, format Format) (*Reader, error) {
	text := bufio.NewReaderSize(r, 64<<10)
	start, err := text.Peek(3)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(start, []byte{0xef, 0xbb, 0xbf}):
		text.Discard(3)
	case bytes.HasPrefix(start, []byte{0xff, 0xfe}), bytes.HasPrefix(start, []byte{0xfe, 0xff}):
		return nil, errors.New("the file is UTF-16: save it as UTF-8")
	}
	reader := &Reader{}
	switch format {
	case CSV:
		err = reader.csv(text)
	case NDJSON:
		reader.ndjson(text)
		err = nil
	default:
		err = fmt.Errorf("unknown format %q: want csv or ndjson", format)
	}
	if err != nil {
		return nil, err
	}
	return reader, nil
}

// Next returns the next user, which is valid. Its error is io.EOF at the end and a *RowError for a
// bad row. After any other error nothing more can be read.
func (r *Reader) Next() (directory.User, error) {
	user, err := r.next()
	if err == nil {
		err = user.Validate()
		if err != nil {
			err = &RowError{r.line, err}
		}
	}
	return user, err
}

// Line returns the number of the line, from 1, on which the last row that Next returned begins.
func (r *Reader) Line() int { return r.line }

var columns = [...]string{"id", "name", "age", "email"}

func (r *Reader) csv(text io.Reader) error {
	limited := &rowLimit{reader: text}
	rows := csv.NewReader(limited)
	rows.ReuseRecord = true
	limited.nextRow()
	header, err := rows.Read()
	if err == io.EOF {
		return fmt.Errorf("the file is empty: the first line names the columns %s", strings.Join(columns[:], ","))
	}
	if err != nil {
		return err
	}
	index, err := columnsOf(header)
	if err != nil {
		return err
	}
	r.line = 1
	r.next = func() (directory.User, error) {
		limited.nextRow()
		row, err := rows.Read()
		if bad := (*csv.ParseError)(nil); errors.As(err, &bad) {
			r.line = bad.StartLine
			if errors.Is(err, csv.ErrFieldCount) {
				err = fmt.Errorf("%d columns, the first line has %d", len(row), len(header))
			} else {
				err = fmt.Errorf("column %d: %w", bad.Column, bad.Err)
				if bad.Line > bad.StartLine {
					// A quote that is not closed makes the following lines part of the field.
					err = fmt.Errorf("up to line %d, %w: is a quote not closed? None of these lines was read", bad.Line, err)
				}
			}
			return directory.User{}, &RowError{r.line, err}
		}
		if err != nil {
			if errors.Is(err, errRowTooLong) {
				err = fmt.Errorf("after line %d: %w", r.line, err)
			}
			return directory.User{}, err
		}
		r.line, _ = rows.FieldPos(0)
		user := directory.User{Name: row[index[1]], Email: row[index[3]]}
		if user.ID, err = number("id", row[index[0]]); err == nil {
			user.Age, err = number("age", row[index[2]])
		}
		if err != nil {
			return user, &RowError{r.line, err}
		}
		return user, nil
	}
	return nil
}

// columnsOf returns the position of each of columns in the header.
func columnsOf(header []string) (index [len(columns)]int, err error) {
	found := make(map[string]int, len(header))
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := found[name]; twice {
			return index, fmt.Errorf("column %q appears twice", name)
		}
		found[name] = i
	}
	for i, name := range columns {
		at, ok := found[name]
		if !ok {
			return index, fmt.Errorf("column %q is missing: the first line must name %s, and has %s",
				name, strings.Join(columns[:], ","), quoted(strings.Join(header, ",")))
		}
		index[i] = at
		delete(found, name)
	}
	for name := range found {
		return index, fmt.Errorf("column %q is not one of %s: take it out of the file", name, strings.Join(columns[:], ","))
	}
	return index, nil
}

func number(column, text string) (int32, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	switch {
	case err == nil:
		return int32(n), nil
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%s %s is out of range: it must be between %d and %d", column, quoted(text), math.MinInt32, math.MaxInt32)
	}
	return 0, fmt.Errorf("%s %s is not a whole number", column, quoted(text))
}

// quoted returns text for a message: quoted, and cut if it is long.
func quoted(text string) string {
	const most = 80
	if len(text) <= most {
		return strconv.Quote(text)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strconv.Quote(text[:cut]) + "…"
}

// rowLimit fails when one row takes more than maxRowBytes to read.
type rowLimit struct {
	reader io.Reader
	left   int
}

var errRowTooLong = fmt.Errorf("a row of more than %d bytes: is a quote not closed?", maxRowBytes)

func (l *rowLimit) nextRow() { l.left = maxRowBytes }

func (l *rowLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errRowTooLong
	}
	n, err := l.reader.Read(p)
	l.left -= n
	return n, err
}

func (r *Reader) ndjson(text io.Reader) {
	lines := bufio.NewScanner(text)
	lines.Buffer(make([]byte, 0, 64<<10), maxRowBytes)
	r.next = func() (user directory.User, err error) {
		for lines.Scan() {
			r.line++
			if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
				user, err := parseObject(line)
				if err != nil {
					return user, &RowError{r.line, err}
				}
				return user, nil
			}
		}
		switch err := lines.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			return user, fmt.Errorf("line %d: more than %d bytes: is this one object a line?", r.line+1, maxRowBytes)
		case err != nil:
			return user, err
		}
		return user, io.EOF
	}
}

func parseObject(line []byte) (user directory.User, err error) {
	// encoding/json would replace invalid UTF-8 instead of failing.
	if !utf8.Valid(line) {
		return user, errors.New("not UTF-8")
	}
	var object struct {
		ID    *int32  `json:"id"`
		Name  *string `json:"name"`
		Age   *int32  `json:"age"`
		Email string  `json:"email"`
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&object)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		if wrong.Field == "" {
			return user, fmt.Errorf("not an object but %s", wrong.Value)
		}
		kind := "a whole number of 32 bits"
		if wrong.Type.Kind() == reflect.String {
			kind = "a string"
		}
		return user, fmt.Errorf("%q is %s, it must be %s", wrong.Field, wrong.Value, kind)
	}
	if err != nil {
		return user, fmt.Errorf("not a user object: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return user, errors.New("more than one value on the line")
	}
	for _, field := range []struct {
		name    string
		missing bool
	}{{"id", object.ID == nil}, {"name", object.Name == nil}, {"age", object.Age == nil}} {
		if field.missing {
			return user, fmt.Errorf("%q is missing", field.name)
		}
	}
	return directory.User{ID: *object.ID, Name: *object.Name, Age: *object.Age, Email: object.Email}, nil
}
