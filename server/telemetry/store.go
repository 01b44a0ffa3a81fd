package telemetry

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/roster/directory"
)

// store is a directory.Store that measures its queries.
type store struct {
	directory.Store
	get, list, write, changes, state operation
}

// operation has the metrics of one kind of query.
type operation struct {
	duration prometheus.Observer
	failures prometheus.Counter
}

// Store returns a store that passes everything on to of, and measures the queries that a server
// makes.
func (m *Metrics) Store(of directory.Store) directory.Store {
	operation := func(name string) operation {
		return operation{m.queries.WithLabelValues(name), m.failures.WithLabelValues(name)}
	}
	return &store{
		Store:   of,
		get:     operation("get"),
		list:    operation("list"),
		write:   operation("write"),
		changes: operation("changes"),
		state:   operation("state"),
	}
}

// callersErrors are errors of what was asked for, and not of the store.
var callersErrors = []error{
	context.Canceled, directory.ErrInvalid, directory.ErrReadOnly, directory.ErrNotFound, directory.ErrExists,
	directory.ErrEmailTaken, directory.ErrChanged, directory.ErrNoID, directory.ErrHistory, directory.ErrOverdue,
}

func (o operation) since(start time.Time, err error) {
	o.duration.Observe(time.Since(start).Seconds())
	switch {
	case err == nil, slices.ContainsFunc(callersErrors, func(of error) bool { return errors.Is(err, of) }):
		// Not the store's failure.
	default:
		o.failures.Inc()
	}
}

// Get implements directory.Store.
func (s *store) Get(ctx context.Context, ids []int32) (users []directory.Record, state directory.State, err error) {
	start := time.Now()
	defer func() { s.get.since(start, err) }()
	return s.Store.Get(ctx, ids)
}

// List implements directory.Store.
func (s *store) List(ctx context.Context, query directory.Query) (page directory.Page, err error) {
	start := time.Now()
	defer func() { s.list.since(start, err) }()
	return s.Store.List(ctx, query)
}

// Write implements directory.Store.
func (s *store) Write(ctx context.Context, change directory.Write) (written directory.Written, err error) {
	start := time.Now()
	defer func() { s.write.since(start, err) }()
	return s.Store.Write(ctx, change)
}

// Changes implements directory.Store.
func (s *store) Changes(ctx context.Context, from directory.Cursor, limit int) (changes []directory.Change, state directory.State, err error) {
	start := time.Now()
	defer func() { s.changes.since(start, err) }()
	return s.Store.Changes(ctx, from, limit)
}

// State implements directory.Store.
func (s *store) State(ctx context.Context) (state directory.State, err error) {
	start := time.Now()
	defer func() { s.state.since(start, err) }()
	return s.Store.State(ctx)
}
