package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"example.com/roster/e2e/faults/powercut"
)

// bothWrite breaks nothing. It shows that each of two servers wrote while the other did.
func bothWrite(ctx context.Context, r *run) (string, error) {
	const each = 50
	for {
		by := r.history.by(len(r.servers))
		if by[0] >= each && by[1] >= each {
			break
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w: the servers wrote %v times", errNoEffect, by)
		case <-time.After(5 * time.Millisecond):
		}
	}
	names, err := r.names(ctx)
	if err != nil {
		return "", err
	}
	count, turns := make([]int, len(r.servers)), 0
	last := -1
	for _, name := range names {
		s := serverOf(name, len(r.servers))
		count[s]++
		if s != last {
			turns++
		}
		last = s
	}
	if count[0] < each || count[1] < each {
		return "", fmt.Errorf("the history in the store has %v writes of the servers, and %d of each were acknowledged", count, each)
	}
	return fmt.Sprintf("the history in the store had %d and %d writes of them, which took turns %d times", count[0], count[1], turns), nil
}

// kill kills the last server, and returns how many writes were under way.
func (r *run) kill() (cut int, err error) {
	failures := r.history.failures()
	if !r.servers[len(r.servers)-1].kill() {
		return 0, errors.New("the kill did not end the server")
	}
	time.Sleep(20 * time.Millisecond) // so that the calls that it cut off are known to be
	return r.history.failures() - failures, nil
}

// took returns what shows that a kill took effect: writes were under way, the store was left open,
// acknowledged writes were in its log alone, and all of them are in the store.
func (r *run) took(s state, cut int, highest int64) (string, error) {
	switch {
	case s.revision < highest:
		return "", fmt.Errorf("the store is at revision %d after the kill, and %d was acknowledged", s.revision, highest)
	case cut == 0:
		return "", fmt.Errorf("%w: no write was under way", errNoEffect)
	case s.closed:
		return "", fmt.Errorf("%w: the store was closed in order", errNoEffect)
	case s.alone == s.revision && r.imported == 0: // an import empties the log after each change
		return "", fmt.Errorf("%w: nothing was in the log alone", errNoEffect)
	}
	alone := "the file alone could not be read"
	if s.alone >= 0 {
		alone = fmt.Sprintf("of which %d were in its log alone", s.revision-s.alone)
	}
	return fmt.Sprintf("killed with %d writes under way at revision %d; the store was at %d with %d changes, %s",
		cut, highest, s.revision, s.changes, alone), nil
}

// killServer kills a server and starts it again. If there is another, that one goes on meanwhile.
func killServer(ctx context.Context, r *run) (string, error) {
	s := r.servers[len(r.servers)-1]
	cut, err := r.kill()
	if err != nil {
		return "", err
	}
	highest := r.history.seen()
	if len(r.servers) == 1 {
		left, err := r.left(ctx)
		if err != nil {
			return "", err
		}
		effect, noEffect := r.took(left, cut, highest)
		if err := s.start(ctx); err != nil {
			return "", err
		}
		return effect, noEffect
	}
	acks := r.history.acknowledged()
	if err := r.acknowledge(ctx, acks+writers); err != nil {
		return "", fmt.Errorf("while one of two servers is dead: %w", err)
	}
	// Some of those writes may have got their revision before the kill, and their answer after it.
	meanwhile := r.history.seen()
	now, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	if err := s.start(ctx); err != nil {
		return "", err
	}
	switch {
	case now.revision < meanwhile:
		return "", fmt.Errorf("the store is at revision %d, and %d was acknowledged", now.revision, meanwhile)
	case cut == 0:
		return "", fmt.Errorf("%w: no write was under way", errNoEffect)
	case meanwhile == highest:
		return "", fmt.Errorf("%w: the other server made no write", errNoEffect)
	}
	return fmt.Sprintf("killed with %d writes under way at revision %d; until it was there again, the other brought the store to %d",
		cut, highest, now.revision), nil
}

// cutPower kills the server, every other time while it moves the log into the file, and takes back what it
// had written and not synced. It took effect if something was taken back.
func cutPower(ctx context.Context, r *run) (string, error) {
	if r.random.IntN(2) == 0 {
		if err := r.fileWritten(ctx); err != nil {
			return "", err
		}
	}
	cut, err := r.kill()
	if err != nil {
		return "", err
	}
	highest := r.history.seen()
	lost, err := powercut.Cut(r.store, r.random)
	if err != nil {
		return "", err
	}
	left, err := r.left(ctx)
	if err != nil {
		return "", err
	}
	if left.revision < highest {
		return "", fmt.Errorf("the power cut lost acknowledged writes: the store is at revision %d, and %d was acknowledged; %v",
			left.revision, highest, lost)
	}
	if err := r.servers[0].start(ctx); err != nil {
		return "", fmt.Errorf("after a power cut, %v: %w", lost, err)
	}
	if lost.Dropped == 0 || cut == 0 {
		return "", fmt.Errorf("%w: %v, and %d writes were under way", errNoEffect, lost, cut)
	}
	return fmt.Sprintf("%v, with %d writes under way at revision %d; the store was at %d with %d changes",
		lost, cut, highest, left.revision, left.changes), nil
}

// fileWritten waits until the file is written to, and not only its log.
func (r *run) fileWritten(ctx context.Context) error {
	before, err := os.Stat(r.store)
	for err == nil {
		var now os.FileInfo
		if now, err = os.Stat(r.store); err == nil && !now.ModTime().Equal(before.ModTime()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Microsecond):
		}
	}
	return err
}

func (r *run) logSize() int64 {
	info, err := os.Stat(r.store + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}
