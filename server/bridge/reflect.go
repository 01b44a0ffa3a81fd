package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// reflections are the two versions of server reflection. Their messages are the same on the wire.
var reflections = []string{
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}

// learnTimeout is how long a server may take to tell its whole schema.
const learnTimeout = 20 * time.Second

// learn asks one process for its schema by server reflection: v1, or v1alpha where v1 is unknown or
// UNAVAILABLE, as it is for some proxies.
//
// What is received is charged to memory.
func learn(ctx context.Context, conn *grpc.ClientConn, memory *memory, wanted func(protoreflect.FullName) bool) (*schema, error) {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	var first error
	for _, path := range reflections {
		learned, err := learnBy(ctx, conn, memory, path, wanted)
		if err == nil {
			return learned, nil
		}
		if first == nil {
			first = err
		}
		if code := status.Code(err); code != codes.Unimplemented && code != codes.Unavailable {
			return nil, err
		}
	}
	if status.Code(first) == codes.Unimplemented && !isNoGRPC(first) {
		return nil, errNoReflection
	}
	return nil, first
}

var errSchemaTooLarge = fmt.Errorf("the server's schema is too large: it may have %d files of together %d MiB, and about %d fields; "+
	"name the service to bridge, as in --bridge SERVICE=URL, or give a smaller schema with --bridge-schema",
	maxSchemaFiles, maxSchemaBytes>>20, maxSchemaMemory/fieldMemory)

// descriptorForm estimates what a file takes in memory.
var descriptorForm = newForm((*descriptorpb.FileDescriptorProto)(nil).ProtoReflect().Descriptor(), nil, nil, make(estimates))

// A conversation is one reflection call. The server answers requests in their order.
type conversation struct {
	stream grpc.ClientStream
	call   *call // nil in some tests
	files  map[string]*descriptorpb.FileDescriptorProto
	bytes  int
	size   int64 // about what the files take in memory
}

func learnBy(ctx context.Context, conn *grpc.ClientConn, memory *memory, path string, wanted func(protoreflect.FullName) bool) (*schema, error) {
	call := memory.begin(ctx, nil)
	defer call.leave()
	ctx, cancel := call.with(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, path,
		grpc.MaxCallRecvMsgSize(maxSchemaBytes))
	if err != nil {
		return nil, err
	}
	c := &conversation{stream: stream, call: call, files: make(map[string]*descriptorpb.FileDescriptorProto)}
	reply, err := c.ask(&reflectpb.ServerReflectionRequest{
		MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{ListServices: "*"}})
	if err != nil {
		return nil, err
	}
	problems := make(map[protoreflect.FullName]error)
	listed := make(map[protoreflect.FullName]bool) // a file may have services that the server does not
	for _, service := range reply.GetListServicesResponse().GetService() {
		name := protoreflect.FullName(service.GetName())
		if !name.IsValid() || neverMounted(name) || wanted != nil && !wanted(name) {
			continue
		}
		listed[name] = true
		if err := c.addSymbol(string(name)); err != nil {
			if status.Code(err) != codes.OK && !errors.As(err, new(*refusal)) {
				return nil, err
			}
			problems[name] = err
		}
	}
	if err := c.addImports(); err != nil {
		return nil, err
	}
	var files []*descriptorpb.FileDescriptorProto
	for _, file := range c.files {
		files = append(files, file)
	}
	slices.SortFunc(files, func(a, b *descriptorpb.FileDescriptorProto) int {
		return cmp.Compare(a.GetName(), b.GetName())
	})
	learned := link(files, func(name protoreflect.FullName) bool { return listed[name] })
	for name, err := range problems {
		if learned.services[name] == nil {
			learned.problems[name] = err
		}
	}
	return learned, nil
}

// A refusal is the answer of a server that does not have what it was asked for.
type refusal struct{ what, why string }

// Error implements error.
func (r *refusal) Error() string {
	return fmt.Sprintf("the server's reflection does not have %s: %s", r.what, r.why)
}

