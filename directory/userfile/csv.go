package userfile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"example.com/roster/directory"
)

// delimiters are what may separate the fields of a CSV file, with their names. The first is the
// default.
var delimiters = []struct {
	char rune
	name string
}{{',', "commas"}, {';', "semicolons"}, {'\t', "tabs"}, {'|', "vertical bars"}}

// csvReader reads the rows of a CSV.
type csvReader struct {
	*Reader
	tape  *tape
	rows  *csv.Reader
	comma byte
	// columns is how many the first line names, at has the column of each field, and unnamed the
	// columns without a name.
	columns int
	at      [len(Fields)]int
	unnamed []int
}

// openCSV reads the first line of a CSV.
func (r *Reader) openCSV(text *bufio.Reader) error {
	comma, err := r.delimiter(text)
	if err != nil {
		return err
	}
	c := &csvReader{Reader: r, tape: newTape(text), comma: byte(comma)}
	// With a buffer of this size package csv adds none of its own.
	c.rows = csv.NewReader(bufio.NewReaderSize(c.tape, sniffBytes))
	c.rows.Comma = comma
	c.rows.ReuseRecord = true
	c.rows.FieldsPerRecord = -1
	if start, err := peek(text); err == nil {
		if start := bytes.TrimLeft(start, " \t\r\n"); len(start) > 1 && (start[0] == '{' || start[0] == '[') {
			return errors.New("the file looks like JSON: say --format json")
		}
	}
	header, err := c.rows.Read()
	switch {
	case err == io.EOF:
		return fmt.Errorf("the file is empty: the first line names the columns %s", fieldList)
	case errors.Is(err, errRowTooLong), errors.As(err, new(*csv.ParseError)):
		return fmt.Errorf("the first line cannot be read: %w: it names the columns %s", err, fieldList)
	case err != nil:
		return err
	}
	raw := c.take()
	if r.end > r.line {
		return fmt.Errorf("the first line has a quote that is not closed in it: it names the columns %s", fieldList)
	}
	r.header = trimLineEnd(raw)
	r.counts.Read++
	r.counts.Header++
	c.columns = len(header)
	names, err := c.resolve(header)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		if !r.options.IgnoreColumns {
			return fmt.Errorf("%s not of %s: leave %s out with --ignore-columns, or say with --columns which field it is",
				plural(names, "is", "are"), fieldList, itOrThem(names))
		}
		r.notes = append(r.notes, plural(names, "is", "are")+" ignored")
	}
	r.nextRow = c.next
	return nil
}

// delimiter finds out what separates the fields: a first line such as "sep=;" says it, as Excel
// writes it and reads it, else the names of the columns show it.
func (r *Reader) delimiter(text *bufio.Reader) (rune, error) {
	line, err := peekLine(text)
	if err != nil {
		return 0, err
	}
	if name := strings.Trim(strings.TrimRight(line, "\r"), `"`); len(name) >= 4 && strings.EqualFold(name[:4], "sep=") {
		for _, d := range delimiters {
			if name[4:] == string(d.char) {
				text.Discard(min(len(line)+1, text.Buffered()))
				r.end++
				r.counts.Read++
				r.counts.Header++
				if d.char != delimiters[0].char {
					r.notes = append(r.notes, "fields are separated by "+d.name)
				}
				return d.char, nil
			}
		}
		return 0, fmt.Errorf("the first line says that fields are separated by %s: only , ; | and a tab can be read", quoted(name[4:]))
	}
	best, most := 0, 0
	for i, d := range delimiters {
		rows := csv.NewReader(strings.NewReader(line))
		rows.Comma = d.char
		header, err := rows.Read()
		if err != nil {
			continue
		}
		found := 0
		for _, field := range Fields {
			if at, _ := find(header, r.options.column(field)); at >= 0 {
				found++
			}
		}
		if found > most {
			best, most = i, found
		}
	}
	if best > 0 {
		r.notes = append(r.notes, "fields are separated by "+delimiters[best].name)
	}
	return delimiters[best].char, nil
}

// column returns the name of the column or key that holds a field.
func (o *Options) column(field string) string {
	if name := o.Columns[field]; name != "" {
		return name
	}
	return field
}

// find returns where in names the one is that means name, -1 if none does. Case and spaces around a
// name do not count; if that finds none, neither does anything but letters and digits, so that E-mail
// is email. It is an error if two of names mean the same.
func find(names []string, name string) (int, error) {
	for _, same := range []func(a, b string) bool{
		func(a, b string) bool { return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b)) },
		func(a, b string) bool { return simplified(a) != "" && simplified(a) == simplified(b) },
	} {
		at := -1
		for i := range names {
			if !same(names[i], name) {
				continue
			}
			if at >= 0 {
				return -1, fmt.Errorf("%s appears twice, as %s and %s", quoted(name), quoted(names[at]), quoted(names[i]))
			}
			at = i
		}
		if at >= 0 {
			return at, nil
		}
	}
	return -1, nil
}

