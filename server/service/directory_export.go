package service

import (
	"context"

	"connectrpc.com/connect"

	"example.com/roster/directory"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/server/drain"
)

// usersPerMessage is how many users a message of an export has at most.
const usersPerMessage = 500

// exportPart is an ExportUsersResponse that encodes itself.
type exportPart struct {
	users []directory.Record
	state directory.State
}

// AppendProto implements encoder.
func (p *exportPart) AppendProto(dst []byte) (_ []byte, err error) {
	for i := range p.users {
		user := &p.users[i]
		dst, err = appendMessageProto(dst, 1, func(dst []byte) ([]byte, error) { return appendUserProto(dst, user, etagOf(p.state.Epoch, user)) })
		if err != nil {
			return nil, err
		}
	}
	return appendStateProto(dst, 2, p.state), nil
}

// AppendJSON implements encoder.
func (p *exportPart) AppendJSON(dst []byte) ([]byte, error) {
	dst = append(dst, `{"users":[`...)
	for i := range p.users {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendUserMessageJSON(dst, &p.users[i], etagOf(p.state.Epoch, &p.users[i]))
	}
	return append(appendStateJSON(append(dst, ']'), p.state), '}'), nil
}

// ExportUsers answers all users that match a filter.
func (s *directoryService) ExportUsers(ctx context.Context, request *rosterv1.ExportUsersRequest, stream *connect.ServerStream[exportPart]) error {
	filter, err := parseFilter(request.GetFilter())
	if err != nil {
		return err
	}
	sent := false
	state, err := s.export(ctx, filter, func(state directory.State, users []directory.Record) error {
		sent = true
		return stream.Send(&exportPart{users, state})
	})
	if err != nil || sent {
		return err
	}
	return stream.Send(&exportPart{state: state}) // nobody matches: of which revision is told all the same
}

// export calls each with all users that match a filter, at most usersPerMessage at a time. It ends when the
// port closes.
func (s *directoryService) export(ctx context.Context, filter directory.Filter, each func(directory.State, []directory.Record) error) (directory.State, error) {
	closing := s.drain.Closing()
	return s.directory.Export(ctx, filter, func(state directory.State, users []directory.Record) error {
		for len(users) > 0 {
			if closed(closing) {
				return drain.Reconnect()
			}
			n := min(len(users), usersPerMessage)
			if err := each(state, users[:n]); err != nil {
				return err
			}
			users = users[n:]
		}
		return nil
	})
}
