package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/roster/client"
)

// sqlite3 runs the real shell of SQLite on a file and returns what it prints.
func sqlite3(t *testing.T, path string, commands ...string) string {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("there is no sqlite3")
	}
	got := run(t, exec.Command(program, append([]string{path}, commands...)...))
	if got.code != 0 {
		t.Fatalf("sqlite3 %q: %s", commands, got.stderr)
	}
	return strings.TrimSpace(got.stdout)
}

// users writes a file of users with these ids and one name.
func users(t *testing.T, from, to int, name string) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("id,name,age,email\n")
	for id := from; id < to; id++ {
		fmt.Fprintf(&text, "%d,%s %d,30,\n", id, name, id)
	}
	return write(t, filepath.Join(t.TempDir(), "users.csv"), text.String())
}

// must runs the binary and fails the test unless it ends with the code and says so.
func must(t *testing.T, code int, want string, arguments ...string) result {
	t.Helper()
	got := roster(t, arguments...)
	if got.code != code || !strings.Contains(got.stdout+got.stderr, want) {
		t.Fatalf("roster %s: exit %d, want %d\n%s%s\nwant %s", strings.Join(arguments, " "), got.code, code, got.stdout, got.stderr, want)
	}
	return got
}

// answersWith waits until a look-up of a user prints what is wanted.
func answersWith(t *testing.T, address, id, want string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := roster(t, "get", id, "--server", "http://"+address)
		if strings.Contains(got.stdout+got.stderr, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("user %s: %s%s\nwant %s", id, got.stdout, got.stderr, want)
		}
	}
}

// The life of a store: served, backed up, changed, killed, and restored.
func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	store, saved := filepath.Join(dir, "roster.db"), filepath.Join(dir, "backup.db")
	p, address := serve(t, "--store", store)
	if !strings.Contains(p.log(), "the store "+store+" did not exist and has been created, empty") {
		t.Error("the log does not say that the store is new")
	}
	must(t, 0, "imported 20000 users", "import", "--store", store, users(t, 0, 20_000, "Before"))
	answersWith(t, address, "7", "Before 7")
	must(t, 0, "backed up 20000 users", "backup", "--store", store, saved)
	must(t, 1, "file already exists: give another name, or --overwrite", "backup", "--store", store, saved)
	must(t, 0, "backed up 20000 users", "backup", "--overwrite", "--store", store, saved)
	for _, file := range []string{store, store + "-wal", saved} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", file, info, err)
		}
	}
	must(t, 0, "is in order: 20000 users", "check", "--store", store)
	epoch := sqlite3(t, store, "SELECT epoch FROM directory")
	must(t, 0, "imported 5000 users", "import", "--store", store, users(t, 10_000, 15_000, "After"))
	must(t, 0, "imported 3000 users", "import", "--store", store, users(t, 30_000, 33_000, "More"))

	// Not while it is served, nor while another program has it open.
	must(t, 1, store+" is in use: another process has it open", "restore", "--store", store, saved)
	if code := p.stop(syscall.SIGKILL); code == 0 {
		t.Fatal("it was not killed")
	}
	shell := exec.Command("sqlite3", store)
	input, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(input, "SELECT count(*) FROM users;")
	if _, err := output.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	must(t, 1, fmt.Sprintf("is in use: process %d has it open", shell.Process.Pid), "restore", "--store", store, saved)
	shell.Process.Kill() // and so leaves the log where it is
	shell.Wait()

	got := must(t, 0, "restored 20000 users from "+saved+" into "+store, "restore", "--store", store, saved)
	_, kept, found := strings.Cut(strings.TrimSpace(got.stderr), "the store that was there is kept as ")
	if !found {
		t.Fatal(got.stderr)
	}
	if now := sqlite3(t, store, "SELECT epoch FROM directory"); now == epoch || len(now) != 32 {
		t.Errorf("epoch %s after %s", now, epoch)
	}
	_, address = serve(t, "--store", store, "--create=false")
	answersWith(t, address, "12000", "Before 12000")
	answersWith(t, address, "30000", "not found: 30000")
	// The store before is whole, with what was in its log.
	must(t, 0, "is in order: 23000 users", "check", "--store", kept)
	if n := sqlite3(t, kept, "SELECT count(*) FROM users WHERE name LIKE 'After%'"); n != "5000" {
		t.Errorf("%s users in the store before", n)
	}
}