// resolve finds the columns of the fields, and returns the names of those that hold none.
func (c *csvReader) resolve(header []string) (others []string, err error) {
	used := make(map[int]bool)
	var missing []string
	for i, field := range Fields {
		name := c.options.column(field)
		at, err := find(header, name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("column %w", err)
		case at < 0:
			missing = append(missing, name)
			continue
		case used[at]:
			return nil, fmt.Errorf("column %s is used for two fields: see --columns", quoted(name))
		}
		c.at[i] = at
		used[at] = true
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s missing: the first line must name %s, and has %s; if a column has another name, say so with --columns %s=NAME",
			plural(missing, "is", "are"), fieldList, quoted(strings.Join(header, string(rune(c.comma)))), missing[0])
	}
	for i, name := range header {
		switch {
		case used[i]:
		case strings.TrimSpace(name) == "":
			c.unnamed = append(c.unnamed, i)
		default:
			others = append(others, strings.TrimSpace(name))
		}
	}
	for i, field := range Fields {
		for _, other := range others {
			if c.options.Columns[field] == "" && simplified(other) == field {
				return nil, fmt.Errorf("column %s appears twice, as %s and %s: say which it is with --columns %s=NAME",
					quoted(field), quoted(header[c.at[i]]), quoted(other), field)
			}
		}
	}
	return others, nil
}

// take sets line and end to those of the row that was just read, and returns its text. Empty lines
// before it, which package csv passes over, are counted as blank.
func (c *csvReader) take() []byte {
	raw := c.tape.row(c.rows.InputOffset())
	for len(raw) > 0 {
		rest := bytes.TrimPrefix(raw, []byte("\r"))
		if len(rest) > 0 && rest[0] != '\n' {
			break
		}
		raw = rest[min(1, len(rest)):]
		c.end++
		c.blank(1)
	}
	c.line = c.end + 1
	c.end += countLines(raw)
	if c.options.KeepText {
		c.text = trimLineEnd(raw)
	}
	return raw
}

func (c *csvReader) next() (user directory.User, bad bool, err error) {
	for {
		row, err := c.rows.Read()
		if err == io.EOF {
			c.take()
			return user, false, err
		}
		if errors.Is(err, errRowTooLong) {
			return user, false, fmt.Errorf("after line %d: %w", c.end, err)
		}
		wrong := (*csv.ParseError)(nil)
		if err != nil && !errors.As(err, &wrong) {
			return user, false, err
		}
		raw := c.take()
		if wrong != nil {
			if c.end > c.line {
				return user, false, fmt.Errorf("line %d: a quote is opened and does not end where a field does: lines %d to %d cannot be told apart, "+
					"correct line %d", c.line, c.line, c.end, c.line)
			}
			return user, true, fmt.Errorf("column %d: %w", wrong.Column, wrong.Err)
		}
		if c.end > c.line {
			if at := c.swallowed(raw); at > 0 {
				return user, false, fmt.Errorf("line %d: a quote is opened, and line %d, which looks like a row, is inside it: correct line %d",
					c.line, c.line+at, c.line)
			}
		}
		if allBlank(row) {
			c.blank(c.end - c.line + 1)
			continue
		}
		if err := c.checkColumns(row); err != nil {
			return user, true, err
		}
		user = directory.User{Name: row[c.at[1]], Email: row[c.at[3]]}
		if user.ID, err = number("id", row[c.at[0]]); err == nil {
			user.Age, err = c.options.age(row[c.at[2]])
		}
		return user, err != nil, err
	}
}

// checkColumns returns what is wrong with the number of a row's fields. Fields that belong to no
// column, or to one without a name, may be there or not, as long as they are empty.
func (c *csvReader) checkColumns(row []string) error {
	for i := len(row); i < c.columns; i++ {
		if !contains(c.unnamed, i) {
			return fmt.Errorf("%d columns, the first line has %d", len(row), c.columns)
		}
	}
	for i := c.columns; i < len(row); i++ {
		if strings.TrimSpace(row[i]) != "" {
			return fmt.Errorf("%d columns, the first line has %d", len(row), c.columns)
		}
	}
	for _, i := range c.unnamed {
		if i < len(row) && strings.TrimSpace(row[i]) != "" {
			return fmt.Errorf("column %d holds %s, and has no name in the first line", i+1, quoted(row[i]))
		}
	}
	return nil
}

// swallowed returns which line of a row of several lines, counted from 0, looks like a row itself:
// it has as many fields as the first line of the file, and a number for the id. No field of a user
// has a line break in it, but one of a column that is ignored may.
func (c *csvReader) swallowed(raw []byte) int {
	for i, line := range bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n")) {
		fields := bytes.Split(line, []byte{c.comma})
		if i == 0 || len(fields) < c.columns-len(c.unnamed) {
			continue
		}
		id := strings.Trim(string(bytes.TrimSpace(fields[c.at[0]])), `"`)
		if _, err := number("id", id); err == nil {
			return i
		}
	}
	return 0
}

func allBlank(row []string) bool {
	for _, field := range row {
		if strings.TrimSpace(field) != "" {
			return false
		}
	}
	return true
}

func contains(list []int, n int) bool {
	for _, m := range list {
		if m == n {
			return true
		}
	}
	return false
}

// countLines counts lines, the last one also without a line end.
func countLines(text []byte) int {
	n := bytes.Count(text, []byte("\n"))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n++
	}
	return n
}

func trimLineEnd(text []byte) string {
	return string(bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r")))
}

// plural returns `column "a" is` or `columns "a", "b" are`.
func plural(names []string, one, many string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = quoted(name)
	}
	if len(list) == 1 {
		return "column " + list[0] + " " + one
	}
	return "columns " + strings.Join(list, ", ") + " " + many
}

func itOrThem(names []string) string {
	if len(names) == 1 {
		return "it"
	}
	return "them"
}

// quoted returns text for a message: quoted, and cut if it is long.
func quoted(text string) string {
	const most = 80
	if len(text) <= most {
		return strconv.Quote(text)
	}
	return strconv.Quote(strings.ToValidUTF8(text[:most], "")) + "…"
}