func (c *conversation) ask(request *reflectpb.ServerReflectionRequest) (*reflectpb.ServerReflectionResponse, error) {
	reply := new(reflectpb.ServerReflectionResponse)
	err := c.stream.SendMsg(request)
	if err == nil || status.Code(err) == codes.Unknown { // io.EOF: the status comes from reading
		err = c.stream.RecvMsg(reply)
	}
	if err != nil {
		if c.call != nil && c.call.ended() != nil {
			return nil, errSchemaTooLarge
		}
		return nil, err
	}
	if refused := reply.GetErrorResponse(); refused != nil {
		what := request.GetFileByFilename() + request.GetFileContainingSymbol()
		return nil, &refusal{what, shortened(errors.New(refused.GetErrorMessage())).Error()}
	}
	return reply, nil
}

func (c *conversation) addSymbol(symbol string) error {
	reply, err := c.ask(&reflectpb.ServerReflectionRequest{
		MessageRequest: &reflectpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
	if err != nil {
		return err
	}
	return c.add(reply)
}

// add keeps the files of a reply.
func (c *conversation) add(reply *reflectpb.ServerReflectionResponse) error {
	for _, wire := range reply.GetFileDescriptorResponse().GetFileDescriptorProto() {
		c.bytes += len(wire)
		size, _ := descriptorForm.inJSON(wire) // the parser below refuses what is nested too deep
		c.size += size
		if c.bytes > maxSchemaBytes || c.size > maxSchemaMemory {
			return errSchemaTooLarge
		}
		file := new(descriptorpb.FileDescriptorProto)
		if err := (proto.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(wire, file); err != nil {
			return fmt.Errorf("the server's reflection sent a file that is no FileDescriptorProto: %w", err)
		}
		if c.files[file.GetName()] != nil {
			continue
		}
		c.files[file.GetName()] = file
		if len(c.files) > maxSchemaFiles {
			return errSchemaTooLarge
		}
	}
	return nil
}

// addImports asks for the files that those received import and that were not sent with them, and then
// for those that define a type which no file has so far. What the server does not have is left for link
// to report.
func (c *conversation) addImports() error {
	seen := make(map[string]bool)
	for {
		wanted := c.missing(seen)
		if len(wanted) == 0 {
			return nil
		}
		if len(seen) > maxSchemaFiles {
			return fmt.Errorf("the server's schema uses more than %d files or types that it does not send, the maximum", maxSchemaFiles)
		}
		for _, request := range wanted {
			reply, err := c.ask(request)
			if errors.As(err, new(*refusal)) {
				continue
			}
			if err == nil {
				err = c.add(reply)
			}
			if err != nil {
				return err
			}
		}
	}
}

// missing returns requests for the files that are not there yet and were not asked for: by name, or if
// all imports are there, by a type that is used. seen has what was asked for.
func (c *conversation) missing(seen map[string]bool) []*reflectpb.ServerReflectionRequest {
	var wanted []*reflectpb.ServerReflectionRequest
	for _, file := range c.files {
		for _, name := range file.GetDependency() {
			if c.files[name] == nil && !isWellKnown(name) && !seen[name] {
				seen[name] = true
				wanted = append(wanted, &reflectpb.ServerReflectionRequest{
					MessageRequest: &reflectpb.ServerReflectionRequest_FileByFilename{FileByFilename: name}})
			}
		}
	}
	if len(wanted) > 0 {
		return wanted
	}
	defined := make(map[string]bool)
	for _, file := range c.files {
		for _, symbol := range symbols(file) {
			defined[symbol] = true
		}
	}
	for _, file := range c.files {
		for _, symbol := range references(file) {
			if defined[symbol] || seen["."+symbol] {
				continue
			}
			seen["."+symbol] = true
			if _, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(symbol)); err != nil {
				wanted = append(wanted, &reflectpb.ServerReflectionRequest{
					MessageRequest: &reflectpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
			}
		}
	}
	return wanted
}
