package userfile_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf16"

	"example.com/roster/directory/userfile"
)

// readAll reads content and returns its users and bad rows, one a line, and the reader; or why it
// cannot be read.
func readAll(content string, options userfile.Options) (rows string, reader *userfile.Reader, err error) {
	reader, err = userfile.NewReader(strings.NewReader(content), options)
	if err != nil {
		return "", nil, err
	}
	var all strings.Builder
	for {
		user, err := reader.Next()
		bad := (*userfile.RowError)(nil)
		switch {
		case err == nil:
			fmt.Fprintf(&all, "%d %s %d %s\n", user.ID, user.Name, user.Age, user.Email)
		case errors.As(err, &bad):
			all.WriteString(bad.Error() + "\n")
		case err == io.EOF:
			return all.String(), reader, nil
		default:
			return all.String(), reader, err
		}
	}
}

func inUTF16(text string, littleEndian, mark bool) string {
	if mark {
		text = "\ufeff" + text
	}
	var out []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		if littleEndian {
			out = append(out, byte(unit), byte(unit>>8))
		} else {
			out = append(out, byte(unit>>8), byte(unit))
		}
	}
	return string(out)
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Files as spreadsheets, databases and programs write them. All of these have the same two users.
func TestFilesAsPeopleHaveThem(t *testing.T) {
	const plain = "id,name,age,email\n1,Ann Lee,30,a@b.org\n2,Zoë,0,\n"
	const objects = `{"id":1,"name":"Ann Lee","age":30,"email":"a@b.org"}` + "\n" + `{"id":2,"name":"Zoë","age":0}` + "\n"
	const pretty = "[\n  {\n    \"id\": 1,\n    \"name\": \"Ann Lee\",\n    \"age\": 30,\n    \"email\": \"a@b.org\"\n  },\n" +
		"  {\n    \"id\": 2,\n    \"name\": \"Zoë\",\n    \"age\": 0,\n    \"email\": \"\"\n  }\n]\n"
	tabs := strings.ReplaceAll(plain, ",", "\t")
	crlf := strings.ReplaceAll(plain, "\n", "\r\n")
	semicolons := strings.ReplaceAll(plain, ",", ";")
	json, ndjson := userfile.JSON, userfile.NDJSON
	for _, test := range []struct {
		name, content string
		options       userfile.Options
		notes         string
	}{
		{"plain", plain, userfile.Options{}, ""},
		{"semicolons", semicolons, userfile.Options{}, "fields are separated by semicolons"},
		{"tabs", tabs, userfile.Options{}, "fields are separated by tabs"},
		{"vertical bars", strings.ReplaceAll(plain, ",", "|"), userfile.Options{}, "fields are separated by vertical bars"},
		{"Excel's sep=", "sep=;\r\n" + strings.ReplaceAll(semicolons, "\n", "\r\n"), userfile.Options{}, "fields are separated by semicolons"},
		{"sep= in quotes", "\"sep=;\"\n" + semicolons, userfile.Options{}, "fields are separated by semicolons"},
		{"sep= with a comma", "SEP=,\n" + plain, userfile.Options{}, ""},
		{"a mark before sep=", "\ufeffsep=\t\n" + tabs, userfile.Options{}, "fields are separated by tabs"},
		{"an old Mac's line ends", strings.ReplaceAll(plain, "\n", "\r"), userfile.Options{}, "lines end with CR"},
		{"Excel's Unicode text", inUTF16(strings.ReplaceAll(crlf, ",", "\t"), true, true), userfile.Options{}, "decoded from UTF-16; fields are separated by tabs"},
		{"UTF-16, big endian", inUTF16(crlf, false, true), userfile.Options{}, "decoded from UTF-16"},
		{"UTF-16 without a mark", inUTF16(crlf, true, false), userfile.Options{}, "decoded from UTF-16"},
		{"UTF-16, big endian, without a mark", inUTF16(plain, false, false), userfile.Options{}, "decoded from UTF-16"},
		{"UTF-16 JSON without a mark", inUTF16(objects, true, false), userfile.Options{Format: ndjson}, "decoded from UTF-16"},
		{"gzip", zipped(t, plain), userfile.Options{}, "unpacked from gzip"},
		{"gzip in pieces", zipped(t, plain[:30]) + zipped(t, plain[30:]), userfile.Options{}, "unpacked from gzip"},
		{"gzip of UTF-16 of tabs", zipped(t, inUTF16(tabs, true, true)), userfile.Options{},
			"unpacked from gzip; decoded from UTF-16; fields are separated by tabs"},
		{"LibreOffice with every text in quotes", "\"id\",\"name\",\"age\",\"email\"\n1,\"Ann Lee\",30,\"a@b.org\"\n2,\"Zoë\",0,\"\"\n", userfile.Options{}, ""},
		{"headers as people write them", "\"ID\", Name ,AGE,E-mail\n1,Ann Lee,30,a@b.org\n2,Zoë,0,\n", userfile.Options{}, ""},
		{"spaces around values", "id,name,age,email\n 1 , Ann Lee\u00a0, 30 ,\ta@b.org \n2,Zoë ,0, \n", userfile.Options{}, ""},
		{"trailing commas", "id,name,age,email,\n1,Ann Lee,30,a@b.org,\n2,Zoë,0,,\n", userfile.Options{}, ""},
		{"trailing commas in rows", "id,name,age,email\n1,Ann Lee,30,a@b.org,,\n2,Zoë,0,, \n", userfile.Options{}, ""},
		{"trailing commas in the first line", "id,name,age,email,,\n1,Ann Lee,30,a@b.org\n2,Zoë,0,\n", userfile.Options{}, ""},
		{"rows of commas and of spaces", plain + ",,,\n  \n;\n"[:7] + ",,\n", userfile.Options{}, ""},
		{"ages of pandas", "id,name,age,email\n1.0,Ann Lee,30.0,a@b.org\n2,Zoë,0.00,\n", userfile.Options{}, ""},
		{"an empty age", "id,name,age,email\n1,Ann Lee,30,a@b.org\n2,Zoë,,\n", userfile.Options{EmptyAge: new(int32)}, ""},
		{"columns of other names", "employee_no;Mail;Years;Full Name\n1;a@b.org;30;Ann Lee\n2;;0;Zoë\n",
			userfile.Options{Columns: map[string]string{"id": "employee_no", "name": "full name", "age": "years", "email": "mail"}}, "fields are separated by semicolons"},
		{"columns of no use", "id,name,age,phone,email,note\n1,Ann Lee,30,5,a@b.org,\"two\nlines\"\n2,Zoë,0,,,\n", userfile.Options{IgnoreColumns: true},
			`columns "phone", "note" are ignored`},
		{"one of two columns of one meaning", "id,name,age,email,E-Mail\n1,Ann Lee,30,x,a@b.org\n2,Zoë,0,x,\n",
			userfile.Options{Columns: map[string]string{"email": "E-Mail"}, IgnoreColumns: true}, `column "email" is ignored`},
		{"an id beside the one that is mapped", "id,employee_no,name,age,email\n7,1,Ann Lee,30,a@b.org\n8,2,Zoë,0,\n",
			userfile.Options{Columns: map[string]string{"id": "employee_no"}, IgnoreColumns: true}, `column "id" is ignored`},

		{"NDJSON", objects, userfile.Options{Format: ndjson}, ""},
		{"NDJSON called json", objects, userfile.Options{Format: json}, ""},
		{"NDJSON of CRLF with a mark", "\ufeff" + strings.ReplaceAll(objects, "\n", "\r\n"), userfile.Options{Format: ndjson}, ""},
		{"an array on one line", `[` + strings.Replace(strings.TrimSpace(objects), "\n", ",", 1) + `]`, userfile.Options{Format: json}, "read as a JSON array"},
		{"a pretty array", pretty, userfile.Options{Format: json}, "read as a JSON array"},
		{"an array called ndjson", pretty, userfile.Options{Format: ndjson}, "read as a JSON array"},
		{"pretty objects", strings.Replace(strings.Trim(pretty, "[]\n"), "},", "}", 1), userfile.Options{Format: json}, "read as objects of several lines"},
		{"a pretty array in UTF-16 of gzip", zipped(t, inUTF16(pretty, false, true)), userfile.Options{Format: json},
			"unpacked from gzip; decoded from UTF-16; read as a JSON array"},
		{"keys as people write them", `{"ID":1,"Name":" Ann Lee ","age":30.0,"E-mail":"a@b.org\n"}` + "\n" + `{"id":2,"name":"Zo\u00eb","age":0,"email":null}` + "\n",
			userfile.Options{Format: ndjson}, ""},
		{"keys of other names, and of no use", `{"no":1,"name":"Ann Lee","age":30,"email":"a@b.org","x":{"y":[1]}}` + "\n" + `{"no":2,"name":"Zoë"}` + "\n",
			userfile.Options{Format: ndjson, Columns: map[string]string{"id": "no"}, IgnoreColumns: true, EmptyAge: new(int32)}, ""},
		{"an age of null", `{"id":1,"name":"Ann Lee","age":30,"email":"a@b.org"}` + "\n" + `{"id":2,"name":"Zoë","age":null}` + "\n",
			userfile.Options{Format: ndjson, EmptyAge: new(int32)}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.options.Format == "" {
				test.options.Format = userfile.CSV
			}
			rows, reader, err := readAll(test.content, test.options)
			if want := "1 Ann Lee 30 a@b.org\n2 Zoë 0 \n"; err != nil || rows != want {
				t.Fatalf("got %v\n%swant\n%s", err, rows, want)
			}
			if notes := strings.Join(reader.Notes(), "; "); notes != test.notes {
				t.Errorf("notes %q, want %q", notes, test.notes)
			}
			if c := reader.Counts(); c.Read != c.Header+c.Blank+c.Taken+c.LeftOut || c.LeftOut != 0 || c.Taken < 2 {
				t.Errorf("counts %+v", c)
			}
		})
	}
}

