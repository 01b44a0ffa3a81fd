package directory

import (
	"bytes"
	"fmt"
	"strings"
)

// A Rendering encodes a user as its callers get it, so that it is encoded once, when it enters the
// cache, and not for every call. It appends the encoding to dst and returns dst. Epoch is that of the
// record's revision, as [Etag] takes it. It must return the same bytes for the same record and epoch,
// and may be called on several goroutines at once.
type Rendering func(dst []byte, record *Record, epoch string) ([]byte, error)

// A RenderingID names a rendering of one Directory.
type RenderingID int

// maxRenderings is how many renderings a Directory has at most. Each takes its bytes for every user
// in the cache.
const maxRenderings = 8

// A named rendering is one under the name that it was registered by.
type namedRendering struct {
	name   string
	render Rendering
}

// Render has the Directory keep a rendering beside each user, and returns its id for
// [Entry.Rendered]. It empties the cache, so it belongs before the first look-up; calls that are
// running are not disturbed. A name that is registered already keeps its rendering, so that several
// servers may share one Directory. It panics beyond eight names: a program has a fixed set of them.
func (d *Directory) Render(name string, rendering Rendering) RenderingID {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := *d.renderings.Load()
	for id, r := range known {
		if r.name == name {
			return RenderingID(id)
		}
	}
	if len(known) == maxRenderings {
		panic(fmt.Sprintf("directory: %q would be the rendering number %d, the maximum is %d", name, len(known)+1, maxRenderings))
	}
	more := append(known[:len(known):len(known)], namedRendering{name, rendering})
	d.renderings.Store(&more)
	d.dropAll() // what was cached, or is being loaded, lacks it
	return RenderingID(len(known))
}

// An Entry is a user in the cache, with its renderings. It is shared and read only.
type Entry struct {
	record Record
	// all has the renderings one after another. The strings of record are pieces of it, so that
	// keeping both costs little more than keeping one.
	all  string
	ends [maxRenderings]int32 // of each rendering in all
}

// User returns the user. It must not be changed.
func (e *Entry) User() *User { return &e.record.User }

// Record returns the user with its times and revision. It must not be changed.
func (e *Entry) Record() *Record { return &e.record }

// Rendered returns a rendering of the user.
func (e *Entry) Rendered(id RenderingID) string {
	start := int32(0)
	if id > 0 {
		start = e.ends[id-1]
	}
	return e.all[start:e.ends[id]]
}

// newEntry renders a user. It fails if a rendering does, for a string that is not UTF-8 for example,
// which no Store accepts, but which a person with another program might have written.
func newEntry(record *Record, epoch string, renderings []namedRendering) (*Entry, error) {
	e := &Entry{record: *record}
	all := make([]byte, 0, (len(renderings)+1)*(len(record.Name)+len(record.Email)+24))
	for id, r := range renderings {
		var err error
		if all, err = r.render(all, record, epoch); err != nil {
			return nil, fmt.Errorf("encode user %d: %w", record.ID, err)
		}
		e.ends[id] = int32(len(all))
	}
	for _, text := range []string{record.Name, record.Email} {
		if !bytes.Contains(all, []byte(text)) {
			all = append(all, text...)
		}
	}
	e.all = string(all)
	e.record.Name, e.record.Email = within(e.all, record.Name), within(e.all, record.Email)
	return e, nil
}

// within returns part as a piece of all, which has it somewhere.
func within(all, part string) string {
	at := strings.Index(all, part)
	return all[at : at+len(part)]
}
