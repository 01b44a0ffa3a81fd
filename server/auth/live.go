package auth

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"example.com/roster/server/internal/follow"
)

// pollInterval is how often Watch reads the file.
const pollInterval = 500 * time.Millisecond

// Live is the Set of a file that may change. It is safe for concurrent use.
type Live struct{ files *follow.Files[Set] }

// Open reads a file. Its errors say what is wrong with the file and what to do.
func Open(path string, log *slog.Logger) (*Live, error) {
	inUse := func(set *Set) { log.Info("token file reloaded", "file", path, "entries", set.Len()) }
	files, err := follow.Open(follow.Config[Set]{
		Interval: pollInterval,
		Read: func() ([][]byte, error) {
			content, _, err := load(path)
			return [][]byte{content}, err
		},
		Make: func(contents [][]byte) (*Set, error) {
			_, set, err := parse(contents[0])
			if err != nil {
				return nil, fmt.Errorf("token file %s: %w", path, err)
			}
			return set, nil
		},
		Changed:  inUse,
		Restored: inUse,
		Failed: func(err error) {
			log.Error("the token file could not be reloaded: its previous tokens stay valid", "error", err.Error())
		},
	})
	if err != nil {
		return nil, err
	}
	return &Live{files}, nil
}

// Set returns the set as of now.
func (l *Live) Set() *Set { return l.files.Current() }

// Reloads returns how often the file was reloaded, and how often it could not be used.
func (l *Live) Reloads() (reloaded, refused uint64) { return l.files.Reloads() }

// Watch reloads the file when it changes, until ctx is done: a change takes effect within a second.
// A file that is missing or malformed is logged and leaves the set as it was: it may be half
// written, which must neither let everybody in nor lock everybody out.
func (l *Live) Watch(ctx context.Context) { l.files.Watch(ctx) }
