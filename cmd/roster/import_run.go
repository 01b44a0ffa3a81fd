package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/directory/userfile"
)

// maxBadRows is how many bad rows are reported one by one.
const maxBadRows = 20

// importing is one run of roster import.
type importing struct {
	ctx      context.Context
	flags    *importFlags
	options  userfile.Options
	name     string // of the file
	stderr   io.Writer
	removals int64 // how many users --mirror may remove
	silent   bool  // whether bad rows and notes have been told already

	reader   *userfile.Reader
	bar      *progressbar.ProgressBar
	rejected *rejectedFile
	badRows  int
	// duplicates is the lines, or objects, that the reader took and the store refused.
	duplicates int
	objects    bool // whether the file is counted by objects
	removed    int64
}

// write imports the file.
func (i *importing) write(in *input) error {
	if err := i.begin(in); err != nil {
		return err
	}
	store, err := openStore(i.ctx, i.flags.store, i.flags.create, i.warn, i.warn)
	if err != nil {
		return err
	}
	defer store.Close()
	began := time.Now()
	stored, err := i.run(in, store, nil)
	if err != nil {
		return fmt.Errorf("%w; nothing was imported", err)
	}
	done := fmt.Sprintf("imported %s into %s", quantity(int64(stored), "user", "users"), redactStore(i.flags.store))
	if i.flags.mirror {
		done += fmt.Sprintf(" and removed %s", quantity(i.removed, "other", "others"))
	}
	took := time.Since(began)
	fmt.Fprintf(i.stderr, "%s in %v, %.0f rows/s %s\n", done, took.Round(time.Millisecond),
		float64(stored+i.badRows)/took.Seconds(), i.account("taken", "left out"))
	i.afterwards()
	return nil
}

// errChecked ends an import that was only to be checked.
var errChecked = errors.New("checked")

// check does everything that write does, but in a copy of the store, so that it neither writes to the
// real one nor makes others wait for it.
func (i *importing) check(in *input) error {
	if err := i.begin(in); err != nil {
		return err
	}
	real, err := i.openExisting()
	if err != nil {
		return err
	}
	if real != nil {
		defer real.Close()
	}
	stored, err := i.rehearse(in, real)
	if err != nil {
		return fmt.Errorf("%w; nothing was written", err)
	}
	done := fmt.Sprintf("%s can be imported: %s", i.name, quantity(int64(stored), "user", "users"))
	if i.flags.mirror {
		done += fmt.Sprintf(", and %s would be removed from %s", quantity(i.removed, "other", "others"), redactStore(i.flags.store))
	}
	fmt.Fprintf(i.stderr, "%s %s; nothing was written\n", done, i.account("good", "bad"))
	i.afterwards()
	return nil
}

// rehearse imports into a copy of the real store, which may be nil, and rolls back.
func (i *importing) rehearse(in *input, real directory.Store) (stored int, err error) {
	folder, err := os.MkdirTemp("", "roster-check-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	copied := filepath.Join(folder, "check.db")
	if real != nil {
		if _, err := sqlite.Backup(i.ctx, storePath(i.flags.store), copied, false); err != nil {
			return 0, fmt.Errorf("copy the store, to check the import in the copy: %w", err)
		}
	}
	temporary, err := sqlite.Open(i.ctx, copied)
	if err != nil {
		return 0, err
	}
	defer temporary.Close()
	stored, err = i.run(in, temporary, errChecked)
	if errors.Is(err, errChecked) {
		err = nil
	}
	return stored, err
}

// openExisting opens the store, but does not create it: nil if there is none.
func (i *importing) openExisting() (directory.Store, error) {
	if _, err := os.Stat(storePath(i.flags.store)); errors.Is(err, os.ErrNotExist) && i.flags.create {
		return nil, nil
	}
	return openStore(i.ctx, i.flags.store, false, i.warn, i.warn)
}

// warn prints what somebody should know of the store.
func (i *importing) warn(text string) { fmt.Fprintf(i.stderr, "warning: %s\n", text) }

// confirmRemovals rehearses an import and asks whether the users that it would remove may go. The
// store is not locked while somebody thinks about it: afterwards no more than those may be removed.
func (i *importing) confirmRemovals(cmd *cobra.Command, in *input) error {
	if err := i.begin(in); err != nil {
		return err
	}
	real, err := i.openExisting()
	if err != nil {
		return err
	}
	var users int64
	if real != nil {
		defer real.Close()
		if users, err = real.Count(i.ctx); err != nil {
			return err
		}
	}
	if _, err := i.rehearse(in, real); err != nil {
		return fmt.Errorf("%w; nothing was imported", err)
	}
	i.removals = i.removed
	if i.removed > 0 {
		fmt.Fprintf(i.stderr, "%s does not have %d of the %s in %s. Remove them? [y/N] ",
			i.name, i.removed, quantity(users, "user", "users"), redactStore(i.flags.store))
		answer, err := waitFor(i.ctx, func() (string, error) {
			line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
			if err == io.EOF {
				err = nil
			}
			return line, err
		})
		if err != nil {
			return err
		}
		if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
			return fmt.Errorf("%s: not confirmed; nothing was imported", i.name)
		}
	}
	i.silent = true
	i.badRows, i.duplicates, i.removed = 0, 0, 0
	return in.rewind()
}

