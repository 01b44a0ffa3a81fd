package rpc

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// timeoutUnits are the units of Grpc-Timeout
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// Timeout is how long a request says that its call may take, in the header field of its protocol. It
// reports false if the request says nothing, or nothing that can be read: Connect refuses the latter.
func Timeout(r *http.Request) (time.Duration, bool) {
	media, _ := RequestMediaType(r)
	value, unit := Header(r, "Connect-Timeout-Ms"), time.Millisecond
	if media.Protocol == GRPC || media.Protocol == GRPCWeb {
		if value = Header(r, "Grpc-Timeout"); value != "" {
			unit = timeoutUnits[value[len(value)-1]]
			value = value[:len(value)-1]
		}
	}
	if value == "" || len(value) > 10 || unit == 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil || n > uint64(math.MaxInt64/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}
