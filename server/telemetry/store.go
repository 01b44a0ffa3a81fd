package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/roster/directory"
)

// store is a directory.Store that measures its queries.
type store struct {
	directory.Store
	get, put, remove, revision operation
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
		Store:    of,
		get:      operation("get"),
		put:      operation("put"),
		remove:   operation("delete"),
		revision: operation("revision"),
	}
}

func (o operation) since(start time.Time, err error) {
	o.duration.Observe(time.Since(start).Seconds())
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, directory.ErrInvalid), errors.Is(err, directory.ErrReadOnly):
		// Not the store's failure.
	default:
		o.failures.Inc()
	}
}

// Get implements directory.Store.
func (s *store) Get(ctx context.Context, ids []int32) (users []directory.User, err error) {
	start := time.Now()
	defer func() { s.get.since(start, err) }()
	return s.Store.Get(ctx, ids)
}

// Put implements directory.Store.
func (s *store) Put(ctx context.Context, users []directory.User) (revision int64, err error) {
	start := time.Now()
	defer func() { s.put.since(start, err) }()
	return s.Store.Put(ctx, users)
}

// Delete implements directory.Store.
func (s *store) Delete(ctx context.Context, ids []int32) (revision int64, err error) {
	start := time.Now()
	defer func() { s.remove.since(start, err) }()
	return s.Store.Delete(ctx, ids)
}

// Revision implements directory.Store.
func (s *store) Revision(ctx context.Context) (revision int64, err error) {
	start := time.Now()
	defer func() { s.revision.since(start, err) }()
	return s.Store.Revision(ctx)
}
