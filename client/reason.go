package client

// Reason is the diagnosis of a failed call: what was wrong with the server or
// the way to it, found from the error's type, the answer's status and, where
// those do not tell, from a probe of the port.
type Reason int

const (
	// ReasonServerError: the server answered with an error of its own, which
	// the code and the message describe.
	ReasonServerError Reason = iota
	// ReasonCanceled: the caller cancelled the call, or closed the client.
	ReasonCanceled
	// ReasonNothingListens: the connection was refused.
	ReasonNothingListens
	// ReasonNameUnknown: the host's name does not resolve.
	ReasonNameUnknown
	// ReasonUnreachable: no connection came about, and nobody refused it.
	ReasonUnreachable
	// ReasonServerUsesTLS: the port speaks TLS and was called without.
	ReasonServerUsesTLS
	// ReasonServerUsesPlain: the port speaks plain HTTP/2 or HTTP/1 and was
	// called with TLS.
	ReasonServerUsesPlain
	// ReasonCertificate: the server's certificate was not accepted.
	ReasonCertificate
	// ReasonTLSRefused: the server broke off the TLS handshake, for want of a
	// client certificate or of a TLS version in common.
	ReasonTLSRefused
	// ReasonNotHTTP2: what listens does not speak HTTP/2; an HTTP/1.1 server,
	// often.
	ReasonNotHTTP2
	// ReasonNotRPC: an HTTP/2 server that does not answer the call's path, or
	// not in any of the three protocols.
	ReasonNotRPC
	// ReasonWrongProtocol: the server speaks another of the protocols, or does
	// not know JSON.
	ReasonWrongProtocol
	// ReasonNoService: an RPC server without MyService (UNIMPLEMENTED).
	ReasonNoService
	// ReasonNoAnswer: the port listens but did not answer in time.
	ReasonNoAnswer
	// ReasonUnavailable: the server or a proxy before it answered UNAVAILABLE.
	ReasonUnavailable
	// ReasonConnectionLost: the connection broke before the answer was whole.
	ReasonConnectionLost
	// ReasonBadReply: the server's method returned what cannot be serialized.
	ReasonBadReply
	// ReasonReplyTooLarge: the reply is longer than MaxReplyBytes.
	ReasonReplyTooLarge
	// ReasonUnauthenticated: the server wants a token and got none, or one that
	// is no good (UNAUTHENTICATED).
	ReasonUnauthenticated
	// ReasonPermissionDenied: the server knows who calls, and does not let them
	// (PERMISSION_DENIED).
	ReasonPermissionDenied
)

// String says what was wrong, to follow "User at http://localhost:50051: ".
func (r Reason) String() string {
	switch r {
	case ReasonServerError:
		return "the server answered with an error"
	case ReasonCanceled:
		return "the call was cancelled"
	case ReasonNothingListens:
		return "nothing listens there"
	case ReasonNameUnknown:
		return "the host name does not resolve"
	case ReasonUnreachable:
		return "no connection came about"
	case ReasonServerUsesTLS:
		return "the server speaks TLS and was called without"
	case ReasonServerUsesPlain:
		return "the server speaks plain HTTP and was called with TLS"
	case ReasonCertificate:
		return "the server's certificate is not trusted"
	case ReasonTLSRefused:
		return "the server refused the TLS handshake"
	case ReasonNotHTTP2:
		return "what listens there is not a gRPC server: it does not speak HTTP/2"
	case ReasonNotRPC:
		return "what listens there speaks HTTP/2 but does not serve MyService as an RPC"
	case ReasonWrongProtocol:
		return "the server does not speak what it was called in"
	case ReasonNoService:
		return "the server does not have this method of MyService"
	case ReasonNoAnswer:
		return "it listens but did not answer in time"
	case ReasonUnavailable:
		return "the server says it is unavailable"
	case ReasonConnectionLost:
		return "the connection broke before the answer"
	case ReasonBadReply:
		return "the server's method returned nothing, or a value of the wrong type"
	case ReasonReplyTooLarge:
		return "the reply is longer than 4 MiB"
	case ReasonUnauthenticated:
		return "the server does not know who calls"
	case ReasonPermissionDenied:
		return "the server does not allow it"
	default:
		return "the call failed"
	}
}

// advice says what to do about it, empty where the cause says it best.
func (r Reason) advice() string {
	switch r {
	case ReasonNothingListens:
		return "start the server, or check host and port"
	case ReasonNameUnknown:
		return "check the spelling of the host"
	case ReasonUnreachable:
		return "check the address and the firewall, or give it more time"
	case ReasonServerUsesTLS:
		return "use https://"
	case ReasonServerUsesPlain:
		return "use http://"
	case ReasonCertificate:
		return "trust its issuer, or use a name that is in it"
	case ReasonTLSRefused:
		return "check the client certificate (its issuer and dates, and both machines' clocks) and the TLS versions allowed"
	case ReasonNotHTTP2, ReasonNotRPC, ReasonNoService:
		return "check host and port"
	case ReasonWrongProtocol:
		return "choose another protocol (a Python server speaks grpc alone, without JSON)"
	case ReasonNoAnswer:
		return "see what keeps it busy, or give it more time"
	case ReasonUnavailable:
		return "try again later"
	case ReasonBadReply:
		return "correct the servicer: a Python method that returns None does this"
	case ReasonReplyTooLarge:
		return "ask for fewer ids a call"
	default:
		return ""
	}
}

// lasts reports whether waiting cannot mend it.
func (r Reason) lasts() bool {
	switch r {
	case ReasonNothingListens, ReasonNameUnknown, ReasonUnreachable,
		ReasonNoAnswer, ReasonUnavailable, ReasonConnectionLost:
		return false
	default:
		return true
	}
}
