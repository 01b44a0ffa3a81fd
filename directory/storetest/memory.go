package storetest

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"example.com/roster/directory"
)

// Memory is data that Stores of a test share, as processes share a file. It is the simplest thing that
// keeps the contract, and so a model of it: a test may compare another store with it.
type Memory struct {
	writing chan struct{} // has an element while a change is made

	mu      sync.Mutex
	epoch   string
	users   map[int32]directory.Record
	changes []directory.Change
	now     int64 // the revision
	oldest  int64
	highest int32 // the highest id that was ever used
	last    time.Time
	keep    int // how many changes Compact leaves
}

// NewMemory returns data without users.
func NewMemory() *Memory {
	return &Memory{writing: make(chan struct{}, 1), epoch: newEpoch(), users: make(map[int32]directory.Record), keep: 1_000_000}
}

func newEpoch() string {
	random := make([]byte, 16)
	rand.Read(random)
	return hex.EncodeToString(random)
}

// Open returns a store on the data.
func (m *Memory) Open() directory.Store { return &memory{data: m} }

// Restore begins another epoch, with the same users and no history.
func (m *Memory) Restore() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch, m.changes, m.oldest = newEpoch(), nil, m.now
}

// Edit changes a name without recording it, as a person with another program does.
func (m *Memory) Edit(id int32, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	record := m.users[id]
	record.Name = name
	m.users[id] = record
	m.now++
	m.changes, m.oldest = nil, m.now
}

// Keep sets how many changes Compact leaves.
func (m *Memory) Keep(changes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep = changes
}

func (m *Memory) state() directory.State {
	return directory.State{Epoch: m.epoch, Revision: m.now, Oldest: m.oldest}
}

type memory struct {
	data   *Memory
	mu     sync.Mutex
	closed bool
}

// begin checks that a call can be made, and locks the data.
func (s *memory) begin(ctx context.Context) (unlock func(), err error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case closed:
		return nil, fmt.Errorf("%w: it is closed", directory.ErrUnavailable)
	}
	s.data.mu.Lock()
	return s.data.mu.Unlock, nil
}

// write waits for the turn of a change.
func (s *memory) write(ctx context.Context) (done func(), err error) {
	unlock, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	unlock()
	select {
	case s.data.writing <- struct{}{}:
		return func() { <-s.data.writing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(5 * time.Second):
		return nil, fmt.Errorf("%w: another write takes too long", directory.ErrUnavailable)
	}
}

func (s *memory) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *memory) Get(ctx context.Context, ids []int32) ([]directory.Record, directory.State, error) {
	unlock, err := s.begin(ctx)
	if err != nil {
		return nil, directory.State{}, err
	}
	defer unlock()
	found := make(map[int32]directory.Record)
	for _, id := range ids {
		if record, ok := s.data.users[id]; ok {
			found[id] = record
		}
	}
	return slices.Collect(maps.Values(found)), s.data.state(), nil
}

func (s *memory) Count(ctx context.Context) (int64, error) {
	unlock, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	return int64(len(s.data.users)), nil
}

func (s *memory) State(ctx context.Context) (directory.State, error) {
	unlock, err := s.begin(ctx)
	if err != nil {
		return directory.State{}, err
	}
	defer unlock()
	return s.data.state(), nil
}

// matching returns the users that match a filter, in the order of a query; the data are locked.
func (m *Memory) matching(query directory.Query) []directory.Record {
	var found []directory.Record
	for _, record := range m.users {
		if query.Filter.Matches(record.Name, record.Email) {
			found = append(found, record)
		}
	}
	slices.SortFunc(found, func(a, b directory.Record) int { return order(query, keyOf(&a), keyOf(&b)) })
	return found
}

func keyOf(r *directory.Record) directory.PageKey {
	return directory.PageKey{NameKey: directory.FoldKey(r.Name), ID: r.ID}
}

func order(query directory.Query, a, b directory.PageKey) int {
	c := cmp.Compare(a.ID, b.ID)
	if query.ByName {
		c = cmp.Or(cmp.Compare(a.NameKey, b.NameKey), c)
	}
	if query.Descending {
		c = -c
	}
	return c
}

func (s *memory) List(ctx context.Context, query directory.Query) (page directory.Page, err error) {
	unlock, err := s.begin(ctx)
	if err != nil {
		return page, err
	}
	defer unlock()
	if query.Limit < 1 {
		return page, errors.New("list: the limit must be at least 1")
	}
	found := s.data.matching(query)
	page.State = s.data.state()
	if query.Total {
		page.Total = int64(len(found))
	}
	if query.After != nil {
		found = slices.DeleteFunc(found, func(r directory.Record) bool { return order(query, keyOf(&r), *query.After) <= 0 })
	}
	page.More = len(found) > query.Limit
	page.Users = found[:min(query.Limit, len(found))]
	return page, nil
}

