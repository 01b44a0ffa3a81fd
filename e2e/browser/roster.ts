// What every browser test stands on: a running Roster with the sample users,
// and Chromium.
//
//	ROSTER_URL  the server, such as http://localhost:50051; started by whoever
//	            runs the tests, with --sample
//	ROSTER_SPKI of an https server, the base64 SHA-256 of its public key, which
//	            the browser is to trust; NODE_EXTRA_CA_CERTS has its issuer
//	ROSTER_BIN  the program, for tests that start servers of their own
//	CHROMIUM    the browser, when it is not /usr/bin/chromium

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test, type TestContext } from "node:test";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";

export const rosterURL = required("ROSTER_URL").replace(/\/+$/, "");

function required(name: string): string {
  const value = process.env[name];
  if (value) return value;
  throw new Error(
    `${name} is not set: start a server with "roster serve --sample" and set ${name} to its address, such as http://localhost:50051`,
  );
}

// Once and in words, rather than from every test in its own.
await fetch(rosterURL).catch((error: Error) => {
  throw new Error(`no server answers at ROSTER_URL ${rosterURL}: ${(error.cause as Error)?.message ?? error.message}`);
});

// Flags of a browser that keeps to the page: the rest of what Chromium does
// at its start (updates, sync) wants a network.
const CHROMIUM_FLAGS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function launch(): Promise<Browser> {
  const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  if (!existsSync(executablePath)) {
    throw new Error(`no browser at ${executablePath}: install Debian's chromium, or set CHROMIUM to one`);
  }
  // Chromium's sandbox refuses to run as root.
  const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  const spki = process.env["ROSTER_SPKI"];
  const trust = spki ? [`--ignore-certificate-errors-spki-list=${spki}`] : [];
  return chromium.launch({ executablePath, args: [...CHROMIUM_FLAGS, ...sandbox, ...trust] });
}

export interface PageOptions extends BrowserContextOptions {
  /** The test makes calls fail, which Chromium reports on the console. */
  failingCalls?: boolean;
  /** The test has servers of its own, which the page may call. */
  otherServers?: boolean;
}

export type PageTest = (name: string, body: (page: Page, t: TestContext) => Promise<void>, options?: PageOptions) => void;

/**
 * Starts one browser for the file and gives back a way to write its tests:
 * each has a fresh page, not yet opened, and fails when the page reports an
 * error, breaks its content policy or calls another origin.
 */
export function browserTests(): PageTest {
  let browser: Browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());

  return (name, body, { failingCalls = false, otherServers = false, ...options } = {}) => {
    test(name, { timeout: 60_000 }, async (t) => {
      const context = await browser.newContext({ baseURL: rosterURL, ...options });
      try {
        context.setDefaultTimeout(10_000);
        const page = await context.newPage();
        const complaints = await listen(page, failingCalls, otherServers);
        await body(page, t);
        assert.deepEqual(complaints, []);
      } finally {
        await context.close();
      }
    });
  };
}

