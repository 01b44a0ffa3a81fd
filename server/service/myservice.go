package service

import (
	"bytes"
	"context"
	"net/http"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/directory"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
	"example.com/roster/server/rpc"
)

// myServiceMount mounts the frozen contract.
func myServiceMount(config Config) rpc.Mount {
	service := newMyService(config.Directory, config.MaxBatch)
	user := lookUp(config.MaxBatch)
	user.Safe, user.Example = true, `{"userIDs":[1,2]}`
	policies := map[string]rpc.Policy{
		"User":   user,
		"Health": {Role: rpc.Anyone, Vital: true, Safe: true, Upstream: rpc.Store, MaxMessage: smallMessage},
	}
	return rpc.Mount{
		Service:  apipb.File_api_proto.Services().ByName("MyService"),
		Handler:  newHandler(service, handlerOptions(config.Log, policies)),
		Policies: policies,
	}
}

// myService is the frozen contract.
type myService struct {
	directory  *directory.Directory
	maxBatch   int
	renderings renderings
	replies    sync.Pool // of *userReply
}

func newMyService(dir *directory.Directory, maxBatch int) *myService {
	return &myService{directory: dir, maxBatch: maxBatch,
		renderings: renderUsers(dir, "UserReply.data", 2, func(dst []byte, user *directory.Record, _ string) ([]byte, error) {
			return proto.MarshalOptions{}.MarshalAppend(dst, &apipb.User{Name: user.Name, Age: user.Age, Email: user.Email})
		}, appendUserJSON)}
}

// Health answers when the store does.
func (s *myService) Health(ctx context.Context, _ *emptypb.Empty) (*emptypb.Empty, error) {
	if err := s.directory.Health(ctx); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// userReq is the request of User. It reads the JSON that programs write by itself.
type userReq struct{ apipb.UserReq }

// ReadJSON implements jsonReader.
func (r *userReq) ReadJSON(text []byte) bool {
	ids, ok := parseUserReq(text)
	if ok {
		r.UserIDs = ids
	}
	return ok
}

// userReply is the reply of User: users that are encoded already. It is used again once the codec
// has it, since it would be most of what a look-up allocates.
type userReply struct {
	foundUsers
	pool *sync.Pool
}

// AppendProto implements encoder. The reply is over then.
func (r *userReply) AppendProto(dst []byte) ([]byte, error) {
	dst = r.appendProto(append(dst, wireStart...))
	r.giveBack()
	return dst, nil
}

// AppendJSON implements encoder. The reply is over then.
func (r *userReply) AppendJSON(dst []byte) ([]byte, error) {
	dst = append(r.appendJSON(append(dst, jsonStart...)), jsonEnd...)
	r.giveBack()
	return dst, nil
}

func (r *userReply) giveBack() {
	if r.foundUsers.giveBack() {
		r.pool.Put(r)
	}
}

// newHandler is what apipbconnect.NewMyServiceHandler is, except that User has the request and the
// reply above.
func newHandler(service *myService, options connect.HandlerOption) http.Handler {
	methods := apipb.File_api_proto.Services().ByName("MyService").Methods()
	options = connect.WithHandlerOptions(options, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
	health := connect.NewUnaryHandlerSimple(apipbconnect.MyServiceHealthProcedure, service.Health,
		connect.WithSchema(methods.ByName("Health")), options)
	user := connect.NewUnaryHandlerSimple(apipbconnect.MyServiceUserProcedure, service.User,
		connect.WithSchema(methods.ByName("User")), options)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case apipbconnect.MyServiceUserProcedure:
			user.ServeHTTP(w, r)
		case apipbconnect.MyServiceHealthProcedure:
			health.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// success is the message of every reply. wireStart is a reply before its users in protobuf, with
// field 1 of UserReply; jsonStart and jsonEnd are what stands around them in JSON.
const (
	success   = "success"
	wireStart = "\x0a\x07" + success
	jsonStart = `{"message":"` + success + `","data":[`
	jsonEnd   = `]}`
)

// User answers a look-up.
func (s *myService) User(ctx context.Context, request *userReq) (*userReply, error) {
	ids := request.GetUserIDs()
	if err := checkBatch(len(ids), s.maxBatch); err != nil {
		return nil, err
	}
	reply := pooled[userReply](&s.replies)
	reply.renderings, reply.pool = s.renderings, &s.replies
	if err := reply.look(ctx, s.directory, ids); err != nil {
		return nil, err
	}
	return reply, checkReply(ctx, reply.encodedSize(codecOf(ctx)))
}

// encodedSize is how many bytes the reply has in a codec.
func (r *userReply) encodedSize(codec rpc.Codec) int {
	size := r.size(codec)
	if codec == rpc.Proto {
		return len(wireStart) + size
	}
	return len(jsonStart) + max(size-1, 0) + len(jsonEnd) // no comma after the last user
}

// parseUserReq is the ids of a UserReq in JSON as programs write it: {"userIDs":[1,2]}, with white
// space or without. For anything else, right or wrong, ok is false: that is for protojson to read,
// or to say what is wrong.
func parseUserReq(text []byte) (ids []int32, ok bool) {
	p := parser{text: text}
	if !p.token(`{`) || !p.token(`"userIDs"`) || !p.token(`:`) || !p.token(`[`) {
		return nil, false
	}
	if !p.token(`]`) {
		// No more at once than most calls have: the commas may be all there is.
		ids = make([]int32, 0, min(1+bytes.Count(p.text, []byte{','}), 10_000))
		for {
			id, ok := p.int32()
			if !ok {
				return nil, false
			}
			ids = append(ids, id)
			if p.token(`]`) {
				break
			}
			if !p.token(`,`) {
				return nil, false
			}
		}
	}
	return ids, p.token(`}`) && p.token(``) && len(p.text) == 0
}

// A parser takes tokens of JSON (RFC 8259) off the front of text.
type parser struct{ text []byte }

func (p *parser) skipSpace() {
	for len(p.text) > 0 && (p.text[0] == ' ' || p.text[0] == '\n' || p.text[0] == '\r' || p.text[0] == '\t') {
		p.text = p.text[1:]
	}
}

// token skips white space and then token, if that is what comes.
func (p *parser) token(token string) bool {
	p.skipSpace()
	if len(p.text) < len(token) || string(p.text[:len(token)]) != token {
		return false
	}
	p.text = p.text[len(token):]
	return true
}

// int32 skips white space and takes an integer. What comes after it is not looked at: another
// digit, a fraction or an exponent is no token.
func (p *parser) int32() (n int32, ok bool) {
	p.skipSpace()
	negative := len(p.text) > 0 && p.text[0] == '-'
	if negative {
		p.text = p.text[1:]
	}
	var value int64
	i := 0
	for ; i < len(p.text) && i < len("2147483648") && p.text[i]-'0' <= 9; i++ {
		value = value*10 + int64(p.text[i]-'0')
	}
	if i == 0 || p.text[0] == '0' && (i > 1 || negative) {
		return 0, false // no number, or not as JSON or as anybody writes it
	}
	p.text = p.text[i:]
	if negative {
		value = -value
	}
	return int32(value), value == int64(int32(value))
}
