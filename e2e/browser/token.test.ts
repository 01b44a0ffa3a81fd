// A server that asks for a token: what the page says, where the token goes, and
// where it does not.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import type { Page } from "playwright-core";
import { browserTests, lookUp, type Roster, rowOf, startRoster, tableRows, tokenFile, users, waitForSummary } from "./roster.ts";

const pageTest = browserTests();
const FAILING = { failingCalls: true, otherServers: true };

const tokens = tokenFile();
let roster: Roster;
before(async () => {
  roster = await startRoster("--tokens", tokens.file);
});
after(async () => {
  await roster?.stop();
  tokens.remove();
});

function field(page: Page) {
  return page.getByLabel("Token to look up with");
}

function failure(page: Page) {
  return page.getByRole("region", { name: "Users" }).getByRole("alert");
}

for (const way of ["", "?encoding=binary", "?protocol=grpcweb", "?protocol=grpcweb&encoding=binary"]) {
  pageTest(
    `a look-up without a token is refused in words, and with one answered: ${way || "as usual"}`,
    async (page) => {
      const sent: (string | undefined)[] = [];
      page.on("request", (request) => {
        if (request.url().includes("/MyService/")) sent.push(request.headers()["authorization"]);
      });
      await page.goto(`${roster.url}/${way}`);
      // Health needs no token, and is not given one.
      await page.getByRole("status", { name: "Server health" }).filter({ hasText: "Server healthy" }).waitFor();
      // Its reply says that look-ups do, so there is a field for it, and the call shown carries one.
      await field(page).waitFor();
      const source = page.getByRole("tabpanel");
      assert.match(await source.innerText(), /-H "authorization: Bearer \$ROSTER_TOKEN"/);

      await lookUp(page, "1,2");
      await failure(page).filter({ hasText: "The server wants a token" }).waitFor();
      const words = await failure(page).innerText();
      assert.match(words, /unauthenticated\s+this call needs a token of the role read/);
      assert.ok(words.includes("Give one under Token, above."), words);
      await field(page).waitFor();
      assert.deepEqual(new Set(sent), new Set([undefined]));

      await field(page).fill(`  ${tokens.token}\n`);
      const asked = page.waitForRequest("**/MyService/User");
      await field(page).press("Enter");
      await waitForSummary(page, "2 of 2 found");
      assert.deepEqual(await tableRows(page), users(1, 2).map(rowOf));
      assert.equal((await asked).headers()["authorization"], `Bearer ${tokens.token}`);
      assert.equal(await failure(page).innerText(), "");

      const health = page.waitForRequest("**/MyService/Health");
      await page.evaluate(() => window.dispatchEvent(new Event("online")));
      assert.equal((await health).headers()["authorization"], undefined);
      assert.ok(!page.url().includes("roster_"), page.url());
    },
    FAILING,
  );
}

pageTest(
  "trying again looks up with the token given meanwhile",
  async (page) => {
    await page.goto(`${roster.url}/?ids=3`);
    await failure(page).filter({ hasText: "The server wants a token" }).waitFor();
    await field(page).fill(tokens.token);
    await page.getByRole("button", { name: "Try again" }).click();
    await waitForSummary(page, "1 of 1 found");
  },
  FAILING,
);

pageTest(
  "a wrong token is said to be wrong",
  async (page) => {
    await page.goto(roster.url);
    await field(page).fill(`${tokens.token.slice(0, -1)}x`);
    await lookUp(page, "1");
    await failure(page).filter({ hasText: "The server does not accept this token" }).waitFor();
    assert.ok((await failure(page).innerText()).includes("Correct it, or give another one, under Token, above."));
    await field(page).fill(tokens.token);
    await lookUp(page, "1");
    await waitForSummary(page, "1 of 1 found");
  },
  FAILING,
);

pageTest(
  "unknown ids are asked for with the token",
  async (page) => {
    await page.goto(roster.url);
    await field(page).fill(tokens.token);
    await lookUp(page, "1 777777 2");
    await page.getByText("Nobody here has the id 777777.").waitFor();
  },
  FAILING,
);

pageTest(
  "the token is hidden until it is to be shown",
  async (page) => {
    await page.goto(roster.url);
    await field(page).fill("roster_secret");
    assert.equal(await field(page).getAttribute("type"), "password");
    assert.equal(await field(page).getAttribute("autocomplete"), "off");
    const show = page.getByRole("button", { name: "Show the token" });
    await show.click();
    assert.equal(await field(page).getAttribute("type"), "text");
    assert.equal(await field(page).inputValue(), "roster_secret");
    assert.equal(await show.getAttribute("aria-pressed"), "true");
    await show.click();
    assert.equal(await field(page).getAttribute("type"), "password");
  },
  FAILING,
);

pageTest(
  "the token lasts as long as the tab, and is in no other one",
  async (page) => {
    await page.goto(roster.url);
    await field(page).fill(tokens.token);
    await page.reload();
    await page.getByText("Token, given").waitFor();
    await lookUp(page, "1");
    await waitForSummary(page, "1 of 1 found");

    const other = await page.context().newPage();
    await other.goto(roster.url);
    await other.getByText("Token", { exact: true }).waitFor();
    await field(other).waitFor();
    assert.equal(await other.evaluate(() => localStorage.length + sessionStorage.length), 0);
    assert.deepEqual(await page.context().cookies(), []);
    assert.equal(await page.evaluate(() => localStorage.length), 0);

    await page.getByText("Token, given").click();
    await field(page).fill("");
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await page.reload();
    await page.getByText("Token", { exact: true }).waitFor();
  },
  FAILING,
);

pageTest(
  "what is no token is not sent, and said to be none",
  async (page) => {
    let asked = 0;
    page.on("request", (request) => {
      if (request.url().endsWith("/MyService/User")) asked++;
    });
    await page.goto(roster.url);
    for (const text of ["two words", "tökén", 'quo"ted']) {
      await field(page).fill(text);
      await page.getByRole("search").getByRole("alert").filter({ hasText: "A token has letters, digits and" }).waitFor();
      assert.equal(await field(page).getAttribute("aria-invalid"), "true");
      await lookUp(page, "1");
      assert.ok(await field(page).evaluate((element) => element === document.activeElement));
    }
    assert.equal(asked, 0);
    // One that could be a token goes to the server, which says what is wrong.
    await field(page).fill(tokens.token.slice(0, -1));
    await lookUp(page, "1");
    await failure(page).filter({ hasText: "was mistyped or cut" }).waitFor();
    assert.equal(asked, 1);
  },
  FAILING,
);
