// Programs that use Roster's Go packages. This is a module of its own, so that it looks like yours:
// copy the folder anywhere and set the path in the replace line below.
module example.com/roster/examples/go

go 1.26.0

require example.com/roster v0.0.0

require (
	buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go v1.36.11-20260415201107-50325440f8f2.1 // indirect
	connectrpc.com/connect v1.21.1 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260928230214-8a89bd6388cc // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

// The packages come from this checkout, not from a module proxy: ../.. is its root. In a program
// outside the checkout, write the path from your go.mod to the checkout instead.
replace example.com/roster => ../..
