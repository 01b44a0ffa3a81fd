package client

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
)

// A Directory calls roster.v1.DirectoryService of a Client's server. Its errors are of type *Error.
// Reads are tried again as Users is. Writes are made once; one that fails has changed nothing, unless
// its code is CANCELED, DEADLINE_EXCEEDED or UNAVAILABLE with a connection that was lost: then look.
type Directory struct {
	client           *Client
	service, streams rosterv1connect.DirectoryServiceClient
}

// Directory returns the calls of roster.v1.
func (c *Client) Directory() *Directory {
	endpoint, base, options := c.Endpoint()
	streams := endpoint.(caller)
	streams.streams = true
	return &Directory{
		client:  c,
		service: rosterv1connect.NewDirectoryServiceClient(endpoint, base, options),
		streams: rosterv1connect.NewDirectoryServiceClient(streams, base, options),
	}
}

// once makes a call that is not to be tried again.
func (d *Directory) once(ctx context.Context, op string, call func(context.Context) error) error {
	if err := d.client.attempt(ctx, ctx, op, call); err != nil {
		return err
	}
	return nil
}

// Get returns the user with an id. The answer has all changes up to minRevision, 0 for any. The error
// is NOT_FOUND if nobody has the id.
func (d *Directory) Get(ctx context.Context, id int32, minRevision int64) (user Record, err error) {
	err = d.client.retry(ctx, "GetUser", func(ctx context.Context) error {
		reply, err := d.service.GetUser(ctx, &rosterv1.GetUserRequest{Id: id, MinRevision: minRevision})
		user = recordOf(reply)
		return err
	})
	return user, err
}

// BatchGet returns the users that have one of ids, each once, and the ids that nobody has. A call has
// 1 to 10,000 ids.
func (d *Directory) BatchGet(ctx context.Context, ids []int32, minRevision int64) (users []Record, unknown []int32, err error) {
	err = d.client.retry(ctx, "BatchGetUsers", func(ctx context.Context) error {
		reply, err := d.service.BatchGetUsers(ctx, &rosterv1.BatchGetUsersRequest{Ids: ids, MinRevision: minRevision})
		users, unknown = recordsOf(reply.GetUsers()), reply.GetUnknownIds()
		return err
	})
	return users, unknown, err
}

// A Query asks for users.
type Query struct {
	// Filter is such as `name = "Ann*" AND email = "ann@*"`; empty for all users.
	Filter string
	// OrderBy is "id" or "name", with " desc" after it for the other direction; empty is "id".
	OrderBy string
	// PageSize is the most users of a page, up to 1,000; 0 means 50.
	PageSize int32
	// PageToken is Page.NextToken of the page before, for the same Filter and OrderBy.
	PageToken string
	// Total asks for the number of all users that match.
	Total       bool
	MinRevision int64
}

// ListPage returns one page of users.
func (d *Directory) ListPage(ctx context.Context, q Query) (page Page, err error) {
	err = d.client.retry(ctx, "ListUsers", func(ctx context.Context) error {
		reply, err := d.service.ListUsers(ctx, &rosterv1.ListUsersRequest{Filter: q.Filter, OrderBy: q.OrderBy,
			PageSize: q.PageSize, PageToken: q.PageToken, ShowTotal: q.Total, MinRevision: q.MinRevision})
		page = Page{Users: recordsOf(reply.GetUsers()), NextToken: reply.GetNextPageToken(), Total: reply.GetTotalSize(),
			Position: Position{reply.GetRevision(), reply.GetEpoch()}}
		return err
	})
	return page, err
}

// List iterates over all users that match, page by page. An error is the last that it yields.
func (d *Directory) List(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for {
			page, err := d.ListPage(ctx, q)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, user := range page.Users {
				if !yield(user, nil) {
					return
				}
			}
			if q.PageToken = page.NextToken; q.PageToken == "" {
				return
			}
		}
	}
}

// Position returns where the history of the directory is now.
func (d *Directory) Position(ctx context.Context) (Position, error) {
	page, err := d.ListPage(ctx, Query{PageSize: 1})
	return page.Position, err
}

// WriteOption changes how a write is made.
type WriteOption struct {
	// ValidateOnly does everything but write: the answer is what it would be.
	ValidateOnly bool
}

func validateOnly(options []WriteOption) bool {
	return len(options) > 0 && options[0].ValidateOnly
}

