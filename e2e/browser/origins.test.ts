// Pages of other origins: one that is allowed, and one that is not.

import assert from "node:assert/strict";
import type { Server } from "node:http";
import { connect, createServer as createRelay } from "node:net";
import { after, before } from "node:test";
import type { Page } from "playwright-core";
import type { Answer, Ask } from "./elsewhere.ts";
import { browserTests, type Roster, startRoster, tokenFile, users } from "./roster.ts";
import { listen, portOf, site } from "./site.ts";

const pageTest = browserTests();
const OTHER = { failingCalls: true, otherServers: true };

const tokens = tokenFile();
const relayed: string[] = []; // what browsers sent to Roster, a connection each
let allowed: Server;
let stranger: Server;
let open: Roster;
let guarded: Roster;
let relay: ReturnType<typeof createRelay>;

before(async () => {
  allowed = await site("elsewhere");
  stranger = await site("elsewhere");
  // Their names are localhost, the port's is 127.0.0.1: other origins twice over.
  const origin = `http://localhost:${portOf(allowed)}`;
  open = await startRoster("--cors-origin", origin);
  guarded = await startRoster("--cors-origin", `https://app.example.com,${origin}`, "--tokens", tokens.file, "--cors-header", "x-tenant");
  relay = await listen(
    createRelay((browser) => {
      const at = relayed.push("") - 1;
      const { hostname, port } = new URL(open.url);
      const server = connect(Number(port), hostname);
      browser.on("data", (data) => {
        relayed[at] += data.toString("latin1");
      });
      browser.pipe(server).pipe(browser);
      for (const end of [browser, server]) end.on("error", () => browser.destroy());
    }),
  );
});

after(async () => {
  relay?.close();
  allowed?.close();
  stranger?.close();
  await open?.stop();
  await guarded?.stop();
  tokens.remove();
});

async function visit(page: Page, server: Server): Promise<void> {
  await page.goto(`http://localhost:${portOf(server)}/`);
  await page.waitForFunction(() => "ask" in globalThis);
}

function ask(page: Page, call: Ask): Promise<Answer> {
  return page.evaluate((each) => (globalThis as unknown as { ask(call: Ask): Promise<Answer> }).ask(each), call);
}

const WAYS: Pick<Ask, "protocol" | "binary">[] = [
  { protocol: "connect", binary: false },
  { protocol: "connect", binary: true },
  { protocol: "grpcweb", binary: false },
  { protocol: "grpcweb", binary: true },
];

for (const way of WAYS) {
  const name = `${way.protocol}, ${way.binary ? "binary" : "JSON"}`;

  pageTest(
    `a page of an origin that is allowed calls, and reads answers and errors: ${name}`,
    async (page) => {
      await visit(page, allowed);
      const call = { ...way, baseUrl: open.url, ids: [1, 2] };
      const names = users(1, 2).map((user) => user.name);
      assert.deepEqual(await ask(page, call), { names });
      const refused = await ask(page, { ...call, ids: Array.from({ length: 10_001 }, () => 1) });
      assert.equal(refused.code, "ResourceExhausted");
      assert.match(refused.message ?? "", /10001 ids in one call/);

      const asked = { ...call, baseUrl: guarded.url };
      assert.deepEqual(await ask(page, { ...asked, token: tokens.token }), { names });
      const unknown = await ask(page, asked);
      assert.equal(unknown.code, "Unauthenticated");
      assert.match(unknown.message ?? "", /this call needs a token of the role read/);
    },
    OTHER,
  );

  pageTest(
    `a page of another origin does not: ${name}`,
    async (page) => {
      // What a browser says of it on the console is no fault of the page.
      page.removeAllListeners("console");
      await visit(page, stranger);
      for (const baseUrl of [open.url, guarded.url]) {
        const answer = await ask(page, { ...way, baseUrl, ids: [1, 2], token: tokens.token });
        assert.equal(answer.names, undefined);
        assert.equal(answer.message, "Failed to fetch");
      }
    },
    OTHER,
  );
}

