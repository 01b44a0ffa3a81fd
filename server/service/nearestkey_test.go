package service

import (
	"strings"
	"testing"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/gen/go/apipb"
	rosterv1 "example.com/roster/gen/go/roster/v1"
)

func TestAnUnknownKeyNamesTheNearestOne(t *testing.T) {
	for _, test := range []struct {
		message proto.Message
		json    string
		want    string
	}{
		{&userReq{}, `{"userIds":[1]}`, `unknown field "userIds": do you mean "userIDs"?`},
		{&userReq{}, `{"user_ids":[1]}`, `unknown field "user_ids": do you mean "userIDs"?`},
		{&userReq{}, `{"usreIDs":[1]}`, `unknown field "usreIDs": do you mean "userIDs"?`},
		{&userReq{}, `{"ids":[1]}`, `unknown field "ids": UserReq has userIDs`},
		{&userReq{}, `{"üü\"x":[1]}`, `UserReq has userIDs`},
		{&userReq{}, `{"` + strings.Repeat("x", 10_000) + `":[1]}`, `unknown field "xxx`},
		{&rosterv1.BatchGetUsersRequest{}, `{"id":[1]}`, `unknown field "id": do you mean "ids"?`},
		{&rosterv1.BatchGetUsersResponse{}, `{"users":[{"Name":"x"}]}`, `unknown field "Name": do you mean "name"?`},
		{&apipb.UserReply{}, `{"data":[{"mail":"x"}]}`, `unknown field "mail": do you mean "email"?`},
		{&healthv1.HealthCheckRequest{}, `{"services":"x"}`, `unknown field "services": do you mean "service"?`},
		{&emptypb.Empty{}, `{"x":1}`, `unknown field "x": Empty has no fields: send {}`},
		{&userReq{}, `{"userIDs":["a"]}`, `invalid value for int32 field userIDs`},
		{&userReq{}, `[]`, `unexpected token [`},
	} {
		err := jsonCodec{"json"}.Unmarshal([]byte(test.json), test.message)
		if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > maxQuoted {
			t.Errorf("%.60s: %v, want %s", test.json, err, test.want)
		}
	}
}
