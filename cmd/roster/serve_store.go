package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"example.com/roster/directory"
)

// A servedStore is the store of roster serve.
type servedStore struct {
	directory.Store
	name   string // as it may be logged
	path   string // of its file
	users  int64  // how many it has at the start, -1 if they cannot be counted
	folder string // removed at the end; empty if the store is kept
}

// openServedStore opens the store that the flags name, with the sample users in it if --sample
// asks for them. Without --store these get a temporary store: in the default one they would stay
// among the users that somebody imports there later, and nothing would remove them.
func openServedStore(ctx context.Context, f serveFlags, log *slog.Logger) (_ *servedStore, err error) {
	s := &servedStore{name: f.store}
	if f.sample && !f.storeGiven {
		if s.folder, err = os.MkdirTemp("", "roster-sample-"); err != nil {
			return nil, fmt.Errorf("make a temporary store for the sample users: %w", err)
		}
		s.name = filepath.Join(s.folder, defaultStore)
	}
	warn := func(text string) { log.Warn(text) }
	created := warn
	switch {
	case s.folder != "":
		created = func(string) {} // on purpose
	case f.sample:
		created = func(text string) { log.Info(text) } // it will not stay empty
	}
	if s.Store, err = openStore(ctx, s.name, f.create || s.folder != "", created, warn); err != nil {
		return nil, errors.Join(err, s.removeFolder())
	}
	s.path = storePath(s.name)
	s.name = redactStore(s.name)
	if f.sample {
		err = s.addSample(ctx, log)
	}
	if err == nil {
		s.users, err = s.Count(ctx)
	}
	if errors.Is(err, directory.ErrDamaged) {
		// Users on other pages are answered.
		log.Error("the store is damaged: some users cannot be read; roster check lists what is wrong, and roster restore replaces the store by a backup",
			"store", s.name, "error", err.Error())
		s.users, err = -1, nil
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *servedStore) addSample(ctx context.Context, log *slog.Logger) error {
	loaded, err := loadSample(ctx, s)
	switch {
	case err != nil:
		return fmt.Errorf("load the sample users: %w", err)
	case s.folder != "":
		log.Info("the sample users are in a temporary store, which is removed at the end: for one that is kept, give --store",
			"users", loaded, "store", s.name)
	case loaded > 0:
		log.Info("loaded the sample users", "users", loaded, "store", s.name)
	default:
		log.Info("the sample users were not loaded, since the store has users already", "store", s.name)
	}
	return nil
}

// counter returns a function that counts the users. It asks the store for the number only after a
// change, since counting reads all of it.
func (s *servedStore) counter() func(context.Context) (int64, error) {
	var mu sync.Mutex
	counted, users := directory.State{}, int64(0)
	return func(ctx context.Context) (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		state, err := s.State(ctx)
		if err != nil || state == counted {
			return users, err
		}
		count, err := s.Count(ctx)
		if err != nil {
			return 0, err
		}
		counted, users = state, count
		return users, nil
	}
}

// size returns the sizes of the store's file and of its log; 0 for one that is not there.
func (s *servedStore) size() (data, log int64) {
	of := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	return of(s.path), of(s.path + "-wal")
}

// Close closes the store and removes it if it is temporary.
func (s *servedStore) Close() error { return errors.Join(s.Store.Close(), s.removeFolder()) }

func (s *servedStore) removeFolder() error {
	if s.folder == "" {
		return nil
	}
	return os.RemoveAll(s.folder)
}
