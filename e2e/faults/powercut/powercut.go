// Package powercut simulates that the power fails under a SQLite database: what was written since the
// last sync of a file is lost, or a part of it. A process that is killed does not lose it, since the
// system keeps what was written in memory.
//
// A program built with the tag roster_power_cut calls Install, which puts a layer between SQLite and its
// files. It keeps beside the database, in FILE.unsynced, what was at each place before it was written,
// and when each file was synced. The program itself works as always. Once all processes that have the
// database open were killed, Cut takes back what no sync had confirmed.
//
// It does not simulate that a file which was created or deleted is there again, or not: SQLite syncs the
// directory for that.
package powercut

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
)

// suffix is that of the file that the layer writes.
const suffix = ".unsynced"

// parts are the endings of the files of a database, by the number that a record has for them.
var parts = []string{"", "-wal", "-journal"}

// What a record is of.
const (
	aWrite  = iota + 1 // also a truncation; the record has what was there before
	syncing            // a sync begins
	synced             // and is done
	deleted
)

// A record is what the layer keeps of one operation; Length bytes follow that were at Offset before, in
// a file of Size bytes.
type record struct {
	Kind, Part   uint8
	Handle       uint64 // of the open file
	Offset, Size int64
	Length       uint32
}

func (r record) append(to []byte, before []byte) []byte {
	r.Length = uint32(len(before))
	to, _ = binary.Append(to, binary.LittleEndian, r) // fails for no value of the type
	return append(to, before...)
}

// An undo is a write that was not synced.
type undo struct {
	record
	before []byte
}

// Lost says what a cut took back.
type Lost struct {
	Writes  int   // that no sync had confirmed
	Bytes   int64 // of those in the files that were other than before
	Dropped int64 // of Bytes: the others had reached the disk by themselves
	Parts   []string
}

func (l Lost) String() string {
	return fmt.Sprintf("%d of %d bytes dropped that were not synced, in %s", l.Dropped, l.Bytes, strings.Join(l.Parts, " and "))
}

// sector is what a disk writes as a whole.
const sector = 512

// Cut takes back the writes to the database at path that were not synced: all of them, or some of their
// sectors, as random says, since a disk may have written any of them. The memory that the processes
// shared gets any content. No process may have the database open.
func Cut(path string, random *rand.Rand) (Lost, error) {
	var lost Lost
	file, err := os.Open(path + suffix)
	if err != nil {
		return lost, fmt.Errorf("the program has no layer for power cuts: %w", err)
	}
	undos, err := unsynced(file)
	file.Close()
	if err != nil {
		return lost, err
	}
	keep := 0.0 // the probability that a sector is kept
	if random.IntN(2) == 0 {
		keep = random.Float64()
	}
	for n, name := range parts {
		if len(undos[n]) == 0 {
			continue
		}
		lost.Writes += len(undos[n])
		before := lost.Bytes
		if err := takeBack(path+name, undos[n], random, keep, &lost); err != nil {
			return lost, err
		}
		if lost.Bytes > before {
			lost.Parts = append(lost.Parts, "the file"+name)
		}
	}
	if shared, err := os.ReadFile(path + "-shm"); err == nil {
		for i := range shared {
			shared[i] = byte(random.Uint32())
		}
		if err := os.WriteFile(path+"-shm", shared, 0o600); err != nil {
			return lost, err
		}
	}
	return lost, os.Remove(path + suffix)
}

// unsynced returns, for each part, the writes that no sync confirmed. A sync confirms the writes that
// were made before it began, through whichever handle.
func unsynced(r io.Reader) (left [][]undo, err error) {
	left = make([][]undo, len(parts))
	began := make(map[uint64]int) // by handle, the number of writes that the sync covers
	all, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	for in := bytes.NewReader(all); ; {
		u := undo{}
		if err := binary.Read(in, binary.LittleEndian, &u.record); err != nil {
			return left, nil // a record that was cut off is of a write that was not made
		}
		if int(u.Part) >= len(parts) || u.Kind == 0 || u.Kind > deleted {
			return nil, fmt.Errorf("the records of what was written are damaged: %+v", u.record)
		}
		u.before = make([]byte, u.Length)
		if _, err := io.ReadFull(in, u.before); err != nil {
			return left, nil
		}
		switch writes := left[u.Part]; u.Kind {
		case aWrite:
			left[u.Part] = append(writes, u)
		case syncing:
			began[u.Handle] = len(writes)
		case synced:
			covered := min(began[u.Handle], len(writes))
			left[u.Part] = writes[covered:]
			for handle := range began { // of other files as well: they are then synced a little less
				began[handle] = max(0, began[handle]-covered)
			}
		case deleted:
			left[u.Part] = nil
		}
	}
}

// takeBack takes back writes to a file, but keeps some sectors of them.
func takeBack(name string, undos []undo, random *rand.Rand, keep float64, lost *Lost) error {
	now, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was created, or deleted, as the program was killed
	}
	if err != nil {
		return err
	}
	old := bytes.Clone(now)
	for n := len(undos) - 1; n >= 0; n-- {
		u := undos[n]
		if int64(len(old)) > u.Size {
			old = old[:u.Size]
		} else {
			old = append(old, make([]byte, u.Size-int64(len(old)))...)
		}
		copy(old[min(u.Offset, u.Size):], u.before)
	}
	then := bytes.Clone(old)
	for at := 0; at < max(len(now), len(old)); at += sector {
		is, was := part(now, at), part(old, at)
		if bytes.Equal(is, was) {
			continue
		}
		size := int64(max(len(is), len(was)))
		lost.Bytes += size
		if random.Float64() >= keep {
			lost.Dropped += size
			continue
		}
		if end := at + len(is); end > len(then) {
			then = append(then, make([]byte, end-len(then))...)
		}
		copy(then[at:], is)
	}
	return os.WriteFile(name, then, 0o600)
}

// part is the sector of a file at an offset, as much as there is.
func part(content []byte, at int) []byte {
	if at >= len(content) {
		return nil
	}
	return content[at:min(at+sector, len(content))]
}
