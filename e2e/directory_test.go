package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/roster/client"
)

// serveEmpty starts a server without users, and returns its URL and its store.
func serveEmpty(t *testing.T, arguments ...string) (p *process, url, store string) {
	t.Helper()
	store = filepath.Join(t.TempDir(), "roster.db")
	p, address := serve(t, append([]string{"--store", store}, arguments...)...)
	return p, "http://" + address, store
}

// onServer runs a command on a server, which must end with a code.
func onServer(t *testing.T, url string, code int, arguments ...string) result {
	t.Helper()
	r := roster(t, append(arguments, "--server", url)...)
	if r.code != code {
		t.Fatalf("%q: exit %d, want %d\n%s%s", arguments, r.code, code, r.stdout, r.stderr)
	}
	return r
}

func expectOutput(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestUsersAreAddedListedChangedAndRemoved(t *testing.T) {
	_, url, _ := serveEmpty(t)
	table := onServer(t, url, 0, "add", "--name", "Ann Lee", "--age", "31", "--email", "ann@example.com", "--timeout", "30s")
	expectOutput(t, table.stdout, "ID  NAME     AGE  EMAIL\n1   Ann Lee  31   ann@example.com\n")
	var bob client.Record
	added := onServer(t, url, 0, "add", "--id", "7", "--name", "Bob", "--output", "json")
	if err := json.Unmarshal([]byte(added.stdout), &bob); err != nil || bob.ID != 7 || bob.Name != "Bob" || bob.ETag == "" || bob.CreateTime.IsZero() {
		t.Errorf("%v: %s", err, added.stdout)
	}
	checked := onServer(t, url, 0, "add", "--name", "Nobody", "--check")
	if !strings.Contains(checked.stdout, "Nobody") {
		t.Errorf("a check prints %s", checked.stdout)
	}
	listed := onServer(t, url, 0, "list", "--total")
	expectOutput(t, listed.stdout, "ID  NAME     AGE  EMAIL\n1   Ann Lee  31   ann@example.com\n7   Bob      0    \n")
	expectOutput(t, listed.stderr, "2 users in all\n")
	expectOutput(t, onServer(t, url, 0, "list", "--filter", `name = "ann*"`).stdout, "ID  NAME     AGE  EMAIL\n1   Ann Lee  31   ann@example.com\n")
	expectOutput(t, onServer(t, url, 0, "list", "--order-by", "name desc", "--limit", "1").stdout, "ID  NAME  AGE  EMAIL\n7   Bob   0    \n")
	var users []client.Record
	if r := onServer(t, url, 0, "list", "--output", "json"); json.Unmarshal([]byte(r.stdout), &users) != nil || len(users) != 2 || users[1].ETag != bob.ETag {
		t.Errorf("list prints %s", r.stdout)
	}
	expectOutput(t, onServer(t, url, 0, "update", "1", "--age", "32", "--email", "").stdout, "ID  NAME     AGE  EMAIL\n1   Ann Lee  32   \n")
	lost := onServer(t, url, 1, "update", "1", "--age", "33", "--etag", users[0].ETag)
	if !strings.Contains(lost.stderr, "ABORTED") || !strings.Contains(lost.stderr, `It is now: id 1, name "Ann Lee", age 32, email ""`) {
		t.Errorf("a lost update: %s", lost.stderr)
	}
	if r := onServer(t, url, 0, "remove", "7"); r.stdout != "" || r.stderr != "1 user gone at revision 4\n" {
		t.Errorf("remove prints %s%s", r.stdout, r.stderr)
	}
	if r := onServer(t, url, 1, "remove", "1", "7"); !strings.Contains(r.stderr, "nobody has the id 7") {
		t.Errorf("remove of an unknown id: %s", r.stderr)
	}
	var at client.Position
	if r := onServer(t, url, 0, "remove", "1", "7", "--allow-missing", "--output", "json"); json.Unmarshal([]byte(r.stdout), &at) != nil || at.Revision != 5 || at.Epoch == "" {
		t.Errorf("remove prints %s", r.stdout)
	}
	expectOutput(t, onServer(t, url, 0, "list").stdout, "ID  NAME  AGE  EMAIL\n")
	expectOutput(t, onServer(t, url, 0, "list", "--output", "json").stdout, "[]\n")

	log := onServer(t, url, 0, "log", "--timeout", "30s").stdout
	times := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`).ReplaceAllString(log, "TIME")
	for _, line := range []string{"1  TIME  loopback  created  1  Ann Lee  31  ann@example.com", "3  TIME  loopback  updated  1  Ann Lee  32", "4  TIME  loopback  deleted  7", "5  TIME  loopback  deleted  1"} {
		if !strings.Contains(regexp.MustCompile(` {2,}`).ReplaceAllString(times, "  "), line) {
			t.Errorf("the log lacks %q:\n%s", line, log)
		}
	}
	if r := onServer(t, url, 0, "log", "--from-revision", "3", "--output", "json"); json.Unmarshal([]byte(r.stdout), new(any)) != nil ||
		strings.Count(r.stdout, `"actor": "loopback"`) != 2 {
		t.Errorf("log prints %s", r.stdout)
	}
	if r := onServer(t, url, 1, "log", "--from-revision", "99"); !strings.Contains(r.stderr, "OUT_OF_RANGE") {
		t.Errorf("a log from the future: %s", r.stderr)
	}
}

func TestWrongUsageOfTheCommandsOnUsers(t *testing.T) {
	for _, arguments := range [][]string{
		{"add"}, {"add", "--name", "A", "--age", "151"}, {"add", "--name", "A", "--id", "0"}, {"add", "--name", "A", "--id", "x"}, {"add", "A"},
		{"update"}, {"update", "1"}, {"update", "x", "--age", "1"}, {"update", "1", "2", "--age", "1"},
		{"remove"}, {"remove", "x"}, {"list", "x"}, {"list", "--limit", "-1"},
		{"watch", "--from-beginning", "--from-revision", "1"}, {"watch", "--epoch", "e"}, {"watch", "--progress-interval", "1ms"},
		{"log", "--last", "0"}, {"export", "--format", "xml"},
		{"import", "--server", "http://localhost:1", "--store", "a.db", "u.csv"},
		{"import", "--server", "http://localhost:1", "--mirror", "u.csv"},
		{"import", "--batch-rows", "5", "u.csv"},
		{"serve", "--change-history", "soon"}, {"serve", "--change-history", "0"}, {"serve", "--change-history", "7d,8d"}, {"serve", "--change-history", "1,2"},
	} {
		if r := roster(t, arguments...); r.code != 2 || r.stdout != "" || r.stderr == "" {
			t.Errorf("%q: exit %d, %s%s", arguments, r.code, r.stdout, r.stderr)
		}
	}
	for _, arguments := range [][]string{{"list"}, {"add", "--name", "A"}, {"update", "1", "--age", "1"}, {"remove", "1"}, {"log"}, {"export"}} {
		if r := onServer(t, "http://localhost:1", 1, arguments...); r.stdout != "" && arguments[0] != "export" || !strings.Contains(r.stderr, "nothing listens") {
			t.Errorf("%q without a server: %s%s", arguments, r.stdout, r.stderr)
		}
	}
}

// Writes need the role write, reads with --open-reads nothing.
func TestTheCommandsSendTheirToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.json")
	token := func(role string) string {
		r := roster(t, "token", "create", "--tokens", file, "--role", role, "--name", role)
		if r.code != 0 {
			t.Fatal(r.stderr)
		}
		return strings.TrimSpace(r.stdout)
	}
	read, write := token("read"), token("write")
	_, url, _ := serveEmpty(t, "--tokens", file, "--open-reads")
	onServer(t, url, 0, "list")
	if r := onServer(t, url, 1, "add", "--name", "Ann"); !strings.Contains(r.stderr, "UNAUTHENTICATED") {
		t.Error(r.stderr)
	}
	if r := onServer(t, url, 1, "add", "--name", "Ann", "--token", read); !strings.Contains(r.stderr, "PERMISSION_DENIED") {
		t.Error(r.stderr)
	}
	onServer(t, url, 0, "add", "--name", "Ann", "--token", write)
	if r := onServer(t, url, 0, "log", "--token", write, "--output", "json"); !strings.Contains(r.stdout, `"actor": "write"`) {
		t.Errorf("the log does not name the token: %s", r.stdout)
	}
}

func TestWatchPrintsWhatHappens(t *testing.T) {
	_, url, _ := serveEmpty(t)
	onServer(t, url, 0, "add", "--name", "Ann")
	watch := exec.Command(binary, "watch", "--server", url, "--from-beginning", "--output", "json", "--progress-interval", "100ms")
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer watch.Process.Kill()
	events := json.NewDecoder(out)
	next := func() string {
		for {
			var event struct {
				Change *struct {
					Kind string
					ID   int
					User *client.Record
				}
				Progress *client.Position
			}
			if err := events.Decode(&event); err != nil {
				t.Fatal(err)
			}
			if event.Change != nil {
				return fmt.Sprintf("%s %d", event.Change.Kind, event.Change.ID)
			}
		}
	}
	expectOutput(t, next(), "existing 1")
	onServer(t, url, 0, "add", "--name", "Bob")
	onServer(t, url, 0, "update", "1", "--age", "5")
	onServer(t, url, 0, "remove", "2")
	for _, want := range []string{"created 2", "updated 1", "deleted 2"} {
		expectOutput(t, next(), want)
	}
	watch.Process.Signal(os.Interrupt)
	io.Copy(io.Discard, out)
	if err := watch.Wait(); err != nil {
		t.Errorf("an interrupted watch: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := exec.CommandContext(ctx, binary, "watch", "--server", url, "--from-revision", "0")
	out, _ = lines.StdoutPipe()
	if err := lines.Start(); err != nil {
		t.Fatal(err)
	}
	want := "1         created   1  Ann  0  \n2         created   2  Bob  0  \n3         updated   1  Ann  5  \n4         deleted   2\n"
	text := make([]byte, len(want))
	if _, err := io.ReadFull(out, text); err != nil {
		t.Fatal(err)
	}
	expectOutput(t, string(text), want)
	cancel()
	lines.Wait()
}

func manyUsers(n int) string {
	var text strings.Builder
	writeUsers(&text, n)
	return text.String()
}

func writeUsers(text io.Writer, n int) {
	io.WriteString(text, "id,name,age,email\n")
	for id := range n {
		fmt.Fprintf(text, "%d,\"User, %d\",%d,u%d@example.com\n", id-5, id, id%100, id)
	}
}

func TestWhatIsExportedCanBeImported(t *testing.T) {
	_, url, _ := serveEmpty(t)
	_, other, _ := serveEmpty(t)
	csv := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(csv, []byte(manyUsers(3000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := onServer(t, url, 0, "import", csv); r.stdout != "" || !strings.Contains(r.stderr, "imported 3000 users into "+url+" (3000 new, 0 changed, 0 as they were)") {
		t.Errorf("import prints %s%s", r.stdout, r.stderr)
	}
	want := onServer(t, url, 0, "export")
	if strings.ReplaceAll(want.stdout, "\"", "") != strings.ReplaceAll(manyUsers(3000), "\"", "") || want.stderr != "exported 3000 users\n" {
		t.Fatalf("export prints %d bytes, %s", len(want.stdout), want.stderr)
	}
	for _, format := range []string{"ndjson", "csv"} {
		pipe := exec.Command("/bin/sh", "-c", `"$0" export --format $1 --server $2 | "$0" import --format $1 --server $3 -`, binary, format, url, other)
		if r := run(t, pipe); r.code != 0 {
			t.Fatalf("%s: %s", format, r.stderr)
		}
		expectOutput(t, onServer(t, other, 0, "export").stdout, want.stdout)
		onServer(t, other, 0, "import", "--mirror", "--max-removals", "3000", onlyUser(t))
	}
}

// onlyUser is a file with one user.
func onlyUser(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "one.csv")
	if err := os.WriteFile(file, []byte("id,name,age,email\n-5,Only,1,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAnImportToAServerSaysWhatItRefuses(t *testing.T) {
	_, url, _ := serveEmpty(t)
	file := filepath.Join(t.TempDir(), "users.csv")
	text := "id,name,age,email\n1,Ann,3,a@example.com\n\n2,,3,\n3,Cat,3,A@EXAMPLE.COM\n4,Dan,1,\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := onServer(t, url, 1, "import", file)
	if !strings.Contains(refused.stderr, "line 4:") || !strings.Contains(refused.stderr, "nothing was imported") {
		t.Errorf("a bad row: %s", refused.stderr)
	}
	expectOutput(t, onServer(t, url, 0, "export").stdout, "id,name,age,email\n")
	checked := onServer(t, url, 0, "import", "--check", "--on-bad-row", "skip", file)
	if !strings.HasSuffix(checked.stderr, "; nothing was written\n") {
		t.Errorf("a check: %s", checked.stderr)
	}
	expectOutput(t, onServer(t, url, 0, "export").stdout, "id,name,age,email\n")
	skipped := onServer(t, url, 0, "import", "--on-bad-row", "skip", file)
	if !strings.Contains(skipped.stderr, "line 4:") || !strings.Contains(skipped.stderr, "imported 2 users") || !strings.Contains(skipped.stderr, "line 5: id 3:") {
		t.Errorf("left out: %s", skipped.stderr)
	}
	if r := onServer(t, url, 1, "import", "--mirror", "--max-removals", "0", onlyUser(t)); !strings.Contains(r.stderr, "--max-removals allows only 0") {
		t.Errorf("a mirror that removes: %s", r.stderr)
	}
	onServer(t, url, 1, "import", "--mirror", "--max-removals", "1", onlyUser(t))
	if r := onServer(t, url, 0, "import", "--mirror", "--max-removals", "2", onlyUser(t)); !strings.Contains(r.stderr, "2 removed") {
		t.Errorf("a mirror: %s", r.stderr)
	}
	expectOutput(t, onServer(t, url, 0, "export").stdout, "id,name,age,email\n-5,Only,1,\n")
}

// An import whose program is killed in mid-stream imports nothing, and keeps nobody waiting.
func TestAnImportCutOffInMidStream(t *testing.T) {
	_, url, _ := serveEmpty(t)
	onServer(t, url, 0, "import", onlyUser(t))
	text := manyUsers(300_000)
	file := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	importing := exec.Command(binary, "import", "--server", url, file)
	if err := importing.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // wherever it is by then
	importing.Process.Signal(syscall.SIGKILL)
	if err := importing.Wait(); err == nil {
		t.Fatal("the import was done before it was killed: it needs more users")
	}
	eventually(t, "another import to be taken", func() bool {
		return roster(t, "import", "--server", url, onlyUser(t)).code == 0
	})
	expectOutput(t, onServer(t, url, 0, "export").stdout, "id,name,age,email\n-5,Only,1,\n")
}

// By batches, what was imported before a failure stays, and the error says where to go on.
func TestAnImportByBatchesIsResumed(t *testing.T) {
	_, url, _ := serveEmpty(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "users.csv")
	os.WriteFile(file, []byte(manyUsers(1000)), 0o600)
	taken := "id,name,age,email\n5000,Owner,1,u645@example.com\n"
	owner := filepath.Join(folder, "owner.csv")
	os.WriteFile(owner, []byte(taken), 0o600)
	onServer(t, url, 0, "import", owner)
	failed := onServer(t, url, 1, "import", "--batch-rows", "200", file)
	if !strings.Contains(failed.stderr, "600 users before it were imported: go on with --skip-rows 600") {
		t.Fatalf("a failure in the fourth batch: %s", failed.stderr)
	}
	if want := ": line 647: id 640: the email is taken by id 5000"; !strings.Contains(failed.stderr, want) || !strings.Contains(failed.stderr, "1 row cannot be taken: correct the file") {
		t.Errorf("the row that is refused is told as %s, want %s", failed.stderr, want)
	}
	onServer(t, url, 0, "remove", "5000")
	if r := onServer(t, url, 0, "import", "--batch-rows", "200", "--skip-rows", "600", file); !strings.Contains(r.stderr, "imported 400 users") {
		t.Errorf("going on: %s", r.stderr)
	}
	if n := strings.Count(onServer(t, url, 0, "export").stdout, "\n"); n != 1001 {
		t.Errorf("%d lines", n)
	}
}

// memoryOf runs a command to its end and returns the most memory that it had, in bytes.
func memoryOf(t *testing.T, stdin io.Reader, arguments ...string) (stdout *countingWriter, peak int64) {
	t.Helper()
	command := exec.Command(binary, arguments...)
	var stderr bytes.Buffer
	stdout = &countingWriter{}
	command.Stdin, command.Stdout, command.Stderr = stdin, stdout, &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%q: %v\n%s", arguments, err, stderr.String())
			}
			t.Logf("%s", stderr.String())
			return stdout, peak
		case <-time.After(10 * time.Millisecond):
			peak = max(peak, int64(peakMemory(command.Process.Pid))<<10)
		}
	}
}

type countingWriter struct{ lines int }

func (w *countingWriter) Write(p []byte) (int, error) {
	w.lines += bytes.Count(p, []byte("\n"))
	return len(p), nil
}

// Memory does not grow with the number of users: 100,000 in every run, a million with ROSTER_E2E_LONG=1.
func TestManyUsersTakeNoMemory(t *testing.T) {
	users := 100_000
	if setUp["ROSTER_E2E_LONG"] != "" {
		users = 1_000_000
	}
	file := filepath.Join(t.TempDir(), "users.csv")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	buffer := bufio.NewWriter(out)
	writeUsers(buffer, users)
	if err := errors.Join(buffer.Flush(), out.Close()); err != nil {
		t.Fatal(err)
	}
	_, url, _ := serveEmpty(t)
	const most = 96 << 20
	if _, peak := memoryOf(t, nil, "import", "--server", url, file); peak > most {
		t.Errorf("import takes %d MiB", peak>>20)
	}
	exported, peak := memoryOf(t, nil, "export", "--server", url)
	if exported.lines != users+1 || peak > most {
		t.Errorf("export prints %d lines with %d MiB", exported.lines, peak>>20)
	}
	if out, peak := memoryOf(t, nil, "list", "--server", url, "--output", "json", "--timeout", "60s"); out.lines < users || peak > most {
		t.Errorf("list prints %d lines with %d MiB", out.lines, peak>>20)
	}
}

// The Go client's copy against a real server that is paused, and one that is restored from a backup.
func TestAGoCopyKnowsItsAge(t *testing.T) {
	p, url, _ := serveEmpty(t)
	onServer(t, url, 0, "add", "--name", "Ann")
	c, err := client.New(url, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	users, err := c.Directory().NewCopy(client.CopyConfig{MaxStaleness: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer users.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := users.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	sees := func(id int32, name string) bool {
		user, _, err := users.Get(ctx, id)
		return err == nil && user.Name == name
	}
	if !sees(1, "Ann") {
		t.Fatal("it lacks a user")
	}
	p.command.Process.Signal(syscall.SIGSTOP)
	stopped := time.Now()
	eventually(t, "the copy to be stale", func() bool {
		_, _, err := users.Get(ctx, 1)
		return errors.Is(err, client.ErrStale)
	})
	if claim := time.Now().Add(-users.Age()); claim.After(stopped) {
		t.Errorf("it claims to know of what was %v after the server stopped", claim.Sub(stopped))
	}
	p.command.Process.Signal(syscall.SIGCONT)
	eventually(t, "the copy to be fresh", func() bool { return sees(1, "Ann") })
	onServer(t, url, 0, "update", "1", "--name", "Anna")
	eventually(t, "the change", func() bool { return sees(1, "Anna") })
}

// A watch goes on over restarts of the server, and begins again with a restored store.
func TestAWatchOverRestartsAndARestore(t *testing.T) {
	p, url, store := serveEmpty(t)
	address := strings.TrimPrefix(url, "http://")
	onServer(t, url, 0, "add", "--name", "Ann")
	backup := filepath.Join(t.TempDir(), "backup.db")
	if r := roster(t, "backup", backup, "--store", store); r.code != 0 {
		t.Fatal(r.stderr)
	}
	c, err := client.New(url, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	events := make(chan client.Event, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		first := true // of the messages of progress
		for event, err := range c.Directory().Watch(ctx, client.WatchOptions{FromBeginning: true, ProgressInterval: 100 * time.Millisecond}) {
			if err != nil {
				return
			}
			if event.Progress == nil || first {
				events <- event
			}
			first = first && event.Progress == nil
		}
	}()
	next := func(want string) {
		t.Helper()
		select {
		case event := <-events:
			got := "reset"
			if event.Progress != nil {
				got = "all users"
			} else if event.Change != nil {
				got = fmt.Sprintf("%v %d", event.Change.Kind, event.Change.ID)
			}
			expectOutput(t, got, want)
		case <-time.After(time.Minute):
			t.Fatalf("no news, want %s", want)
		}
	}
	next("existing 1")
	watch := start(t, exec.Command(binary, "watch", "--server", url, "--progress-interval", "100ms", "--output", "json"))
	next("all users") // before it, a stream that breaks has to begin again
	p.stop(os.Interrupt)
	// The command says that it has lost the server: once, however often it tries.
	eventually(t, "the command to say why it waits", func() bool { return strings.Contains(watch.log(), "nothing listens there") })
	time.Sleep(time.Second)
	if n := strings.Count(watch.log(), "the watch broke, and comes back by itself: "); n > 2 {
		t.Errorf("the command says %d times that the watch broke", n)
	}
	p, _ = serve(t, "--store", store, "--addr", address)
	onServer(t, url, 0, "add", "--name", "Bob")
	next("created 2")
	p.stop(os.Interrupt)
	if r := roster(t, "restore", backup, "--store", store); r.code != 0 {
		t.Fatal(r.stderr)
	}
	serve(t, "--store", store, "--addr", address)
	next("reset")
	next("existing 1")
}

// The Python clients of roster.v1 against the real server, on the oldest and the newest grpcio.
func TestThePythonClientsOfRosterV1(t *testing.T) {
	for _, variable := range []string{"ROSTER_E2E_NEWEST", "ROSTER_E2E_OLDEST"} {
		t.Run(variable, func(t *testing.T) {
			venv := need(t, variable)
			_, url, _ := serveEmpty(t)
			script := exec.Command(filepath.Join(venv, "bin", "python"), filepath.Join(root, "e2e", "python", "directory.py"), strings.TrimPrefix(url, "http://"))
			script.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(root, "python", "src")+":"+filepath.Join(root, "gen", "python"))
			if r := run(t, script); r.code != 0 || r.stdout != "done\n" {
				t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
			}
		})
	}
}
