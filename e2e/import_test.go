package e2e

import (
	"bytes"
	"compress/gzip"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"example.com/roster/client"
)

// usersIn returns the users in a store as "id name age email", by their ids.
func usersIn(t *testing.T, store string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", store)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT id, name, age, email FROM users ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var users []string
	for rows.Next() {
		var id, age int
		var name, email string
		if err := rows.Scan(&id, &name, &age, &email); err != nil {
			t.Fatal(err)
		}
		users = append(users, fmt.Sprintf("%d %s %d %s", id, name, age, email))
	}
	return users
}

// unicodeText is what Excel saves as "Unicode Text": UTF-16 with a byte order mark, tabs and CRLF.
func unicodeText(csv string) string {
	text := strings.NewReplacer(",", "\t", "\n", "\r\n").Replace(csv)
	out := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(text)) {
		out = append(out, byte(unit), byte(unit>>8))
	}
	return string(out)
}

func gzipped(t *testing.T, text string) string {
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

// Each row is a file, what import says about it, its exit code, and how many users are in the store
// afterwards.
func TestImportOfFilesAsPeopleHaveThem(t *testing.T) {
	const header = "id,name,age,email\n"
	const two = header + "1,Ann,30,a@b.org\n2,Zoë,0,\n"
	lines := header
	for id := range 20_000 {
		lines += fmt.Sprintf("%d,User %d,30,u%d@example.com\n", id, id, id)
	}
	quote := strings.Replace(lines, "\n998,User", "\n998,\"User", 1) // on line 1,000
	skip := []string{"--on-bad-row", "skip"}
	for _, test := range []struct {
		name, file, content string
		arguments           []string
		code, users         int
		want                []string
	}{
		{"a plain CSV", "u.csv", two, nil, 0, 2, []string{"imported 2 users into", "(lines: 3 read = 2 taken + 0 left out + 1 header + 0 blank)"}},
		{"one user", "u.csv", header + "1,A,1,\n", nil, 0, 1, []string{"imported 1 user into"}},
		{"semicolons after sep=", "u.csv", "sep=;\r\n" + strings.NewReplacer(",", ";", "\n", "\r\n").Replace(two), nil, 0, 2,
			[]string{"u.csv: fields are separated by semicolons", "(lines: 4 read = 2 taken + 0 left out + 2 header + 0 blank)"}},
		{"Excel's Unicode text", "u.txt", unicodeText(two), nil, 0, 2, []string{"u.txt: decoded from UTF-16; fields are separated by tabs"}},
		{"gzip", "u.csv.gz", gzipped(t, two), nil, 0, 2, []string{"u.csv.gz: unpacked from gzip"}},
		{"gzip under a plain name", "u.csv", gzipped(t, two), nil, 0, 2, []string{"unpacked from gzip"}},
		{"a JSON array", "u.json", "[\n  {\n    \"id\": 1, \"name\": \"A\", \"age\": 1\n  },\n  {\n    \"id\": 2, \"name\": \"B\", \"age\": 2\n  }\n]\n", nil, 0, 2,
			[]string{"read as a JSON array", "(objects: 2 read = 2 taken + 0 left out)"}},
		{"xlsx", "u.csv", "PK\x03\x04\x14\x00[Content_Types].xml", nil, 1, 0, []string{"u.csv: the file is an Excel workbook (xlsx): save it as CSV (UTF-8)", "nothing was imported"}},
		{"UTF-32", "u.csv", "\xff\xfe\x00\x00i\x00\x00\x00", nil, 1, 0, []string{"u.csv: the file is UTF-32: save it as UTF-8"}},
		{"headers as people write them", "u.csv", "ID,Name ,Age,E-mail,\n1,A,42.0,a@b,\n,,,,\n", nil, 0, 1, []string{"3 read = 1 taken + 0 left out + 1 header + 1 blank"}},
		{"columns of no use", "u.csv", "id,name,age,email,phone,dept\n1,A,1,,2,3\n", nil, 1, 0, []string{`columns "phone", "dept" are not of id,name,age,email: leave them out with --ignore-columns`}},
		{"columns of no use, left out", "u.csv", "id,name,age,email,phone,dept\n1,A,1,,2,3\n", []string{"--ignore-columns"}, 0, 1, []string{`columns "phone", "dept" are ignored`}},
		{"columns of other names", "u.csv", "employee_no,full name,age,email\n1,A,1,\n", []string{"--columns", "id=employee_no,name=full name"}, 0, 1, nil},
		{"an empty age", "u.csv", header + "1,A,,\n", nil, 1, 0, []string{"u.csv: line 2: age is empty: --empty-age 0 takes it as 0"}},
		{"an empty age, taken as 0", "u.csv", header + "1,A,,\n", []string{"--empty-age", "0"}, 0, 1, nil},

		{"a missing column", "u.csv", "id,name,email\n", nil, 1, 0, []string{`u.csv: column "age" is missing`, "nothing was imported"}},
		{"a bad age", "u.csv", header + "1,A,30,\n2,B,old,\n", nil, 1, 0, []string{`u.csv: line 3: age "old" is not a whole number`,
			"1 bad row: correct the file, or leave bad rows out with --on-bad-row skip (lines: 3 read = 1 good + 1 bad + 1 header + 0 blank)", "nothing was imported"}},
		{"a bad age, left out", "u.csv", header + "1,A,30,\n2,B,old,\n", skip, 0, 1, []string{"line 3", "imported 1 user into", "3 read = 1 taken + 1 left out + 1 header", "1 bad row was left out"}},
		{"a duplicate id", "u.csv", header + "1,A,30,\n2,B,1,\n1,C,1,\n", nil, 1, 0, []string{"u.csv: line 4: id 1 came before in this file", "nothing was imported"}},
		{"a duplicate id, left out", "u.csv", header + "1,A,30,\n2,B,1,\n1,C,1,\n", skip, 0, 2, []string{"line 4", "imported 2 users", "4 read = 2 taken + 1 left out + 1 header"}},
		{"many bad rows", "u.csv", header + strings.Repeat("x,A,1,\n", 500), nil, 1, 0, []string{"line 21:", "more bad rows follow; they are counted", "500 bad rows"}},
		{"nothing but bad rows", "u.csv", header + "x,A,1,\ny,B,1,\n", skip, 1, 0, []string{"u.csv: no user could be taken from it (lines: 3 read = 0 good + 2 bad + 1 header + 0 blank); nothing was imported"}},
		{"nothing but empty rows", "u.csv", header + ",,,\n", nil, 1, 0, []string{"no user could be taken from it"}},
		{"a header alone", "u.csv", header, nil, 0, 0, []string{"imported 0 users", "warning: the file has no rows"}},
		{"a cut in the last line", "u.csv", header + "1,A,30,a@b.org\n2,B,30,b@b.o", nil, 0, 2, []string{"u.csv: warning: the last line (line 3) has no line end: if the file was cut there"}},
		{"a quote not closed on line 1,000", "u.csv", quote, skip, 1, 0, []string{"line 1000: a quote is opened and does not end where a field does: lines 1000 to 20001 cannot be told apart", "nothing was imported"}},
		{"Latin-1", "u.csv", header + "1,Zo\xeb,1,\n", nil, 1, 0, []string{"line 2: invalid user: name is not UTF-8: save the file as UTF-8"}},
		{"a name of blanks", "u.csv", header + "1,\u200b,1,\n", nil, 1, 0, []string{"has U+200B, which is invisible"}},
		{"two addresses", "u.csv", header + "1,A,1,a@x.org;b@x.org\n", nil, 1, 0, []string{`email "a@x.org;b@x.org" is more than one address`}},
		{"an empty file", "u.csv", "", nil, 1, 0, []string{"the file is empty"}},
		{"NDJSON", "u.ndjson", `{"id":1,"name":"A","age":1}` + "\n" + `{"id":2}` + "\n", nil, 1, 0, []string{`u.ndjson: line 2: "name" is missing`}},
		{"NDJSON with a key twice", "u.ndjson", `{"id":1,"ID":2,"name":"A","age":1}` + "\n", nil, 1, 0, []string{`u.ndjson: line 1: "id" appears twice, as "id" and "ID"`}},
		{"NDJSON with half a character", "u.ndjson", `{"id":1,"name":"A\ud800","age":1}` + "\n", nil, 1, 0, []string{`\ud800 is half a character`}},

		{"a file of no known kind", "u.dat", "", nil, 2, 0, []string{"say --format csv, ndjson or json"}},
		{"a wrong choice", "u.csv", header, []string{"--on-bad-row", "ignore"}, 2, 0, []string{`--on-bad-row "ignore": want refuse or skip`}},
		{"a wrong age", "u.csv", header, []string{"--empty-age", "151"}, 2, 0, []string{`--empty-age "151": must be a whole number from 0 to 150`}},
		{"a wrong mapping", "u.csv", header, []string{"--columns", "phone=x"}, 2, 0, []string{"--columns phone=x: want FIELD=NAME, with a FIELD of id, name, age, email"}},
		{"a mirror without a number", "u.csv", two, []string{"--mirror"}, 2, 0, []string{"say with --max-removals how many it may, since there is no terminal to ask at"}},
		{"a mirror that skips", "u.csv", two, []string{"--mirror", "--on-bad-row", "skip"}, 2, 0, []string{"it would remove the users whose rows are bad"}},
		{"no file", "", "", nil, 1, 0, []string{"no such file or directory"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			store, file := filepath.Join(dir, "roster.db"), filepath.Join(dir, "none.csv")
			if test.file != "" {
				file = write(t, filepath.Join(dir, test.file), test.content)
			}
			// A check says the same, and writes nothing.
			checked := roster(t, append([]string{"import", "--check", "--store", store, file}, test.arguments...)...)
			if _, err := os.Stat(store); err == nil || checked.code != test.code && test.name != "a mirror without a number" {
				t.Errorf("--check: exit %d, want %d, store: %v\n%s", checked.code, test.code, err, checked.stderr)
			}
			got := roster(t, append([]string{"import", "--store", store, file}, test.arguments...)...)
			for _, want := range append(test.want, "") {
				if got.code != test.code || !strings.Contains(got.stderr, want) || got.stdout != "" {
					t.Errorf("exit %d, want %d\n%s%s\nwant %s", got.code, test.code, got.stdout, got.stderr, want)
				}
			}
			if _, err := os.Stat(store); err == nil {
				if users := usersIn(t, store); len(users) != test.users {
					t.Errorf("%d users, want %d", len(users), test.users)
				}
			}
		})
	}
}

// Whatever is cut off a file, and whatever is wrong with it, the numbers that are printed add up, and
// success means that every row is a user or was told.
func TestTheNumbersOfAnImportAddUp(t *testing.T) {
	const whole = "id,name,age,email\n1,Ann,30,a@b.org\n2,\"Bo, B\",40,b@b.org\n\n3,Cy,x,c@b.org\n1,Dup,1,\n4,D,4,d@b.org\n"
	account := regexp.MustCompile(`\(lines: (\d+) read = (\d+) \w+ \+ (\d+) [a-z ]+ \+ (\d+) header \+ (\d+) blank\)`)
	dir := t.TempDir()
	for cut := strings.Index(whole, "\n") + 1; cut <= len(whole); cut += 3 {
		file := write(t, filepath.Join(dir, "u.csv"), whole[:cut])
		store := filepath.Join(dir, fmt.Sprint(cut, ".db"))
		got := roster(t, "import", "--on-bad-row", "skip", "--store", store, file)
		numbers := account.FindStringSubmatch(got.stderr)
		if numbers == nil {
			t.Fatalf("cut at %d: exit %d, no numbers in\n%s", cut, got.code, got.stderr)
		}
		var n [6]int
		for i := 1; i < len(n); i++ {
			n[i], _ = strconv.Atoi(numbers[i])
		}
		lines := strings.Count(whole[:cut], "\n")
		if whole[cut-1] != '\n' {
			lines++
			if !strings.Contains(got.stderr, "has no line end") {
				t.Errorf("cut at %d: no warning in\n%s", cut, got.stderr)
			}
		}
		if n[1] != lines || n[1] != n[2]+n[3]+n[4]+n[5] {
			t.Errorf("cut at %d: %s of %d lines", cut, numbers[0], lines)
		}
		if got.code == 0 {
			if users := usersIn(t, store); len(users) != n[2] {
				t.Errorf("cut at %d: %d users, and %s", cut, len(users), numbers[0])
			}
		}
	}
}

// Spaces around values are treated the same in all formats.
func TestSpacesAroundValues(t *testing.T) {
	for file, content := range map[string]string{
		"u.csv":    "id,name,age,email\n 1 ,\u00a0Ann Lee , 30,\ta@b.org \n",
		"u.ndjson": `{"id": 1 ,"name":"\u00a0Ann Lee ","age": 30,"email":"\ta@b.org "}` + "\n",
		"u.json":   `[{"id": 1 ,"name":"\u00a0Ann Lee ","age": 30,"email":"\ta@b.org "}]`,
	} {
		dir := t.TempDir()
		store := filepath.Join(dir, "roster.db")
		got := roster(t, "import", "--store", store, write(t, filepath.Join(dir, file), content))
		if got.code != 0 {
			t.Fatalf("%s: %s", file, got.stderr)
		}
		if users := usersIn(t, store); len(users) != 1 || users[0] != "1 Ann Lee 30 a@b.org" {
			t.Errorf("%s: %q", file, users)
		}
	}
}

// Refused rows are kept in a file that can be imported when it is mended.
func TestRejectedRowsCanBeMended(t *testing.T) {
	for _, test := range []struct{ file, content, bad, mendFrom, mendTo string }{
		{"u.csv", "sep=;\r\nE-Mail;id;name;age\r\n;1;Ann;30\r\n;2;\"B;o\";old\r\n;1;Cy;40\r\n", "E-Mail;id;name;age\n;2;\"B;o\";old\n;1;Cy;40\n", "old\n;1", "50\n;3"},
		{"u.csv", unicodeText("id,name,age,email\n1,Ann,30,\n2,Bö,old,\n1,Cy,40,"), "id\tname\tage\temail\n2\tBö\told\t\n1\tCy\t40\t\n", "old\t\n1", "50\t\n3"},
		{"u.json", "[{\"id\":1,\"name\":\"Ann\",\"age\":30},\n{\"id\":2,\n\"name\":\"Bo\",\"age\":-5},{\"id\":1,\"name\":\"Cy\",\"age\":40}]", "{\"id\":2,\"name\":\"Bo\",\"age\":-5}\n{\"id\":1,\"name\":\"Cy\",\"age\":40}\n", "-5}\n{\"id\":1", "5}\n{\"id\":3"},
	} {
		dir := t.TempDir()
		store, rejected := filepath.Join(dir, "roster.db"), filepath.Join(dir, "bad"+filepath.Ext(test.file))
		file := write(t, filepath.Join(dir, test.file), test.content)
		got := roster(t, "import", "--store", store, "--on-bad-row", "skip", "--rejected", rejected, file)
		if got.code != 0 || !strings.Contains(got.stderr, "2 bad rows are in "+rejected) {
			t.Fatalf("%s: exit %d: %s", test.file, got.code, got.stderr)
		}
		bad, err := os.ReadFile(rejected)
		if err != nil || string(bad) != test.bad {
			t.Fatalf("%s: %v, rejected\n%s\nwant\n%s", test.file, err, bad, test.bad)
		}
		if info, err := os.Stat(rejected); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if again := roster(t, "import", "--store", store, "--rejected", rejected, file); again.code != 1 || !strings.Contains(again.stderr, "exists: remove it, or give another name") {
			t.Errorf("%s: an older file is overwritten: exit %d: %s", test.file, again.code, again.stderr)
		}
		write(t, rejected, strings.Replace(test.bad, test.mendFrom, test.mendTo, 1))
		if got := roster(t, "import", "--store", store, rejected); got.code != 0 {
			t.Fatalf("%s: %s", test.file, got.stderr)
		}
		if users := usersIn(t, store); len(users) != 3 || !strings.HasPrefix(users[2], "3 Cy 40") {
			t.Errorf("%s: %q", test.file, users)
		}
	}
	// Where nothing is wrong, or the file cannot be read to its end, there is no such file.
	dir := t.TempDir()
	rejected := filepath.Join(dir, "bad.csv")
	for content, code := range map[string]int{"id,name,age,email\n1,A,1,\n": 0, "id,name,age,email\nx,A,1,\n1,\"A,1,\n2,B,1,\n": 1} {
		got := roster(t, "import", "--store", filepath.Join(dir, "roster.db"), "--rejected", rejected, write(t, filepath.Join(dir, "u.csv"), content))
		if _, err := os.Stat(rejected); err == nil || got.code != code {
			t.Errorf("%q: exit %d, %v: %s", content, got.code, err, got.stderr)
		}
	}
}

// A mirror removes the users that the file does not have, as many as it was allowed to.
func TestMirror(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "roster.db")
	all := write(t, filepath.Join(dir, "all.csv"), "id,name,age,email\n1,A,1,\n2,B,2,\n3,C,3,\n4,D,4,\n")
	some := write(t, filepath.Join(dir, "some.csv"), "id,name,age,email\n2,Bo,2,\n4,D,4,\n5,E,5,\n")
	none := write(t, filepath.Join(dir, "none.csv"), "id,name,age,email\n")
	bad := write(t, filepath.Join(dir, "bad.csv"), "id,name,age,email\n2,Bo,2,\n4,,4,\n")
	mirror := func(want int, say, file string, arguments ...string) {
		t.Helper()
		got := roster(t, append([]string{"import", "--store", store, "--mirror", file}, arguments...)...)
		if got.code != want || !strings.Contains(got.stderr, say) {
			t.Fatalf("exit %d, want %d\n%s\nwant %s", got.code, want, got.stderr, say)
		}
	}
	has := func(want ...string) {
		t.Helper()
		if users := usersIn(t, store); strings.Join(users, ";") != strings.Join(want, ";") {
			t.Fatalf("users %q, want %q", users, want)
		}
	}
	mirror(0, "imported 4 users into", all, "--max-removals", "0")
	before := []string{"1 A 1 ", "2 B 2 ", "3 C 3 ", "4 D 4 "}
	has(before...)
	mirror(1, "does not have 2 users of "+store+", and --max-removals allows only 1; nothing was imported", some, "--max-removals", "1")
	mirror(1, "has no users: --mirror would remove all others", none, "--max-removals", "9")
	mirror(1, "1 bad row: correct the file", bad, "--max-removals", "9")
	mirror(2, "say with --max-removals how many it may", some)
	mirror(0, "can be imported: 3 users, and 2 others would be removed from "+store, some, "--check")
	mirror(1, "--max-removals allows only 1; nothing was written", some, "--check", "--max-removals", "1")
	has(before...)

	// On a terminal it asks.
	onATerminal := func(answer string) string {
		t.Helper()
		command := exec.Command("script", "-qfec", binary+" import --mirror --store "+store+" "+some, "/dev/null")
		keys, err := command.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer keys.Close()
		output, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		defer command.Wait()
		said, asked := "", false
		for buffer := make([]byte, 1024); ; {
			n, err := output.Read(buffer)
			said += string(buffer[:n])
			if !asked && strings.Contains(said, "[y/N]") {
				asked = true
				io.WriteString(keys, answer)
			}
			if err != nil {
				return said
			}
		}
	}
	if said := onATerminal("n\n"); !strings.Contains(said, "some.csv does not have 2 of the 4 users in "+store+". Remove them? [y/N]") || !strings.Contains(said, "not confirmed; nothing was imported") {
		t.Fatal(said)
	}
	has(before...)
	if said := onATerminal("\x03"); !strings.Contains(said, "interrupted; nothing was imported") {
		t.Fatal(said)
	}
	has(before...)
	if said := onATerminal("y\n"); !strings.Contains(said, "imported 3 users into "+store+" and removed 2 others") {
		t.Fatal(said)
	}
	has("2 Bo 2 ", "4 D 4 ", "5 E 5 ")
	mirror(0, "imported 4 users into "+store+" and removed 1 other in", all, "--max-removals", "1")
	has(before...)
}