// A store crashes, and a backup is moved into its place beside the log that was left.
func TestABackupMovedBesideTheLogOfACrash(t *testing.T) {
	for _, how := range []string{"roster backup", ".backup", "VACUUM INTO"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			store, saved := filepath.Join(dir, "roster.db"), filepath.Join(dir, "backup.db")
			must(t, 0, "imported", "import", "--store", store, users(t, 0, 5_000, "Before"))
			p, address := serve(t, "--store", store)
			answersWith(t, address, "3", "Before 3") // and so has it in memory
			switch how {
			case "roster backup":
				must(t, 0, "backed up 5000 users", "backup", "--store", store, saved)
			case ".backup":
				sqlite3(t, store, ".backup "+saved)
			case "VACUUM INTO":
				sqlite3(t, store, "VACUUM INTO '"+saved+"'")
			}
			// An edit that stays in the log, and that the server has marked.
			sqlite3(t, store, "UPDATE users SET name = 'After' WHERE id % 3 = 0")
			answersWith(t, address, "3", "After")
			p.stop(syscall.SIGKILL)
			if info, err := os.Stat(store + "-wal"); err != nil || info.Size() == 0 {
				t.Fatalf("no log is left: %v, %v", info, err)
			}
			if err := os.Rename(saved, store); err != nil {
				t.Fatal(err)
			}
			want := "the log " + store + "-wal belongs to another file"
			must(t, 1, want, "serve", "--addr", "localhost:0", "--store", store)
			must(t, 1, want, "import", "--store", store, users(t, 0, 1, "New"))
			must(t, 1, want, "check", "--store", store)
			must(t, 1, want, "backup", "--store", store, filepath.Join(dir, "another.db"))
			// The remedy that it names.
			if err := os.Rename(store+"-wal", store+"-wal.old"); err != nil {
				t.Fatal(err)
			}
			os.Remove(store + "-shm")
			must(t, 0, "is in order: 5000 users", "check", "--store", store)
			if n := sqlite3(t, store, "SELECT count(*) FROM users WHERE name = 'After'"); n != "0" {
				t.Errorf("%s users of the log", n)
			}
		})
	}
}

// cp of a store that is served, and a name that is mistyped, are told.
func TestAStoreThatIsEmptyByMistake(t *testing.T) {
	dir := t.TempDir()
	store, copied := filepath.Join(dir, "roster.db"), filepath.Join(dir, "copy.db")
	serve(t, "--store", store)
	if got := run(t, exec.Command("cp", store, copied)); got.code != 0 {
		t.Fatal(got.stderr)
	}
	must(t, 1, "this is an incomplete copy, which has no users: the file was copied while it was served", "serve", "--addr", "localhost:0", "--store", copied)
	must(t, 1, "there is no such store (file does not exist): correct its name, or have it created (--create)",
		"serve", "--addr", "localhost:0", "--create=false", "--store", filepath.Join(dir, "rooster.db"))
	must(t, 1, "or have it created (--create)", "import", "--create=false", "--store", filepath.Join(dir, "rooster.db"), users(t, 0, 1, "New"))
	if _, err := os.Stat(filepath.Join(dir, "rooster.db")); err == nil {
		t.Error("it was made all the same")
	}
	must(t, 0, "warning: the store "+filepath.Join(dir, "new.db")+" did not exist and has been created", "import", "--store", filepath.Join(dir, "new.db"), users(t, 0, 1, "New"))
}

// A person deletes a user with the sqlite3 program beside the server, which has the user in memory.
func TestARowDeletedByTheSQLiteShell(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	must(t, 0, "imported", "import", "--store", store, users(t, 0, 100, "User"))
	_, address := serve(t, "--store", store)
	answersWith(t, address, "7", "User 7")
	sqlite3(t, store, "DELETE FROM users WHERE id = 7")
	answersWith(t, address, "7", "not found: 7")
	answersWith(t, address, "8", "User 8")
}

