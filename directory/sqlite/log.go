package sqlite

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"time"
)

// SQLite finds the log of a file by its name alone. If a store crashed and another file was then
// put in its place, SQLite would mix the pages of the log into that file, without an error. So a
// log is compared with its file before SQLite opens them.
//
// Every change of Roster writes a random mark into the row of the table directory, together with the
// mark of the change before and the schema cookie of the file. So the file has the mark of its last
// change before the log, or of one in the log that was already copied into the file; a log that
// belongs to the file has that mark as well. The first process that opens a store makes such a change
// and copies it into the file, so that no copy from before has the mark that the log will continue.
// A copy that was made while the store was open, by SQLite's backup or VACUUM INTO, has a mark of the
// log but another schema cookie.

// A logged is what a log says of the file that it belongs to.
type logged struct {
	marks   []string
	cookies []uint32
	pages   map[uint32]bool // that it has
	size    uint32          // of the file in the end, in pages
	edited  bool            // the last change left the mark of the one before: another program made it
}

// A marked is what the file itself says, without its log.
type marked struct {
	isEmpty bool   // it has no tables
	mark    string // empty if it cannot be read
	cookie  uint32
}

// ForeignLogError says that the log beside a store belongs to another file.
type ForeignLogError struct {
	Path string
	// Uncertain says that it may belong to this one: it has nothing but changes of another program,
	// which leave no mark.
	Uncertain bool
}

func (e *ForeignLogError) Error() string {
	if e.Uncertain {
		return fmt.Sprintf("it cannot be told whether the log %[1]s-wal belongs to %[1]s: the log has nothing but changes that another program made "+
			"before a crash. If neither file has been moved since, have SQLite put them together (sqlite3 %[1]s 'PRAGMA wal_checkpoint(TRUNCATE)'); "+
			"else move the log away (mv %[1]s-wal %[1]s-wal.old; rm -f %[1]s-shm)", e.Path)
	}
	return fmt.Sprintf("the log %[1]s-wal belongs to another file than %[1]s, and would mix its users into it: "+
		"another file was put in the place of a store that was not closed. To go on with the file that is there now, "+
		"move the log away (mv %[1]s-wal %[1]s-wal.old; rm -f %[1]s-shm); to go back to the store before, put its file back. "+
		"roster restore replaces a store together with its log", e.Path)
}