// A server answers with what a mirror has left.
func TestAMirrorBesideAServer(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "roster.db")
	_, address := serve(t, "--store", store, "--sample")
	c, err := client.New(address, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if users, err := c.Users(t.Context(), []int32{1, 2}); err != nil || len(users) != 2 {
		t.Fatalf("%v, %v", users, err)
	}
	file := write(t, filepath.Join(dir, "u.csv"), "id,name,age,email\n2,Bo,2,\n")
	if got := roster(t, "import", "--store", store, "--mirror", "--max-removals", "299", file); got.code != 0 {
		t.Fatal(got.stderr)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		users, err := c.Users(t.Context(), []int32{1, 2})
		if err == nil && len(users) == 1 && users[0].Name == "Bo" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v, %v", users, err)
		}
	}
}

// An import that waits for its input keeps nobody from writing, and is ended by ctrl-C.
func TestAnImportThatWaits(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "roster.db")
	other := write(t, filepath.Join(dir, "other.csv"), "id,name,age,email\n7,Other,7,\n")
	fifo := filepath.Join(dir, "fifo.csv")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}

	slow := exec.Command(binary, "import", "--store", store, "--format", "csv", "-")
	input, err := slow.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	running := start(t, slow)
	// More than a pipe holds: when all of it is written, the import has begun to read.
	text := "id,name,age,email\n" + strings.Repeat("\n", 100_000) + "1,Slow,1,\n"
	if _, err := io.WriteString(input, text); err != nil {
		t.Fatal(err)
	}
	if got := roster(t, "import", "--store", store, other); got.code != 0 {
		t.Errorf("beside an import that waits: %s", got.stderr)
	}
	input.Close()
	<-running.exited
	if !slow.ProcessState.Success() || len(usersIn(t, store)) != 2 {
		t.Errorf("%v: %s", slow.ProcessState, running.log())
	}

	interrupted := func(name string, command *exec.Cmd, ready func(), says string) {
		t.Helper()
		running := start(t, command)
		ready()
		if code := running.stop(os.Interrupt); code != 1 || !strings.Contains(running.log(), says+": interrupted; nothing was imported") {
			t.Errorf("%s: exit %d: %s", name, code, running.log())
		}
	}
	for _, check := range []string{"--check=false", "--check"} {
		// A FIFO that nobody opens. Nothing shows when it waits; before, the signal ends it as well.
		opening := exec.Command(binary, "import", check, "--store", store, fifo)
		interrupted("opening a FIFO", opening, func() { waitUntil(t, func() bool { return waitsIn(opening, "wait_for_partner") }) }, fifo)

		piped := exec.Command(binary, "import", check, "--store", store, "--format", "csv", "-")
		pipe, err := piped.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		interrupted("reading a pipe", piped, func() {
			if _, err := io.WriteString(pipe, text); err != nil {
				t.Fatal(err)
			}
		}, "-")
		pipe.Close()
	}
	if n := len(usersIn(t, store)); n != 2 {
		t.Errorf("%d users", n)
	}
}

