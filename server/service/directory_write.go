package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/server/rpc"
)

// actorOf is the name that a change is recorded under. A caller without one is on this machine: no other
// may write.
func actorOf(ctx context.Context) string {
	if c := rpc.From(ctx); c != nil {
		return cmp.Or(c.Identity, thisMachine)
	}
	return thisMachine
}

const thisMachine = "loopback"

// A writing is a request to write, as it is read entry by entry.
type writing struct {
	service *directoryService
	ctx     context.Context
	write   directory.Write
	wrong   []fieldViolation
	err     error // a fault of the server
}

func (s *directoryService) writing(ctx context.Context, check bool) *writing {
	return &writing{service: s, ctx: ctx, write: directory.Write{Actor: actorOf(ctx), Check: check}}
}

// create adds a user, whose rules the interceptor has checked. Fields are told with prefix before them.
func (w *writing) create(request *rosterv1.CreateUserRequest, _ string) {
	user := request.GetUser()
	w.write.Creates = append(w.write.Creates, directory.Create{User: userOf(user), NewID: user.GetId() == 0})
}

func userOf(user *rosterv1.User) directory.User {
	return directory.User{ID: user.GetId(), Name: user.GetName(), Age: user.GetAge(), Email: user.GetEmail()}
}

// update changes the fields of a user that the mask names, and checks the rules of those.
func (w *writing) update(request *rosterv1.UpdateUserRequest, prefix string) {
	if request.GetUser() == nil {
		w.wrong = append(w.wrong, fieldViolation{prefix + "user", "REQUIRED", "is required: user.id says whom to change"})
		return
	}
	fields, wrong := maskedFields(request, prefix)
	broken, err := w.service.rules.brokenFields(request.GetUser(), prefix+"user.", func(name protoreflect.Name) bool { return named(fields, name) })
	if err != nil {
		w.err = err
	}
	w.wrong = append(append(w.wrong, wrong...), broken...)
	w.write.Updates = append(w.write.Updates, directory.Update{
		User: userOf(request.GetUser()), Fields: fields,
		If: w.expected(request.GetUser().GetId(), request.GetUser().GetEtag(), prefix+"user.etag"),
	})
}

// remove removes a user.
func (w *writing) remove(request *rosterv1.DeleteUserRequest, prefix string) {
	w.write.Deletes = append(w.write.Deletes, directory.Delete{
		ID: request.GetId(), AllowMissing: request.GetAllowMissing(),
		If: w.expected(request.GetId(), request.GetEtag(), prefix+"etag"),
	})
}

// expected is the state that an etag of the user id stands for.
func (w *writing) expected(id int32, etag, field string) directory.Expected {
	if etag == "" {
		return directory.Expected{}
	}
	of, expected, err := directory.ParseEtag(etag)
	switch {
	case err != nil:
		w.wrong = append(w.wrong, fieldViolation{field, "ETAG", "is not an etag of this directory: send it as it came with the user, or none"})
	case of != id:
		w.wrong = append(w.wrong, fieldViolation{field, "ETAG_OF_ANOTHER", fmt.Sprintf("is that of the user %d and not of %d", of, id)})
	}
	return expected
}

// do writes, unless something is wrong with the request. What the store refuses is an error that names the
// field, by the name that field has for a part and an index.
func (w *writing) do(field func(directory.Part, int) string) (directory.Written, error) {
	switch {
	case w.err != nil:
		return directory.Written{}, w.err
	case len(w.wrong) > 0:
		return directory.Written{}, badRequest(w.wrong)
	}
	written, err := w.service.directory.Write(w.ctx, w.write)
	if err != nil {
		return directory.Written{}, refusedChange(err, field, w.service)
	}
	return written, nil
}

