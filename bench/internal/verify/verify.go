// Package verify asks a peer the question that is about to be measured, with a
// real client of the protocol, and compares the users it answers.
package verify

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/internal/sample"
)

// Target is a server and the question.
type Target struct {
	Addr string
	TLS  bool
	IDs  []int32
}

// the peers' certificate is made for the run, so nobody can vouch for it.
var tlsConfig = &tls.Config{InsecureSkipVerify: true}

// Reply is the right answer.
func Reply(ids []int32) (*apipb.UserReply, error) {
	users, err := sample.Users()
	if err != nil {
		return nil, err
	}
	reply := &apipb.UserReply{Message: "success"}
	for _, id := range ids {
		user := users[id]
		reply.Data = append(reply.Data, &apipb.User{Name: user.Name, Age: user.Age, Email: user.Email})
	}
	return reply, nil
}

// GRPC calls with grpc-go's client and returns the size of a reply on the
// wire, without HTTP/2's framing.
func GRPC(ctx context.Context, target Target) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	transport := insecure.NewCredentials()
	if target.TLS {
		transport = credentials.NewTLS(tlsConfig)
	}
	client, err := grpc.NewClient("passthrough:///"+target.Addr, grpc.WithTransportCredentials(transport))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	reply, err := apipb.NewMyServiceClient(client).User(ctx, &apipb.UserReq{UserIDs: target.IDs})
	if err != nil {
		return 0, err
	}
	const prefix = 5
	return prefix + proto.Size(reply), compare(target, reply)
}

// Connect calls with connect-go's client, in protobuf or JSON.
func Connect(ctx context.Context, target Target, json bool) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	httpClient, close := h2cClient()
	defer close()
	var options []connect.ClientOption
	if json {
		options = append(options, connect.WithProtoJSON())
	}
	client := connect.NewClient[apipb.UserReq, apipb.UserReply](httpClient, "http://"+target.Addr+"/MyService/User", options...)
	reply, err := client.CallUnary(ctx, connect.NewRequest(&apipb.UserReq{UserIDs: target.IDs}))
	if err != nil {
		return 0, err
	}
	if err := compare(target, reply.Msg); err != nil || !json {
		return proto.Size(reply.Msg), err
	}
	// How long JSON is depends on who writes it.
	body, err := protojson.Marshal(&apipb.UserReq{UserIDs: target.IDs})
	if err != nil {
		return 0, err
	}
	return Plain(ctx, target, "application/json", body, func(answer []byte) error {
		var got apipb.UserReply
		if err := protojson.Unmarshal(answer, &got); err != nil {
			return err
		}
		return compare(target, &got)
	})
}

// Plain posts a body over h2c, gives the answer to check, and returns its size.
func Plain(ctx context.Context, target Target, contentType string, body []byte, check func([]byte) error) (int, error) {
	httpClient, close := h2cClient()
	defer close()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+target.Addr+"/MyService/User", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("TE", "trailers")
	request.Header.Set("Accept-Encoding", "identity")
	response, err := httpClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s: %.200s", request.URL, response.Status, answer)
	}
	return len(answer), check(answer)
}

func h2cClient() (client *http.Client, close func()) {
	transport := &http.Transport{Protocols: new(http.Protocols), DialContext: (&net.Dialer{}).DialContext}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

func compare(target Target, got *apipb.UserReply) error {
	want, err := Reply(target.IDs)
	if err != nil {
		return err
	}
	if !proto.Equal(got, want) {
		return fmt.Errorf("%s: the answer to %d ids is wrong: %d users, message %q",
			target.Addr, len(target.IDs), len(got.GetData()), got.GetMessage())
	}
	return nil
}

// WriteBody writes the request that h2load is to send: gRPC puts five bytes
// before a message, the others nothing.
func WriteBody(file string, ids []int32, grpcPrefix, json bool) error {
	request := &apipb.UserReq{UserIDs: ids}
	marshal := proto.Marshal
	if json {
		marshal = protojson.Marshal
	}
	body, err := marshal(request)
	if err != nil {
		return err
	}
	if grpcPrefix {
		n := len(body)
		body = append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
	}
	return os.WriteFile(file, body, 0o600)
}
