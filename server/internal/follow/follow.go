// Package follow keeps a value that is made from files in step with those files, so that a program
// need not be restarted after they change.
//
//	tokens, err := follow.Open(follow.Config[Set]{
//		Read:     func() ([][]byte, error) { … }, // the files' contents
//		Make:     func(contents [][]byte) (*Set, error) { … },
//		Interval: time.Second,
//	})
//	go tokens.Watch(ctx)
//	set := tokens.Current()
//
// It reads the files at every interval and compares their contents, not their times: a file may be
// rewritten, replaced, or reached through a link that changes, and none of these shows in all file
// systems. A content that cannot be used leaves the value as it was.
package follow

import (
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// Config says which value is made of which files. Its functions are not called concurrently.
type Config[T any] struct {
	// Read returns the contents of the files, always in the same order.
	Read func() ([][]byte, error)
	// Make makes the value. It is called again at each reading for as long as it fails.
	Make func(contents [][]byte) (*T, error)
	// Admit, if set, may refuse to replace the current value by the next one.
	Admit func(current, next *T) error
	// Confirm makes Watch act only on contents that two readings in a row found. It is for files of
	// which half, read while they are being written, can be a valid value.
	Confirm bool
	// Interval is the time between two readings.
	Interval time.Duration

	// Changed, if set, is called after the value was replaced.
	Changed func(current *T)
	// Failed, if set, is called when the files cannot be used, once for each different error.
	Failed func(error)
	// Restored, if set, is called when files that could not be used have the contents of the
	// current value again.
	Restored func(current *T)
	// AfterReading, if set, is called after each reading of Watch.
	AfterReading func(now time.Time)
}

// Files is a value that follows its files. It is safe for concurrent use.
type Files[T any] struct {
	config  Config[T]
	current atomic.Pointer[T]

	mu      sync.Mutex // held while the files are read
	used    digest     // of the contents that current was made of
	last    digest     // of the contents that were read last; zero if they could not be read
	failure string     // the error that Failed was told, empty if the files can be used

	reloads, refusals atomic.Uint64
}

// Open reads the files and makes the first value. Its errors are those of Read and Make.
func Open[T any](config Config[T]) (*Files[T], error) {
	f := &Files[T]{config: config}
	contents, err := config.Read()
	if err != nil {
		return nil, err
	}
	value, err := config.Make(contents)
	if err != nil {
		return nil, err
	}
	f.used = digestOf(contents)
	f.current.Store(value)
	return f, nil
}

// Current returns the value in use.
func (f *Files[T]) Current() *T { return f.current.Load() }

// Reloads returns how often the value was replaced, and how often the files could not be used, each
// error in a row counted once.
func (f *Files[T]) Reloads() (replaced, refused uint64) {
	return f.reloads.Load(), f.refusals.Load()
}

// Watch reads the files at every interval, until ctx is done.
func (f *Files[T]) Watch(ctx context.Context) {
	ticker := time.NewTicker(f.config.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			f.Poll()
			if f.config.AfterReading != nil {
				f.config.AfterReading(now)
			}
		}
	}
}

// Poll reads the files once, as Watch does at every interval.
func (f *Files[T]) Poll() { f.read(f.config.Confirm) }

// Reload reads the files once and does not wait for a second reading, for a caller who knows that
// they are completely written.
func (f *Files[T]) Reload() { f.read(false) }

func (f *Files[T]) read(confirm bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	contents, err := f.config.Read()
	if err != nil {
		f.last = digest{}
		f.fail(err)
		return
	}
	read := digestOf(contents)
	confirmed := !confirm || read == f.last
	f.last = read
	if read == f.used {
		if f.failure != "" && f.config.Restored != nil {
			f.config.Restored(f.current.Load())
		}
		f.failure = ""
		return
	}
	if !confirmed {
		return
	}
	next, err := f.config.Make(contents)
	if err == nil && f.config.Admit != nil {
		err = f.config.Admit(f.current.Load(), next)
	}
	if err != nil {
		f.fail(err)
		return
	}
	f.used, f.failure = read, ""
	f.current.Store(next)
	f.reloads.Add(1)
	if f.config.Changed != nil {
		f.config.Changed(next)
	}
}

// fail reports an error, unless it is the one that was reported last.
func (f *Files[T]) fail(err error) {
	if err.Error() == f.failure {
		return
	}
	f.failure = err.Error()
	f.refusals.Add(1)
	if f.config.Failed != nil {
		f.config.Failed(err)
	}
}

type digest [sha256.Size]byte

// digestOf hashes each file by itself, so that it also tells where one file ends and the next
// begins.
func digestOf(contents [][]byte) digest {
	all := make([]byte, 0, len(contents)*sha256.Size)
	for _, content := range contents {
		one := sha256.Sum256(content)
		all = append(all, one[:]...)
	}
	return sha256.Sum256(all)
}
