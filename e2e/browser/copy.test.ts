// The same call as curl, Python and Go: what the copy button puts on the
// clipboard is run as it is, and answers the users the page shows.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { TestContext } from "node:test";
import type { Page } from "playwright-core";
import {
  browserTests,
  lookUp,
  rosterURL,
  startRoster,
  tableRows,
  tokenFile,
  UNKNOWN_ID,
  users,
  waitForSummary,
} from "./roster.ts";

const pageTest = browserTests();
const CLIPBOARD = { permissions: ["clipboard-read", "clipboard-write"] };

// npm runs scripts in web/.
const REPOSITORY = resolve("..");
// A Python with grpcio and grpcio-tools; the one that generates gen/python
// unless told otherwise.
const PYTHON = process.env["ROSTER_PYTHON"] ?? resolve(REPOSITORY, "build/venv/gen/bin/python");

/** Presses the copy button of a language and reads the clipboard. */
async function copy(page: Page, language: string): Promise<string> {
  await page.getByRole("tab", { name: language }).click();
  await page.getByRole("button", { name: `Copy ${language}` }).click();
  await page.getByRole("status", { name: "Copying" }).filter({ hasText: `${language} copied` }).waitFor();
  return page.evaluate(() => navigator.clipboard.readText());
}

/** The names, ages and addresses the page shows, a line each. */
async function shownUsers(page: Page): Promise<string> {
  const rows = await tableRows(page);
  assert.ok(rows.length > 0, "the page shows users");
  return rows.map((row) => `${row["Name"]} ${row["Age"]} ${row["Email"]}\n`).join("");
}

// A proxy meant for the outside would take calls to localhost with it.
const environment = { ...process.env, http_proxy: "", https_proxy: "", all_proxy: "", no_proxy: "*" };

function run(command: string, args: string[], cwd: string, input = "", more: Record<string, string> = {}): string {
  const env = { ...environment, ...more };
  return execFileSync(command, args, { cwd, encoding: "utf8", env, input, stdio: "pipe", timeout: 50_000 });
}

/** Whether to leave a test out for want of a tool; in CI nothing may be missing. */
function skipWithout(t: TestContext, tool: string, present: boolean): boolean {
  if (present) return false;
  if (process.env["CI"] === "true") throw new Error(`${tool} is missing, and CI must not skip this`);
  t.skip(`${tool} is missing`);
  return true;
}

