package tlsfile

import "crypto/tls"

// Identity returns the name in the client certificate of a connection: the first URI of its
// subjectAltName (a SPIFFE ID), else the first DNS name, else the first email address, else the
// subject's common name.
//
// It is empty for a connection without TLS (nil), for a client without a certificate, and for a
// certificate that was not verified: only a certificate signed by one of Config.ClientCA has an
// identity.
func Identity(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return ""
	}
	switch leaf := state.VerifiedChains[0][0]; {
	case len(leaf.URIs) > 0:
		return leaf.URIs[0].String()
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	case len(leaf.EmailAddresses) > 0:
		return leaf.EmailAddresses[0]
	default:
		return leaf.Subject.CommonName
	}
}
