package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"example.com/roster/directory"
	"example.com/roster/directory/userfile"
)

// importFlags are the flags of roster import.
type importFlags struct {
	store, format, onBadRow, rejected string
	columns                           []string
	create                            bool
	ignoreColumns, check, mirror      bool
	emptyAge, maxRemovals             string

	toServer            callFlags // with a server: none is a store
	batchRows, skipRows int
}

func (f *importFlags) skip() bool { return f.onBadRow == "skip" }

func newImportCommand() *cobra.Command {
	var f importFlags
	command := &cobra.Command{
		Use:   "import FILE",
		Short: "Load users from a CSV, NDJSON or JSON file into a store or a server",
		Long: fmt.Sprintf(`Import loads users from FILE (- for standard input) into the store.

CSV has the columns id,name,age,email, named in its first line, in any order,
separated by commas, semicolons, tabs or vertical bars. NDJSON has one object
with those keys a line, JSON an array of such objects. All may be compressed
with gzip, and be UTF-8 or UTF-16. Other formats are refused by name.

A user has
  id     a whole number from %d to %d
  name   1 to %d bytes, at least one visible character, and no control,
         invisible or direction-changing character
  age    a whole number from 0 to %d (42.0 is 42)
  email  empty, or one e-mail address of at most %d bytes
Spaces around a value do not count. A row has at most 1 MiB.

A user whose id is already in the store is replaced. The import is one change:
if it fails or is interrupted, the store stays as it was. A server that runs on
the store answers with the new users within a second of the end.

A bad row (a field out of bounds, an id that came before, an email that another
user has) is reported with its line. Of rows with the same email the lowest id
has it, unless another user of the store has it. By default one bad row refuses
the whole file; with --on-bad-row skip only the bad rows are left out, and
--rejected keeps them in a file that can be imported once it is corrected. The
lines read, taken and left out are printed and add up. A file with rows of which
none could be taken is a failure.

With --server the users go to a server, over one stream, and it stores them; this
needs a token of the role write, if the server has tokens. With --batch-rows each
so many rows are a change of their own: if one fails, those before it stay, and the
error says with which --skip-rows to go on.

With --mirror the store has the users of the file and no others at the end.
How many are removed is asked for on a terminal, elsewhere --max-removals says
how many may be. What comes from a pipe is kept in a temporary file ($TMPDIR)
until its end, so that nothing waits for it.`,
			math.MinInt32, math.MaxInt32, directory.MaxNameBytes, directory.MaxAge, directory.MaxEmailBytes),
		Example: `  roster import users.csv
  roster import --on-bad-row skip --rejected bad.csv --store people.db users.csv
  roster import --columns id=employee_no,email=mail --ignore-columns staff.csv
  roster import --check --mirror users.csv
  roster import --mirror --max-removals 50 users.json.gz
  roster import --server https://roster.example.com --token @token users.csv
  psql -c "COPY users TO STDOUT CSV HEADER" | roster import --format csv -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("import takes one FILE, got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var err error
			// A --store of the command line wins over a ROSTER_SERVER of the environment.
			storeGiven := cmd.Flags().Changed("store") && os.Getenv(environmentName("store")) == ""
			switch serverByEnvironment := f.toServer.server == os.Getenv(environmentName("server")); {
			case f.toServer.server != "" && storeGiven && !serverByEnvironment:
				return usage("--store and --server exclude each other")
			case f.toServer.server != "" && !storeGiven:
				err = importToServer(ctx, cmd, args[0], &f)
			case f.batchRows > 0 || f.skipRows > 0:
				return usage("--batch-rows and --skip-rows go with --server: an import into a store is one change")
			default:
				err = runImport(ctx, cmd, args[0], &f)
			}
			if err != nil && (ctx.Err() != nil || errors.Is(err, context.Canceled)) {
				if f.batchRows > 0 || errors.Is(err, errNotKnown) {
					return err // which says how far it got
				}
				return fmt.Errorf("%s: interrupted; nothing was imported", args[0])
			}
			return err
		},
	}
	rows := []flagRow{
		{"", "store", into(&f.store, defaultStore, checkStore), storeHelp},
		createFlag("", &f.create),
		{"", "format", choice(&f.format, "", string(userfile.CSV), string(userfile.NDJSON), string(userfile.JSON)),
			"csv, ndjson or json; by default from the name of FILE"},
		{"", "check", into(&f.check, false, nil), "do everything but write"},
		{"", "columns", into(&f.columns, nil, checkColumns),
			"names of columns or keys that are not the field's own, as FIELD=NAME (id=employee_no); repeatable"},
		{"", "ignore-columns", into(&f.ignoreColumns, false, nil), "leave out columns and keys that are not of a user"},
		{"", "empty-age", into(&f.emptyAge, "", wholeNumber(directory.MaxAge)), "the age of a user without one; by default such a row is bad"},
		{"Bad rows", "on-bad-row", choice(&f.onBadRow, "refuse", "refuse", "skip"),
			"what a bad row does: refuse the whole file, or skip the row"},
		{"Bad rows", "rejected", into(&f.rejected, "", nil), "a new file for the bad rows, which can be corrected and imported"},
		{"Mirror", "mirror", into(&f.mirror, false, nil), "remove the users that the file does not have"},
		{"Mirror", "max-removals", into(&f.maxRemovals, "", wholeNumber(math.MaxInt32)),
			"how many users --mirror may remove; more is a failure, and nothing is written"},
		{serverGroup, "batch-rows", into(&f.batchRows, 0, notBelowZero), "with --server, make each so many rows a change of their own; 0 makes one change of all"},
		{serverGroup, "skip-rows", into(&f.skipRows, 0, notBelowZero), "with --server, leave out so many rows at the beginning, which an import with --batch-rows has done"},
	}
	for _, row := range withoutFlags(f.toServer.table(), "timeout", "output") {
		if row.name == "server" {
			row.setting = into(&f.toServer.server, "", nil)
			row.help = "server to import to instead of a store, written as in roster get"
		}
		row.group = serverGroup
		rows = append(rows, row)
	}
	addFlags(command, rows)
	return command
}

const serverGroup = "To a server"

// wholeNumber returns the check of a flag that is empty or a whole number from 0 to most.
func wholeNumber(most int) func(string) error {
	return func(text string) error {
		if n, err := strconv.ParseUint(text, 10, 31); text != "" && (err != nil || n > uint64(most)) {
			return fmt.Errorf("must be a whole number from 0 to %d", most)
		}
		return nil
	}
}

func checkColumns(columns []string) error {
	given := make(map[string]bool)
	for _, column := range columns {
		field, name, _ := strings.Cut(column, "=")
		switch {
		case !slices.Contains(userfile.Fields[:], field) || strings.TrimSpace(name) == "":
			return usage("--columns %s: want FIELD=NAME, with a FIELD of %s", column, strings.Join(userfile.Fields[:], ", "))
		case given[field]:
			return usage("--columns %s: %s is given twice", column, field)
		}
		given[field] = true
	}
	return nil
}

// options returns how the file is read.
func (f *importFlags) options(name string) (userfile.Options, error) {
	options := userfile.Options{
		Format:        userfile.Format(f.format),
		Columns:       make(map[string]string),
		IgnoreColumns: f.ignoreColumns,
		KeepText:      f.rejected != "",
	}
	for _, column := range f.columns {
		field, name, _ := strings.Cut(column, "=")
		options.Columns[field] = name
	}
	if f.emptyAge != "" {
		age, _ := strconv.ParseInt(f.emptyAge, 10, 32) // wholeNumber has checked it
		options.EmptyAge = new(int32)
		*options.EmptyAge = int32(age)
	}
	var err error
	if options.Format == "" {
		options.Format, err = userfile.FormatOf(name)
	}
	if err != nil {
		return options, usage("%w: say --format csv, ndjson or json", err)
	}
	return options, nil
}

// unlimited is a number of removals that is not bounded.
const unlimited = math.MaxInt64

// runImport is roster import of the file called name.
func runImport(ctx context.Context, cmd *cobra.Command, name string, f *importFlags) error {
	options, err := f.options(name)
	if err != nil {
		return err
	}
	// A confirmation is asked for where a person can give it.
	ask := f.mirror && !f.check && f.maxRemovals == ""
	stdin, _ := cmd.InOrStdin().(*os.File)
	switch {
	case f.maxRemovals != "" && !f.mirror:
		return usage("--max-removals is for --mirror")
	case f.mirror && f.skip():
		return usage("--mirror takes no --on-bad-row skip: it would remove the users whose rows are bad")
	case ask && (name == "-" || stdin == nil || !isTerminal(stdin) || !isTerminal(cmd.ErrOrStderr())):
		return usage("--mirror removes users: say with --max-removals how many it may, since there is no terminal to ask at")
	}
	i := &importing{ctx: ctx, flags: f, options: options, name: name, stderr: cmd.ErrOrStderr(), removals: unlimited}
	if f.maxRemovals != "" {
		i.removals, _ = strconv.ParseInt(f.maxRemovals, 10, 64) // wholeNumber has checked it
	}
	if f.rejected != "" {
		if _, err := os.Lstat(f.rejected); err == nil {
			return fmt.Errorf("--rejected %s exists: remove it, or give another name", f.rejected)
		}
	}
	input, err := openInput(ctx, cmd, name)
	if err != nil {
		return err
	}
	defer input.close()
	// A store that is being written waits for nothing that a pipe has not brought yet. And the file is read
	// again for the lines of rows whose email is taken.
	if err := input.spool(ctx, cmd.ErrOrStderr(), name); err != nil {
		return err
	}
	if f.check {
		return i.check(input)
	}
	if ask {
		if err := i.confirmRemovals(cmd, input); err != nil {
			return err
		}
	}
	return i.write(input)
}