// refusedChange returns the error for a change that the store refuses.
func refusedChange(err error, field func(directory.Part, int) string, s *directoryService) error {
	var refused *directory.ChangeError
	if !errors.As(err, &refused) {
		return err
	}
	where := field(refused.Part, refused.Index)
	if where != "" {
		where += ": "
	}
	wire := func(code connect.Code, format string, values ...any) *connect.Error {
		return connect.NewError(code, errors.New(where+fmt.Sprintf(format, values...)))
	}
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return wire(connect.CodeNotFound, "nobody has the id %d", refused.ID)
	case errors.Is(err, directory.ErrExists):
		return wire(connect.CodeAlreadyExists, "there is a user with the id %d already: update it, or leave the id 0 to get a new one", refused.ID)
	case errors.Is(err, directory.ErrEmailTaken):
		other := ""
		if refused.Present != nil {
			other = fmt.Sprintf(", by id %d", refused.Present.ID)
		}
		return wire(connect.CodeAlreadyExists, "the email of id %d is taken%s: emails are compared without regard to case", refused.ID, other)
	case errors.Is(err, directory.ErrChanged):
		changed := wire(connect.CodeAborted, "user %d has changed since its etag was given out: read it again, and decide anew", refused.ID)
		if refused.Present != nil {
			if detail, failed := connect.NewErrorDetail(userMessage(refused.Present, etagOf(s.directory.State().Epoch, refused.Present))); failed == nil {
				changed.AddDetail(detail)
			}
		}
		return changed
	}
	return wire(connect.CodeInvalidArgument, "id %d: %s", refused.ID, withoutPrefix(refused.Err))
}

// noField is for requests with one change, where it is plain which is meant.
func noField(directory.Part, int) string { return "" }

// CreateUser adds a user.
func (s *directoryService) CreateUser(ctx context.Context, request *rosterv1.CreateUserRequest) (*encoded, error) {
	w := s.writing(ctx, request.GetValidateOnly())
	w.create(request, "")
	written, err := w.do(noField)
	if err != nil {
		return nil, err
	}
	return oneUser(ctx, written.State, written.Created)
}

// UpdateUser changes fields of a user.
func (s *directoryService) UpdateUser(ctx context.Context, request *rosterv1.UpdateUserRequest) (*encoded, error) {
	w := s.writing(ctx, request.GetValidateOnly())
	w.update(request, "")
	written, err := w.do(noField)
	if err != nil {
		return nil, err
	}
	return oneUser(ctx, written.State, written.Updated)
}

// oneUser encodes the only one of users.
func oneUser(ctx context.Context, state directory.State, users []directory.Record) (*encoded, error) {
	if len(users) != 1 {
		return nil, fmt.Errorf("the store returned %d users for one", len(users))
	}
	user, etag := &users[0], etagOf(state.Epoch, &users[0])
	if codecOf(ctx) == rpc.JSON {
		body := encoded(appendUserMessageJSON(nil, user, etag))
		return &body, nil
	}
	body, err := appendUserProto(nil, user, etag)
	return (*encoded)(&body), err
}

// DeleteUser removes a user.
func (s *directoryService) DeleteUser(ctx context.Context, request *rosterv1.DeleteUserRequest) (*rosterv1.DeleteUserResponse, error) {
	w := s.writing(ctx, request.GetValidateOnly())
	w.remove(request, "")
	written, err := w.do(noField)
	if err != nil {
		return nil, err
	}
	return &rosterv1.DeleteUserResponse{Revision: written.State.Revision, Epoch: written.State.Epoch}, nil
}

// BatchUpdateUsers makes several changes at once.
func (s *directoryService) BatchUpdateUsers(ctx context.Context, request *rosterv1.BatchUpdateUsersRequest) (*encoded, error) {
	entries := len(request.GetCreates()) + len(request.GetUpdates()) + len(request.GetDeletes())
	if entries > s.maxBatch {
		return nil, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
			"%d entries in one call, this server takes at most %d (--max-batch): split them over several calls", entries, s.maxBatch))
	}
	if entries == 0 {
		return nil, badRequest([]fieldViolation{{"", "EMPTY", "creates, updates and deletes are all empty: there is nothing to change"}})
	}
	w := s.writing(ctx, request.GetValidateOnly())
	if err := w.batch(request); err != nil {
		return nil, err
	}
	written, err := w.do(entryName)
	if err != nil {
		return nil, err
	}
	body, err := appendBatch(codecOf(ctx), &written)
	if err != nil {
		return nil, err
	}
	return (*encoded)(&body), hold(ctx, len(body))
}

