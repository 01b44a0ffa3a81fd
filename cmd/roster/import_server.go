package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"example.com/roster/client"
	"example.com/roster/directory/userfile"
	"example.com/roster/internal/printable"
)

// maxJumps is how many places are kept at which the lines of a file and the rows that were sent part.
const maxJumps = 10_000

// serverImport is one run of roster import --server.
type serverImport struct {
	*importing
	directory *client.Directory
	rows      int64 // read of the file, bad ones included
	sent      int64 // in the present change
	began     time.Time
	ended     bool // the file
	// jumps say on which lines rows were: of a row the last jump before it counts.
	jumps []jump
	total client.Imported
}

// A jump is a row that was sent, and its line.
type jump struct{ row, line int64 }

// importToServer is roster import --server of the file called name.
func importToServer(ctx context.Context, cmd *cobra.Command, name string, f *importFlags) error {
	options, err := f.options(name)
	switch {
	case err != nil:
		return err
	case f.maxRemovals != "" && !f.mirror:
		return usage("--max-removals is for --mirror")
	case f.mirror && f.skip():
		return usage("--mirror takes no --on-bad-row skip: it would remove the users whose rows are bad")
	case f.mirror && (f.batchRows > 0 || f.skipRows > 0):
		return usage("--mirror is one change of the whole file: it takes no --batch-rows and no --skip-rows")
	case f.mirror && !f.check && f.maxRemovals == "":
		return usage("--mirror removes users: say with --max-removals how many it may; --check says how many it would")
	case f.rejected != "":
		return usage("--rejected is for a store: a server says which rows it refuses, by their lines")
	}
	input, err := openInput(ctx, cmd, name)
	if err != nil {
		return err
	}
	defer input.close()
	// An import under way keeps other writers waiting, and --mirror may read twice.
	if err := input.spool(ctx, cmd.ErrOrStderr(), name); err != nil {
		return err
	}
	return f.toServer.connect(func(c *client.Client) error {
		i := &serverImport{importing: &importing{ctx: ctx, flags: f, options: options, name: name, stderr: cmd.ErrOrStderr(), removals: unlimited},
			directory: c.Directory(), began: time.Now()}
		if f.mirror && !f.check {
			return i.mirror(input)
		}
		return i.all(input)
	})
}

// all imports the file, as one change or as several.
func (i *serverImport) all(in *input) error {
	if err := i.begin(in); err != nil {
		return err
	}
	next, stop := iter.Pull2(i.users())
	defer stop()
	for skipped := 0; skipped < i.flags.skipRows; skipped++ {
		if _, err, more := next(); err != nil || !more {
			return errors.Join(err, usage("--skip-rows %d: %s has only %d rows", i.flags.skipRows, i.name, skipped))
		}
	}
	for first := true; first || !i.ended; first = false {
		done, err := i.change(next, client.ImportOptions{Atomic: !i.flags.skip(), Mirror: i.flags.mirror, ValidateOnly: i.flags.check})
		if err != nil {
			return i.failed(err)
		}
		i.add(done)
	}
	return i.tell()
}

// mirror imports a file that is to be all that the directory has. What it would remove is counted first:
// the protocol has no way to say that nothing may be removed.
func (i *serverImport) mirror(in *input) error {
	most, _ := strconv.ParseInt(i.flags.maxRemovals, 10, 64) // wholeNumber has checked it
	options := client.ImportOptions{Atomic: true, Mirror: true, MaxRemovals: most}
	if most == 0 {
		if err := i.begin(in); err != nil {
			return err
		}
		next, stop := iter.Pull2(i.users())
		done, err := i.change(next, client.ImportOptions{Atomic: true, Mirror: true, ValidateOnly: true})
		stop()
		if err != nil {
			return i.failed(err)
		}
		if done.Removed > 0 {
			return fmt.Errorf("%s does not have %s of %s, and --max-removals allows only 0; nothing was imported",
				i.name, quantity(done.Removed, "user", "users"), i.flags.toServer.server)
		}
		options.Mirror = false // there is nothing to remove
		i.rows, i.ended, i.silent, i.badRows = 0, false, true, 0
		if err := in.rewind(); err != nil {
			return err
		}
	}
	if err := i.begin(in); err != nil {
		return err
	}
	next, stop := iter.Pull2(i.users())
	defer stop()
	done, err := i.change(next, options)
	if err != nil {
		return i.failed(err)
	}
	i.add(done)
	return i.tell()
}

