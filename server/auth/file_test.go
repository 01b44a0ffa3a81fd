//go:build unix

package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// addToken adds a token to a file and returns its secret.
func addToken(t testing.TB, path, name string, role Role) (secret string) {
	t.Helper()
	err := Update(path, true, func(entries []Entry) (_ []Entry, err error) {
		entries, _, secret, err = NewToken(entries, name, role, now, time.Time{})
		return entries, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func revoke(t testing.TB, path, name string) {
	t.Helper()
	err := Update(path, false, func(entries []Entry) (_ []Entry, err error) {
		entries, _, err = Revoke(entries, name)
		return entries, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheFileHasHashesAndIsItsOwnersAlone(t *testing.T) {
	syscall.Umask(0)
	path := filepath.Join(t.TempDir(), "tokens.json")
	secret := addToken(t, path, "batch-import", Write)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := ReadFile(path)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	want := fmt.Sprintf(`{
  "version": 1,
  "tokens": [
    {
      "id": "%s",
      "name": "batch-import",
      "role": "write",
      "sha256": "%s",
      "created": "2025-06-01T12:00:00Z"
    }
  ]
}
`, entries[0].ID, hashOf(secret))
	if string(content) != want {
		t.Errorf("got %s\nwant %s", content, want)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	revoke(t, path, "batch-import")
	if content, _ := os.ReadFile(path); string(content) != "{\n  \"version\": 1,\n  \"tokens\": []\n}\n" {
		t.Errorf("after the last was revoked: %s", content)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

func TestAChangeKeepsModeAndLinks(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "tokens.json")
	addToken(t, path, "a", Read)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(folder, "link.json")
	if err := os.Symlink("tokens.json", link); err != nil {
		t.Fatal(err)
	}
	addToken(t, link, "b", Read)
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v, want 0640", info.Mode(), err)
	}
	if entries, err := ReadFile(path); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	if os.Getuid() != 0 {
		t.Skip("only root can see whether the owner is kept")
	}
	if err := os.Chown(path, 65534, 65533); err != nil {
		t.Fatal(err)
	}
	addToken(t, path, "c", Read)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 65534 || owner.Gid != 65533 {
		t.Errorf("it belongs to %d:%d", owner.Uid, owner.Gid)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	good := filepath.Join(t.TempDir(), "tokens.json")
	addToken(t, good, "a", Read)
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(with string) string {
		return `{"version":1,"tokens":[{"id":"00000001","name":"a","role":"read","created":"2025-06-01T12:00:00Z"` + with + `}]}`
	}
	hash := hashOf(newSecret())
	for _, test := range []struct {
		name, content string
		mode          fs.FileMode
		want          string
	}{
		{"others may read it", string(content), 0o604, "every user of this machine has access to it (mode 0604): run chmod o= "},
		{"others may write it", string(content), 0o602, "every user of this machine has access to it (mode 0602)"},
		{"as most editors write it", string(content), 0o644, "every user of this machine has access to it (mode 0644)"},
		{"its group may write it", string(content), 0o660, "its group may change it (mode 0660): run chmod g-w "},
		{"empty", "", 0o600, "it is malformed at line 1: EOF"},
		{"cut", string(content[:100]), 0o600, "it is malformed at line 7: unexpected EOF"},
		{"not JSON", "roster_abc\n", 0o600, "it is malformed at line 1: invalid character 'r'"},
		{"two documents", string(content) + string(content), 0o600, "there is more after the end"},
		{"an unknown key", entry(`,"sha256":"` + hash + `","scope":"all"`), 0o600, `unknown field "scope"`},
		{"a later format", `{"version":2,"tokens":[]}`, 0o600, "its version is 2, this Roster supports 1"},
		{"no version", `{"tokens":[]}`, 0o600, "its version is 0, this Roster supports 1"},
		{"another role", strings.Replace(entry(`,"sha256":"`+hash+`"`), `"read"`, `"admin"`, 1), 0o600, `role "admin" is not read or write`},
		{"no role", strings.Replace(entry(`,"sha256":"`+hash+`"`), `"role":"read",`, ``, 1), 0o600, `entry 1 ("a"): it has no role: want read or write`},
		{"no secret", entry(``), 0o600, `entry 1 ("a"): it needs either sha256 or certificate`},
		{"two kinds", entry(`,"sha256":"` + hash + `","certificate":"b"`), 0o600, "it needs either sha256 or certificate"},
		{"half a hash", entry(`,"sha256":"` + hash[:62] + `"`), 0o600, "sha256 is not 64 hexadecimal digits"},
		{"the token itself", entry(`,"sha256":"` + newSecret() + `"`), 0o600, "sha256 is not 64 hexadecimal digits"},
		{"an id of another kind", strings.Replace(entry(`,"sha256":"`+hash+`"`), "00000001", "1", 1), 0o600, `id "1" is not 8 hexadecimal digits`},
		{"a time of another kind", entry(`,"sha256":"` + hash + `","expires":"tomorrow"`), 0o600, "it is malformed: parsing time"},
		{"a name twice", `{"version":1,"tokens":[{"id":"00000001","name":"a","role":"read","certificate":"x","created":"2025-06-01T12:00:00Z"},` +
			`{"id":"00000002","name":"a","role":"read","certificate":"y","created":"2025-06-01T12:00:00Z"}]}`, 0o600, `entry 2 ("a"): "a" is already the name or id of entry "a"`},
		{"a token twice", `{"version":1,"tokens":[{"id":"00000001","name":"a","role":"read","sha256":"` + hash + `","created":"2025-06-01T12:00:00Z"},` +
			`{"id":"00000002","name":"b","role":"read","sha256":"` + hash + `","created":"2025-06-01T12:00:00Z"}]}`, 0o600, `entry 2 ("b"): it has the sha256 of entry "a"`},
		{"something else", strings.Repeat(" ", maxFileBytes+1), 0o600, "it is longer than 4194304 bytes: it is something else"},
	} {
		path := filepath.Join(t.TempDir(), "tokens.json")
		if err := os.WriteFile(path, []byte(test.content), test.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, nil); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v\nwant %s", test.name, err, test.want)
		}
		// The command that changes the file fails with the same error.
		if err := Update(path, true, func(e []Entry) ([]Entry, error) { return e, nil }); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s, to be changed: %v\nwant %s", test.name, err, test.want)
		}
	}
	none := filepath.Join(t.TempDir(), "none.json")
	if _, err := Open(none, nil); err == nil || !strings.Contains(err.Error(), "there is no token file "+none+": create it with roster token create --tokens "+none) {
		t.Errorf("a missing file: %v", err)
	}
	if err := Update(none, false, func(e []Entry) ([]Entry, error) { return e, nil }); err == nil || !strings.Contains(err.Error(), "there is no token file") {
		t.Errorf("a missing file, to be changed: %v", err)
	}
	if _, err := Open(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "it is not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if err := Update(filepath.Join(none, "tokens.json"), true, nil); err == nil || !strings.Contains(err.Error(), "no such file or directory") {
		t.Errorf("in no folder: %v", err)
	}
}

func TestManyWritersLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	const writers = 40
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() { addToken(t, path, fmt.Sprint("token ", i), Read) })
	}
	all.Wait()
	if entries, err := ReadFile(path); err != nil || len(entries) != writers {
		t.Errorf("%d entries, %v, want %d", len(entries), err, writers)
	}
}

func TestAFailedChangeLeavesTheFileAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	addToken(t, path, "a", Read)
	before, _ := os.ReadFile(path)
	for name, change := range map[string]func([]Entry) ([]Entry, error){
		"it fails":          func([]Entry) ([]Entry, error) { return nil, fs.ErrInvalid },
		"it breaks a bound": func(e []Entry) ([]Entry, error) { return append(e, e[0]), nil },
	} {
		if err := Update(path, true, change); err == nil {
			t.Errorf("%s: no error", name)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
			t.Errorf("%s: the file is now %s", name, after)
		}
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

// following returns a Live that the test polls itself, and its log.
func following(t *testing.T, path string) (*Live, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	live, err := Open(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return live, &log
}

func TestAChangeOfTheFileCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	first := addToken(t, path, "first", Read)
	live, log := following(t, path)
	live.files.Poll()
	if log.Len() > 0 {
		t.Errorf("read again without a change: %s", log)
	}
	second := addToken(t, path, "second", Write)
	live.files.Poll()
	if entry, err := live.Set().Token(second, now); err != nil || entry.Role != Write {
		t.Errorf("a new token: %v, %v", entry, err)
	}
	revoke(t, path, "first")
	live.files.Poll()
	if _, err := live.Set().Token(first, now); err != ErrUnknown {
		t.Errorf("a revoked token: %v", err)
	}
	if _, err := live.Set().Token(second, now); err != nil {
		t.Errorf("the other one: %v", err)
	}
	if got := strings.Count(log.String(), "token file reloaded"); got != 2 {
		t.Errorf("logged %d times:\n%s", got, log)
	}
}

// Only the content is compared: correcting the owner of a file changes neither its size, its times
// nor its mode, but may let the server read a revocation that it could not read before.
func TestAChangeThatOnlyTheContentShows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	secret := addToken(t, path, "a", Read)
	live, _ := following(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content = bytes.Replace(content, []byte(`"name": "a"`), []byte(`"name": "b"`), 1)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	live.files.Poll()
	if entry, err := live.Set().Token(secret, now); err != nil || entry.Name != "b" {
		t.Errorf("%v, %v, want the entry as it is now", entry, err)
	}
}

// A file that would be too long to read is not written.
func TestAFileDoesNotGrowBeyondWhatCanBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	addToken(t, path, "a", Read)
	before, _ := os.ReadFile(path)
	err := Update(path, false, func(entries []Entry) ([]Entry, error) {
		for len(entries) < maxFileBytes/100 {
			entry := entries[0]
			entry.ID = fmt.Sprintf("%08x", len(entries))
			entry.Name = entry.ID + strings.Repeat("n", 40)
			sum := sha256.Sum256([]byte(entry.ID))
			entry.SHA256 = hex.EncodeToString(sum[:])
			entries = append(entries, entry)
		}
		return entries, nil
	})
	if after, _ := os.ReadFile(path); err == nil || !strings.Contains(err.Error(), "longer than") || !bytes.Equal(before, after) {
		t.Errorf("error %v; the file has %d bytes, want %d as before", err, len(after), len(before))
	}
}

func TestABrokenFileLeavesTheSetAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	secret := addToken(t, path, "a", Read)
	good, _ := os.ReadFile(path)
	live, log := following(t, path)
	for _, step := range []struct {
		name, want string
		do         func() error
	}{
		{"cut", "it is malformed at line", func() error { return os.WriteFile(path, good[:40], 0o600) }},
		{"emptied", "it is malformed at line 1: EOF", func() error { return os.WriteFile(path, nil, 0o600) }},
		{"whole again", "token file reloaded", func() error { return os.WriteFile(path, good, 0o600) }},
		{"open to everybody", "mode 0644", func() error { return os.Chmod(path, 0o644) }},
		{"closed again", "token file reloaded", func() error { return os.Chmod(path, 0o600) }},
		{"gone", "there is no token file", func() error { return os.Remove(path) }},
		{"back", "token file reloaded", func() error { return os.WriteFile(path, good, 0o600) }},
		{"a folder", "it is not a regular file", func() error { os.Remove(path); return os.Mkdir(path, 0o700) }},
	} {
		log.Reset()
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		for range 3 { // and it is logged once
			live.files.Poll()
		}
		if _, err := live.Set().Token(secret, now); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), step.want) {
			t.Errorf("%s: logged %q, want one line with %q", step.name, log, step.want)
		}
		if broken := step.want != "token file reloaded"; broken != strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("%s: logged %q", step.name, log)
		}
	}
}

func TestWatchFollowsWithinASecond(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	addToken(t, path, "a", Read)
	live, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { live.Watch(ctx); close(ended) }()
	secret := addToken(t, path, "b", Read)
	for began := time.Now(); ; runtime.Gosched() {
		if _, err := live.Set().Token(secret, now); err == nil {
			break
		}
		if time.Since(began) > 20*time.Second { // of a busy machine
			t.Fatal("the new token does not count")
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-ended
}
