package directory_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
)

// BenchmarkWatchers is a change of one user until each of a thousand watches has it, on a real store,
// with 50 changes in a second.
func BenchmarkWatchers(b *testing.B) {
	store, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "r.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	d, err := directory.New(b.Context(), store, directory.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	const watchers = 1000
	var mu sync.Mutex
	var took []time.Duration
	var group sync.WaitGroup
	began := make(map[int64]time.Time) // by revision, once it is on disk
	arrived := make(chan struct{ revision, count int64 }, 100_000)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for range watchers {
		w, err := d.Watch(ctx, directory.WatchFrom{})
		if err != nil {
			b.Fatal(err)
		}
		group.Go(func() {
			defer w.Close()
			for {
				batch, err := w.Next(ctx)
				if err != nil {
					return
				}
				now := time.Now()
				mu.Lock()
				for _, c := range batch.Changes {
					took = append(took, now.Sub(began[c.Revision]))
				}
				mu.Unlock()
				arrived <- struct{ revision, count int64 }{batch.UpTo.Revision, int64(len(batch.Changes))}
			}
		})
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	writes := 0
	for b.Loop() {
		<-ticker.C
		writes++
		mu.Lock()
		began[int64(writes)] = time.Now() // before the write: the time includes it
		mu.Unlock()
		put(b, d, named(int32(writes%100), fmt.Sprint("A", writes)))
	}
	for missing := int64(watchers * writes); missing > 0; {
		missing -= (<-arrived).count
	}
	cancel()
	group.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}

// BenchmarkReplay is a watch from the beginning of a million users.
func BenchmarkReplay(b *testing.B) {
	folder := b.TempDir()
	if kept := os.Getenv("ROSTER_BENCH_FOLDER"); kept != "" {
		folder = kept
	}
	store, err := sqlite.Open(b.Context(), filepath.Join(folder, "r.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	d, err := directory.New(b.Context(), store, directory.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	const users = 1_000_000
	if count, err := store.Count(b.Context()); err != nil || count == 0 {
		importUsers(b, d, users)
	}
	for b.Loop() {
		for _, from := range []directory.WatchFrom{{Beginning: true}, {Cursor: &directory.Cursor{}}} {
			began, told := time.Now(), 0
			w, err := d.Watch(b.Context(), from)
			if err != nil {
				b.Fatal(err)
			}
			for {
				batch, err := w.Next(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if told += len(batch.Changes); batch.UpTo.Epoch != "" && batch.UpTo.Revision == d.State().Revision {
					break
				}
			}
			w.Close()
			name := "changes-s"
			if from.Beginning {
				name = "users-s"
			}
			b.ReportMetric(time.Since(began).Seconds(), name)
			if told != users {
				b.Errorf("told of %d", told)
			}
		}
	}
}

func importUsers(tb testing.TB, d *directory.Directory, users int) {
	tb.Helper()
	change, err := d.Import(tb.Context(), "bench")
	if err != nil {
		tb.Fatal(err)
	}
	defer change.Rollback()
	var batch []directory.User
	for id := range users {
		batch = append(batch, directory.User{ID: int32(id), Name: fmt.Sprintf("User Number %d", id), Age: int32(id % 100), Email: fmt.Sprintf("user.%d@example.com", id)})
		if len(batch) == 1000 || id == users-1 {
			if _, err := change.Add(tb.Context(), batch); err != nil {
				tb.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if _, err := change.Commit(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkLookUpsBesideAnImport is the time of a look-up of two ids among 1,000 of a million, some of
// which are not in the cache: without any writes, and while another process imports a million users.
func BenchmarkLookUpsBesideAnImport(b *testing.B) {
	path := filepath.Join(b.TempDir(), "r.db")
	store, err := sqlite.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	d, err := directory.New(b.Context(), store, directory.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	importUsers(b, d, 100_000)
	look := func(until <-chan struct{}) (p99 time.Duration) {
		var took []time.Duration
		for n := int32(0); ; n++ {
			select {
			case <-until:
				slices.Sort(took)
				return took[len(took)*99/100]
			default:
			}
			began := time.Now()
			if _, err := d.Entries(b.Context(), nil, []int32{n % 1000, (n * 7) % 1000}); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
			time.Sleep(200 * time.Microsecond)
		}
	}
	for b.Loop() {
		quiet := make(chan struct{})
		time.AfterFunc(5*time.Second, func() { close(quiet) })
		b.ReportMetric(float64(look(quiet).Nanoseconds())/1000, "quiet-p99-µs")
		other, err := sqlite.Open(b.Context(), path)
		if err != nil {
			b.Fatal(err)
		}
		importer, err := directory.New(b.Context(), other, directory.Config{})
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan struct{})
		go func() { importUsers(b, importer, 1_000_000); time.Sleep(time.Second); close(done) }()
		b.ReportMetric(float64(look(done).Nanoseconds())/1000, "import-p99-µs")
		importer.Close()
		other.Close()
	}
}
