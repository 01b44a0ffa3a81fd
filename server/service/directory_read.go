package service

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/server/rpc"
)

// How many users or changes a page has if the caller does not say.
const (
	usersPerPage   = 50
	changesPerPage = 100
	// mostBytes is about the most that a user or a change takes in a reply: a name and an email as long as
	// they may be, all of it quotes and backslashes.
	mostBytes = 1500
)

// waitFor waits until the directory has all changes up to a revision. 0 asks for none.
func (s *directoryService) waitFor(ctx context.Context, revision int64) error {
	if revision == 0 {
		return nil
	}
	return s.directory.WaitFor(ctx, revision)
}

// etagOf is the etag of a user in an epoch; empty for the answer to a check, whose user has not been
// written.
func etagOf(epoch string, user *directory.Record) string {
	if user.Revision == 0 {
		return ""
	}
	return directory.Etag(epoch, user)
}

// encoded is a reply in the codec of its call.
type encoded []byte

// AppendProto implements encoder.
func (e *encoded) AppendProto(dst []byte) ([]byte, error) { return append(dst, *e...), nil }

// AppendJSON implements encoder.
func (e *encoded) AppendJSON(dst []byte) ([]byte, error) { return append(dst, *e...), nil }

// hold waits until the port has memory for a reply of size bytes, which has yet to be made.
func hold(ctx context.Context, size int) error {
	if c := rpc.From(ctx); c != nil && c.Reply != nil {
		if err := c.Reply.Hold(min(size, rpc.MaxMessageBytes)); err != nil {
			return err
		}
	}
	return nil
}

// paged returns a reply of a method whose pages the caller can make smaller.
func paged(ctx context.Context, body []byte, err error) (*encoded, error) {
	if err != nil {
		return nil, err
	}
	if len(body) > rpc.MaxMessageBytes {
		return nil, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
			"the reply would have %d bytes, the limit is %d (fixed, no flag): ask for a smaller page_size", len(body), rpc.MaxMessageBytes))
	}
	return (*encoded)(&body), hold(ctx, len(body))
}

// GetUser answers one user.
func (s *directoryService) GetUser(ctx context.Context, request *rosterv1.GetUserRequest) (*encoded, error) {
	if err := s.waitFor(ctx, request.GetMinRevision()); err != nil {
		return nil, err
	}
	entries, err := s.directory.Entries(ctx, nil, []int32{request.GetId()})
	if err != nil {
		return nil, err
	}
	if entries[0] == nil {
		return nil, noSuchUser(request.GetId())
	}
	// The rendering is that of a list, with a tag and a length before it or a comma after it.
	codec := codecOf(ctx)
	rendered := entries[0].Rendered(s.renderings[codec])
	if codec == rpc.JSON {
		body := encoded(strings.TrimSuffix(rendered, ","))
		return &body, nil
	}
	element := []byte(rendered)
	_, _, tag := protowire.ConsumeTag(element)
	user, _ := protowire.ConsumeBytes(element[tag:])
	return (*encoded)(&user), nil
}

func noSuchUser(id int32) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("nobody has the id %d", id))
}

// ListUsers answers a page of users.
func (s *directoryService) ListUsers(ctx context.Context, request *rosterv1.ListUsersRequest) (*encoded, error) {
	query, token, err := parseQuery(request)
	if err != nil {
		return nil, err
	}
	if err := s.waitFor(ctx, request.GetMinRevision()); err != nil {
		return nil, err
	}
	if err := hold(ctx, query.Limit*mostBytes); err != nil {
		return nil, err
	}
	page, err := s.directory.List(ctx, query)
	if err != nil {
		return nil, err
	}
	first := page.State
	if token != nil {
		if token.state.Epoch != page.State.Epoch {
			return nil, anotherEpoch(token.state.Epoch, page.State.Epoch)
		}
		first.Revision = token.state.Revision
	}
	next := ""
	if page.More {
		last := page.Users[len(page.Users)-1]
		after := directory.PageKey{ID: last.ID}
		if query.ByName {
			after.NameKey = directory.FoldKey(last.Name)
		}
		next = (&pageToken{kind: usersToken, of: ofList(query.Filter, query.ByName, query.Descending), state: first, after: after}).String()
	}
	body, err := appendList(codecOf(ctx), &page, next, first)
	return paged(ctx, body, err)
}