// Ctrl-C also ends an import that waits for another writer.
func TestAnImportThatWaitsForTheLock(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "roster.db")
	file := write(t, filepath.Join(dir, "u.csv"), "id,name,age,email\n7,A,7,\n")
	if got := roster(t, "import", "--store", store, file); got.code != 0 {
		t.Fatal(got.stderr)
	}
	other, err := sql.Open("sqlite", store)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, "import", "--store", store, file)
	running := start(t, command)
	waitUntil(t, func() bool { return hasOpen(command.Process.Pid, store+"-wal") })
	if code := running.stop(os.Interrupt); code != 1 || !strings.Contains(running.log(), file+": interrupted; nothing was imported") {
		t.Errorf("exit %d: %s", code, running.log())
	}
}

func waitUntil(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within half a minute")
		}
	}
}

// waitsIn reports whether a thread of a program waits in a function of the kernel, where that can be
// seen, else whether it has threads at all.
func waitsIn(command *exec.Cmd, function string) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", command.Process.Pid))
	visible := false
	for _, file := range files {
		wchan, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(wchan), function) {
			return true
		}
		visible = visible || len(wchan) > 1
	}
	return !visible && len(files) > 3
}

// hasOpen reports whether a process has a file open.
func hasOpen(pid int, path string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == path {
			return true
		}
	}
	return false
}

