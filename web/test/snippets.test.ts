import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Choice } from "../src/choice.ts";
import { MAX_IDS } from "../src/ids.ts";
import { type Call, shorten, snippet } from "../src/snippets.ts";

const call: Call = {
  base: "http://localhost:50051",
  choice: { protocol: "connect", encoding: "json" },
  ids: [1, 2],
  token: false,
};

const withToken: Call = { ...call, token: true };

function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, at) => at + 1);
}

/** What a shell hands to curl: its arguments, one a line, then its input. */
function whatCurlGets(source: string): string {
  const curl = `curl() { printf '%s\\n' "$@"; case "$*" in *@-*) cat;; esac; }`;
  return execFileSync("sh", ["-s"], { encoding: "utf8", input: `${curl}\n${source}` });
}

test("curl posts the contract's own field name as JSON", () => {
  assert.equal(
    whatCurlGets(snippet("curl", call)),
    '-H\ncontent-type: application/json\n-d\n{"userIDs":[1,2]}\nhttp://localhost:50051/MyService/User\n',
  );
});

test("more ids than an argument holds reach curl through standard input", () => {
  const ids = upTo(MAX_IDS);
  const lines = whatCurlGets(snippet("curl", { ...call, ids })).trimEnd().split("\n");
  assert.deepEqual(lines.slice(0, -1), [
    "-H",
    "content-type: application/json",
    "--data-binary",
    "@-",
    "http://localhost:50051/MyService/User",
  ]);
  assert.deepEqual(JSON.parse(lines.at(-1) ?? ""), { userIDs: ids });
});

test("no argument comes near what Linux refuses", () => {
  for (let n = 10_000; n <= 30_000; n += 500) {
    const longest = Math.max(...snippet("curl", { ...call, ids: upTo(n) }).split(/\\\n/).map((part) => part.length));
    const inline = !snippet("curl", { ...call, ids: upTo(n) }).includes("@-");
    assert.ok(!inline || longest < 128 * 1024, `${n} ids: an argument of ${longest} bytes`);
  }
});

const targets: [origin: string, channel: string][] = [
  ["http://localhost:50051", 'grpc.insecure_channel("localhost:50051")'],
  ["http://roster.example", 'grpc.insecure_channel("roster.example:80")'],
  ["http://[::1]:50051", 'grpc.insecure_channel("[::1]:50051")'],
  ["https://example.com/roster", 'grpc.secure_channel("example.com:443", grpc.ssl_channel_credentials())'],
  ["https://roster.example", 'grpc.secure_channel("roster.example:443", grpc.ssl_channel_credentials())'],
];

for (const [origin, channel] of targets) {
  test(`Python reaches ${origin} through ${channel}`, () => {
    const source = snippet("python", { ...call, base: origin });
    assert.ok(source.includes(`with ${channel} as channel:\n`), source);
    assert.ok(source.includes("userIDs=[1, 2]"), source);
    assert.ok(source.includes(`# curl -O ${origin}/api.proto\n`), source);
    assert.ok(source.includes("# python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. api.proto"), source);
  });
}

const goConfigs: [choice: Choice, fields: string][] = [
  [{ protocol: "connect", encoding: "json" }, "Protocol: client.Connect, JSON: true"],
  [{ protocol: "connect", encoding: "binary" }, "Protocol: client.Connect"],
  [{ protocol: "grpcweb", encoding: "json" }, "Protocol: client.GRPCWeb, JSON: true"],
  [{ protocol: "grpcweb", encoding: "binary" }, "Protocol: client.GRPCWeb"],
];

for (const [choice, fields] of goConfigs) {
  test(`Go calls as chosen: ${choice.protocol}, ${choice.encoding}`, () => {
    const source = snippet("go", { ...call, choice });
    assert.ok(source.includes(`client.New("http://localhost:50051", client.Config{${fields}})`), source);
    assert.ok(source.includes("c.Users(ctx, []int32{1, 2})"), source);
  });
}

// npm runs scripts in web/.
function example(name: string): string {
  return readFileSync(`../examples/${name}`, "utf8");
}

test("the tab Python is examples/python/get.py", () => {
  assert.equal(snippet("python", call), example("python/get.py"));
});

test("the tab Go is examples/go/main.go, but for the protocol, which the page chooses", () => {
  assert.equal(
    snippet("go", call).replace("client.Config{Protocol: client.Connect, JSON: true}", "client.Config{}"),
    example("go/main.go"),
  );
});

test("curl takes the token from the environment", () => {
  const source = snippet("curl", withToken);
  assert.ok(!snippet("curl", call).includes("TOKEN"));
  assert.deepEqual(whatCurlGets(`ROSTER_TOKEN=roster_x\n${source}`).split("\n").slice(0, 4), [
    "-H",
    "content-type: application/json",
    "-H",
    "authorization: Bearer roster_x",
  ]);
});

test("Python takes the token from the environment", () => {
  const source = snippet("python", withToken);
  assert.ok(source.includes('    metadata = [("authorization", "Bearer " + os.environ["ROSTER_TOKEN"])]\n'), source);
  assert.ok(source.includes("import os\n\nimport grpc\n"), source);
  assert.ok(source.includes("service.User(request, timeout=10, metadata=metadata)"), source);
  assert.ok(!snippet("python", call).includes("import os"));
});

const tokenConfigs: [origin: string, fields: string][] = [
  ["http://localhost:50051", 'Protocol: client.Connect, JSON: true, Token: os.Getenv("ROSTER_TOKEN")'],
  ["https://roster.example", 'Protocol: client.Connect, JSON: true, Token: os.Getenv("ROSTER_TOKEN")'],
  [
    "http://roster.example",
    'Protocol: client.Connect, JSON: true, Token: os.Getenv("ROSTER_TOKEN"), TokenInClear: true',
  ],
];

for (const [origin, fields] of tokenConfigs) {
  test(`Go takes the token from the environment, and is told where it goes in the clear: ${origin}`, () => {
    const source = snippet("go", { ...withToken, base: origin });
    assert.ok(source.includes(`client.New("${origin}", client.Config{${fields}})`), source);
    assert.ok(source.includes('\t"log"\n\t"os"\n\t"time"\n'), source);
  });
}

test("a short snippet is shown whole, a long one shortened in the middle", () => {
  const short = snippet("curl", call);
  assert.deepEqual(shorten(short), { text: short, shortened: false });
  const long = snippet("curl", { ...call, ids: upTo(10_000) });
  const shown = shorten(long);
  assert.equal(shown.shortened, true);
  assert.ok(shown.text.length < 2_000);
  assert.ok(shown.text.endsWith(long.slice(-100)));
});
