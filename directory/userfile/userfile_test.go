package userfile_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"example.com/roster/directory/userfile"
	"example.com/roster/examples"
)

// read returns each row as "line: user" or its error, up to the end.
func read(t *testing.T, format userfile.Format, content string) []string {
	t.Helper()
	reader, err := userfile.NewReader(strings.NewReader(content), userfile.Options{Format: format})
	if err != nil {
		return []string{"FILE " + err.Error()}
	}
	var rows []string
	for {
		user, err := reader.Next()
		bad := (*userfile.RowError)(nil)
		switch {
		case err == nil:
			rows = append(rows, fmt.Sprintf("%d: %d %s %d %s", reader.Line(), user.ID, user.Name, user.Age, user.Email))
		case errors.As(err, &bad):
			rows = append(rows, err.Error())
		case err == io.EOF:
			return rows
		default:
			return append(rows, "FILE "+err.Error())
		}
	}
}

func TestRead(t *testing.T) {
	const header = "id,name,age,email\n"
	csv, ndjson := userfile.CSV, userfile.NDJSON
	tests := []struct {
		name    string
		format  userfile.Format
		content string
		want    []string
	}{
		{"plain", csv, header + "1,Ann,30,a@b\n2,Zoë,0,\n", []string{"2: 1 Ann 30 a@b", "3: 2 Zoë 0 "}},
		{"columns in another order, other case, CRLF, byte order mark", csv,
			"\ufeffEmail, AGE ,name,id\r\na@b,30,Ann,1\r\n", []string{"2: 1 Ann 30 a@b"}},
		{"quotes and a blank line", csv, header + "1,\"Smith, Ann\",30,a@b\n\n2,B,1,\n", []string{"2: 1 Smith, Ann 30 a@b", "4: 2 B 1 "}},
		{"no newline at the end", csv, header + "1,Ann,30,a@b", []string{"2: 1 Ann 30 a@b"}},
		{"header only", csv, header, nil},
		{"empty", csv, "", []string{"FILE the file is empty"}},
		{"missing column", csv, "id,name,email\n1,A,a@b\n",
			[]string{`FILE column "age" is missing: the first line must name id,name,age,email, and has "id,name,email"; if a column has another name, say so with --columns age=NAME`}},
		{"no header", csv, "1,Ann,30,a@b\n",
			[]string{`FILE columns "id", "name", "age", "email" are missing: the first line must name id,name,age,email, and has "1,Ann,30,a@b"; ` +
				`if a column has another name, say so with --columns id=NAME`}},
		{"column twice", csv, "id,name,age,email,id\n", []string{`FILE column "id" appears twice, as "id" and "id"`}},
		{"unknown columns", csv, "id,name,age,email,phone,dept\n", []string{`FILE columns "phone", "dept" are not of id,name,age,email: ` +
			`leave them out with --ignore-columns, or say with --columns which field it is`}},
		{"bad rows are told and passed over", csv, header + "x,A,1,\n1,A,old,\n2,A,200,\n99999999999,A,1,\n3,,1,\n4,A,1\n5,B,1,b@c\n",
			[]string{
				`line 2: id "x" is not a whole number`,
				`line 3: age "old" is not a whole number`,
				`line 4: invalid user: age 200 is not between 0 and 150`,
				`line 5: id "99999999999" is out of range: it must be between -2147483648 and 2147483647`,
				`line 6: invalid user: name is empty`,
				`line 7: 3 columns, the first line has 4`,
				`8: 5 B 1 b@c`,
			}},
		{"a stray quote", csv, header + "1,A\"nn,1,\n2,B,1,\n", []string{`line 2: column 4: bare " in non-quoted-field`, "3: 2 B 1 "}},
		{"Latin-1", csv, header + "1,Zo\xeb,1,\n2,B,1,\n", []string{`line 2: invalid user: name is not UTF-8: save the file as UTF-8, or convert it, as by iconv -f WINDOWS-1252 -t UTF-8`, "3: 2 B 1 "}},
		{"UTF-32", csv, "\xff\xfe\x00\x00i\x00\x00\x00", []string{"FILE the file is UTF-32: save it as UTF-8"}},
		{"a quote never closed", csv, header + "1,\"A,1,\n" + strings.Repeat("2,B,1,\n", 400_000),
			[]string{"FILE after line 1: a row of more than 1048576 bytes: is a quote not closed?"}},
		{"objects", ndjson, `{"id":1,"name":"Ann","age":30,"email":"a@b"}` + "\n\n" + `{"name":"Zoë","id":2,"age":0}`,
			[]string{"1: 1 Ann 30 a@b", "3: 2 Zoë 0 "}},
		{"bad objects", ndjson, "{\n{\"id\":1}\n[1]\n{\"id\":\"x\",\"name\":\"A\",\"age\":1}\n{\"id\":1,\"name\":\"A\",\"age\":1,\"phone\":1}\n{} {}\n\xff\n{\"id\":1,\"name\":\"A\"}\n",
			[]string{
				"line 1: not a user object: unexpected EOF",
				`line 2: "name" is missing`,
				"line 3: not an object but array",
				`line 4: "id" is string, it must be a whole number of 32 bits`,
				`line 5: unknown: "phone"; the keys are id,name,age,email, others are left out with --ignore-columns`,
				`line 6: more than one value on the line`,
				"line 7: not UTF-8: save the file as UTF-8",
				`line 8: age is empty: --empty-age 0 takes it as 0`,
			}},
		{"a line without end", ndjson, `{"id":1,"name":"` + strings.Repeat("x", 2<<20), []string{"FILE line 1: more than 1048576 bytes: is this one object a line?"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, want := strings.Join(read(t, test.format, test.content), "\n"), strings.Join(test.want, "\n")
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestTheSampleIsValid(t *testing.T) {
	rows := read(t, userfile.CSV, string(examples.Users))
	if len(rows) != 300 {
		t.Fatalf("%d rows, want 300", len(rows))
	}
	for i, row := range rows {
		if !strings.HasPrefix(row, fmt.Sprintf("%d: %d ", i+2, i+1)) {
			t.Fatalf("row %d is %q", i, row)
		}
	}
}

// endless is a file without end: a first line, and then the same row again and again with its number.
type endless struct {
	first, row string
	rows       int
	rest       string
}

func (e *endless) Read(p []byte) (int, error) {
	if e.rest == "" {
		if e.rest = e.first; e.rows > 0 || e.first == "" {
			e.rest = strings.Replace(e.row, "N", fmt.Sprint(e.rows+1), 1)
		}
		e.rows++
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	const header = "id,name,age,email\n"
	for _, test := range []struct {
		name       string
		format     userfile.Format
		first, row string
	}{
		{"CSV", userfile.CSV, header, "N,Ann,30,a@example.com\n"},
		{"bad rows", userfile.CSV, header, "N,Ann,old,a@example.com\n"},
		{"empty rows", userfile.CSV, header, strings.Repeat("\n,,,\n", 10) + "N,Ann,30,\n"},
		{"NDJSON", userfile.NDJSON, "", `{"id":N,"name":"Ann","age":30,"email":"a@example.com"}` + "\n"},
		{"a JSON array", userfile.JSON, `[{"id":0,"name":"Ann","age":30}`, ",\n" + `{"id":N,"name":"Ann","age":30}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			reader, err := userfile.NewReader(&endless{first: test.first, row: test.row}, userfile.Options{Format: test.format, KeepText: true})
			if err != nil {
				t.Fatal(err)
			}
			heap := func() uint64 {
				for range 50_000 {
					if _, err = reader.Next(); err != nil && !errors.As(err, new(*userfile.RowError)) {
						t.Fatal(err)
					}
				}
				runtime.GC()
				var stats runtime.MemStats
				runtime.ReadMemStats(&stats)
				return stats.HeapAlloc
			}
			first := heap()
			if second := heap(); second > first+1<<20 {
				t.Fatalf("the heap went from %d to %d bytes", first, second)
			}
		})
	}
}

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]userfile.Format{"a.csv": "csv", "A.CSV": "csv", "x/b.ndjson": "ndjson", "b.jsonl": "ndjson", "b.txt": "csv", "b.tsv": "csv", "b.JSON": "json", "c.csv.gz": "csv", "c.json.GZ": "json", "c.gz": "", "c.dat": "", "csv": ""} {
		if got, err := userfile.FormatOf(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