// begin begins to read the file.
func (i *importing) begin(in *input) error {
	i.bar = newProgressBar(i.stderr, in.size, i.name)
	reading := progressbar.NewReader(in.Reader, i.bar)
	reader, err := waitFor(i.ctx, func() (*userfile.Reader, error) { return userfile.NewReader(&reading, i.options) })
	if err != nil {
		i.bar.Clear()
		return fmt.Errorf("%s: %w; nothing was imported", i.name, err)
	}
	i.reader, i.objects = reader, reader.Counts().Objects
	if notes := reader.Notes(); len(notes) > 0 && !i.silent {
		i.bar.Clear()
		fmt.Fprintf(i.stderr, "%s: %s\n", i.name, strings.Join(notes, "; "))
	}
	if i.flags.rejected != "" {
		i.rejected = &rejectedFile{path: i.flags.rejected, header: reader.Header()}
	}
	return nil
}

// run imports the file that begin began. The change is not committed if end is set: then that is the error.
func (i *importing) run(in *input, store directory.Store, end error) (stored int, err error) {
	whole := false
	stored, err = importUsers(i.ctx, importJob{store: store, reader: i.reader, bad: i.bad, finish: func(change directory.Import, stored int) (int, error) {
		whole = true
		i.bar.Clear()
		if warning := i.reader.Warning(); warning != "" && !i.silent {
			fmt.Fprintf(i.stderr, "%s: warning: %s\n", i.name, warning)
		}
		stored, err := i.finish(in, change, stored)
		return stored, cmp.Or(err, end)
	}})
	i.bar.Clear()
	if !whole {
		i.rejected.remove() // it would lack the rows that were not read
		if err != nil && i.ctx.Err() == nil {
			err = fmt.Errorf("%s: %w", i.name, err)
		}
	}
	if err != nil && whole && !errors.Is(err, errChecked) {
		i.rejected.tell(i.stderr)
	}
	return stored, err
}

// finish does what can be done once all rows are there, and says whether they may be committed.
func (i *importing) finish(in *input, change directory.Import, stored int) (left int, err error) {
	if i.flags.mirror && i.badRows == 0 && stored > 0 {
		if i.removed, err = change.RemoveOthers(i.ctx); err != nil {
			return stored, err
		}
	}
	taken, err := i.refuseTaken(in, change)
	stored -= taken
	if err == nil {
		err = i.rejected.close()
	}
	if err == nil {
		err = i.verdict(stored)
	}
	if err == nil && i.flags.mirror {
		err = i.checkRemovals()
	}
	return stored, err
}

// takenAtOnce is how many rows whose email is taken are looked for in the file together.
const takenAtOnce = 20_000

// refuseTaken takes the rows whose email is taken out of the change, and reports them. A user whose row was
// taken out has its old email again, which may be that of another row: so it looks again.
func (i *importing) refuseTaken(in *input, change directory.Import) (refused int, err error) {
	for {
		taken, err := change.EmailsTaken(i.ctx, takenAtOnce)
		if err != nil || len(taken) == 0 {
			return refused, err
		}
		rows, err := i.rowsOf(in, taken)
		if err != nil {
			return refused, err
		}
		ids := make([]int32, 0, len(taken))
		for n := range taken {
			id, row := taken[n].ID, rows[taken[n].ID]
			if row == nil {
				return refused, fmt.Errorf("%s changed while it was read", i.name)
			}
			by := ""
			if other := taken[n].Present; other != nil {
				by = fmt.Sprintf(" by id %d", other.ID)
			}
			row.Err = fmt.Errorf("id %d: the %w%s: emails are compared without regard to case", id, errTaken, by)
			if err := i.bad(row); err != nil {
				return refused, err
			}
			ids = append(ids, id)
		}
		if err := change.Undo(i.ctx, ids); err != nil {
			return refused, err
		}
		refused += len(ids)
	}
}

