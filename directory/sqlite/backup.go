package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"example.com/roster/directory"
)

// A Summary says what a store has.
type Summary struct {
	Users, Revision int64
	Epoch           string
}

// Backup copies the store at path into the file to, complete and as it is at one moment, while other
// processes may read and write it. The copy is one file, readable and writable by this user alone,
// and has been checked when it gets its name. If the file exists, it is replaced only if overwrite is
// set, else the error is fs.ErrExist. A backup has an epoch of its own, so that it is another history however it comes back.
func Backup(ctx context.Context, path, to string, overwrite bool) (_ Summary, err error) {
	if err := checkTarget(path, to, overwrite); err != nil {
		return Summary{}, err
	}
	source, err := openToRead(ctx, path, "") // VACUUM INTO counts as a write
	if err != nil {
		return Summary{}, err
	}
	defer source.close()
	copied, err := newTemporary(to, "")
	if err != nil {
		return Summary{}, fmt.Errorf("make the backup: %w", err)
	}
	defer os.Remove(copied)
	// SQLite writes to the temporary file, which is empty, one consistent state. It reads all pages.
	if _, err := source.db.ExecContext(ctx, "VACUUM INTO ?", copied); err != nil {
		return Summary{}, describeCopy(path, copied, err)
	}
	made, err := finishCopy(ctx, copied)
	if err != nil {
		return Summary{}, fmt.Errorf("the backup %s: %w", to, err)
	}
	if err := putInPlace(copied, to, overwrite); err != nil {
		return Summary{}, err
	}
	return made, nil
}

// describeCopy is describe for an error of one of two files.
func describeCopy(path, copied string, err error) error {
	if isDamaged(err) {
		return describe(path, err)
	}
	return describe(copied, err)
}

// journals are what SQLite puts beside a file, by its name alone: the write-ahead log, and the journal
// that it has before there is a log. Both are applied to whatever file has the name.
var journals = []string{"-wal", "-journal"}

// leftJournal returns the name of a journal beside the file at path that is not empty.
func leftJournal(path string) string {
	for _, suffix := range journals {
		if info, err := os.Stat(path + suffix); err == nil && info.Size() > 0 {
			return path + suffix
		}
	}
	return ""
}

// checkTarget refuses a name for a backup that is taken, or that another store uses.
func checkTarget(path, to string, overwrite bool) error {
	info, err := os.Stat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a directory: give the name of a file in it, such as %s", to, filepath.Join(to, "backup.db"))
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", to)
	}
	name := filepath.Join(followLinks(absolute(filepath.Dir(to))), filepath.Base(to))
	for _, suffix := range []string{"", "-wal", "-shm", "-journal", lockSuffix} {
		ours := followLinks(absolute(path)) + suffix
		if same, statErr := os.Stat(ours); err == nil && statErr == nil && os.SameFile(info, same) {
			return fmt.Errorf("%s is the store itself, or a part of it: give another name", to)
		}
		if suffix != "" && name == ours {
			return fmt.Errorf("%s is a name that the store itself uses: give another one", to)
		}
	}
	if err == nil && !overwrite {
		return nameTaken(to)
	}
	if err := checkUnused(to); err != nil {
		return err
	}
	if left := leftJournal(to); left != "" {
		return fmt.Errorf("%s is beside %s, and would be taken for changes of the backup: give another name", left, to)
	}
	return nil
}

// checkUnused refuses to replace a file that is a store which a process has open.
func checkUnused(path string) error {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil // there is no file, or only a link is replaced
	}
	lock, err := takeLock(path, true)
	if errors.Is(err, errInUse) {
		return inUse(path, 0)
	}
	lock.release()
	return err
}

func nameTaken(name string) error { return fmt.Errorf("%s: %w", name, fs.ErrExist) }

func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}

// newTemporary makes an empty file beside name, where it can be renamed to it. Its owner is that of
// like, if that is a file.
func newTemporary(name, like string) (string, error) {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.tmp") // mode 0600
	if err != nil {
		return "", err
	}
	if like != "" {
		giveTo(file.Name(), like)
	}
	return file.Name(), file.Close()
}

// checkOurs returns an error unless the file is a store whose schema this program knows.
func checkOurs(ctx context.Context, db *sql.DB) error {
	ours, err := isOurs(ctx, db)
	if err == nil && !ours {
		err = errEmpty
	}
	if err != nil {
		return err
	}
	return checkSchema(ctx, db, false, false)
}

// finishCopy makes the file at path, which nobody else uses, a store of its own: a new epoch, no log. Its
// revision and its history stay. It checks all of it, and makes it durable.
func finishCopy(ctx context.Context, path string) (s Summary, err error) {
	db := open(path, "_journal_mode=DELETE&_synchronous=FULL")
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := checkOurs(ctx, db); err != nil {
		return s, describe(path, err)
	}
	if err := checkPages(ctx, db); err != nil {
		return s, describe(path, err)
	}
	epoch, err := readEpoch(ctx, db)
	if err != nil {
		return s, describe(path, err)
	}
	if epoch != "" { // else its schema has none: it gets one when it is opened
		_, err := db.ExecContext(ctx, `UPDATE directory SET epoch = lower(hex(randomblob(16))), `+newMark+`, closed = 1 WHERE one = 1`)
		if err != nil {
			return s, describe(path, err)
		}
	}
	if s, err = summarise(ctx, db); err != nil {
		return s, describe(path, err)
	}
	if err := db.Close(); err != nil {
		return s, describe(path, err)
	}
	return s, syncFile(path)
}

// checkPages fails unless SQLite finds every page in order.
func checkPages(ctx context.Context, from querier) error {
	var found string
	if err := from.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("is damaged: %s", found)
	}
	return nil
}

