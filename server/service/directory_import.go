package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
)

const (
	// maxRefusedRows is how many of the rows refused the reply lists.
	maxRefusedRows = 100
	// maxReason is how long the reason of a refusal may be, in bytes.
	maxReason = 200
	// conflictsAtOnce is how many users with a taken email are looked at together.
	conflictsAtOnce = 1000
)

// An importer is one call of ImportUsers. Its rows are in the spool until all have come. Then they are
// written, at the pace of the store, and so other writes wait for that alone.
type importer struct {
	service *directoryService
	options *rosterv1.ImportOptions
	spool   *spool
	rows    int64 // that have come
	refused refusals
}

// refusals are the rows that are refused: their number, and the first of them.
type refusals struct {
	count int64
	first []*rosterv1.RefusedRow // in the order of their numbers
}

func (r *refusals) add(row int64, id int32, reason string) {
	r.count++
	at, _ := slices.BinarySearchFunc(r.first, row, func(r *rosterv1.RefusedRow, row int64) int { return int(r.GetRow() - row) })
	if at < maxRefusedRows {
		r.first = slices.Insert(r.first, at, &rosterv1.RefusedRow{Row: row, Id: id, Reason: cut(reason, maxReason)})
		r.first = r.first[:min(len(r.first), maxRefusedRows)]
	}
}

// ImportUsers adds or replaces users, in one change.
func (s *directoryService) ImportUsers(ctx context.Context, stream *connect.ClientStream[rosterv1.ImportUsersRequest]) (*rosterv1.ImportUsersResponse, error) {
	select {
	case s.importing <- struct{}{}:
		defer func() { <-s.importing }()
	default:
		return nil, retryAfter(connect.NewError(connect.CodeUnavailable, errors.New(
			"another import runs, and one runs at a time: call again when it has ended")), importRetry)
	}
	spool, err := newSpool(s.maxSpool)
	if err != nil {
		return nil, s.noSpool(ctx, err)
	}
	defer spool.close()
	i := &importer{service: s, spool: spool}
	if err := i.receive(ctx, stream); err != nil {
		return nil, err
	}
	switch {
	case i.options.GetAtomic() && i.refused.count > 0:
		return nil, i.refusal()
	case i.options.GetMirror() && i.rows == 0:
		return nil, violation("users", "MIRROR_EMPTY", "are none, and a mirror of nothing would remove everybody: nothing was changed")
	}
	return i.write(ctx)
}

// importRetry is how long a caller should wait before it imports while another does.
const importRetry = 5 * time.Second

// noSpool is the error of a file of rows that cannot be written.
func (s *directoryService) noSpool(ctx context.Context, err error) error {
	if errors.Is(err, errSpoolFull) {
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
			"the import is longer than %d bytes, the maximum of a call (a fixed limit, no flag): split it over several, or run roster import on the machine of the store", s.maxSpool))
	}
	s.log.ErrorContext(ctx, "the rows of an import cannot be kept", "error", err.Error())
	return connect.NewError(connect.CodeUnavailable, errors.New(
		"this server cannot keep the rows of the import until all have come, since its folder for temporary files is full or cannot be written: nothing was imported"))
}

// receive reads all rows into the spool. Nothing of a stream that breaks off is written.
func (i *importer) receive(ctx context.Context, stream *connect.ClientStream[rosterv1.ImportUsersRequest]) error {
	for first := true; stream.Receive(); first = false {
		message := stream.Msg()
		if err := i.setOptions(message.GetOptions(), first); err != nil {
			return err
		}
		for _, row := range message.GetUsers() {
			i.rows++
			user, err := directory.Normalize(userOf(row))
			if err != nil {
				i.refused.add(i.rows, row.GetId(), withoutPrefix(err))
				continue
			}
			if err := i.spool.add(i.rows, &user); err != nil {
				return i.service.noSpool(ctx, err)
			}
		}
	}
	var late *connect.Error
	switch err := stream.Err(); {
	case errors.As(err, &late) && late.Code() == connect.CodeDeadlineExceeded:
		return connect.NewError(late.Code(), errors.New(late.Message()+"; nothing was imported"))
	case err != nil:
		return err
	}
	if err := i.spool.complete(); err != nil {
		return i.service.noSpool(ctx, err)
	}
	return nil
}

func (i *importer) setOptions(options *rosterv1.ImportOptions, first bool) error {
	switch {
	case options == nil:
		return nil
	case !first:
		return violation("options", "OPTIONS_LATE", "only the first message may have them")
	case options.GetMirror() && !options.GetAtomic():
		return violation("options.mirror", "MIRROR_NOT_ATOMIC", "needs atomic: a row that is refused would be removed")
	case options.GetMaxRemovals() > 0 && !options.GetMirror():
		return violation("options.max_removals", "MAX_REMOVALS", "goes with mirror: without it no user is removed")
	}
	i.options = options
	return nil
}