func (s *memory) Export(ctx context.Context, filter directory.Filter, each func(directory.State, []directory.Record) error) (directory.State, error) {
	unlock, err := s.begin(ctx)
	if err != nil {
		return directory.State{}, err
	}
	found, state := s.data.matching(directory.Query{Filter: filter}), s.data.state()
	unlock()
	for part := range slices.Chunk(found, 500) {
		if err := errors.Join(ctx.Err(), each(state, part)); err != nil {
			return directory.State{}, err
		}
	}
	return state, nil
}

func (s *memory) Changes(ctx context.Context, from directory.Cursor, limit int) ([]directory.Change, directory.State, error) {
	unlock, err := s.begin(ctx)
	if err != nil {
		return nil, directory.State{}, err
	}
	defer unlock()
	m := s.data
	state := m.state()
	if from.Epoch != "" && from.Epoch != m.epoch || from.Revision < m.oldest || from.Revision > m.now || from.Revision == m.now && from.Skip > 0 {
		return nil, state, &directory.HistoryError{State: state, Asked: from}
	}
	at, _ := slices.BinarySearchFunc(m.changes, from, func(c directory.Change, from directory.Cursor) int {
		return cmp.Or(cmp.Compare(c.Revision, from.Revision+1), cmp.Compare(c.Index, from.Skip))
	})
	return slices.Clone(m.changes[at:min(len(m.changes), at+limit)]), state, nil
}

func (s *memory) Compact(ctx context.Context) error {
	unlock, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	m := s.data
	drop := len(m.changes) - m.keep
	for drop > 0 && drop < len(m.changes) && !m.changes[drop-1].Last {
		drop--
	}
	if drop > 0 {
		m.oldest = m.changes[drop-1].Revision
		m.changes = slices.Clone(m.changes[drop:])
	}
	return nil
}

// tick is the time of a change.
func (m *Memory) tick() time.Time {
	now := time.Now().UTC().Truncate(time.Microsecond)
	if !now.After(m.last) {
		now = m.last
	}
	return now
}