func summarise(ctx context.Context, from querier) (s Summary, err error) {
	err = from.QueryRowContext(ctx, "SELECT revision, (SELECT count(*) FROM users) FROM directory WHERE one = 1").Scan(&s.Revision, &s.Users)
	if err != nil {
		return s, err
	}
	s.Epoch, err = readEpoch(ctx, from)
	return s, err
}

func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// putInPlace gives a finished file its name.
func putInPlace(temporary, name string, overwrite bool) error {
	if !overwrite {
		// A link fails if the name has been taken meanwhile. Some file systems have none.
		err := os.Link(temporary, name)
		if err == nil {
			return syncFolder(filepath.Dir(name))
		}
		if errors.Is(err, fs.ErrExist) {
			return nameTaken(name)
		}
	}
	if err := os.Rename(temporary, name); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(name))
}

// A Restored says what Restore did.
type Restored struct {
	Summary
	// Kept is where the store is that was there before, empty if there was none.
	Kept string
}

// Restore puts a copy of the backup in the place of the store at path, with an epoch of its own. It
// refuses a backup that is not whole, and a store that any process has open. The store before, with
// its log if it was not closed, gets another name beside it.
func Restore(ctx context.Context, backup, path string) (r Restored, err error) {
	if err := checkPath(path); err != nil {
		return r, err
	}
	if err := checkBackup(ctx, backup, path); err != nil {
		return r, err
	}
	path = followLinks(path)
	lock, err := takeLock(path, true)
	switch {
	case errors.Is(err, errInUse):
		return r, inUse(path, 0)
	case err != nil:
		return r, err
	case lock == nil:
		return r, fmt.Errorf("%w: %s%s cannot be locked: its directory must be writable by this user, on a file system that has locks",
			directory.ErrReadOnly, path, lockSuffix)
	}
	defer lock.release()
	// Other programs do not know the lock, and neither do old versions of this one.
	if pid, err := holder(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	} else if pid != 0 {
		return r, inUse(path, pid)
	}
	like := path
	if _, err := os.Stat(path); err != nil {
		like = filepath.Dir(path)
	}
	copied, err := newTemporary(path, like)
	if err != nil {
		return r, fmt.Errorf("make a copy of the backup: %w", err)
	}
	defer os.Remove(copied)
	if err := copyInto(ctx, copied, backup); err != nil {
		return r, fmt.Errorf("make a copy of the backup: %w", err)
	}
	if r.Summary, err = finishCopy(ctx, copied); err != nil {
		return r, fmt.Errorf("the backup %s: %w", backup, err)
	}
	if r.Kept, err = putAside(path, time.Now()); err != nil {
		return r, fmt.Errorf("keep the store that is there: %w", err)
	}
	// A journal does not say to which file it belongs, so it must not be there with the restored one. The
	// old file goes before it: without its journal it may be half of a change, which nobody would notice.
	if _, err := os.Lstat(path + "-journal"); err == nil {
		if err := errors.Join(removeIfThere(path), removeIfThere(path+"-journal"), syncFolder(filepath.Dir(path))); err != nil {
			return r, err
		}
	}
	if err := os.Rename(copied, path); err != nil {
		return r, err
	}
	// Only now: until here, the log still belongs to the file. If this is interrupted, the store is
	// not opened until the log has been moved away.
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := removeIfThere(path + suffix); err != nil {
			return r, err
		}
	}
	return r, syncFolder(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func inUse(path string, pid int) error {
	who := "another process"
	if pid != 0 {
		who = fmt.Sprintf("process %d", pid)
	}
	return fmt.Errorf("%s is in use: %s has it open. Stop every roster serve and every other program that uses it, and try again", path, who)
}

// checkBackup refuses a file that lacks what its log has, or that is the store itself.
func checkBackup(ctx context.Context, backup, path string) error {
	info, err := os.Stat(backup)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", backup)
	}
	if now, err := os.Stat(path); err == nil && os.SameFile(info, now) {
		return fmt.Errorf("%s is the store itself: name the backup", backup)
	}
	if log := leftJournal(followLinks(backup)); log != "" {
		return fmt.Errorf("%s is not a finished backup: its latest changes are in the log beside it (%s). "+
			"If it is a store that was not closed, make a backup of it first: roster backup FILE --store %s", backup, log, backup)
	}
	db := open(backup, "immutable=1&mode=ro&_query_only=1")
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := checkOurs(ctx, db); err != nil {
		return fmt.Errorf("the backup: %w", describe(backup, err))
	}
	var closed bool
	if err := db.QueryRowContext(ctx, "SELECT closed FROM directory WHERE one = 1").Scan(&closed); err == nil && !closed {
		return fmt.Errorf("%s may be incomplete: it was copied while it was served, and not by roster backup, or has lost its log. "+
			"If you know that it is whole, put it into the place of the store yourself: mv, once nothing has the store open", backup)
	}
	return nil
}

func copyInto(ctx context.Context, to, from string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	_, err = io.Copy(target, contextReader{ctx, source})
	return err
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// putAside gives the store at path, and its log or journal, a second name, and returns it; empty if there is
// neither. The first name stays, so that the store can be replaced in one step.
func putAside(path string, now time.Time) (kept string, err error) {
	name := path + ".before-" + now.UTC().Format("20060102T150405.000Z")
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		if _, err := os.Stat(path + suffix); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Link(path+suffix, name+suffix); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return "", err
			}
			// A file system without links.
			if err := os.Rename(path+suffix, name+suffix); err != nil {
				return "", err
			}
		}
		kept = name
	}
	return kept, nil
}