const TRACING = {
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  tracestate: "a=b",
  baggage: "sentry-environment=production",
  "sentry-trace": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
  "x-request-id": "1",
  "if-none-match": '"x"',
  b3: "0",
  "x-b3-traceid": "0af7651916cd43dd8448eb211c80319c",
};

pageTest(
  "what libraries for tracing add to a call does not keep it from being made",
  async (page) => {
    await visit(page, allowed);
    const names = users(1).map((user) => user.name);
    for (const way of WAYS) {
      assert.deepEqual(await ask(page, { ...way, baseUrl: open.url, ids: [1], more: TRACING }), { names });
      // guarded was told of one more.
      const call = { ...way, baseUrl: guarded.url, ids: [1], token: tokens.token };
      assert.deepEqual(await ask(page, { ...call, more: { ...TRACING, "x-tenant": "a" } }), { names });
    }
  },
  OTHER,
);

pageTest(
  "a header that pages may not send is what the browser complains of, and not the origin",
  async (page) => {
    page.removeAllListeners("console");
    const said: string[] = [];
    page.on("console", (message) => said.push(message.text()));
    await visit(page, allowed);
    const answer = await ask(page, { protocol: "connect", binary: false, baseUrl: open.url, ids: [1], more: { "x-tenant": "a" } });
    assert.equal(answer.message, "Failed to fetch");
    assert.match(said.join("\n"), /Request header field x-tenant is not allowed by Access-Control-Allow-Headers/);
  },
  OTHER,
);

pageTest(
  "the details of an error are readable, in each protocol",
  async (page) => {
    await visit(page, allowed);
    const [connectDetails, grpcStatus, grpcDetails] = await page.evaluate(async (baseUrl) => {
      const call = (headers: Record<string, string>, body: string | Uint8Array<ArrayBuffer>) =>
        fetch(`${baseUrl}/roster.v1.DirectoryService/BatchGetUsers`, { method: "POST", headers, body });
      const json = await (await call({ "content-type": "application/json" }, "{}")).json();
      const web = await call({ "content-type": "application/grpc-web+proto", "x-grpc-web": "1" }, new Uint8Array(5));
      const trailers = new TextDecoder().decode(await web.arrayBuffer()).toLowerCase();
      const of = (name: string) => web.headers.get(name) ?? new RegExp(`${name}: *([^\r\n]*)`).exec(trailers)?.[1];
      return [json.details?.[0]?.type, of("grpc-status"), of("grpc-status-details-bin")] as (string | undefined)[];
    }, open.url);
    assert.equal(connectDetails, "google.rpc.BadRequest");
    assert.equal(grpcStatus, "3");
    assert.match(Buffer.from(grpcDetails ?? "", "base64").toString("latin1"), /google\.rpc\.BadRequest/i);
  },
  OTHER,
);

pageTest(
  "a browser asks for permission once, and calls many times",
  async (page) => {
    await visit(page, allowed);
    const call: Ask = { protocol: "connect", binary: false, baseUrl: `http://127.0.0.1:${portOf(relay)}`, ids: [1] };
    const names = users(1).map((user) => user.name);
    for (let n = 0; n < 10; n++) assert.deepEqual(await ask(page, call), { names });
    // What a browser is not told to remember it forgets after five seconds.
    await page.waitForTimeout(6_000);
    for (let n = 0; n < 10; n++) assert.deepEqual(await ask(page, call), { names });
    const requests = relayed.join("\n");
    assert.equal(requests.match(/OPTIONS \/MyService\/User HTTP/g)?.length, 1);
    assert.equal(requests.match(/POST \/MyService\/User HTTP/g)?.length, 20);
  },
  OTHER,
);

pageTest(
  "a page of another origin reaches no handler with what a browser sends unasked",
  async (page) => {
    await visit(page, stranger);
    const statuses = await page.evaluate(
      (urls) =>
        Promise.all(
          urls.map(async (url) => {
            const response = await fetch(`${url}/MyService/User`, { method: "POST", mode: "no-cors", body: '{"userIDs":[1]}' });
            return `${response.type} ${(await response.text()).length}`;
          }),
        ),
      [open.url, guarded.url],
    );
    assert.deepEqual(statuses, ["opaque 0", "opaque 0"]);
  },
  OTHER,
);