// rowsOf reads the file again, for the rows of these users: of those with the same id, the store has the
// first.
func (i *importing) rowsOf(in *input, users []directory.ChangeError) (map[int32]*userfile.RowError, error) {
	rows := make(map[int32]*userfile.RowError, len(users))
	for n := range users {
		rows[users[n].ID] = nil
	}
	if err := in.rewind(); err != nil {
		return nil, err
	}
	reader, err := userfile.NewReader(in.Reader, i.options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.name, err)
	}
	for found := 0; found < len(rows) && i.ctx.Err() == nil; {
		user, err := reader.Next()
		if errors.As(err, new(*userfile.RowError)) {
			continue
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", i.name, err)
		}
		if row, asked := rows[user.ID]; asked && row == nil {
			rows[user.ID] = &userfile.RowError{Line: reader.Line(), End: reader.End(), Text: reader.Text()}
			found++
		}
	}
	return rows, i.ctx.Err()
}

// bad reports a bad row.
func (i *importing) bad(row *userfile.RowError) error {
	i.badRows++
	switch {
	case !errors.Is(row, errDuplicate) && !errors.Is(row, errTaken):
	case i.objects:
		i.duplicates++
	default:
		i.duplicates += row.End - row.Line + 1
	}
	if !i.silent && i.badRows <= maxBadRows {
		i.bar.Clear()
		fmt.Fprintf(i.stderr, "%s: %v\n", i.name, row)
	} else if !i.silent && i.badRows == maxBadRows+1 {
		i.bar.Clear()
		fmt.Fprintf(i.stderr, "%s: more bad rows follow; they are counted\n", i.name)
	}
	return i.rejected.add(row.Text)
}

// verdict says whether a file that was read to its end may be imported.
func (i *importing) verdict(stored int) error {
	counts := i.reader.Counts()
	switch {
	case i.badRows > 0 && !i.flags.skip():
		return fmt.Errorf("%s: %s: correct the file, or leave bad rows out with --on-bad-row skip %s",
			i.name, quantity(int64(i.badRows), "bad row", "bad rows"), i.account("good", "bad"))
	case stored == 0 && counts.Read > counts.Header:
		return fmt.Errorf("%s: no user could be taken from it %s", i.name, i.account("good", "bad"))
	case stored == 0 && i.flags.mirror:
		return fmt.Errorf("%s has no users: --mirror would remove all others", i.name)
	}
	return nil
}

func (i *importing) checkRemovals() error {
	switch {
	case i.removed <= i.removals:
	case i.flags.maxRemovals == "":
		return fmt.Errorf("%s changed meanwhile: %s would be removed, and only %d were confirmed",
			redactStore(i.flags.store), quantity(i.removed, "user", "users"), i.removals)
	default:
		return fmt.Errorf("%s does not have %s of %s, and --max-removals allows only %d",
			i.name, quantity(i.removed, "user", "users"), redactStore(i.flags.store), i.removals)
	}
	return nil
}

// account returns what became of the lines that were read, which always adds up.
func (i *importing) account(taken, leftOut string) string {
	c := i.reader.Counts()
	if c.Objects {
		return fmt.Sprintf("(objects: %d read = %d %s + %d %s)", c.Read, c.Taken-i.duplicates, taken, c.LeftOut+i.duplicates, leftOut)
	}
	return fmt.Sprintf("(lines: %d read = %d %s + %d %s + %d header + %d blank)",
		c.Read, c.Taken-i.duplicates, taken, c.LeftOut+i.duplicates, leftOut, c.Header, c.Blank)
}

// afterwards tells of what was left out of a file that was imported or checked.
func (i *importing) afterwards() {
	if i.badRows > 0 {
		fmt.Fprintf(i.stderr, "%s: %s left out\n", i.name, quantity(int64(i.badRows), "bad row was", "bad rows were"))
	}
	if c := i.reader.Counts(); c.Read == c.Header {
		fmt.Fprintf(i.stderr, "%s: warning: the file has no rows\n", i.name)
	}
	i.rejected.tell(i.stderr)
}

// quantity returns a number of things.
func quantity(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