// The rules bind what is written. A user from before them is still served, and still there after an
// import that does not name it.
func TestUsersFromBeforeTheRulesAreServed(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "roster.db")
	file := write(t, filepath.Join(dir, "u.csv"), "id,name,age,email\n1,Ann,30,\n")
	if got := roster(t, "import", "--store", store, file); got.code != 0 {
		t.Fatal(got.stderr)
	}
	db, err := sql.Open("sqlite", store)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec("INSERT INTO users (id, name, age, email, revision, created, updated) VALUES (2, ?, 40, '@', 1, 0, 0)", " \u200b\u202e")
	if closing := db.Close(); err != nil || closing != nil {
		t.Fatal(err, closing)
	}
	if got := roster(t, "import", "--store", store, file); got.code != 0 {
		t.Fatal(got.stderr)
	}
	_, address := serve(t, "--store", store)
	c, err := client.New(address, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	users, err := c.Users(t.Context(), []int32{1, 2})
	if err != nil || len(users) != 2 || users[1].Name != " \u200b\u202e" || users[1].Email != "@" {
		t.Errorf("%+q, %v", users, err)
	}
	for file, content := range map[string]string{
		"again.csv":    "id,name,age,email\n2,\" \u200b\u202e\",40,@\n",
		"again.ndjson": `{"id":2,"name":" \u200b\u202e","age":40,"email":"@"}` + "\n",
	} {
		got := roster(t, "import", "--store", store, write(t, filepath.Join(dir, file), content))
		if got.code != 1 || !strings.Contains(got.stderr, "line 2: invalid user: name") && !strings.Contains(got.stderr, "line 1: invalid user: name") {
			t.Errorf("%s: exit %d: %s", file, got.code, got.stderr)
		}
	}
}