async function listen(page: Page, failingCalls: boolean, otherServers: boolean): Promise<string[]> {
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    if (failingCalls && message.text().startsWith("Failed to load resource")) return;
    complaints.push(`console ${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
  page.on("request", (request) => {
    if (!otherServers && !request.url().startsWith(`${rosterURL}/`)) complaints.push(`a request to ${request.url()}`);
  });
  await page.exposeFunction("reportViolation", (violation: string) => complaints.push(`policy: ${violation}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      const report = (window as unknown as { reportViolation(words: string): void }).reportViolation;
      report(`${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  return complaints;
}

export interface Roster {
  /** Such as http://127.0.0.1:34567. */
  url: string;
  stop(): Promise<void>;
}

/** The program under test. */
export function rosterBin(): string {
  return required("ROSTER_BIN");
}

/** A file with one token, which may read, and the token. */
export function tokenFile(): { file: string; token: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "roster-tokens-"));
  const file = join(folder, "tokens.json");
  const create = ["token", "create", "--tokens", file, "--role", "read", "--name", "page"];
  const token = execFileSync(rosterBin(), create, { encoding: "utf8", stdio: "pipe" }).trim();
  return { file, token, remove: () => rmSync(folder, { recursive: true }) };
}

/** A server of the test's own, with the sample users. */
export async function startRoster(...flags: string[]): Promise<Roster> {
  const folder = mkdtempSync(join(tmpdir(), "roster-browser-"));
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("ROSTER_")));
  const program = spawn(
    rosterBin(),
    ["serve", "--addr", "127.0.0.1:0", "--store", join(folder, "roster.db"), "--sample", "--log-format", "json", ...flags],
    { env, stdio: ["ignore", "ignore", "pipe"] },
  );
  const ended = new Promise<void>((resolve) => program.on("close", () => resolve()));
  const log: string[] = [];
  const address = await new Promise<string>((resolve, reject) => {
    createInterface(program.stderr).on("line", (line) => {
      log.push(line);
      const entry = line.startsWith("{") ? JSON.parse(line) : {};
      if (entry.msg === "serving") resolve(entry.address);
    });
    void ended.then(() => reject(new Error(`roster serve ended:\n${log.join("\n")}`)));
  });
  return {
    url: `http://${address}`,
    async stop() {
      program.kill("SIGTERM");
      await ended;
      rmSync(folder, { recursive: true });
      assert.equal(program.exitCode, 0, log.join("\n"));
    },
  };
}

export interface SampleUser {
  id: number;
  name: string;
  age: number;
  email: string;
}

// npm runs scripts in web/.
const SAMPLE = "../examples/users.csv";

/** The users that serve --sample loads, by id. */
export function sampleUsers(): Map<number, SampleUser> {
  const [header, ...rows] = readFileSync(SAMPLE, "utf8").trimEnd().split("\n");
  assert.equal(header, "id,name,age,email", `the columns of ${SAMPLE}`);
  return new Map(
    rows.map((row) => {
      const [id, name, age, email, ...rest] = row.split(",");
      assert.ok(id && name && age && email && rest.length === 0 && !row.includes('"'), `${SAMPLE}: ${row}`);
      return [Number(id), { id: Number(id), name, age: Number(age), email }];
    }),
  );
}

const sample = sampleUsers();

/** The sample users of these ids, which must exist, in that order. */
export function users(...ids: number[]): SampleUser[] {
  return ids.map((id) => {
    const user = sample.get(id);
    assert.ok(user, `no sample user ${id}`);
    return user;
  });
}

export const sampleSize = sample.size;

/** An id no sample user has. */
export const UNKNOWN_ID = 999_999_999;

/** Types ids and presses Enter. */
export async function lookUp(page: Page, ids: string): Promise<void> {
  await page.getByRole("textbox", { name: "User ids" }).fill(ids);
  await page.getByRole("textbox", { name: "User ids" }).press("Enter");
}

/** Waits until the summary of the look-up reads so. */
export async function waitForSummary(page: Page, words: string): Promise<void> {
  await page.getByRole("region", { name: "Users" }).getByRole("status").filter({ hasText: words }).waitFor();
}

/** The rows of the table as the page shows them, one object of column to text each. */
export async function tableRows(page: Page): Promise<Record<string, string>[]> {
  const table = page.getByRole("table", { name: "Users found" });
  const columns = await table.getByRole("columnheader").allInnerTexts();
  const rows = await table.getByRole("row").all();
  return Promise.all(
    rows.slice(1).map(async (row) => {
      const cells = await row.locator("th, td").all();
      const texts = await Promise.all(
        cells.map((cell) =>
          // What is hidden from assistive technology is ornament.
          cell.evaluate((element) => {
            const copy = element.cloneNode(true) as HTMLElement;
            for (const ornament of copy.querySelectorAll("[aria-hidden=true]")) ornament.remove();
            return copy.textContent ?? "";
          }),
        ),
      );
      return Object.fromEntries(columns.map((column, at) => [column, texts[at] ?? ""]));
    }),
  );
}

/** A user as a row that shows its id. */
export function rowOf({ id, name, age, email }: SampleUser): Record<string, string> {
  return { Id: String(id), Name: name, Age: String(age), Email: email };
}

/** A user as a row of a reply with gaps, where ids are not known. */
export function rowWithoutID(user: SampleUser): Record<string, string> {
  const { Id: _, ...row } = rowOf(user);
  return row;
}