// change makes one change of the next rows.
func (i *serverImport) change(next func() (client.Record, error, bool), options client.ImportOptions) (client.Imported, error) {
	i.sent, i.jumps = 0, nil
	rows := 0
	return i.directory.Import(i.ctx, options, func(yield func(client.Record, error) bool) {
		for i.flags.batchRows == 0 || rows < i.flags.batchRows {
			user, err, more := next()
			if !more {
				return
			}
			rows++
			if err == nil && user == (client.Record{}) {
				continue // a bad row
			}
			if err == nil {
				i.sent++
				i.mark()
			}
			if !yield(user, err) || err != nil {
				return
			}
		}
	})
}

// mark notes on which line the row is that is sent next.
func (i *serverImport) mark() {
	line := int64(i.reader.Line())
	if n := len(i.jumps); n == 0 || i.jumps[n-1].line-i.jumps[n-1].row != line-i.sent {
		if n < maxJumps {
			i.jumps = append(i.jumps, jump{i.sent, line})
		}
	}
}

// users yields the rows of the file; a bad one, if those are left out, as no user.
func (i *serverImport) users() iter.Seq2[client.Record, error] {
	return func(yield func(client.Record, error) bool) {
		defer func() { i.ended = true }()
		for i.ctx.Err() == nil {
			user, err := i.reader.Next()
			row := (*userfile.RowError)(nil)
			switch {
			case errors.As(err, &row):
				if err := i.bad(row); err != nil {
					yield(client.Record{}, err)
					return
				}
			case err != nil && errors.Is(err, io.EOF):
				if i.badRows > 0 && !i.flags.skip() {
					yield(client.Record{}, i.verdict(int(i.sent)))
				}
				return
			case err != nil:
				yield(client.Record{}, fmt.Errorf("%s: %w", i.name, err))
				return
			}
			i.rows++
			if i.rows%1000 == 0 {
				i.bar.Describe(fmt.Sprintf("%s: %d rows, %.0f rows/s", i.name, i.rows, float64(i.rows)/time.Since(i.began).Seconds()))
			}
			if row != nil {
				if !yield(client.Record{}, nil) {
					return
				}
				continue
			}
			if !yield(client.Record{ID: user.ID, Name: user.Name, Age: user.Age, Email: user.Email}, nil) {
				return
			}
		}
		yield(client.Record{}, i.ctx.Err())
	}
}

// add adds what a change has done, and reports the rows that the server refused.
func (i *serverImport) add(done client.Imported) {
	i.total.Imported += done.Imported
	i.total.Created += done.Created
	i.total.Updated += done.Updated
	i.total.Unchanged += done.Unchanged
	i.total.Removed += done.Removed
	i.total.Refused += done.Refused
	i.total.Position = done.Position
	i.refused(done.RefusedRows)
}

// refused reports rows of the present change that the server has refused.
func (i *serverImport) refused(rows []client.RefusedRow) {
	if len(rows) > 0 {
		i.bar.Clear()
	}
	for n, row := range rows {
		if n == maxBadRows {
			fmt.Fprintf(i.stderr, "%s: more refused rows follow; they are counted\n", i.name)
			break
		}
		fmt.Fprintf(i.stderr, "%s: %s: id %d: %s\n", i.name, i.place(row.Row), row.ID, printable.Line(row.Reason))
	}
}