function scratch(t: TestContext, parent: string): string {
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, "roster-copy-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

pageTest(
  "curl as copied answers the users on the page",
  async (page) => {
    await page.goto("/?ids=3,1,2");
    await waitForSummary(page, "3 of 3 found");
    const source = await copy(page, "curl");
    assert.equal(
      source,
      `curl -H 'content-type: application/json' \\\n  -d '{"userIDs":[3,1,2]}' \\\n  ${rosterURL}/MyService/User\n`,
    );
    const reply = JSON.parse(run("sh", ["-s"], tmpdir(), source)) as { message: string; data: unknown[] };
    assert.equal(reply.message, "success");
    assert.deepEqual(
      reply.data,
      users(3, 1, 2).map(({ id: _, ...user }) => user),
    );
  },
  CLIPBOARD,
);

pageTest(
  "curl as copied carries ids by the thousand, whole though shown shortened",
  async (page) => {
    await page.goto(`/?ids=1-50,${UNKNOWN_ID - 9900}-${UNKNOWN_ID}`);
    await waitForSummary(page, "50 of 9,951 found");
    await page.getByText("Shown shortened; the copy is whole.").waitFor();
    const source = await copy(page, "curl");
    assert.ok(source.length > 90_000);
    const reply = JSON.parse(run("sh", ["-s"], tmpdir(), source)) as { data: unknown[] };
    assert.equal(reply.data.length, 50);
  },
  CLIPBOARD,
);

pageTest(
  "Python as copied, after the command in its comment, prints the users on the page",
  async (page, t) => {
    if (skipWithout(t, `a Python with grpcio-tools (${PYTHON}, or ROSTER_PYTHON)`, existsSync(PYTHON))) return;
    await page.goto("/?ids=2,5-7");
    await waitForSummary(page, "4 of 4 found");
    const source = await copy(page, "Python");
    const fetch = /^# curl (-O .*)$/m.exec(source)?.[1];
    const protoc = /^# python (-m grpc_tools\.protoc .*)$/m.exec(source)?.[1];
    assert.ok(fetch && protoc, source);

    const folder = scratch(t, tmpdir());
    writeFileSync(join(folder, "call.py"), source);
    run("curl", ["--silent", "--show-error", "--fail", ...fetch.split(" ")], folder);
    run(PYTHON, protoc.split(" "), folder);
    assert.equal(run(PYTHON, ["call.py"], folder), await shownUsers(page));
  },
  CLIPBOARD,
);

for (const params of ["", "&encoding=binary", "&protocol=grpcweb", "&protocol=grpcweb&encoding=binary"]) {
  pageTest(
    `Go as copied prints the users on the page: ?ids=4,1${params}`,
    async (page, t) => {
      if (skipWithout(t, "go", run("sh", ["-c", "command -v go || true"], REPOSITORY) !== "")) return;
      await page.goto(`/?ids=4,1${params}`);
      await waitForSummary(page, "2 of 2 found");
      const source = await copy(page, "Go");
      // In the repository, so that example.com/roster/client is this one; below
      // an underscore, so that ./... is not.
      const file = join(scratch(t, resolve("build/_copied")), "main.go");
      writeFileSync(file, source);
      assert.equal(run("go", ["run", file], REPOSITORY), await shownUsers(page));
      assert.equal(run("gofmt", ["-l", file], REPOSITORY), "", "the source is formatted");
    },
    CLIPBOARD,
  );
}

pageTest(
  "with a token, what is copied takes it from the environment, and never has it",
  async (page, t) => {
    const { file, token, remove } = tokenFile();
    t.after(remove);
    const roster = await startRoster("--tokens", file);
    t.after(() => roster.stop());
    await page.goto(roster.url);
    await page.getByLabel("Token to look up with").fill(token);
    await lookUp(page, "3,1");
    await waitForSummary(page, "2 of 2 found");
    const ROSTER_TOKEN = { ROSTER_TOKEN: token };

    const curl = await copy(page, "curl");
    const python = await copy(page, "Python");
    const go = await copy(page, "Go");
    for (const source of [curl, python, go]) assert.ok(source.includes("ROSTER_TOKEN") && !source.includes("roster_"), source);

    const reply = JSON.parse(run("sh", ["-s"], tmpdir(), curl, ROSTER_TOKEN)) as { data: unknown[] };
    assert.equal(reply.data.length, 2);
    if (!skipWithout(t, `a Python with grpcio-tools (${PYTHON}, or ROSTER_PYTHON)`, existsSync(PYTHON))) {
      const folder = scratch(t, tmpdir());
      copyFileSync(join(REPOSITORY, "proto/api.proto"), join(folder, "api.proto"));
      writeFileSync(join(folder, "call.py"), python);
      run(PYTHON, ["-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=.", "api.proto"], folder);
      assert.equal(run(PYTHON, ["call.py"], folder, "", ROSTER_TOKEN), await shownUsers(page));
    }
    if (!skipWithout(t, "go", run("sh", ["-c", "command -v go || true"], REPOSITORY) !== "")) {
      const main = join(scratch(t, resolve("build/_copied")), "main.go");
      writeFileSync(main, go);
      assert.equal(run("go", ["run", main], REPOSITORY, "", ROSTER_TOKEN), await shownUsers(page));
      assert.equal(run("gofmt", ["-l", main], REPOSITORY), "", "the source is formatted");
    }
  },
  { ...CLIPBOARD, otherServers: true },
);

pageTest("before a look-up the snippets call for what is typed, and for an example until then", async (page) => {
  await page.goto("/");
  const source = page.getByRole("tabpanel");
  assert.match(await source.innerText(), /"userIDs":\[1,2\]/);
  await page.getByRole("textbox", { name: "User ids" }).fill("7-9");
  await source.filter({ hasText: '"userIDs":[7,8,9]' }).waitFor();
});

pageTest(
  "copying works on an address that is neither https nor localhost",
  async (page) => {
    // There the browser offers no navigator.clipboard.
    await page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
    await page.goto("/");
    await page.getByRole("button", { name: "Copy curl" }).press("Enter");
    await page.getByRole("status", { name: "Copying" }).filter({ hasText: "curl copied" }).waitFor();
    const button = page.getByRole("button", { name: "Copied curl" });
    assert.ok(await button.evaluate((element) => element === document.activeElement), "the focus stays");
    const field = page.getByRole("textbox", { name: "User ids" });
    await field.press("Control+V");
    assert.ok((await field.inputValue()).startsWith("curl -H 'content-type: application/json'"));
  },
  CLIPBOARD,
);

pageTest("a browser that refuses to copy is said to, with another way", async (page) => {
  await page.addInitScript(() => {
    Object.defineProperty(navigator, "clipboard", { value: undefined });
    document.execCommand = () => false;
  });
  await page.goto("/");
  await lookUp(page, "1");
  await page.getByRole("button", { name: "Copy curl" }).click();
  await page.getByText("The browser refused to copy: select the text and copy it by keyboard.").waitFor();
});
