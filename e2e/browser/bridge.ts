// A page of another origin calls a Python gRPC server through Roster, which has the directory and its own
// page on the same port. The test that runs this starts both:
//
//	JOBS_SCHEMA  the descriptor set of examples/bridge/jobs.proto

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { Server } from "node:http";
import { after, before } from "node:test";
import type { Seen, Way } from "./jobs.ts";
import { browserTests, lookUp, rosterURL, rowOf, tableRows, users, waitForSummary } from "./roster.ts";
import { portOf, site } from "./site.ts";

const pageTest = browserTests();
let app: Server;

before(async () => {
  const schema = process.env["JOBS_SCHEMA"];
  assert.ok(schema, "JOBS_SCHEMA is not set");
  app = await site("jobs", { "/jobs.binpb": readFileSync(schema) });
});
after(() => app?.close());

const WAYS: Pick<Way, "protocol" | "binary">[] = [
  { protocol: "connect", binary: false },
  { protocol: "connect", binary: true },
  { protocol: "grpcweb", binary: false },
  { protocol: "grpcweb", binary: true },
];

for (const way of WAYS) {
  pageTest(
    `fetch, and a call, a server stream and an error by ${way.protocol}, ${way.binary ? "binary" : "JSON"}`,
    async (page) => {
      await page.goto(`http://localhost:${portOf(app)}/`);
      await page.waitForFunction(() => "callJobs" in globalThis);
      const seen = await page.evaluate(
        (each) => (globalThis as unknown as { callJobs(way: Way): Promise<Seen> }).callJobs(each),
        { ...way, baseUrl: rosterURL },
      );
      assert.equal(seen.fetched["name"], "report");
      assert.equal(seen.fetched["state"], "STATE_RUNNING");
      assert.equal(seen.fetched["steps"], 2);
      assert.match(String(seen.fetched["id"]), /^[0-9]+$/);
      assert.deepEqual(seen.steps, [0, 1, 2, 3]);
      assert.equal(seen.state, 2);
      assert.equal(seen.failure, "NotFound: there is no job 999999");
    },
    { failingCalls: true, otherServers: true },
  );
}

pageTest("Roster's own page works beside bridged services", async (page) => {
  await page.goto("/");
  await page.getByRole("status", { name: "Server health" }).filter({ hasText: "Server healthy" }).waitFor();
  await lookUp(page, "2 1");
  await waitForSummary(page, "2");
  assert.deepEqual(await tableRows(page), users(2, 1).map(rowOf));
});
