package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"example.com/roster/client"
	"example.com/roster/directory"
	"example.com/roster/internal/printable"
)

// userFlags are the fields of a user on the command line.
type userFlags struct {
	name, email string
	age         int
}

func (f *userFlags) table(group string) []flagRow {
	return []flagRow{
		{group, "name", into(&f.name, "", nil), fmt.Sprintf("name, 1 to %d bytes", directory.MaxNameBytes)},
		{group, "age", into(&f.age, 0, checkAge), fmt.Sprintf("age in years, 0 to %d", directory.MaxAge)},
		{group, "email", into(&f.email, "", nil), "e-mail address; it may be empty, and no two users have the same"},
	}
}

func checkAge(age int) error {
	if age < 0 || age > directory.MaxAge {
		return fmt.Errorf("must be a whole number from 0 to %d", directory.MaxAge)
	}
	return nil
}

// checkFlag is the row of the commands that can do everything but write.
func checkFlag(check *bool) flagRow {
	return flagRow{"", "check", into(check, false, nil), "do everything but write: print what it would be"}
}

// printRecords writes a table of users with their ids.
func printRecords(w io.Writer, users []client.Record, header bool) error {
	return printTable(w, func(table io.Writer) {
		if header {
			fmt.Fprintln(table, "ID\tNAME\tAGE\tEMAIL")
		}
		for _, u := range users {
			fmt.Fprintf(table, "%d\t%s\t%d\t%s\n", u.ID, printable.Line(u.Name), u.Age, printable.Line(u.Email))
		}
	})
}

// printTable writes a table, whose cells end with tabs, at once.
func printTable(w io.Writer, rows func(table io.Writer)) error {
	const columnGap = 2
	var text bytes.Buffer // a table is written cell by cell
	table := tabwriter.NewWriter(&text, 0, 0, columnGap, ' ', 0)
	rows(table)
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := w.Write(text.Bytes())
	return err
}

// printRecord writes one user as the flags say.
func (f *callFlags) printRecord(w io.Writer, user client.Record) error {
	if f.output == outputJSON {
		return printJSON(w, user)
	}
	return printRecords(w, []client.Record{user}, true)
}

// parseID returns the one id of a command line.
func parseID(text string) (int32, error) {
	id, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, usage("%q is not an id: ids are whole numbers from -2147483648 to 2147483647", text)
	}
	return int32(id), nil
}

// A jsonArray writes an array element by element, so that it may have any length.
type jsonArray struct {
	w     io.Writer
	begun bool
}

func (a *jsonArray) add(v any) error {
	var text bytes.Buffer
	if err := printJSON(&text, v); err != nil {
		return err
	}
	before := ",\n"
	if !a.begun {
		before, a.begun = "[\n", true
	}
	lines := bytes.TrimSuffix(text.Bytes(), []byte("\n"))
	_, err := fmt.Fprintf(a.w, "%s  %s", before, bytes.ReplaceAll(lines, []byte("\n"), []byte("\n  ")))
	return err
}

func (a *jsonArray) end() error {
	text := "\n]\n"
	if !a.begun {
		text = "[]\n"
	}
	_, err := io.WriteString(a.w, text)
	return err
}
