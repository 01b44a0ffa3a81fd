#!/usr/bin/env bash
# Profiles roster serve under the calls that it is there for, and writes the
# profile that make build has the compiler optimise for.
#
#   bench/profile.sh BINARY PROFILE
set -euo pipefail
binary=$1 profile=$2
dir=$(mktemp -d)
addr=127.0.0.1:50971 admin=127.0.0.1:50972
trap 'kill "${server:-}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT

# Bodies: UserReq of 2 and of 100 ids in gRPC, of 2 and of 300 in JSON.
printf '\0\0\0\0\4\x0a\2\1\2' >"$dir/2.grpc"
{
	printf '\0\0\0\0\x66\x0a\x64'
	for id in $(seq 100); do printf '%b' "\\x$(printf %02x "$id")"; done
} >"$dir/100.grpc"
printf '{"userIDs":[1,2]}' >"$dir/2.json"
printf '{"userIDs":[%s]}' "$(seq -s, 300)" >"$dir/300.json"

load() { # load BODY CONTENT_TYPE SECONDS [FLAGS]
	local body=$1 type=$2 seconds=$3
	shift 3
	h2load -c 8 -m 16 -D "$seconds" -d "$dir/$body" -H "content-type: $type" -H 'te: trailers' "$@" "http://$addr/MyService/User" |
		tee -a "$dir/loads" | grep '^finished'
}

"$binary" serve --addr "$addr" --admin-addr "$admin" --store "$dir/roster.db" --sample 2>"$dir/log" &
server=$!
timeout 10 bash -c "until curl -sf http://$admin/readyz >/dev/null; do sleep 0.1; done" || { cat "$dir/log"; exit 1; }
load 2.grpc application/grpc 1
curl -sf -o "$dir/profile" "http://$admin/debug/pprof/profile?seconds=24" &
capture=$!
load 2.grpc application/grpc 11
load 100.grpc application/grpc 4
load 2.json application/json 4
load 300.json application/json 2
load 2.json application/json 3 --h1
wait "$capture"
if grep '^status codes' "$dir/loads" | grep -qv ' 0 3xx, 0 4xx, 0 5xx'; then
	cat "$dir/loads" "$dir/log"
	exit 1
fi
cp "$dir/profile" "$profile"
