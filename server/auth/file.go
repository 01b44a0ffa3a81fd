package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// document is the content of the file: indented JSON, so that one change is a few lines of a diff.
type document struct {
	Version int     `json:"version"`
	Tokens  []Entry `json:"tokens"`
}

const (
	formatVersion = 1
	// maxFileBytes is enough for about ten thousand entries.
	maxFileBytes = 4 << 20
)

// ReadFile returns the entries of a file. It refuses a file that anybody but its owner and group
// may read, or that anybody but its owner may write.
func ReadFile(path string) ([]Entry, error) {
	entries, _, err := read(path)
	return entries, err
}

// read returns the entries of a file and the state that the file had when it was opened.
func read(path string) ([]Entry, fs.FileInfo, error) {
	content, info, err := load(path)
	if err != nil {
		return nil, info, err
	}
	entries, _, err := parse(content)
	if err != nil {
		return nil, info, fmt.Errorf("token file %s: %w", path, err)
	}
	return entries, info, nil
}

// load returns the content of a file and the state that the file had when it was opened.
func load(path string) ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("there is no token file %s: create it with roster token create --tokens %s: %w", path, path, fs.ErrNotExist)
	case err != nil:
		return nil, nil, fmt.Errorf("token file: %w", err)
	case !info.Mode().IsRegular():
		return nil, info, fmt.Errorf("token file %s: it is not a regular file", path)
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, info, fmt.Errorf("token file %s: this user may not read it: give it to the user or the group that the server runs as", path)
	}
	if err != nil {
		return nil, info, fmt.Errorf("token file: %w", err)
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, fmt.Errorf("token file: %w", err)
	}
	if err := checkMode(path, info.Mode()); err != nil {
		return nil, info, err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, info, fmt.Errorf("token file: %w", err)
	}
	return content, info, nil
}

// parse reads a document and makes a Set of its entries.
func parse(content []byte) ([]Entry, *Set, error) {
	if len(content) > maxFileBytes {
		return nil, nil, fmt.Errorf("it is longer than %d bytes: it is something else", maxFileBytes)
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	var d document
	err := decoder.Decode(&d)
	if err == nil {
		if _, more := decoder.Token(); more != io.EOF {
			err = errors.New("there is more after the end")
		}
	}
	if err != nil {
		return nil, nil, malformed(content, err)
	}
	if d.Version != formatVersion {
		return nil, nil, fmt.Errorf("its version is %d, this Roster supports %d", d.Version, formatVersion)
	}
	set, err := NewSet(d.Tokens)
	return d.Tokens, set, err
}

// malformed adds the line to a JSON error, where it is known.
func malformed(content []byte, err error) error {
	at := -1
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		at = int(syntax.Offset)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		at = len(content)
	}
	if at < 0 {
		return fmt.Errorf("it is malformed: %w", err)
	}
	line := 1 + bytes.Count(content[:min(at, len(content))], []byte("\n"))
	return fmt.Errorf("it is malformed at line %d: %w", line, err)
}

// Update changes the entries of a file. It reads them, calls change, which returns the new ones,
// and replaces the file in one step, so that a reader or a crash sees either the old file or the
// new one. Concurrent updates of files in the same folder wait for each other. If create is set, a
// file that does not exist is created, and only its owner may read it.
func Update(path string, create bool, change func([]Entry) ([]Entry, error)) error {
	// If path is a link, the file that it points to is replaced and not the link.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("token file %s: %w", path, err)
	}
	defer unlock()
	entries, info, err := read(path)
	if err != nil && !(create && info == nil && errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	if entries, err = change(entries); err != nil {
		return err
	}
	if entries == nil {
		entries = []Entry{} // [] and not null
	}
	content, err := json.MarshalIndent(document{formatVersion, entries}, "", "  ")
	if err != nil {
		return err
	}
	content = append(content, '\n')
	if _, _, err := parse(content); err != nil { // a file that parse refuses must not be written
		return fmt.Errorf("token file %s was not changed: %w", path, err)
	}
	if err := replace(path, info, content); err != nil {
		return fmt.Errorf("token file %s was not changed: %w", path, err)
	}
	return nil
}

// replace writes a new file beside path and renames it to path. The new file has the mode and the
// owner of the old one, so that the server can still read it; if there is no old one, only its
// owner may read it.
func replace(path string, old fs.FileInfo, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}()
	if old != nil {
		if err := copyOwnerAndMode(file, old); err != nil {
			return err
		}
	}
	if _, err := file.Write(content); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// NewToken adds a token to entries and returns them, the new entry, and the token itself, which is
// stored nowhere. A zero expires means never.
func NewToken(entries []Entry, name string, role Role, now, expires time.Time) (_ []Entry, made Entry, secret string, err error) {
	secret = newSecret()
	entries, made, err = add(entries, Entry{Name: name, Role: role, SHA256: hashOf(secret)}, now, expires)
	return entries, made, secret, err
}

// NewCertificate adds an entry that gives a role to callers whose client certificate has this
// identity.
func NewCertificate(entries []Entry, name, identity string, role Role, now, expires time.Time) (_ []Entry, made Entry, err error) {
	return add(entries, Entry{Name: name, Role: role, Certificate: identity}, now, expires)
}

func add(entries []Entry, made Entry, now, expires time.Time) ([]Entry, Entry, error) {
	if err := checkName(made.Name); err != nil {
		return nil, made, err
	}
	made.Created = now.UTC().Truncate(time.Second)
	if !expires.IsZero() {
		made.Expires = expires.UTC().Truncate(time.Second)
	}
	for made.ID = newID(); taken(entries, made.ID); made.ID = newID() {
	}
	for _, e := range entries {
		switch {
		case e.Name == made.Name || e.ID == made.Name:
			return nil, made, fmt.Errorf("there is an entry %q (%s) already: choose another name, or revoke that one", e.Name, e.ID)
		case made.Certificate != "" && e.Certificate == made.Certificate:
			return nil, made, fmt.Errorf("entry %q (%s) is for that certificate already: revoke it first", e.Name, e.ID)
		}
	}
	return append(entries, made), made, nil
}

func taken(entries []Entry, id string) bool {
	for _, e := range entries {
		if e.ID == id || e.Name == id {
			return true
		}
	}
	return false
}

// Revoke removes the entry with this name or id from entries.
func Revoke(entries []Entry, nameOrID string) (_ []Entry, revoked Entry, err error) {
	for i, e := range entries {
		if e.Name == nameOrID || e.ID == nameOrID {
			return append(entries[:i:i], entries[i+1:]...), e, nil
		}
	}
	return nil, Entry{}, fmt.Errorf("no entry has the name or id %q: roster token list shows those there are", nameOrID)
}
