package follow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// files are two files that a test changes, and what Files did about it. The value is both contents
// together; the content "bad" makes none.
type files struct {
	contents []string
	err      error // of reading them
	events   []string
}

func (f *files) config() Config[string] {
	return Config[string]{
		Interval: time.Second,
		Read: func() ([][]byte, error) {
			if f.err != nil {
				return nil, f.err
			}
			var contents [][]byte
			for _, content := range f.contents {
				contents = append(contents, []byte(content))
			}
			return contents, nil
		},
		Make: func(contents [][]byte) (*string, error) {
			var all []string
			for _, content := range contents {
				if string(content) == "bad" {
					return nil, errors.New("it is bad")
				}
				all = append(all, string(content))
			}
			return new(strings.Join(all, "+")), nil
		},
		Changed:  func(value *string) { f.events = append(f.events, "changed to "+*value) },
		Failed:   func(err error) { f.events = append(f.events, "failed: "+err.Error()) },
		Restored: func(value *string) { f.events = append(f.events, "restored "+*value) },
	}
}

func open(t *testing.T, config Config[string]) *Files[string] {
	t.Helper()
	followed, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	return followed
}

// expect fails unless the value is want and these events have happened since the last expect.
func (f *files) expect(t *testing.T, followed *Files[string], want string, events ...string) {
	t.Helper()
	if got := *followed.Current(); got != want {
		t.Errorf("the value is %q, want %q", got, want)
	}
	if !slices.Equal(f.events, events) {
		t.Errorf("events %q, want %q", f.events, events)
	}
	f.events = nil
}

func TestAChangeIsFound(t *testing.T) {
	f := &files{contents: []string{"a", "b"}}
	followed := open(t, f.config())
	followed.Poll()
	f.expect(t, followed, "a+b")
	f.contents[1] = "c"
	followed.Poll()
	f.expect(t, followed, "a+c", "changed to a+c")
	followed.Poll()
	f.expect(t, followed, "a+c")
}

// What moves from one file to the next is a change, though all bytes together are the same.
func TestTheEndOfAFileCounts(t *testing.T) {
	f := &files{contents: []string{"ab", "c"}}
	followed := open(t, f.config())
	f.contents = []string{"a", "bc"}
	followed.Poll()
	f.expect(t, followed, "a+bc", "changed to a+bc")
}

func TestConfirmWaitsForASecondReading(t *testing.T) {
	f := &files{contents: []string{"a"}}
	config := f.config()
	config.Confirm = true
	followed := open(t, config)

	f.contents[0] = "half"
	followed.Poll()
	f.contents[0] = "whole"
	followed.Poll()
	f.expect(t, followed, "a")
	followed.Poll()
	f.expect(t, followed, "whole", "changed to whole")

	// A reading that fails in between starts anew.
	f.contents[0] = "next"
	followed.Poll()
	f.err = errors.New("it is gone")
	followed.Poll()
	f.err = nil
	followed.Poll()
	f.expect(t, followed, "whole", "failed: it is gone")
	followed.Poll()
	f.expect(t, followed, "next", "changed to next")

	f.contents[0] = "now"
	followed.Reload()
	f.expect(t, followed, "now", "changed to now")

	// Half a file that cannot be used is not reported if the next reading finds all of it.
	f.contents[0] = "bad"
	followed.Poll()
	f.contents[0] = "good"
	followed.Poll()
	followed.Poll()
	f.expect(t, followed, "good", "changed to good")
}

func TestAFailureIsReportedOnceAndKeepsTheValue(t *testing.T) {
	f := &files{contents: []string{"a"}}
	followed := open(t, f.config())
	for _, step := range []struct {
		content string
		err     error
		value   string
		events  []string
	}{
		{"bad", nil, "a", []string{"failed: it is bad"}},
		{"a", errors.New("it is gone"), "a", []string{"failed: it is gone"}},
		{"bad", nil, "a", []string{"failed: it is bad"}},
		{"a", nil, "a", []string{"restored a"}},
		{"bad", nil, "a", []string{"failed: it is bad"}},
		{"b", nil, "b", []string{"changed to b"}},
	} {
		f.contents[0], f.err = step.content, step.err
		for range 3 {
			followed.Poll()
		}
		f.expect(t, followed, step.value, step.events...)
	}
}

// A value that is refused is tried again at each reading: what spoke against it may pass.
func TestAValueThatIsRefusedMayBeAdmittedLater(t *testing.T) {
	f := &files{contents: []string{"a"}}
	config := f.config()
	refuse := true
	config.Admit = func(current, next *string) error {
		if refuse {
			return fmt.Errorf("%s is worse than %s", *next, *current)
		}
		return nil
	}
	followed := open(t, config)
	f.contents[0] = "b"
	followed.Poll()
	followed.Poll()
	f.expect(t, followed, "a", "failed: b is worse than a")
	refuse = false
	followed.Poll()
	f.expect(t, followed, "b", "changed to b")
}

func TestOpenFailsWithTheFiles(t *testing.T) {
	for want, f := range map[string]*files{
		"it is bad":  {contents: []string{"bad"}},
		"it is gone": {err: errors.New("it is gone")},
	} {
		if _, err := Open(f.config()); err == nil || err.Error() != want || f.events != nil {
			t.Errorf("%v, events %q, want the error %q alone", err, f.events, want)
		}
	}
}

func TestWatchReadsAtEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &files{contents: []string{"a"}}
		config := f.config()
		var readings int
		config.AfterReading = func(time.Time) { readings++ }
		followed := open(t, config)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		f.contents[0] = "b"
		go func() { followed.Watch(ctx); close(ended) }()
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		f.expect(t, followed, "b", "changed to b")
		time.Sleep(2 * time.Second)
		cancel()
		<-ended
		if readings != 3 {
			t.Errorf("%d readings in 3.5 s, want 3", readings)
		}
	})
}