// Create adds a user; with the id 0 it gets a new one. It returns the user as it is then. The error is
// ALREADY_EXISTS for an id or an email that another user has.
func (d *Directory) Create(ctx context.Context, user Record, options ...WriteOption) (created Record, err error) {
	err = d.once(ctx, "CreateUser", func(ctx context.Context) error {
		reply, err := d.service.CreateUser(ctx, &rosterv1.CreateUserRequest{User: user.message(), ValidateOnly: validateOnly(options)})
		created = recordOf(reply)
		return err
	})
	return created, err
}

// Update changes fields ("name", "age", "email" or "*") of the user with user.ID; without fields, those
// that are not zero. It returns the user as it is then. The error is NOT_FOUND if nobody has the id, and
// ABORTED if user.ETag is set and not the present one: see Error.Present.
func (d *Directory) Update(ctx context.Context, user Record, fields []string, options ...WriteOption) (updated Record, err error) {
	err = d.once(ctx, "UpdateUser", func(ctx context.Context) error {
		reply, err := d.service.UpdateUser(ctx, Update{user, fields}.message(validateOnly(options)))
		updated = recordOf(reply)
		return err
	})
	return updated, err
}

// Delete removes a user. The errors are those of Update.
func (d *Directory) Delete(ctx context.Context, deletion Delete, options ...WriteOption) (at Position, err error) {
	err = d.once(ctx, "DeleteUser", func(ctx context.Context) error {
		reply, err := d.service.DeleteUser(ctx, deletion.message(validateOnly(options)))
		at = Position{reply.GetRevision(), reply.GetEpoch()}
		return err
	})
	return at, err
}

// A Batch is changes that are made at once or not at all: first the deletes, then the updates, then the
// creates.
type Batch struct {
	Creates []Record
	Updates []Update
	Deletes []Delete
}

// An Update is a change of some fields of a user, as Directory.Update has them.
type Update struct {
	User   Record
	Fields []string
}

func (u Update) message(validateOnly bool) *rosterv1.UpdateUserRequest {
	request := &rosterv1.UpdateUserRequest{User: u.User.message(), ValidateOnly: validateOnly}
	if len(u.Fields) > 0 {
		request.UpdateMask = &fieldmaskpb.FieldMask{Paths: u.Fields}
	}
	return request
}

// A Delete is the removal of a user.
type Delete struct {
	ID int32
	// ETag, unless it is empty, must be the user's present one.
	ETag string
	// AllowMissing says that a user that does not exist is no error.
	AllowMissing bool
}

func (d Delete) message(validateOnly bool) *rosterv1.DeleteUserRequest {
	return &rosterv1.DeleteUserRequest{Id: d.ID, Etag: d.ETag, AllowMissing: d.AllowMissing, ValidateOnly: validateOnly}
}

// BatchUpdate makes the changes of a batch. It returns the users of Creates and Updates as they are then,
// in their order.
func (d *Directory) BatchUpdate(ctx context.Context, batch Batch, options ...WriteOption) (created, updated []Record, at Position, err error) {
	request := &rosterv1.BatchUpdateUsersRequest{ValidateOnly: validateOnly(options)}
	for _, user := range batch.Creates {
		request.Creates = append(request.Creates, &rosterv1.CreateUserRequest{User: user.message()})
	}
	for _, update := range batch.Updates {
		request.Updates = append(request.Updates, update.message(false))
	}
	for _, deletion := range batch.Deletes {
		request.Deletes = append(request.Deletes, deletion.message(false))
	}
	err = d.once(ctx, "BatchUpdateUsers", func(ctx context.Context) error {
		reply, err := d.service.BatchUpdateUsers(ctx, request)
		created, updated = recordsOf(reply.GetCreated()), recordsOf(reply.GetUpdated())
		at = Position{reply.GetRevision(), reply.GetEpoch()}
		return err
	})
	return created, updated, at, err
}

// ImportOptions say how to import.
type ImportOptions struct {
	// Atomic says that one user refused refuses all, with INVALID_ARGUMENT.
	Atomic bool
	// Mirror removes the users that are not in the import. It needs Atomic.
	Mirror bool
	// MaxRemovals refuses a Mirror that would remove more users; 0 means no limit.
	MaxRemovals  int64
	ValidateOnly bool
}

// importBatch is how many users a message of an import has.
const importBatch = 500

