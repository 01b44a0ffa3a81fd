// Package thirdparty carries the protos of others that the contracts in proto/ import and that
// protoc does not bring itself. A caller needs them to compile what the port serves.
package thirdparty

import "embed"

// Files has buf/validate/validate.proto, which roster/v1/directory.proto imports.
//
//go:embed buf/validate/validate.proto
var Files embed.FS
