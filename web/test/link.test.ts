import assert from "node:assert/strict";
import { test } from "node:test";
import { type Choice, contentType, DEFAULT_CHOICE } from "../src/choice.ts";
import { baseOf, fitsLink, readLink, writeLink } from "../src/link.ts";

const choices: [choice: Choice, search: string, type: string][] = [
  [{ protocol: "connect", encoding: "json" }, "?ids=1,5-9", "application/json"],
  [{ protocol: "connect", encoding: "binary" }, "?ids=1,5-9&encoding=binary", "application/proto"],
  [{ protocol: "grpcweb", encoding: "json" }, "?ids=1,5-9&protocol=grpcweb", "application/grpc-web+json"],
  [
    { protocol: "grpcweb", encoding: "binary" },
    "?ids=1,5-9&protocol=grpcweb&encoding=binary",
    "application/grpc-web+proto",
  ],
];

for (const [choice, search, type] of choices) {
  test(`${search} is ${type} and reads back`, () => {
    assert.equal(writeLink("1,5-9", choice), search);
    assert.deepEqual(readLink(search), { ids: "1,5-9", choice });
    assert.equal(contentType(choice), type);
  });
}

test("an address without ids asks for nothing", () => {
  assert.deepEqual(readLink(""), { ids: null, choice: DEFAULT_CHOICE });
});

test("ids are read as a form or a chat program writes them", () => {
  assert.equal(readLink("?ids=1%2C2").ids, "1,2");
  assert.equal(readLink("?ids=1+2").ids, "1 2");
});

test("an unknown protocol or encoding is the usual one", () => {
  assert.deepEqual(readLink("?protocol=soap&encoding=xml").choice, DEFAULT_CHOICE);
});

test("a list too long for an address is told apart", () => {
  assert.equal(fitsLink(writeLink("1,2", DEFAULT_CHOICE)), true);
  assert.equal(fitsLink(writeLink("1,".repeat(2000), DEFAULT_CHOICE)), false);
});

const bases: [href: string, base: string][] = [
  ["http://localhost:50051/", "http://localhost:50051"],
  ["http://localhost:50051/?ids=1#x", "http://localhost:50051"],
  ["https://example.com/roster/?ids=1/2", "https://example.com/roster"],
  ["https://example.com/a/b/index.html", "https://example.com/a/b"],
];

for (const [href, base] of bases) {
  test(`the page at ${href} calls ${base}`, () => assert.equal(baseOf(href), base));
}
