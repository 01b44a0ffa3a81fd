package server

import "net/http"

// onlyTLS tells browsers that came by TLS to come by nothing else for a year
// (RFC 6797), so that nobody on the way can talk them into plain HTTP. That
// holds for every port of a host, so not for localhost, which is many things
// in turn.
func onlyTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && !isThisMachine(r.Host) {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}
