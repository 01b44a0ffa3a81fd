package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"example.com/roster/directory"
)

// memoryImport is an import into a Memory: a change that is collected and applied at its end.
type memoryImport struct {
	data    *Memory
	actor   string
	users   map[int32]directory.User
	deleted map[int32]bool
	done    func() // nil once it has ended
}

func (s *memory) Import(ctx context.Context, actor string) (directory.Import, error) {
	done, err := s.write(ctx)
	if err != nil {
		return nil, err
	}
	return &memoryImport{data: s.data, actor: actor, users: make(map[int32]directory.User), deleted: make(map[int32]bool), done: done}, nil
}

func (i *memoryImport) Add(ctx context.Context, users []directory.User) (duplicates []int, err error) {
	for n := range users {
		if err := users[n].Validate(); err != nil {
			return nil, fmt.Errorf("id %d: %w", users[n].ID, err)
		}
	}
	for n, user := range users {
		if _, twice := i.users[user.ID]; twice {
			duplicates = append(duplicates, n)
			continue
		}
		i.users[user.ID] = user
	}
	return duplicates, ctx.Err()
}

func (i *memoryImport) RemoveOthers(ctx context.Context) (removed int64, err error) {
	i.data.mu.Lock()
	defer i.data.mu.Unlock()
	for id := range i.data.users {
		if _, added := i.users[id]; !added && !i.deleted[id] {
			i.deleted[id] = true
			removed++
		}
	}
	return removed, ctx.Err()
}

func (i *memoryImport) EmailsTaken(ctx context.Context, limit int) (found []directory.ChangeError, err error) {
	i.data.mu.Lock()
	defer i.data.mu.Unlock()
	ids, by := i.data.taken(i.users, i.deleted)
	for _, id := range ids[:min(limit, len(ids))] {
		found = append(found, directory.ChangeError{Err: directory.ErrEmailTaken, ID: id, Present: by[id]})
	}
	return found, ctx.Err()
}

func (i *memoryImport) Undo(ctx context.Context, ids []int32) error {
	for _, id := range ids {
		delete(i.users, id)
	}
	return ctx.Err()
}

func (i *memoryImport) Commit(ctx context.Context) (done directory.ImportDone, err error) {
	defer i.Rollback()
	if err := ctx.Err(); err != nil {
		return done, err
	}
	m := i.data
	m.mu.Lock()
	defer m.mu.Unlock()
	if ids, by := m.taken(i.users, i.deleted); len(ids) > 0 {
		return done, &directory.ChangeError{Err: directory.ErrEmailTaken, ID: ids[0], Present: by[ids[0]]}
	}
	for _, id := range slices.Collect(maps.Keys(i.users)) {
		switch before, existed := m.users[id]; {
		case !existed:
			done.Created++
		case before.User == i.users[id]:
			done.Unchanged++
		default:
			done.Updated++
		}
	}
	done.Removed = int64(len(i.deleted))
	m.apply(i.users, i.deleted, i.actor)
	done.State = m.state()
	return done, nil
}

func (i *memoryImport) Rollback() error {
	if i.done != nil {
		i.done()
		i.done = nil
	}
	return nil
}
