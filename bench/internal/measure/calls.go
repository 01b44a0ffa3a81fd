package measure

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/gen/tickerpb"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/service"
)

// codec is how a request and its answer are written.
type codec struct {
	contentType string
	marshal     func(proto.Message) ([]byte, error)
	unmarshal   func([]byte, proto.Message) error
}

var (
	grpcProto    = codec{"application/grpc", marshalGRPC, unmarshalGRPC}
	connectProto = codec{"application/proto", proto.Marshal, proto.Unmarshal}
	connectJSON  = codec{"application/json", protojson.Marshal, protojson.Unmarshal}
)

// marshalGRPC puts five bytes before the message: not compressed, and its length.
func marshalGRPC(m proto.Message) ([]byte, error) {
	message, err := proto.Marshal(m)
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...), err
}

// Request is a gRPC request for that many users.
func Request(ids int) []byte {
	body, err := marshalGRPC(&apipb.UserReq{UserIDs: service.IDs(ids)})
	if err != nil {
		panic(err) // a message of numbers can be encoded
	}
	return body
}

func unmarshalGRPC(body []byte, m proto.Message) error {
	if len(body) < 5 || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
		return fmt.Errorf("%q is not one uncompressed message of gRPC", body)
	}
	return proto.Unmarshal(body[5:], m)
}

// calls measures unary calls: the CPU time of one and how many go through in a second, at full
// load; and how long one takes at a load that every peer carries.
func calls(ctx context.Context, r *Run, c Case, name string) (Sample, error) {
	var sample Sample
	server, err := r.Setup.Start(ctx, name, peer.Options{EqualGC: !c.ownGC, TLS: c.load.tls})
	if err != nil {
		return sample, err
	}
	defer server.Stop()
	l, err := c.load.prepare(ctx, r.Setup.Temp, server.Addr, name == peer.Nginx)
	if err != nil {
		return sample, err
	}
	rate, err := l.warmUp(ctx, max(r.Duration/4, 200*time.Millisecond))
	if err != nil {
		return sample, err
	}
	var made int
	cpu, err := usage(server, func() (err error) {
		made, sample[Rate], err = l.closed(ctx, int(rate*r.Duration.Seconds()))
		return err
	})
	if err != nil {
		return sample, err
	}
	sample[CPU] = cpu / float64(made)
	if r.offered[c.Key] == 0 {
		// The first peer of the first round sets the load for all: a part of what it carries that
		// is well below what the slower Go peers do.
		part := 0.2
		if l.codec.contentType != grpcProto.contentType {
			part = 0.4
		}
		r.offered[c.Key] = twoDigits(sample[Rate] * part)
	}
	if offered := r.offered[c.Key]; sample[Rate] > offered*5/4 {
		times, err := l.open(ctx, offered, r.Duration)
		if err != nil {
			return sample, err
		}
		sample[P50], sample[P99] = Percentile(times, 0.5).Seconds(), Percentile(times, 0.99).Seconds()
	}
	memory, err := server.Memory()
	sample[Memory] = float64(memory)
	return sample, err
}

// twoDigits rounds down: the load is no measurement.
func twoDigits(rate float64) float64 {
	unit := 1.0
	for rate/unit >= 100 {
		unit *= 10
	}
	return float64(int(rate/unit)) * unit
}

// exchange returns the procedure that is called, a request of it and the reply that is wanted.
func (l load) exchange() (procedure string, request, want proto.Message, err error) {
	if l.payload > 0 {
		payload := bytes.Repeat([]byte("roster "), l.payload/7+1)[:l.payload]
		return "/roster.bench.v1.EchoService/Echo", &tickerpb.EchoRequest{Payload: payload}, &tickerpb.EchoResponse{Payload: payload}, nil
	}
	users, err := service.Users()
	reply := &apipb.UserReply{Message: "success"}
	for _, id := range service.IDs(l.ids) {
		user := users[id]
		reply.Data = append(reply.Data, &apipb.User{Name: user.Name, Age: user.Age, Email: user.Email})
	}
	return "/MyService/User", &apipb.UserReq{UserIDs: service.IDs(l.ids)}, reply, err
}

// prepare writes the request to a file in dir, sends it once, compares the answer and notes its size.
// A constant answer is compared with the one of nginx.
func (l load) prepare(ctx context.Context, dir, addr string, constant bool) (load, error) {
	if l.codec.contentType == "" {
		l.codec = grpcProto
	}
	transport := &http.Transport{
		Protocols:          new(http.Protocols),
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, // the certificate is self-signed
	}
	defer transport.CloseIdleConnections()
	transport.Protocols.SetHTTP1(l.http1)
	transport.Protocols.SetHTTP2(l.tls)
	transport.Protocols.SetUnencryptedHTTP2(!l.http1 && !l.tls)
	scheme := "http://"
	if l.tls {
		scheme = "https://"
	}
	procedure, message, want, err := l.exchange()
	if err != nil {
		return l, err
	}
	l.url, l.dir = scheme+addr+procedure, dir
	body, err := l.codec.marshal(message)
	if err != nil {
		return l, err
	}
	if err := os.WriteFile(filepath.Join(dir, "body"), body, 0o600); err != nil {
		return l, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, bytes.NewReader(body))
	if err != nil {
		return l, err
	}
	for _, field := range l.header() {
		name, value, _ := strings.Cut(field, ": ")
		request.Header.Set(name, value)
	}
	response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return l, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return l, err
	}
	l.replyBytes = len(answer)
	if constant {
		if string(answer) != peer.NginxReply {
			err = fmt.Errorf("%s: the constant answer is %.200q", l.url, answer)
		}
		return l, err
	}
	got := want.ProtoReflect().New().Interface()
	if response.StatusCode != http.StatusOK || response.Trailer.Get("Grpc-Status") > "0" || l.codec.unmarshal(answer, got) != nil || !proto.Equal(got, want) {
		return l, fmt.Errorf("%s: the answer is wrong: %s, %s, %s, %.200q", l.url, response.Status, response.Header, response.Trailer, answer)
	}
	return l, nil
}
