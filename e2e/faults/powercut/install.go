//go:build roster_power_cut

package powercut

import (
	"os"
	"strings"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// Functions of SQLite's interface to files, as C has them.
type (
	openFunc   = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32
	deleteFunc = func(tls *libc.TLS, vfs, name uintptr, sync int32) int32
	closeFunc  = func(tls *libc.TLS, file uintptr) int32
	readFunc   = func(tls *libc.TLS, file, to uintptr, n int32, offset int64) int32
	writeFunc  = func(tls *libc.TLS, file, from uintptr, n int32, offset int64) int32
	resizeFunc = func(tls *libc.TLS, file uintptr, size int64) int32
	sizeFunc   = func(tls *libc.TLS, file, size uintptr) int32
	syncFunc   = func(tls *libc.TLS, file uintptr, flags int32) int32
)

// at returns the value at an address of C's memory.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// call returns the function that a pointer of C is to.
func call[F any](pointer uintptr) F { return *(*F)(unsafe.Pointer(&struct{ uintptr }{pointer})) }

// kept are functions that C has pointers to, which the garbage collector does not see.
var kept []any

// pointer is the reverse of call.
func pointer[F any](function F) uintptr {
	kept = append(kept, function)
	return *(*uintptr)(unsafe.Pointer(&function))
}

// A layer is what Install puts between SQLite and the system's files.
type layer struct {
	below   *sqlite3.Tsqlite3_vfs
	mu      sync.Mutex
	methods map[uintptr]*methods // by those of the system
	files   map[uintptr]*open
	records map[string]*os.File // by database
}

// methods are those of an open file, with ours in the place of some.
type methods struct {
	ours, below sqlite3.Tsqlite3_io_methods
}

// An open file of a database.
type open struct {
	part    uint8
	records *os.File
	below   *sqlite3.Tsqlite3_io_methods
}

// Install has SQLite write through the layer. It is called before a database is opened.
func Install() {
	tls := libc.NewTLS()
	below := sqlite3.Xsqlite3_vfs_find(tls, 0)
	l := &layer{below: at[sqlite3.Tsqlite3_vfs](below), methods: make(map[uintptr]*methods),
		files: make(map[uintptr]*open), records: make(map[string]*os.File)}
	ours := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(*l.below)))
	vfs := at[sqlite3.Tsqlite3_vfs](ours)
	*vfs = *l.below
	name, err := libc.CString("powercut")
	if err != nil {
		panic(err)
	}
	vfs.FzName, vfs.FpNext = name, 0
	vfs.FxOpen, vfs.FxDelete = pointer[openFunc](l.open), pointer[deleteFunc](l.delete)
	if code := sqlite3.Xsqlite3_vfs_register(tls, ours, 1); code != sqlite3.SQLITE_OK {
		panic("SQLite does not take the layer")
	}
}

// of returns the database and the part of it that a file is.
func of(name string) (database string, part uint8) {
	for n := len(parts) - 1; n > 0; n-- {
		if database, ok := strings.CutSuffix(name, parts[n]); ok {
			return database, uint8(n)
		}
	}
	return name, 0
}