// entryName is what an entry of a batch is called in an error.
func entryName(part directory.Part, index int) string {
	return fmt.Sprintf("%s[%d]", [...]string{directory.InDeletes: "deletes", directory.InUpdates: "updates", directory.InCreates: "creates"}[part], index)
}

// batch reads the entries of a batch. The error is that of a batch whose reply might be too long: once it
// is written it is too late to say so.
func (w *writing) batch(request *rosterv1.BatchUpdateUsersRequest) error {
	seen := make(map[int32]string)
	reply := 0
	entry := func(part directory.Part, i int, id int32, newID, validateOnly bool) string {
		name := entryName(part, i)
		if validateOnly {
			w.wrong = append(w.wrong, fieldViolation{name + ".validate_only", "VALIDATE_ONLY", "must not be set in an entry: set validate_only of the whole request"})
		}
		if first, ok := seen[id]; ok && !newID {
			w.wrong = append(w.wrong, fieldViolation{name, "DUPLICATE", fmt.Sprintf("names the user %d, as %s does: a batch may name a user once", id, first)})
		}
		if !newID {
			seen[id] = name
		}
		return name + "."
	}
	for i, d := range request.GetDeletes() {
		w.remove(d, entry(directory.InDeletes, i, d.GetId(), false, d.GetValidateOnly()))
	}
	for i, u := range request.GetUpdates() {
		w.update(u, entry(directory.InUpdates, i, u.GetUser().GetId(), false, u.GetValidateOnly()))
		reply += mostOfUser(u.GetUser(), w.write.Updates)
	}
	for i, c := range request.GetCreates() {
		id := c.GetUser().GetId()
		w.create(c, entry(directory.InCreates, i, id, id == 0, c.GetValidateOnly()))
		reply += len(c.GetUser().GetName()) + len(c.GetUser().GetEmail()) + restOfUser
	}
	if codecOf(w.ctx) == rpc.JSON {
		reply *= 2 // quotes and backslashes are escaped
	}
	if reply > rpc.MaxMessageBytes {
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
			"the reply could have %d bytes, the limit is %d (fixed, no flag): split the entries over several calls", reply, rpc.MaxMessageBytes))
	}
	return nil
}

// restOfUser is the most that a user takes in a reply besides name and email, in bytes.
const restOfUser = 250

// mostOfUser is the most that the last of updates, which is of user, takes in the reply. What the mask does
// not name stays as it is, which may be as long as any.
func mostOfUser(user *rosterv1.User, updates []directory.Update) int {
	if len(updates) == 0 {
		return 0 // the entry is wrong
	}
	size, fields := restOfUser, updates[len(updates)-1].Fields
	if fields&directory.NameField != 0 {
		size += len(user.GetName())
	} else {
		size += directory.MaxNameBytes
	}
	if fields&directory.EmailField != 0 {
		return size + len(user.GetEmail())
	}
	return size + directory.MaxEmailBytes
}

// appendBatch encodes a BatchUpdateUsersResponse.
func appendBatch(codec rpc.Codec, written *directory.Written) (dst []byte, err error) {
	if codec != rpc.JSON {
		for i, users := range [][]directory.Record{written.Created, written.Updated} {
			for j := range users {
				dst, err = appendMessageProto(dst, protowire.Number(1+i), func(dst []byte) ([]byte, error) {
					return appendUserProto(dst, &users[j], etagOf(written.State.Epoch, &users[j]))
				})
				if err != nil {
					return nil, err
				}
			}
		}
		return appendStateProto(dst, 3, written.State), nil
	}
	for i, users := range [][]directory.Record{written.Created, written.Updated} {
		dst = append(dst, [...]string{`{"created":[`, `],"updated":[`}[i]...)
		for j := range users {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = appendUserMessageJSON(dst, &users[j], etagOf(written.State.Epoch, &users[j]))
		}
	}
	return append(appendStateJSON(append(dst, ']'), written.State), '}'), nil
}
