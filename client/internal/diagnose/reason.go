package diagnose

// Reason is what was wrong with the server or with the way to it. Package client documents each.
type Reason int

// The reasons. Those of package client have the same names, after "Reason".
const (
	ServerError Reason = iota
	Canceled
	NothingListens
	NameUnknown
	Unreachable
	ServerUsesTLS
	ServerUsesPlain
	Certificate
	TLSRefused
	NotHTTP2
	NotRPC
	WrongProtocol
	NoService
	NoAnswer
	Unavailable
	ConnectionLost
	BadReply
	ReplyTooLarge
	Unauthenticated
	PermissionDenied
)

// String says what was wrong, in words that fit after "User at http://localhost:50051: ".
func (r Reason) String() string {
	switch r {
	case ServerError:
		return "the server answered with an error"
	case Canceled:
		return "the call was cancelled"
	case NothingListens:
		return "nothing listens there"
	case NameUnknown:
		return "the host name does not resolve"
	case Unreachable:
		return "no connection could be made"
	case ServerUsesTLS:
		return "the server speaks TLS and was called without"
	case ServerUsesPlain:
		return "the server speaks cleartext HTTP and was called with TLS"
	case Certificate:
		return "the server's certificate is not trusted"
	case TLSRefused:
		return "the server refused the TLS handshake"
	case NotHTTP2:
		return "what listens there is not a gRPC server: it does not speak HTTP/2"
	case NotRPC:
		return "what listens there speaks HTTP/2 but does not serve MyService as an RPC"
	case WrongProtocol:
		return "the server does not speak what it was called in"
	case NoService:
		return "the server does not have this method"
	case NoAnswer:
		return "it listens but did not answer in time"
	case Unavailable:
		return "the server says it is unavailable"
	case ConnectionLost:
		return "the connection broke before the answer"
	case BadReply:
		return "the server's method returned nothing, or a value of the wrong type"
	case ReplyTooLarge:
		return "the reply is longer than 4 MiB"
	case Unauthenticated:
		return "the server could not authenticate the call"
	case PermissionDenied:
		return "the server denies this call to this caller"
	default:
		return "the call failed"
	}
}

// Advice says what to do about it; empty if the error's own text says it best.
func (r Reason) Advice() string {
	switch r {
	case NothingListens:
		return "start the server, or check its address"
	case NameUnknown:
		return "check the spelling of the host"
	case Unreachable:
		return "check the address and the firewall, or give it more time"
	case ServerUsesTLS:
		return "use https://"
	case ServerUsesPlain:
		return "use http://"
	case Certificate:
		return "trust its issuer, or use a name that is in it"
	case TLSRefused:
		return "check the client certificate (its issuer and dates, and both machines' clocks) and the TLS versions allowed"
	case NotHTTP2, NotRPC, NoService:
		return "check host and port"
	case WrongProtocol:
		return "choose another protocol (a Python server speaks grpc alone, without JSON)"
	case NoAnswer:
		return "see what keeps it busy, or give it more time"
	case Unavailable:
		return "try again later"
	case BadReply:
		return "correct the servicer: a Python method that returns None does this"
	case ReplyTooLarge:
		return "ask for fewer ids a call"
	default:
		return ""
	}
}

// Lasts reports whether the same call will fail again however long the caller waits.
func (r Reason) Lasts() bool {
	switch r {
	case NothingListens, NameUnknown, Unreachable,
		NoAnswer, Unavailable, ConnectionLost:
		return false
	default:
		return true
	}
}
