// The look-up on screen, as a program of another kind would make it.

import type { Choice } from "./choice.ts";

export type Language = "curl" | "python" | "go";

export const LANGUAGE_NAMES: Record<Language, string> = {
  curl: "curl",
  python: "Python",
  go: "Go",
};

export interface Call {
  /** The page's own address: http://localhost:50051, or below a path https://example.com/roster. */
  base: string;
  choice: Choice;
  ids: readonly number[];
  /** Whether the call carries a token: that of ROSTER_TOKEN in the environment. */
  token: boolean;
}

export function snippet(language: Language, call: Call): string {
  switch (language) {
    case "curl":
      return curl(call);
    case "python":
      return python(call);
    case "go":
      return go(call);
  }
}

// Linux refuses a single argument of 128 KiB or more, so a body near that
// goes through standard input.
const MAX_ARGUMENT = 100_000;

// The field is userIDs in JSON too. Roster refuses userIds; other servers of the
// same proto may ignore it, and then the call succeeds and finds no user.
function curl({ base, ids, token }: Call): string {
  const body = `{"userIDs":[${ids.join(",")}]}`;
  const authorization = token ? ` \\\n  -H "authorization: Bearer $ROSTER_TOKEN"` : "";
  const head = `curl -H 'content-type: application/json'${authorization}`;
  const url = `${base}/MyService/User`;
  if (body.length < MAX_ARGUMENT) return `${head} \\\n  -d '${body}' \\\n  ${url}\n`;
  return `${head} \\\n  --data-binary @- \\\n  ${url} <<'EOF'\n${body}\nEOF\n`;
}

// examples/python/get.py and examples/go/main.go are what these two print for http://localhost:50051
// and the ids 1 and 2; a test holds them together.

function python({ base, ids, token }: Call): string {
  const { protocol, target } = grpcTarget(base);
  const channel =
    protocol === "https:"
      ? `grpc.secure_channel("${target}", grpc.ssl_channel_credentials())`
      : `grpc.insecure_channel("${target}")`;
  return `# pip install grpcio grpcio-tools
# curl -O ${base}/api.proto
# python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. api.proto
${token ? "import os\n\n" : ""}import grpc

import api_pb2
import api_pb2_grpc

with ${channel} as channel:
    service = api_pb2_grpc.MyServiceStub(channel)
    request = api_pb2.UserReq(userIDs=[${ids.join(", ")}])
${token ? `    metadata = [("authorization", "Bearer " + os.environ["ROSTER_TOKEN"])]\n` : ""}    reply = service.User(request, timeout=10${token ? ", metadata=metadata" : ""})

for user in reply.data:
    print(user.name, user.age, user.email)
`;
}

// grpcio wants a port where a URL may leave the usual one out.
function grpcTarget(base: string): { protocol: string; target: string } {
  const { protocol, hostname, port } = new URL(base);
  const usual = protocol === "https:" ? "443" : "80";
  return { protocol, target: `${hostname}:${port || usual}` };
}

function go({ base, choice, ids, token }: Call): string {
  const config = [`Protocol: ${choice.protocol === "grpcweb" ? "client.GRPCWeb" : "client.Connect"}`];
  if (choice.encoding === "json") config.push("JSON: true");
  if (token) config.push(`Token: os.Getenv("ROSTER_TOKEN")`);
  if (token && !isProtected(new URL(base))) config.push("TokenInClear: true");
  return `// This program looks users up. Run it with "go run ." in examples/go of a
// checkout of Roster, whose go.mod says where the client package is.
package main

import (
	"context"
	"fmt"
	"log"${token ? '\n\t"os"' : ""}
	"time"

	"example.com/roster/client"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.New("${base}", client.Config{${config.join(", ")}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	users, err := c.Users(ctx, []int32{${ids.join(", ")}})
	if err != nil {
		log.Fatal(err)
	}
	for _, user := range users {
		fmt.Println(user.Name, user.Age, user.Email)
	}
}
`;
}

/** Whether the Go client sends a token there without being told that it may. */
function isProtected({ protocol, hostname }: URL): boolean {
  return protocol === "https:" || /^(.+\.)?localhost$|^127(\.\d+){3}$|^\[::1\]$/.test(hostname);
}

// How much of a snippet is worth laying out; the copy is always whole.
const MAX_SHOWN = 1_200;

/** What to show of a snippet: the middle of a very long one is left out. */
export function shorten(text: string): { text: string; shortened: boolean } {
  if (text.length <= MAX_SHOWN) return { text, shortened: false };
  const half = MAX_SHOWN / 2;
  return { text: `${text.slice(0, half)} … ${text.slice(-half)}`, shortened: true };
}
