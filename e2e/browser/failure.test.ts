// When things go wrong: what the page says, and what it does next.

import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import type { Page } from "playwright-core";
import { BadRequestSchema, RetryInfoSchema } from "../../gen/es/google/rpc/error_details_pb.ts";
import { browserTests, lookUp, rosterURL, rowOf, tableRows, users, waitForSummary } from "./roster.ts";

const pageTest = browserTests();

const PROTOCOLS = ["connect", "grpcweb"];
const ENCODINGS = ["json", "binary"];

function failure(page: Page) {
  return page.getByRole("region", { name: "Users" }).getByRole("alert");
}

function health(page: Page) {
  return page.getByRole("status", { name: "Server health" });
}

/** Leaves every look-up unanswered, as a server does that has hung. */
async function hangLookUps(page: Page): Promise<void> {
  await page.route("**/MyService/User", () => {});
}

for (const protocol of PROTOCOLS) {
  for (const encoding of ENCODINGS) {
    const way = `protocol=${protocol}&encoding=${encoding}`;

    pageTest(
      `a batch over the limit is refused in the server's own words: ${way}`,
      async (page) => {
        const direct = await fetch(`${rosterURL}/MyService/User`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ userIDs: Array.from({ length: 10_001 }, (_, at) => at + 1) }),
        });
        const said = (await direct.json()) as { code: string; message: string };
        assert.match(said.message, /10,?000/, "the server names its limit");

        await page.goto(`/?ids=1-10001&${way}`);
        await failure(page).filter({ hasText: said.message }).waitFor();
        const words = await failure(page).innerText();
        assert.ok(words.includes(said.code), words);
        assert.ok(words.includes("This call asked for 10,001 ids: ask for fewer at a time."), words);
        assert.equal(await page.getByRole("table").count(), 0);
        assert.equal(await page.getByRole("button", { name: "Try again" }).count(), 0, "it would be refused again");
      },
      { failingCalls: true },
    );

    pageTest(
      `a server that cannot be reached is said to be, and trying again works: ${way}`,
      async (page) => {
        await page.goto(`/?${way}`);
        await page.route("**/MyService/**", (route) => route.abort("connectionrefused"));
        await lookUp(page, "1,2");
        await failure(page).filter({ hasText: "The server cannot be reached" }).waitFor();
        const words = await failure(page).innerText();
        assert.ok(words.includes("unavailable"), words);
        assert.ok(words.includes("Check that Roster is running"), words);
        // A failed look-up is a reason to ask for the health at once.
        await health(page).filter({ hasText: "The server cannot be reached" }).waitFor();

        await page.unroute("**/MyService/**");
        await page.getByRole("button", { name: "Try again" }).click();
        await waitForSummary(page, "2 of 2 found");
        assert.deepEqual(await tableRows(page), users(1, 2).map(rowOf));
        assert.equal(await failure(page).innerText(), "");
        // A look-up that succeeded is one, too: the next tick is ten seconds away.
        await health(page).filter({ hasText: "Server healthy" }).waitFor({ timeout: 5_000 });
      },
      { failingCalls: true },
    );

    pageTest(`a call that is not answered in time is given up, and told to the server: ${way}`, async (page) => {
      await page.clock.install();
      await page.goto(`/?${way}`);
      await hangLookUps(page);
      const request = page.waitForRequest("**/MyService/User");
      await lookUp(page, "1");
      const headers = await (await request).allHeaders();
      const timeout = protocol === "connect" ? headers["connect-timeout-ms"] : headers["grpc-timeout"];
      assert.equal(timeout, protocol === "connect" ? "10000" : "10000m");
      await page.clock.fastForward(10_000);
      await failure(page).filter({ hasText: "The call ran out of time" }).waitFor();
      const words = await failure(page).innerText();
      assert.ok(words.includes("deadline_exceeded"), words);
      assert.ok(words.includes("No answer within 10 s."), words);
    });
  }
}

pageTest("Escape ends a call in flight, for the server too", async (page) => {
  await page.goto("/");
  await hangLookUps(page);
  const ended = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/MyService/User"));
  await lookUp(page, "1");
  await waitForSummary(page, "Looking up 1 id…");
  await page.keyboard.press("Escape");
  assert.equal((await ended).failure()?.errorText, "net::ERR_ABORTED");
  await waitForSummary(page, "Look-up cancelled.");
  assert.equal(await failure(page).innerText(), "");
});