// write writes the rows of the spool.
func (i *importer) write(ctx context.Context) (*rosterv1.ImportUsersResponse, error) {
	change, err := i.service.directory.Import(ctx, actorOf(ctx))
	if err != nil {
		return nil, err
	}
	defer change.Rollback()
	added := int64(0)
	err = i.spool.each(func(numbers []int64, users []directory.User) error {
		duplicates, err := change.Add(ctx, users)
		for _, at := range duplicates {
			i.refused.add(numbers[at], users[at].ID, fmt.Sprintf("the id %d came before in this import", users[at].ID))
		}
		added += int64(len(users) - len(duplicates))
		return err
	})
	if err != nil {
		return nil, err
	}
	if i.options.GetAtomic() && i.refused.count > 0 {
		return nil, i.refusal()
	}
	removed := int64(0)
	if i.options.GetMirror() {
		if removed, err = change.RemoveOthers(ctx); err != nil {
			return nil, err
		}
		if most := i.options.GetMaxRemovals(); most > 0 && removed > most {
			return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf(
				"the import would remove %d users, and max_removals is %d: nothing was imported", removed, most))
		}
	}
	undone, err := i.resolve(ctx, change)
	if err != nil {
		return nil, err
	}
	reply := &rosterv1.ImportUsersResponse{Imported: added - undone, Removed: removed, Refused: i.refused.count, RefusedRows: i.refused.first}
	if i.options.GetValidateOnly() || reply.Imported == 0 && removed == 0 {
		state := i.service.directory.State()
		reply.Revision, reply.Epoch = state.Revision, state.Epoch
		return reply, nil
	}
	done, err := change.Commit(ctx)
	if err != nil {
		return nil, err
	}
	reply.Imported, reply.Created, reply.Updated, reply.Unchanged = done.Created+done.Updated+done.Unchanged, done.Created, done.Updated, done.Unchanged
	reply.Removed, reply.Revision, reply.Epoch = done.Removed, done.State.Revision, done.State.Epoch
	return reply, nil
}

// resolve takes rows out of the import, or refuses it as a whole, until no two users have the same email. Of
// rows with the same email the one with the lowest id stays. A user whose row was taken out has its old email again, which
// may be that of another row: so it looks again.
func (i *importer) resolve(ctx context.Context, change directory.Import) (undone int64, err error) {
	for {
		taken, err := change.EmailsTaken(ctx, conflictsAtOnce)
		if err != nil || len(taken) == 0 {
			return undone, err
		}
		rows, err := i.rowsOf(taken)
		if err != nil {
			return undone, err
		}
		ids := make([]int32, 0, len(taken))
		for _, conflict := range taken {
			i.refused.add(rows[conflict.ID], conflict.ID, "the email is taken"+by(conflict.Present)+": emails are compared without regard to case")
			ids = append(ids, conflict.ID)
		}
		if i.options.GetAtomic() {
			return undone, i.refusal()
		}
		if err := change.Undo(ctx, ids); err != nil {
			return undone, err
		}
		undone += int64(len(ids))
	}
}

func by(user *directory.Record) string {
	if user == nil {
		return ""
	}
	return fmt.Sprintf(" by id %d", user.ID)
}

// rowsOf finds the numbers of the rows of users in the spool.
func (i *importer) rowsOf(taken []directory.ChangeError) (map[int32]int64, error) {
	rows := make(map[int32]int64, len(taken))
	for _, conflict := range taken {
		rows[conflict.ID] = 0
	}
	err := i.spool.each(func(numbers []int64, users []directory.User) error {
		for at := range users {
			if row, ok := rows[users[at].ID]; ok && row == 0 { // a later one was a duplicate
				rows[users[at].ID] = numbers[at]
			}
		}
		return nil
	})
	return rows, err
}

// maxRefusal is the size of the detail of an error with rows refused, in bytes: see maxDetailBytes.
const maxRefusal = maxDetailBytes

// refusal is the error of an atomic import with rows that cannot be taken. It has an ImportUsersResponse
// with as many of them as fit into an error.
func (i *importer) refusal() error {
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d rows cannot be taken, and the import is atomic: nothing was imported", i.refused.count, i.rows)
	detail := &rosterv1.ImportUsersResponse{Refused: i.refused.count}
	for n, row := range i.refused.first {
		if n < maxInText {
			fmt.Fprintf(&text, "; row %d, id %d: %s", row.GetRow(), row.GetId(), row.GetReason())
		}
		detail.RefusedRows = append(detail.RefusedRows, row)
		if proto.Size(detail) > maxRefusal {
			detail.RefusedRows = detail.RefusedRows[:n]
			break
		}
	}
	if more := i.refused.count - maxInText; more > 0 {
		fmt.Fprintf(&text, "; and %d more", more)
	}
	err := connect.NewError(connect.CodeInvalidArgument, errors.New(text.String()))
	if detail, failed := connect.NewErrorDetail(detail); failed == nil {
		err.AddDetail(detail)
	}
	return err
}
