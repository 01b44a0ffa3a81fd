package rpc

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
)

// timeoutUnits are the units of Grpc-Timeout
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// Timeout is how long a request says that its call may take, in the header field of its protocol. It
// reports false if the request says nothing, or nothing that can be read: see CheckTimeout.
func Timeout(r *http.Request) (time.Duration, bool) {
	media, _ := RequestMediaType(r)
	timeout, ok, _ := readTimeout(media, r)
	return timeout, ok
}

// CheckTimeout returns an error if a request says in a form that cannot be read how long its call may
// take.
func CheckTimeout(media MediaType, r *http.Request) *connect.Error {
	if _, _, err := readTimeout(media, r); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	return nil
}

func readTimeout(media MediaType, r *http.Request) (timeout time.Duration, ok bool, err error) {
	if media.Protocol == GRPC || media.Protocol == GRPCWeb {
		value := Header(r, "Grpc-Timeout")
		if value == "" {
			return 0, false, nil
		}
		digits := value[:len(value)-1]
		unit := timeoutUnits[value[len(value)-1]]
		n, isNumber := number(digits)
		if !isNumber || unit == 0 || len(digits) > 8 {
			return 0, false, fmt.Errorf("grpc-timeout: %.30q is not a deadline: send up to 8 digits and a unit (H, M, S, m, u or n), such as 1500m", value)
		}
		if n > uint64(math.MaxInt64/unit) {
			return 0, false, nil // more than 292 years, which Connect takes for none
		}
		return time.Duration(n) * unit, true, nil
	}
	value := Header(r, "Connect-Timeout-Ms")
	if value == "" {
		return 0, false, nil
	}
	n, isNumber := number(value)
	if !isNumber || len(value) > 10 {
		return 0, false, fmt.Errorf("connect-timeout-ms: %.30q is not a deadline: send a whole number of milliseconds with up to 10 digits, such as 1500", value)
	}
	return time.Duration(n) * time.Millisecond, true, nil
}

// number reads a number of decimal digits alone.
func number(digits string) (n uint64, ok bool) {
	n, err := strconv.ParseUint(digits, 10, 63)
	return n, err == nil
}
