// Package protos carries the contracts of this folder as the bytes that a caller compiles, so that
// the port can serve them. Code generated from them is in gen/.
package protos

import "embed"

// Files has api.proto and roster/v1/directory.proto.
//
//go:embed api.proto roster/v1/*.proto
var Files embed.FS