func (l *layer) open(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32 {
	code := call[openFunc](l.below.FxOpen)(tls, vfs, name, file, flags, out)
	const ofDatabase = sqlite3.SQLITE_OPEN_MAIN_DB | sqlite3.SQLITE_OPEN_MAIN_JOURNAL | sqlite3.SQLITE_OPEN_WAL
	if code != sqlite3.SQLITE_OK || name == 0 || flags&ofDatabase == 0 {
		return code
	}
	database, part := of(libc.GoString(name))
	l.mu.Lock()
	defer l.mu.Unlock()
	records := l.recordsOf(database)
	own := &at[sqlite3.Tsqlite3_file](file).FpMethods
	m := l.methods[*own]
	if m == nil {
		m = &methods{below: *at[sqlite3.Tsqlite3_io_methods](*own)}
		m.ours = m.below
		m.ours.FxClose, m.ours.FxWrite = pointer[closeFunc](l.close), pointer[writeFunc](l.write)
		m.ours.FxTruncate, m.ours.FxSync = pointer[resizeFunc](l.truncate), pointer[syncFunc](l.sync)
		l.methods[*own] = m // and never freed, since C has a pointer to it
	}
	*own = uintptr(unsafe.Pointer(&m.ours))
	l.files[file] = &open{part, records, &m.below}
	return code
}

// recordsOf opens the records of a database, to which several processes append.
func (l *layer) recordsOf(database string) *os.File {
	if l.records[database] == nil {
		file, err := os.OpenFile(database+suffix, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		l.records[database] = file
	}
	return l.records[database]
}

func (l *layer) file(file uintptr) *open {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.files[file]
}

func (l *layer) close(tls *libc.TLS, file uintptr) int32 {
	f := l.file(file)
	l.mu.Lock()
	delete(l.files, file)
	l.mu.Unlock()
	return call[closeFunc](f.below.FxClose)(tls, file)
}

func (l *layer) delete(tls *libc.TLS, vfs, name uintptr, sync int32) int32 {
	code := call[deleteFunc](l.below.FxDelete)(tls, vfs, name, sync)
	database, part := of(libc.GoString(name))
	if l.mu.Lock(); code == sqlite3.SQLITE_OK && part > 0 {
		note(l.recordsOf(database), record{Kind: deleted, Part: part}, nil)
	}
	l.mu.Unlock()
	return code
}

func (l *layer) write(tls *libc.TLS, file, from uintptr, n int32, offset int64) int32 {
	f := l.file(file)
	f.before(tls, file, offset, int64(n))
	return call[writeFunc](f.below.FxWrite)(tls, file, from, n, offset)
}

func (l *layer) truncate(tls *libc.TLS, file uintptr, size int64) int32 {
	f := l.file(file)
	f.before(tls, file, size, 1<<40)
	return call[resizeFunc](f.below.FxTruncate)(tls, file, size)
}

func (l *layer) sync(tls *libc.TLS, file uintptr, flags int32) int32 {
	f := l.file(file)
	handle := uint64(os.Getpid())<<48 ^ uint64(file)
	note(f.records, record{Kind: syncing, Part: f.part, Handle: handle}, nil)
	code := call[syncFunc](f.below.FxSync)(tls, file, flags)
	if code == sqlite3.SQLITE_OK {
		note(f.records, record{Kind: synced, Part: f.part, Handle: handle}, nil)
	}
	return code
}

// before keeps up to n bytes that are in a file at an offset. It reads through SQLite's own handle: to
// close another one would release the locks of this process.
func (f *open) before(tls *libc.TLS, file uintptr, offset, n int64) {
	memory := libc.Xmalloc(tls, 8)
	defer libc.Xfree(tls, memory)
	if call[sizeFunc](f.below.FxFileSize)(tls, file, memory) != sqlite3.SQLITE_OK {
		panic("the size of a file of the database cannot be read")
	}
	size := *at[int64](memory)
	var content []byte
	if n = min(n, size-offset); n > 0 {
		to := libc.Xmalloc(tls, libc.Tsize_t(n))
		defer libc.Xfree(tls, to)
		if call[readFunc](f.below.FxRead)(tls, file, to, int32(n), offset) != sqlite3.SQLITE_OK {
			panic("a file of the database cannot be read")
		}
		content = unsafe.Slice(at[byte](to), n)
	}
	note(f.records, record{Kind: aWrite, Part: f.part, Offset: offset, Size: size}, content)
}

// note appends a record in one piece, since other threads and processes do, too.
func note(records *os.File, r record, before []byte) {
	if _, err := records.Write(r.append(nil, before)); err != nil {
		panic(err)
	}
}
