package client

import "example.com/roster/client/internal/diagnose"

// Reason is the diagnosis of a failed call: what was wrong with the server or with the way to it.
// It is found from the error's type, the status of the answer and, where those do not tell, from a
// probe of the port. Its String says it in words.
type Reason = diagnose.Reason

// The reasons.
const (
	// ReasonServerError: the server answered with an error of its own, which the code and the
	// message describe.
	ReasonServerError Reason = diagnose.ServerError
	// ReasonCanceled: the caller cancelled the call, or closed the Client.
	ReasonCanceled Reason = diagnose.Canceled
	// ReasonNothingListens: the connection was refused.
	ReasonNothingListens Reason = diagnose.NothingListens
	// ReasonNameUnknown: the host name does not resolve.
	ReasonNameUnknown Reason = diagnose.NameUnknown
	// ReasonUnreachable: no connection could be made, and none was refused: the packets get no
	// answer.
	ReasonUnreachable Reason = diagnose.Unreachable
	// ReasonServerUsesTLS: the port has TLS and was called without.
	ReasonServerUsesTLS Reason = diagnose.ServerUsesTLS
	// ReasonServerUsesPlain: the port has cleartext HTTP/2 or HTTP/1 and was called with TLS.
	ReasonServerUsesPlain Reason = diagnose.ServerUsesPlain
	// ReasonCertificate: the server's certificate was not accepted.
	ReasonCertificate Reason = diagnose.Certificate
	// ReasonTLSRefused: the server failed the TLS handshake, because it requires a client
	// certificate or because there is no TLS version in common.
	ReasonTLSRefused Reason = diagnose.TLSRefused
	// ReasonNotHTTP2: the server on that port does not support HTTP/2; often it is an HTTP/1.1
	// server.
	ReasonNotHTTP2 Reason = diagnose.NotHTTP2
	// ReasonNotRPC: the server supports HTTP/2 but its answer to the call's path is in none of the
	// three protocols.
	ReasonNotRPC Reason = diagnose.NotRPC
	// ReasonWrongProtocol: the server supports another of the protocols, or does not support JSON.
	ReasonWrongProtocol Reason = diagnose.WrongProtocol
	// ReasonNoService: the RPC server does not have the method (UNIMPLEMENTED), such as those of roster.v1 on a Python server.
	ReasonNoService Reason = diagnose.NoService
	// ReasonNoAnswer: the port accepts connections but did not answer in time.
	ReasonNoAnswer Reason = diagnose.NoAnswer
	// ReasonUnavailable: the server, or a proxy in front of it, answered UNAVAILABLE.
	ReasonUnavailable Reason = diagnose.Unavailable
	// ReasonConnectionLost: the connection broke before the answer was complete.
	ReasonConnectionLost Reason = diagnose.ConnectionLost
	// ReasonBadReply: the server's method returned a value that cannot be serialized.
	ReasonBadReply Reason = diagnose.BadReply
	// ReasonReplyTooLarge: the reply is longer than MaxReplyBytes.
	ReasonReplyTooLarge Reason = diagnose.ReplyTooLarge
	// ReasonUnauthenticated: the server requires a token, and got none or one that is not valid
	// (UNAUTHENTICATED).
	ReasonUnauthenticated Reason = diagnose.Unauthenticated
	// ReasonPermissionDenied: the server authenticated the caller, who may not make this call
	// (PERMISSION_DENIED).
	ReasonPermissionDenied Reason = diagnose.PermissionDenied
)