// apply makes users the state of the data, and records what that changes; the data are locked.
func (m *Memory) apply(users map[int32]directory.User, deleted map[int32]bool, actor string) (now time.Time) {
	now = m.tick()
	m.last = now
	m.now++
	ids := slices.Sorted(maps.Keys(users))
	for id := range deleted {
		if _, again := users[id]; !again {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	start := len(m.changes)
	for _, id := range ids {
		before, existed := m.users[id]
		user, stays := users[id]
		change := directory.Change{Revision: m.now, Time: now, Actor: actor, Index: len(m.changes) - start}
		if existed {
			change.Before.Name, change.Before.Email = before.Name, before.Email
		}
		switch {
		case !stays && !existed, stays && existed && before.User == user:
			continue
		case !stays:
			change.Kind = directory.Deleted
			change.User.ID = id
			delete(m.users, id)
		default:
			record := directory.Record{User: user, Created: now, Updated: now, Revision: m.now}
			change.Kind = directory.Created
			if existed {
				change.Kind, record.Created = directory.Updated, before.Created
			}
			change.User = record
			m.users[id] = record
			m.highest = max(m.highest, id)
		}
		m.changes = append(m.changes, change)
	}
	if len(m.changes) > start {
		m.changes[len(m.changes)-1].Last = true
	}
	return now
}

// taken returns a user that would share its email with one of users, and that one; the data are locked.
func (m *Memory) taken(users map[int32]directory.User, deleted map[int32]bool) (ids []int32, by map[int32]*directory.Record) {
	holders := make(map[string]directory.Record)
	for id, record := range m.users {
		if _, changed := users[id]; !changed && !deleted[id] && record.Email != "" {
			holders[directory.FoldKey(record.Email)] = record
		}
	}
	by = make(map[int32]*directory.Record)
	for _, id := range slices.Sorted(maps.Keys(users)) {
		user := users[id]
		if user.Email == "" {
			continue
		}
		key := directory.FoldKey(user.Email)
		holder, ok := holders[key]
		if before, existed := m.users[id]; ok && !(existed && directory.FoldKey(before.Email) == key) {
			ids = append(ids, id)
			by[id] = &holder
			continue
		}
		holders[key] = directory.Record{User: user}
	}
	return ids, by
}

func (s *memory) Write(ctx context.Context, change directory.Write) (written directory.Written, err error) {
	done, err := s.write(ctx)
	if err != nil {
		return written, err
	}
	defer done()
	m := s.data
	m.mu.Lock()
	defer m.mu.Unlock()
	plan, err := m.plan(change)
	if err != nil {
		return written, err
	}
	if err := m.emailTaken(plan); err != nil {
		return written, err
	}
	record := func(id int32) directory.Record { return m.users[id] }
	if change.Check {
		record = func(id int32) directory.Record { return directory.Record{User: plan.users[id]} }
	} else {
		m.apply(plan.users, plan.deleted, change.Actor)
	}
	for _, id := range plan.created {
		written.Created = append(written.Created, record(id))
	}
	for _, id := range plan.updated {
		written.Updated = append(written.Updated, record(id))
	}
	written.Deleted, written.State = plan.gone, m.state()
	return written, nil
}

// emailTaken returns the error for the first user of a change who would get an email that another one has then,
// nil if there is none; the data are locked.
func (m *Memory) emailTaken(p *plan) error {
	holders := make(map[string][]directory.Record) // after the change
	for id, record := range m.users {
		if _, changed := p.users[id]; !changed && !p.deleted[id] {
			holders[directory.FoldKey(record.Email)] = append(holders[directory.FoldKey(record.Email)], record)
		}
	}
	for _, user := range p.users {
		holders[directory.FoldKey(user.Email)] = append(holders[directory.FoldKey(user.Email)], directory.Record{User: user})
	}
	for _, id := range slices.Concat(p.updated, p.created) {
		key := directory.FoldKey(p.users[id].Email)
		if before, existed := m.users[id]; key == "" || existed && directory.FoldKey(before.Email) == key {
			continue
		}
		if other := slices.IndexFunc(holders[key], func(r directory.Record) bool { return r.ID != id }); other >= 0 {
			return &directory.ChangeError{Err: directory.ErrEmailTaken, Part: p.places[id].part, Index: p.places[id].index, ID: id, Present: &holders[key][other]}
		}
	}
	return nil
}

type place struct {
	part  directory.Part
	index int
}

// A plan is what a Write comes to.
type plan struct {
	users                  map[int32]directory.User
	deleted                map[int32]bool
	places                 map[int32]place
	created, updated, gone []int32
}

// plan works out a change; the data are locked.
func (m *Memory) plan(change directory.Write) (*plan, error) {
	p := &plan{users: make(map[int32]directory.User), deleted: make(map[int32]bool), places: make(map[int32]place)}
	highest := m.highest
	name := func(id int32, part directory.Part, index int) error {
		if _, twice := p.places[id]; twice {
			return &directory.ChangeError{Err: fmt.Errorf("%w: it is named twice", directory.ErrInvalid), Part: part, Index: index, ID: id}
		}
		p.places[id] = place{part, index}
		if part != directory.InDeletes { // which may name somebody who never was
			highest = max(highest, id)
		}
		return nil
	}
	fail := func(err error, part directory.Part, index int, id int32) error {
		e := &directory.ChangeError{Err: err, Part: part, Index: index, ID: id}
		if record, ok := m.users[id]; ok {
			e.Present = &record
		}
		return e
	}
	wrong := func(expected directory.Expected, id int32) bool {
		return expected != (directory.Expected{}) && expected != directory.Expected{Epoch: m.epoch, Revision: m.users[id].Revision}
	}
	for i, d := range change.Deletes {
		if err := name(d.ID, directory.InDeletes, i); err != nil {
			return nil, err
		}
		_, exists := m.users[d.ID]
		switch {
		case !exists && d.AllowMissing:
		case !exists:
			return nil, fail(directory.ErrNotFound, directory.InDeletes, i, d.ID)
		case wrong(d.If, d.ID):
			return nil, fail(directory.ErrChanged, directory.InDeletes, i, d.ID)
		default:
			p.deleted[d.ID] = true
			p.gone = append(p.gone, d.ID)
		}
	}
	for i, u := range change.Updates {
		id := u.User.ID
		if err := name(id, directory.InUpdates, i); err != nil {
			return nil, err
		}
		before, exists := m.users[id]
		switch {
		case !exists && (!u.Replace || u.If != directory.Expected{}):
			return nil, fail(directory.ErrNotFound, directory.InUpdates, i, id)
		case !exists && u.Fields != directory.AllFields:
			return nil, fail(fmt.Errorf("%w: a user who does not exist needs all fields", directory.ErrInvalid), directory.InUpdates, i, id)
		case exists && wrong(u.If, id):
			return nil, fail(directory.ErrChanged, directory.InUpdates, i, id)
		}
		user := before.User
		user.ID = id
		if u.Fields&directory.NameField != 0 {
			user.Name = u.User.Name
		}
		if u.Fields&directory.AgeField != 0 {
			user.Age = u.User.Age
		}
		if u.Fields&directory.EmailField != 0 {
			user.Email = u.User.Email
		}
		if err := user.Validate(); err != nil {
			return nil, fail(err, directory.InUpdates, i, id)
		}
		p.users[id] = user
		p.updated = append(p.updated, id)
	}
	for i, c := range change.Creates {
		if c.NewID {
			continue // once all other ids are known
		}
		if err := name(c.User.ID, directory.InCreates, i); err != nil {
			return nil, err
		}
		if _, exists := m.users[c.User.ID]; exists {
			return nil, fail(directory.ErrExists, directory.InCreates, i, c.User.ID)
		}
	}
	for i, c := range change.Creates {
		user := c.User
		if c.NewID {
			if highest == math.MaxInt32 {
				return nil, directory.ErrNoID
			}
			highest = max(highest+1, 1)
			user.ID = highest
			p.places[user.ID] = place{directory.InCreates, i}
		}
		if err := user.Validate(); err != nil {
			return nil, fail(err, directory.InCreates, i, user.ID)
		}
		p.users[user.ID] = user
		p.created = append(p.created, user.ID)
	}
	return p, nil
}