// What cannot be read with certainty is refused, by name and with what to do.
func TestFilesThatCannotBeRead(t *testing.T) {
	const header = "id,name,age,email\n"
	many := header
	for i := range 20_000 {
		many += fmt.Sprintf("%d,User %d,30,u%d@example.com\n", i, i, i)
	}
	tar := strings.Repeat("\x00", 257) + "ustar"
	cut := zipped(t, many)
	wide := zipped(t, header) + strings.Repeat(zipped(t, strings.Repeat("x", 1<<20-1)+"\n"), 80)
	for _, test := range []struct {
		name, content string
		options       userfile.Options
		want          string
	}{
		{"xlsx", "PK\x03\x04\x14\x00\x08\x08[Content_Types].xml", userfile.Options{}, "the file is an Excel workbook (xlsx): save it as CSV (UTF-8)"},
		{"ods", "PK\x03\x04\x14\x00mimetypeapplication/vnd.oasis.opendocument.spreadsheet", userfile.Options{}, "an OpenDocument spreadsheet (ods): save"},
		{"zip", "PK\x03\x04\x14\x00users.csv", userfile.Options{}, "the file is a zip archive: unpack it"},
		{"xls", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", userfile.Options{}, "an old Excel workbook (xls)"},
		{"parquet", "PAR1\x15\x04", userfile.Options{}, "the file is Parquet: export it as CSV or NDJSON"},
		{"zstd", "\x28\xb5\x2f\xfd\x04", userfile.Options{}, "compressed with zstd: unpack it with unzstd"},
		{"bzip2", "BZh91AY", userfile.Options{}, "compressed with bzip2"},
		{"tar", tar, userfile.Options{}, "a tar archive"},
		{"tar of gzip", zipped(t, tar), userfile.Options{}, "a tar archive"},
		{"SQLite", "SQLite format 3\x00", userfile.Options{}, "a SQLite database"},
		{"HTML", "\n<!DOCTYPE html><p>Log in", userfile.Options{}, "a web page (HTML)"},
		{"XML", "<?xml version=\"1.0\"?>", userfile.Options{Format: userfile.JSON}, "the file is XML"},
		{"UTF-32", "\xff\xfe\x00\x00i\x00\x00\x00", userfile.Options{}, "the file is UTF-32: save it as UTF-8"},
		{"UTF-32, big endian, without a mark", "\x00\x00\x00i\x00\x00\x00d", userfile.Options{}, "the file is UTF-32"},
		{"gzip in gzip", zipped(t, zipped(t, header)), userfile.Options{}, "gzip inside gzip: unpack it once"},
		{"gzip that was cut", cut[:len(cut)/2], userfile.Options{}, "the gzip data ends too early: the file was cut"},
		{"gzip without its end", cut[:len(cut)-4], userfile.Options{}, "the gzip data ends too early"},
		{"gzip that is damaged", cut[:len(cut)-8] + "\x00\x00\x00\x00" + cut[len(cut)-4:], userfile.Options{}, "the gzip data is damaged"},
		{"a bomb", wide, userfile.Options{}, "unpacks to more than 250 times its size: if that is right, unpack it with gunzip first"},
		{"a bomb without lines", zipped(t, header+strings.Repeat("\x00", 4<<20)), userfile.Options{}, "a row of more than 1048576 bytes"},
		{"a bomb of empty lines", zipped(t, header+strings.Repeat("\n", 4<<20)), userfile.Options{}, "a row of more than 1048576 bytes"},
		{"empty gzip", zipped(t, ""), userfile.Options{}, "the file is empty"},
		{"empty NDJSON", "", userfile.Options{Format: userfile.NDJSON}, "the file is empty"},
		{"a mark and nothing else", "\ufeff", userfile.Options{}, "the file is empty"},
		{"an unknown separator", "sep=:\nid:name:age:email\n", userfile.Options{}, `the first line says that fields are separated by ":": only , ; | and a tab can be read`},
		{"all missing columns", "id,name\n", userfile.Options{}, `columns "age", "email" are missing`},
		{"two headers of one meaning", "id,name,age,E-mail,e mail\n", userfile.Options{}, `column "email" appears twice, as "E-mail" and "e mail"`},
		{"a header and another of its meaning", "id,name,age,email,E-Mail\n", userfile.Options{IgnoreColumns: true}, `column "email" appears twice, as "email" and "E-Mail": say which it is with --columns email=NAME`},
		{"JSON called csv", "\n[{\"id\":1}]", userfile.Options{}, "the file looks like JSON: say --format json"},
		{"a column for two fields", header, userfile.Options{Columns: map[string]string{"name": "email"}}, `column "email" is used for two fields`},
		{"a mapped column that is missing", header, userfile.Options{Columns: map[string]string{"id": "no"}}, `column "no" is missing`},
		{"a quote not closed in the first line", "id,name,age,\"email\n1,A,1,a@b\"\n2,B,1,\n", userfile.Options{}, "the first line has a quote that is not closed"},
		{"a quote not closed on line 1,000", quoteOnLine(many, 1000, ""), userfile.Options{}, "line 1000: a quote is opened and does not end where a field does: lines 1000 to 20001 cannot be told apart, correct line 1000"},
		{"a quote not closed until another begins", quoteOnLine(quoteOnLine(many, 1000, ""), 1200, `"`), userfile.Options{}, "line 1000: a quote is opened and does not end where a field does: lines 1000 to 1200 cannot be told apart"},
		{"a quote that another closes", header + "1,\"A,1,\n2,B,1,\n3,C\",1,\n4,D,1,\n", userfile.Options{}, "line 2: a quote is opened, and line 3, which looks like a row, is inside it: correct line 2"},
		{"a row inside a column that is ignored", "id,name,age,email,note\n1,A,1,,\"x\n2,B,1,,y\n3,C,1,,z\"\n", userfile.Options{IgnoreColumns: true}, "line 2: a quote is opened, and line 3, which looks like a row"},
		{"a JSON array that was cut", `[{"id":1,"name":"A","age":1},{"id":2,"na`, userfile.Options{Format: userfile.JSON}, "the file ends before its JSON does: it was cut"},
		{"a JSON array without its end", `[{"id":1,"name":"A","age":1}`, userfile.Options{Format: userfile.JSON}, "the file ends before its JSON does"},
		{"two JSON arrays", `[{"id":1,"name":"A","age":1}] []`, userfile.Options{Format: userfile.JSON}, "something follows the JSON array"},
		{"a JSON array with a comma too few", "[\n{\"id\":1,\"name\":\"A\",\"age\":1}\n{\"id\":2}]", userfile.Options{Format: userfile.JSON}, "after line 2: not JSON: expected comma after array element"},
		{"an object around everything", "{\n \"users\": [\n" + strings.Repeat(`{"id":1,"name":"A","age":1},`+"\n", 100_000), userfile.Options{Format: userfile.JSON},
			"an object of more than 1048576 bytes: the file must be an array of users, or one after another"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.options.Format == "" {
				test.options.Format = userfile.CSV
			}
			if _, _, err := readAll(test.content, test.options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// quoteOnLine opens a quote in the name on one line of a CSV, or puts quotes around it if end is one.
func quoteOnLine(csv string, line int, end string) string {
	lines := strings.SplitAfter(csv, "\n")
	fields := strings.Split(lines[line-1], ",")
	fields[1] = `"` + fields[1] + end
	lines[line-1] = strings.Join(fields, ",")
	return strings.Join(lines, "")
}

// Rows that are refused, with what to do.
func TestBadRows(t *testing.T) {
	const header = "id,name,age,email\n"
	ndjson := userfile.Options{Format: userfile.NDJSON}
	for _, test := range []struct {
		content string
		options userfile.Options
		want    string
	}{
		{header + "1,A,,\n", userfile.Options{}, "line 2: age is empty: --empty-age 0 takes it as 0"},
		{header + ",A,1,\n", userfile.Options{}, "line 2: id is empty"},
		{header + "1,A,42.5,\n", userfile.Options{}, `line 2: age "42.5" is not a whole number`},
		{header + "1.000,A,1,\n", userfile.Options{}, `line 2: id "1.000" is not a whole number`},
		{header + "1,A,1,a@b,c\n", userfile.Options{}, "line 2: 5 columns, the first line has 4"},
		{"id,name,age,email,\n1,A,1,a@b,c\n", userfile.Options{}, `line 2: column 5 holds "c", and has no name in the first line`},
		{header + "1,\"A\nB\",1,\n", userfile.Options{}, `lines 2 to 3: invalid user: name "A\nB" has a control character`},
		{header + "1,\u200b,1,\n", userfile.Options{}, "U+200B"},
		{header + "1,A,1,a@x.org;b@x.org\n", userfile.Options{}, "is more than one address"},
		{inUTF16(header, true, true) + "1\x00,\x00\x3d\xd8,\x001\x00,\x00\n\x00", userfile.Options{}, "U+FFFD, the mark of a character that was lost"},
		{inUTF16(header+"1,A,1,a@b", true, true) + "c", userfile.Options{}, "U+FFFD"},
		{`{"id":1,"name":"A","age":1,"id":2}`, ndjson, `line 1: "id" appears twice, as "id" and "id"`},
		{`{"id":1,"name":"A","age":1,"ID":2}`, ndjson, `line 1: "id" appears twice, as "id" and "ID"`},
		{`{"id":1,"name":"A","age":1,"email":"a@b","E-Mail":"c@d"}`, ndjson, `line 1: "email" appears twice, the second time as "E-Mail"`},
		{`{"id":1,"name":"A \ud83d","age":1}`, ndjson, `line 1: \ud83d is half a character, and the other half does not follow`},
		{`{"id":1,"name":"\uDE00\uD83D","age":1}`, ndjson, `\uDE00 is half a character`},
		{`{"id":1,"name":"A","age":1,"a":1,"b":2}`, ndjson, `line 1: unknown: "a", "b"; the keys are id,name,age,email`},
		{`{"id":1,"name":" ","age":1}`, ndjson, "line 1: invalid user: name is empty"},
		{`{"id":1e0,"name":"A","age":1}`, ndjson, `line 1: id "1e0" is not a whole number`},
		{"[\n{\"id\":1,\n\"name\":1}\n]", userfile.Options{Format: userfile.JSON}, `lines 2 to 3: "name" is number, it must be a string`},
		{"[\n{\"id\":1,\"name\":\"A\",\"age\":1},\n\n7]", userfile.Options{Format: userfile.JSON}, `line 4: not an object but number`},
	} {
		if test.options.Format == "" {
			test.options.Format = userfile.CSV
		}
		rows, reader, err := readAll(test.content, test.options)
		if err != nil || !strings.Contains(rows, test.want) {
			t.Errorf("%q: got %v %s\nwant %s", test.content, err, rows, test.want)
			continue
		}
		if c := reader.Counts(); c.LeftOut == 0 || c.Read != c.Header+c.Blank+c.Taken+c.LeftOut {
			t.Errorf("%q: counts %+v", test.content, c)
		}
	}
	// What is escaped as it should be is read.
	rows, _, err := readAll(`{"id":1,"name":"\ud83d\ude00 \\ud83d","age":1}`, ndjson)
	if want := "1 😀 \\ud83d 1 \n"; err != nil || rows != want {
		t.Errorf("got %v %q, want %q", err, rows, want)
	}
}

// A last line without its end is told. RFC 4180 allows it, and a cut makes it.
func TestALastLineWithoutItsEnd(t *testing.T) {
	const whole = "id,name,age,email\r\n1,A,30,a@b.org\r\n2,B,40,b@b.org\r\n"
	for cut := strings.Index(whole, "\n") + 1; cut <= len(whole); cut++ {
		_, reader, err := readAll(whole[:cut], userfile.Options{Format: userfile.CSV})
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		atEnd := whole[cut-1] == '\n'
		if warning := reader.Warning(); (warning == "") != atEnd {
			t.Errorf("%q: warning %q", whole[:cut], warning)
		}
	}
	_, reader, err := readAll(`{"id":1,"name":"A","age":1}`+"\n"+`{"id":2,"name":"B","age":1}`, userfile.Options{Format: userfile.NDJSON})
	if err != nil || !strings.Contains(reader.Warning(), "the last line (line 2) has no line end") {
		t.Errorf("%v, %q", err, reader.Warning())
	}
	_, reader, err = readAll(`[{"id":1,"name":"A","age":1}]`, userfile.Options{Format: userfile.JSON})
	if err != nil || reader.Warning() != "" {
		t.Errorf("%v, %q", err, reader.Warning())
	}
}