// checkLog fails with a ForeignLogError if there is a log beside the file at path that belongs to
// another one. If live is set, other processes may be writing to both.
func checkLog(ctx context.Context, path string, live bool) error {
	real := followLinks(path)
	for tries := 0; ; tries++ {
		err := compareLog(ctx, real)
		// What other processes change between two readings looks like two files.
		if foreign := (*ForeignLogError)(nil); !errors.As(err, &foreign) || !live || tries == 20 {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func compareLog(ctx context.Context, path string) error {
	info, err := os.Stat(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() <= logHeaderSize {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the log of the store: %w", err)
	}
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		// SQLite would delete it.
		return fmt.Errorf("there is a log, %s-wal, and its store %s is missing or empty: put that file back, or move the log away", path, path)
	}
	file, err := readMark(ctx, path)
	if err != nil {
		return err
	}
	if file.isEmpty {
		return nil // all that there is of this store is in its log
	}
	log, err := readLog(path + "-wal")
	if err != nil {
		return fmt.Errorf("the log of the store: %w", err)
	}
	if log == nil || log.belongsTo(file) {
		return nil
	}
	return &ForeignLogError{path, len(log.marks) == 0}
}

func (l *logged) belongsTo(file marked) bool {
	if file.mark == "" {
		// A VACUUM that was being copied into the file leaves it like that. Its log has all pages.
		return uint32(len(l.pages)) >= l.size
	}
	// A log that changes the schema has the cookie of the file only before that change.
	sameSchema := len(l.cookies) == 0 || slices.Contains(l.cookies, file.cookie) || slices.Min(l.cookies) == file.cookie+1
	return sameSchema && slices.Contains(l.marks, file.mark)
}

// readMark reads the file without its log. It may be in the middle of a checkpoint.
func readMark(ctx context.Context, path string) (m marked, err error) {
	// SQLite reads an immutable file alone, and with writable_schema also one whose last pages are
	// missing. Opening the file here would be simpler, and would release the locks of other
	// connections of this process when it is closed.
	db := open(path, "immutable=1&mode=ro&_query_only=1&_pragma=writable_schema(1)")
	defer db.Close()
	db.SetMaxOpenConns(1)
	ours, err := isOurs(ctx, db)
	if err != nil || !ours {
		return m, err
	}
	err = db.QueryRowContext(ctx, `SELECT count(*) = 0, (SELECT schema_version FROM pragma_schema_version)
		FROM sqlite_schema`).Scan(&m.isEmpty, &m.cookie)
	if err != nil || m.isEmpty {
		return m, err
	}
	var mark string
	err = db.QueryRowContext(ctx, "SELECT mark FROM directory WHERE one = 1").Scan(&mark)
	if err != nil || mark == "" {
		// A file from before there were marks: its revision does for one.
		err = db.QueryRowContext(ctx, "SELECT 'r' || revision FROM directory WHERE one = 1").Scan(&mark)
	}
	if err == nil && isMark.MatchString(mark) {
		m.mark = mark
	}
	return m, ctx.Err()
}

var isMark = regexp.MustCompile(`^([0-9a-f]{32}|r[0-9]+)$`)

// The format of a log: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
const (
	logHeaderSize   = 32
	frameHeaderSize = 24
	logMagic        = 0x377f0682 // the last bit is that of the checksums' byte order
)

// readLog returns what the committed changes in a log say, nil if it has none, so that SQLite will
// ignore it.
func readLog(path string) (*logged, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader := bufio.NewReaderSize(file, 1<<20)
	header := make([]byte, logHeaderSize)
	if _, err := io.ReadFull(reader, header); err != nil {
		return nil, nil
	}
	magic := binary.BigEndian.Uint32(header)
	pageSize := int(binary.BigEndian.Uint32(header[8:]))
	if magic&^1 != logMagic || pageSize < 512 || pageSize > 65536 || pageSize&(pageSize-1) != 0 {
		return nil, nil
	}
	var order binary.ByteOrder = binary.LittleEndian
	if magic&1 == 1 {
		order = binary.BigEndian
	}
	sum := checksum{order: order}
	sum.add(header[:24])
	if !sum.is(header[24:]) {
		return nil, nil
	}
	var committed *logged // nil until there is a commit
	pending := logged{pages: make(map[uint32]bool)}
	frame := make([]byte, frameHeaderSize+pageSize)
	for {
		if _, err := io.ReadFull(reader, frame); err == io.EOF || err == io.ErrUnexpectedEOF {
			return committed, nil
		} else if err != nil {
			return nil, err
		}
		sum.add(frame[:8])
		sum.add(frame[frameHeaderSize:])
		if string(frame[8:16]) != string(header[16:24]) || !sum.is(frame[16:]) {
			return committed, nil // left over from before the log began again
		}
		number := binary.BigEndian.Uint32(frame)
		pending.pages[number] = true
		if number == 1 {
			pending.cookies = append(pending.cookies, binary.BigEndian.Uint32(frame[frameHeaderSize+40:]))
		}
		pending.addRow(frame[frameHeaderSize:])
		if size := binary.BigEndian.Uint32(frame[4:]); size > 0 {
			committed = committed.with(pending, size)
			pending = logged{pages: make(map[uint32]bool)}
		}
	}
}

// with returns a log, nil if it is empty, with one more change, after which the file has this size.
func (l *logged) with(change logged, size uint32) *logged {
	if l == nil {
		change.size, change.edited = size, len(change.marks) == 0
		return &change
	}
	l.edited = len(change.marks) == 0 || len(l.marks) > 0 && change.marks[len(change.marks)-2] == l.marks[len(l.marks)-2]
	l.marks = append(l.marks, change.marks...)
	l.cookies = append(l.cookies, change.cookies...)
	maps.Copy(l.pages, change.pages)
	l.size = size
	return l
}

// addRow adds what the row of the table directory says, if it is on this page. No other table has
// rows of so many columns.
func (l *logged) addRow(page []byte) {
	row, ok := onlyRow(page)
	if !ok {
		return
	}
	switch len(row) {
	case 2: // of a version that made no marks
		if revision, ok := row[1].(int64); ok {
			l.marks = append(l.marks, fmt.Sprint("r", revision), fmt.Sprint("r", revision-1))
		}
	case columnsOfDirectory, columnsBeforeChanges:
		mark, _ := row[3].(string)
		previous, _ := row[4].(string)
		l.marks = append(l.marks, mark, previous)
		if cookie, ok := row[5].(int64); ok {
			l.cookies = append(l.cookies, uint32(cookie))
		}
	}
}

const (
	columnsOfDirectory   = 11
	columnsBeforeChanges = 7 // of a version that recorded no changes
)

// A checksum is that of SQLite's log, over all that was added.
type checksum struct {
	order  binary.ByteOrder
	s1, s2 uint32
}

func (c *checksum) add(data []byte) {
	for ; len(data) >= 8; data = data[8:] {
		c.s1 += c.order.Uint32(data) + c.s2
		c.s2 += c.order.Uint32(data[4:]) + c.s1
	}
}

func (c *checksum) is(stored []byte) bool {
	return binary.BigEndian.Uint32(stored) == c.s1 && binary.BigEndian.Uint32(stored[4:]) == c.s2
}

// onlyRow decodes the columns of the row on a page of a table that has one row. Numbers are int64,
// text is string, all else is nil. ok is false if the page is anything else.
func onlyRow(page []byte) (columns []any, ok bool) {
	defer func() {
		if recover() != nil { // an index out of range: the page is not what it should be
			columns, ok = nil, false
		}
	}()
	const leafOfTable = 0x0d
	if page[0] != leafOfTable || binary.BigEndian.Uint16(page[3:]) != 1 {
		return nil, false
	}
	cell := page[binary.BigEndian.Uint16(page[8:]):]
	size, n := varint(cell)
	_, m := varint(cell[n:]) // the row's id
	payload := cell[n+m:][:size]
	headerSize, n := varint(payload)
	types, values := payload[n:headerSize], payload[headerSize:]
	for len(types) > 0 {
		kind, n := varint(types)
		types = types[n:]
		var value any
		length := 0
		switch {
		case kind >= 1 && kind <= 6:
			length = []int{0, 1, 2, 3, 4, 6, 8}[kind]
			number := int64(int8(values[0]))
			for _, b := range values[1:length] {
				number = number<<8 | int64(b)
			}
			value = number
		case kind == 7:
			length = 8
		case kind == 8 || kind == 9:
			value = int64(kind - 8)
		case kind >= 13 && kind%2 == 1:
			length = int(kind-13) / 2
			value = string(values[:length])
		case kind >= 12:
			length = int(kind-12) / 2
		}
		values = values[length:]
		columns = append(columns, value)
	}
	return columns, true
}

// varint decodes one of SQLite's integers of variable length, and returns how many bytes it took.
func varint(data []byte) (value uint64, n int) {
	for n < 8 {
		b := data[n]
		n++
		value = value<<7 | uint64(b&0x7f)
		if b < 0x80 {
			return value, n
		}
	}
	return value<<8 | uint64(data[8]), 9
}