pageTest("the cancel button ends a call, and hands the focus back to the field", async (page) => {
  await page.goto("/");
  await hangLookUps(page);
  await lookUp(page, "1-3");
  await page.getByRole("button", { name: "Cancel" }).press("Enter");
  await waitForSummary(page, "Look-up cancelled.");
  const field = page.getByRole("textbox", { name: "User ids" });
  assert.ok(await field.evaluate((element) => element === document.activeElement));
});

pageTest("a new look-up replaces the one in flight", async (page) => {
  await page.goto("/");
  await page.route("**/MyService/User", () => {}, { times: 1 });
  const first = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/MyService/User"));
  await lookUp(page, "1");
  await waitForSummary(page, "Looking up 1 id…");
  await lookUp(page, "2");
  await waitForSummary(page, "1 of 1 found");
  await first;
  assert.deepEqual(await tableRows(page), users(2).map(rowOf));
});

pageTest(
  "health follows the network at once, down and up",
  async (page) => {
    await page.goto("/");
    await health(page).filter({ hasText: "Server healthy" }).waitFor();
    await page.context().setOffline(true);
    await health(page).filter({ hasText: "The server cannot be reached" }).waitFor();
    await page.context().setOffline(false);
    await health(page).filter({ hasText: "Server healthy" }).waitFor();
  },
  { failingCalls: true },
);

pageTest(
  "a server without its store says so, and is asked again after ten seconds",
  async (page) => {
    await page.clock.install();
    await page.route(
      "**/MyService/Health",
      (route) => route.fulfill({ status: 503, json: { code: "unavailable", message: "the store does not answer" } }),
      { times: 1 },
    );
    await page.goto("/");
    await health(page).filter({ hasText: "The server cannot answer now" }).waitFor();
    await page.clock.fastForward(9_000);
    assert.match(await health(page).innerText(), /The server cannot answer now/);
    await page.clock.fastForward(1_000);
    await health(page).filter({ hasText: "Server healthy" }).waitFor();
  },
  { failingCalls: true },
);

pageTest("a tab nobody sees asks for nothing, and asks as soon as it is seen", async (page) => {
  await page.clock.install();
  let asked = 0;
  page.on("request", (request) => {
    if (request.url().endsWith("/MyService/Health")) asked++;
  });
  // Headless tabs are never hidden, so the tab is told that it is.
  const setHidden = (hidden: boolean) =>
    page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { configurable: true, value });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);

  await page.goto("/");
  await health(page).filter({ hasText: "Server healthy" }).waitFor();
  assert.equal(asked, 1);
  await setHidden(true);
  await page.clock.fastForward(60_000);
  assert.equal(asked, 1);
  const again = page.waitForRequest("**/MyService/Health");
  await setHidden(false);
  await again;
  assert.equal(asked, 2);
});

pageTest(
  "the details of an error are told in words",
  async (page) => {
    const refused = create(BadRequestSchema, { fieldViolations: [{ field: "userIDs[1]", description: "must be odd, is 2" }] });
    const wait = create(RetryInfoSchema, { retryDelay: { seconds: 3n } });
    await page.route("**/MyService/User", (route) =>
      route.fulfill({
        status: 429,
        contentType: "application/json",
        body: JSON.stringify({
          code: "resource_exhausted",
          message: "not so many",
          details: [
            { type: "google.rpc.BadRequest", value: base64(toBinary(BadRequestSchema, refused)) },
            { type: "google.rpc.RetryInfo", value: base64(toBinary(RetryInfoSchema, wait)) },
          ],
        }),
      }),
    );
    await page.goto("/?ids=1,2&protocol=connect&encoding=json");
    await failure(page).filter({ hasText: "not so many" }).waitFor();
    const words = await failure(page).innerText();
    assert.ok(words.includes("userIDs[1]: must be odd, is 2"), words);
    assert.ok(words.includes("Try again in 3 seconds: the server asks for that."), words);
    assert.equal(await page.getByRole("button", { name: "Try again" }).count(), 1);
  },
  { failingCalls: true },
);

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64").replace(/=+$/, "");
}