// place says where in the file a row is that was sent.
func (i *serverImport) place(row int64) string {
	for n := len(i.jumps) - 1; n >= 0; n-- {
		if at := i.jumps[n]; at.row <= row {
			if n == maxJumps-1 && row > at.row {
				break
			}
			return fmt.Sprintf("line %d", at.line+row-at.row)
		}
	}
	return fmt.Sprintf("row %d of those sent", row)
}

// failed says what became of the rows before an error.
func (i *serverImport) failed(err error) error {
	i.bar.Clear()
	if failure := (*client.Error)(nil); errors.As(err, &failure) {
		if rows, all := failure.RefusedRows(); len(rows) > 0 {
			i.refused(rows)
			err = fmt.Errorf("%s: %s cannot be taken: correct the file, or leave bad rows out with --on-bad-row skip", i.name, counted(all, "row"))
			if i.flags.mirror {
				err = fmt.Errorf("%s: %s cannot be taken: correct the file", i.name, counted(all, "row"))
			}
		}
	}
	done := i.total.Imported + i.total.Refused
	switch {
	case i.flags.check:
		return fmt.Errorf("%w; nothing was written", err)
	case i.flags.batchRows > 0 && done > 0:
		whole := int64(i.flags.skipRows) + (i.rows-int64(i.flags.skipRows)-1)/int64(i.flags.batchRows)*int64(i.flags.batchRows)
		return fmt.Errorf("%w\n%s before it were imported: go on with --skip-rows %d", err, quantity(i.total.Imported, "user", "users"), whole)
	}
	if i.sentAll() && mayBeDone(err) {
		return fmt.Errorf("%w; %w", err, errNotKnown)
	}
	return fmt.Errorf("%w; nothing was imported", err)
}

// errNotKnown is that all rows of a change were sent, and no answer came.
var errNotKnown = errors.New("whether the users were imported is not known: import the file again, which changes nobody twice")

// sentAll reports whether all rows of the present change were sent. A change that lacks some is never made.
func (i *serverImport) sentAll() bool {
	rows := i.rows - int64(i.flags.skipRows)
	return i.ended || i.flags.batchRows > 0 && rows > 0 && rows%int64(i.flags.batchRows) == 0
}

// mayBeDone reports whether a call that failed so may have done its work: the connection broke, or
// somebody did not wait for the answer.
func mayBeDone(err error) bool {
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		return false
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeInternal:
		return !connect.IsWireError(err) // which the server itself sends, and then nothing was done
	case connect.CodeCanceled, connect.CodeDeadlineExceeded, connect.CodeUnknown:
		return true
	}
	return false
}

func (i *serverImport) tell() error {
	i.bar.Clear()
	took := time.Since(i.began)
	server := i.flags.toServer.server
	text := fmt.Sprintf("imported %s into %s", quantity(i.total.Imported, "user", "users"), server)
	if i.flags.check {
		text = fmt.Sprintf("%s can be imported into %s: %s", i.name, server, quantity(i.total.Imported, "user", "users"))
	}
	text += fmt.Sprintf(" (%d new, %d changed, %d as they were", i.total.Created, i.total.Updated, i.total.Unchanged)
	if i.flags.mirror {
		text += fmt.Sprintf(", %d removed", i.total.Removed)
	}
	if left := i.total.Refused + int64(i.badRows); left > 0 {
		text += fmt.Sprintf(", %d left out", left)
	}
	fmt.Fprintf(i.stderr, "%s) in %v, %.0f rows/s", text, took.Round(time.Millisecond), float64(i.rows)/took.Seconds())
	if i.flags.check {
		fmt.Fprint(i.stderr, "; nothing was written")
	}
	fmt.Fprintln(i.stderr)
	if i.total.Imported == 0 && i.rows > 0 {
		return fmt.Errorf("%s: no user could be taken from it", i.name)
	}
	return nil
}