// One damaged page: the server starts, answers whom it can, and says what is wrong.
func TestADamagedStoreIsServed(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	must(t, 0, "imported", "import", "--store", store, users(t, 0, 20_000, "User"))
	data, err := os.ReadFile(store)
	if err != nil {
		t.Fatal(err)
	}
	// A leaf of the table of users, and not of another table or an index.
	const leafOfTable = 0x0d
	page := 0
	for i := range len(data) / 4096 {
		if text := data[i*4096:][:4096]; text[0] == leafOfTable && bytes.Contains(text, []byte("User 10020")) {
			page = i
		}
	}
	damaged := append([]byte(nil), data...)
	for i := range 4096 {
		damaged[page*4096+i] = 0xa5
	}
	if err := os.WriteFile(store, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	p, address := serve(t, "--store", store)
	if !strings.Contains(p.log(), "the store is damaged: some users cannot be read; roster check lists what is wrong") {
		t.Errorf("the log does not say it:\n%s", p.log())
	}
	c, err := client.New(address, client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lost := 0
	for id := int32(0); id < 20_000; id += 60 {
		found, err := c.Users(t.Context(), []int32{id})
		switch {
		case err == nil && len(found) == 1:
		case err != nil && strings.Contains(err.Error(), "a part of the user store is damaged: other users are answered"):
			lost++
		default:
			t.Fatalf("user %d: %v, %v", id, found, err)
		}
	}
	if lost == 0 || lost > 10 {
		t.Errorf("%d of 334 users cannot be read", lost)
	}
	must(t, 0, "is healthy", "health", "--server", "http://"+address)
	must(t, 1, "damaged: ", "check", "--store", store)
	must(t, 1, "is damaged", "backup", "--store", store, store+".backup")
}

// A schema of a newer version is refused by every command, and left as it is.
func TestAStoreOfANewerVersion(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	must(t, 0, "imported", "import", "--store", store, users(t, 0, 10, "User"))
	sqlite3(t, store, "PRAGMA user_version = 99")
	want := "its schema is version 99, and this version of Roster knows versions up to"
	must(t, 1, want, "serve", "--addr", "localhost:0", "--store", store)
	must(t, 1, want, "import", "--store", store, users(t, 0, 10, "User"))
	must(t, 1, want, "check", "--store", store)
	must(t, 1, want, "backup", "--store", store, store+".backup")
}

// Rows of another program that break the rules stay served, and are listed.
func TestCheckListsUsersThatBreakTheRules(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	must(t, 0, "imported", "import", "--store", store, users(t, 0, 10, "User"))
	_, address := serve(t, "--store", store)
	sqlite3(t, store, "INSERT INTO users (id, name, age, email, revision, created, updated, name_key, email_key) VALUES (50, 'Old', 200, 'old@example.com', 0, 0, 0, 'old', 'old@example.com')")
	got := must(t, 1, "user 50: ", "check", "--store", store)
	if !strings.HasPrefix(got.stdout, "user 50: ") || strings.Count(got.stdout, "\n") != 1 || !strings.Contains(got.stderr, store+" has 1 fault") {
		t.Errorf("%s%s", got.stdout, got.stderr)
	}
	answersWith(t, address, "50", "Old")
}

// An import beside a server leaves a short log, taken or refused.
func TestTheLogAfterAnImport(t *testing.T) {
	store := filepath.Join(t.TempDir(), "roster.db")
	serve(t, "--store", store)
	file := users(t, 0, 200_000, "User")
	bad := users(t, 0, 200_000, "Bad")
	text, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, append(text, "1,Twice,30,\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, refused := range []bool{true, false} {
		if refused {
			must(t, 1, "nothing was imported", "import", "--store", store, bad)
		} else {
			must(t, 0, "imported 200000 users", "import", "--store", store, file)
		}
		if info, err := os.Stat(store + "-wal"); err != nil || info.Size() > 1<<20 {
			t.Errorf("refused %v: the log has %d bytes, %v", refused, info.Size(), err)
		}
	}
}