// Import adds users, and replaces those whose id exists, in one change of any size. An error that users
// yields ends the import, and is returned; then nothing is imported.
func (d *Directory) Import(ctx context.Context, options ImportOptions, users iter.Seq2[Record, error]) (done Imported, err error) {
	var failed error
	err = d.once(ctx, "ImportUsers", func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // a stream that is left must not look complete to the server
		stream, err := d.streams.ImportUsers(ctx)
		if err != nil {
			return err
		}
		next := &rosterv1.ImportUsersRequest{Options: &rosterv1.ImportOptions{Atomic: options.Atomic, Mirror: options.Mirror,
			MaxRemovals: options.MaxRemovals, ValidateOnly: options.ValidateOnly}}
		for user, err := range users {
			if err != nil {
				failed = err
				return err
			}
			if next.Users = append(next.Users, user.message()); len(next.Users) < importBatch {
				continue
			}
			if err := stream.Send(next); err != nil {
				return importFailed(stream, err)
			}
			next = &rosterv1.ImportUsersRequest{}
		}
		if err := stream.Send(next); err != nil {
			return importFailed(stream, err)
		}
		reply, err := stream.CloseAndReceive()
		if err != nil {
			return err
		}
		done = importedOf(reply)
		return nil
	})
	if failed != nil {
		return Imported{}, failed
	}
	return done, err
}

// importFailed returns why the server took no more of an import: io.EOF says that it has answered.
func importFailed(stream interface {
	CloseAndReceive() (*rosterv1.ImportUsersResponse, error)
}, err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if _, answer := stream.CloseAndReceive(); answer != nil {
		return answer
	}
	return err
}

func importedOf(reply *rosterv1.ImportUsersResponse) Imported {
	done := Imported{
		Imported: reply.GetImported(), Created: reply.GetCreated(), Updated: reply.GetUpdated(), Unchanged: reply.GetUnchanged(),
		Removed: reply.GetRemoved(), Refused: reply.GetRefused(), Position: Position{reply.GetRevision(), reply.GetEpoch()},
	}
	for _, row := range reply.GetRefusedRows() {
		done.RefusedRows = append(done.RefusedRows, RefusedRow{row.GetRow(), row.GetId(), row.GetReason()})
	}
	return done
}

// Export iterates over all users that match a filter, in the order of their ids, all as of one revision.
// An error is the last that it yields: ABORTED if the users were taken so slowly that the server could no
// longer keep that revision.
func (d *Directory) Export(ctx context.Context, filter string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		err := d.once(ctx, "ExportUsers", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := d.streams.ExportUsers(ctx, &rosterv1.ExportUsersRequest{Filter: filter})
			if err != nil {
				return err
			}
			for stream.Receive() {
				for _, user := range stream.Msg().GetUsers() {
					if !yield(recordOf(user), nil) {
						return nil
					}
				}
			}
			return stream.Err()
		})
		if err != nil {
			yield(Record{}, err)
		}
	}
}

// History returns how far back the history goes and where it is now: ListChanges and Watch can begin at oldest,
// at latest and at any revision between them.
func (d *Directory) History(ctx context.Context) (oldest, latest Position, err error) {
	at, err := d.Position(ctx)
	if err != nil {
		return Position{}, Position{}, err
	}
	request := &rosterv1.ListChangesRequest{FromRevision: at.Revision, Epoch: at.Epoch, PageSize: 1}
	err = d.client.retry(ctx, "ListChanges", func(ctx context.Context) error {
		reply, err := d.service.ListChanges(ctx, request)
		oldest, latest = Position{reply.GetOldestRevision(), reply.GetEpoch()}, Position{reply.GetRevision(), reply.GetEpoch()}
		return err
	})
	return oldest, latest, err
}

// ListChanges iterates over the changes after a position, up to now, with who made them and when. An error
// is the last that it yields: OUT_OF_RANGE if the position is not in the history.
func (d *Directory) ListChanges(ctx context.Context, from Position) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		const most = 1000
		request := &rosterv1.ListChangesRequest{FromRevision: from.Revision, Epoch: from.Epoch, PageSize: most}
		for {
			var reply *rosterv1.ListChangesResponse
			err := d.client.retry(ctx, "ListChanges", func(ctx context.Context) (err error) {
				reply, err = d.service.ListChanges(ctx, request)
				return err
			})
			if err != nil {
				yield(Change{}, err)
				return
			}
			for _, change := range reply.GetChanges() {
				if !yield(changeOf(change), nil) {
					return
				}
			}
			if request.PageToken = reply.GetNextPageToken(); request.PageToken == "" {
				return
			}
		}
	}
}