// parseQuery reads a request for a page. The token is nil for the first page.
func parseQuery(request *rosterv1.ListUsersRequest) (query directory.Query, token *pageToken, err error) {
	query = directory.Query{Limit: int(request.GetPageSize()), Total: request.GetShowTotal()}
	if query.Limit == 0 {
		query.Limit = usersPerPage
	}
	if query.Filter, err = parseFilter(request.GetFilter()); err != nil {
		return query, nil, err
	}
	if query.ByName, query.Descending, err = parseOrder(request.GetOrderBy()); err != nil {
		return query, nil, err
	}
	if request.GetPageToken() == "" {
		return query, nil, nil
	}
	if token, err = parsePageToken(request.GetPageToken(), usersToken); err != nil {
		return query, nil, err
	}
	if token.of != ofList(query.Filter, query.ByName, query.Descending) {
		return query, nil, wrongToken("is of another filter or order_by")
	}
	query.After = &token.after
	return query, token, nil
}

// appendList encodes a ListUsersResponse.
func appendList(codec rpc.Codec, page *directory.Page, next string, first directory.State) (dst []byte, err error) {
	if codec == rpc.JSON {
		dst = append(dst, `{"users":[`...)
		for i := range page.Users {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendUserMessageJSON(dst, &page.Users[i], etagOf(first.Epoch, &page.Users[i]))
		}
		dst = appendJSONString(append(dst, `],"nextPageToken":`...), next)
		dst = appendInt64JSON(append(dst, `,"totalSize":`...), page.Total)
		return append(appendStateJSON(dst, first), '}'), nil
	}
	for i := range page.Users {
		user := &page.Users[i]
		dst, err = appendMessageProto(dst, 1, func(dst []byte) ([]byte, error) { return appendUserProto(dst, user, etagOf(first.Epoch, user)) })
		if err != nil {
			return nil, err
		}
	}
	dst = appendTextProto(dst, 2, next)
	dst = appendIntProto(dst, 3, page.Total)
	return appendStateProto(dst, 4, first), nil
}

// ListChanges answers a page of the history.
func (s *directoryService) ListChanges(ctx context.Context, request *rosterv1.ListChangesRequest) (*encoded, error) {
	from := directory.Cursor{Epoch: request.GetEpoch(), Revision: request.GetFromRevision()}
	if text := request.GetPageToken(); text != "" {
		token, err := parsePageToken(text, changesToken)
		if err != nil {
			return nil, err
		}
		from = token.cursor
	}
	limit := int(request.GetPageSize())
	if limit == 0 {
		limit = changesPerPage
	}
	if err := hold(ctx, limit*mostBytes); err != nil {
		return nil, err
	}
	changes, state, err := s.directory.Changes(ctx, from, limit)
	if err != nil {
		return nil, err
	}
	next := ""
	if len(changes) == limit {
		if last := &changes[limit-1]; !last.Last || last.Revision < state.Revision {
			next = (&pageToken{kind: changesToken, state: state, cursor: after(last, state.Epoch)}).String()
		}
	}
	body, err := appendHistory(codecOf(ctx), changes, next, state)
	return paged(ctx, body, err)
}

// after is the place in the history that follows a change.
func after(change *directory.Change, epoch string) directory.Cursor {
	if change.Last {
		return directory.Cursor{Epoch: epoch, Revision: change.Revision}
	}
	return directory.Cursor{Epoch: epoch, Revision: change.Revision - 1, Skip: change.Index + 1}
}

// appendHistory encodes a ListChangesResponse.
func appendHistory(codec rpc.Codec, changes []directory.Change, next string, state directory.State) (dst []byte, err error) {
	told := func(i int) *toldChange {
		change := &changes[i]
		return &toldChange{Change: change, kind: kinds[change.Kind], etag: etagOf(state.Epoch, &change.User), attributed: true}
	}
	if codec == rpc.JSON {
		dst = append(dst, `{"changes":[`...)
		for i := range changes {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = told(i).appendJSON(dst)
		}
		dst = appendJSONString(append(dst, `],"nextPageToken":`...), next)
		return append(appendInt64JSON(append(appendStateJSON(dst, state), `,"oldestRevision":`...), state.Oldest), '}'), nil
	}
	for i := range changes {
		if dst, err = appendMessageProto(dst, 1, told(i).appendProto); err != nil {
			return nil, err
		}
	}
	dst = appendTextProto(dst, 2, next)
	return appendIntProto(appendStateProto(dst, 3, state), 5, state.Oldest), nil
}
