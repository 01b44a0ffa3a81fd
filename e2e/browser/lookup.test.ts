// Looking users up: every protocol and encoding, what was found and what was
// not, and the address that remembers it.

import assert from "node:assert/strict";
import {
  browserTests,
  lookUp,
  rosterURL,
  rowOf,
  rowWithoutID,
  sampleSize,
  tableRows,
  UNKNOWN_ID,
  users,
  waitForSummary,
} from "./roster.ts";

const pageTest = browserTests();

// UserReq{userIDs: [3, 1, 3]} on the wire.
const PROTO = Buffer.from([0x0a, 3, 3, 1, 3]);
const JSON_BODY = Buffer.from('{"userIDs":[3,1,3]}');

function envelope(message: Buffer): Buffer {
  return Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);
}

const ways: [protocol: string, encoding: string, contentType: string, body: Buffer][] = [
  ["Connect", "JSON", "application/json", JSON_BODY],
  ["Connect", "Binary", "application/proto", PROTO],
  ["gRPC-Web", "JSON", "application/grpc-web+json", envelope(JSON_BODY)],
  ["gRPC-Web", "Binary", "application/grpc-web+proto", envelope(PROTO)],
];

for (const [protocol, encoding, contentType, body] of ways) {
  pageTest(`${protocol} with ${encoding} finds the users, in the order asked, repeats included`, async (page) => {
    await page.goto("/");
    await page.getByRole("group", { name: "Protocol" }).getByRole("radio", { name: protocol }).check();
    await page.getByRole("group", { name: "Encoding" }).getByRole("radio", { name: encoding }).check();
    const request = page.waitForRequest("**/MyService/User");
    await lookUp(page, "3 1 3");
    await waitForSummary(page, "3 of 3 found");

    assert.deepEqual(await tableRows(page), users(3, 1, 3).map(rowOf));
    const sent = await request;
    assert.equal(sent.method(), "POST");
    assert.equal(sent.url(), `${rosterURL}/MyService/User`);
    assert.equal((await sent.allHeaders())["content-type"], contentType);
    assert.deepEqual(sent.postDataBuffer(), body);
    const answer = await sent.response();
    assert.equal(answer?.status(), 200);
    assert.equal((await answer.allHeaders())["content-type"], contentType);

    const results = page.getByRole("region", { name: "Users" });
    assert.match(await results.innerText(), /The call took\s+[\d.]+ m?s\b/);
    await results.getByText(contentType, { exact: true }).waitFor();
  });

  pageTest(`health is asked over ${protocol} with ${encoding} too, and is well`, async (page) => {
    const params = `?protocol=${protocol === "Connect" ? "connect" : "grpcweb"}&encoding=${encoding.toLowerCase()}`;
    const request = page.waitForRequest("**/MyService/Health");
    await page.goto(`/${params}`);
    assert.equal((await (await request).allHeaders())["content-type"], contentType);
    await page.getByRole("status", { name: "Server health" }).filter({ hasText: "Server healthy" }).waitFor();
  });
}

pageTest("ids are read as people write them", async (page) => {
  await page.goto("/");
  await lookUp(page, "1, 2 5-7");
  await waitForSummary(page, "5 of 5 found");
  assert.deepEqual(await tableRows(page), users(1, 2, 5, 6, 7).map(rowOf));
});

pageTest("a pasted column stays separate ids", async (page) => {
  await page.goto("/");
  await lookUp(page, "1\n2\n12");
  await waitForSummary(page, "3 of 3 found");
  assert.deepEqual(await tableRows(page), users(1, 2, 12).map(rowOf));
});

pageTest("ids that nobody has are named, and the users found have theirs", async (page) => {
  await page.goto("/");
  await lookUp(page, `1, ${UNKNOWN_ID}, 2, 3, 1`);
  await waitForSummary(page, "4 of 5 found");
  await page.getByText(`Nobody here has the id ${UNKNOWN_ID}.`).waitFor();
  assert.deepEqual(await tableRows(page), users(1, 2, 3, 1).map(rowOf));

  await lookUp(page, `-7, ${UNKNOWN_ID} 1 ${UNKNOWN_ID}`);
  await page.getByText(`Nobody here has the ids -7, ${UNKNOWN_ID}.`).waitFor();
  await lookUp(page, "1 100001-101000");
  await page.getByText(/^Nobody here has the ids 100001, .*, 100020 and 980 more\.$/).waitFor();
});

pageTest("where the server cannot name unknown ids the page says how many, and claims no ids for the rest", async (page) => {
  await page.route("**/roster.v1.DirectoryService/BatchGetUsers", (route) => route.fulfill({ status: 404, body: "404" }));
  await page.goto("/");
  await lookUp(page, `1, ${UNKNOWN_ID}, 2, 3`);
  await waitForSummary(page, "3 of 4 found");
  assert.deepEqual(await tableRows(page), users(1, 2, 3).map(rowWithoutID));
  await page.getByText("One of the ids is unknown here and was left out.").waitFor();
  await page.getByText("it does not tell which").waitFor();
}, { failingCalls: true });

pageTest("nobody found is said in words, without an empty table", async (page) => {
  await page.goto("/");
  await lookUp(page, String(UNKNOWN_ID));
  await waitForSummary(page, "0 of 1 found");
  await page.getByText(`Nobody here has the id ${UNKNOWN_ID}.`).waitFor();
  assert.equal(await page.getByRole("table").count(), 0);
  await lookUp(page, `-1 ${UNKNOWN_ID}`);
  await waitForSummary(page, "0 of 2 found");
  await page.getByText("Nobody here has any of these 2 ids.").waitFor();
});

pageTest("a large answer is laid out in parts", async (page) => {
  await page.goto("/?ids=1-10000");
  await waitForSummary(page, `${sampleSize} of 10,000 found`);
  const rows = page.getByRole("table").locator("tbody tr");
  assert.equal(await rows.count(), 100);
  await page.getByRole("button", { name: `Show ${sampleSize - 100} more of ${sampleSize - 100}` }).click();
  assert.equal(await rows.count(), sampleSize);
});

pageTest("what is not an id is told before anything is sent", async (page) => {
  let calls = 0;
  page.on("request", (request) => {
    if (request.url().endsWith("/MyService/User")) calls++;
  });
  await page.goto("/");
  const field = page.getByRole("textbox", { name: "User ids" });
  for (const [typed, words] of [
    ["", "Type at least one id"],
    ["1, anna", "“anna” is not an id"],
    ["2147483648", "2147483648 is out of range; ids are int32"],
    ["1-999999999", "this page sends at most 100,000 in one call"],
  ] as const) {
    await lookUp(page, typed);
    await page.getByRole("search").getByRole("alert").filter({ hasText: words }).waitFor();
    assert.equal(await field.getAttribute("aria-invalid"), "true");
    assert.ok(await field.evaluate((element) => element === document.activeElement), "the focus is in the field");
  }
  assert.equal(calls, 0);
  await field.fill("1");
  assert.equal(await field.getAttribute("aria-invalid"), "false");
  assert.equal(await page.getByRole("search").getByRole("alert").innerText(), "");
});

pageTest("the address carries the look-up, and back and forward walk through it", async (page) => {
  await page.goto("/?ids=2,1&protocol=grpcweb&encoding=binary");
  await waitForSummary(page, "2 of 2 found");
  assert.deepEqual(await tableRows(page), users(2, 1).map(rowOf));
  assert.ok(await page.getByRole("radio", { name: "gRPC-Web" }).isChecked());
  assert.ok(await page.getByRole("radio", { name: "Binary" }).isChecked());

  await page.getByRole("radio", { name: "Connect" }).check();
  await lookUp(page, "5 - 7");
  await waitForSummary(page, "3 of 3 found");
  assert.equal(page.url(), `${rosterURL}/?ids=5-7&encoding=binary`);
  await page.goBack();
  await waitForSummary(page, "2 of 2 found");
  assert.ok(await page.getByRole("radio", { name: "gRPC-Web" }).isChecked());
  await page.goForward();
  await waitForSummary(page, "3 of 3 found");
  assert.equal(await page.getByRole("textbox", { name: "User ids" }).inputValue(), "5-7");
});

pageTest("an example is a link that looks up in place", async (page) => {
  await page.goto("/");
  await page.getByRole("link", { name: "5-9" }).click();
  await waitForSummary(page, "5 of 5 found");
  assert.equal(page.url(), `${rosterURL}/?ids=5-9`);
});

pageTest("the page is small, compressed and kept", async (page) => {
  const loaded: { path: string; bytes: number; encoding: string | undefined; cache: string | undefined }[] = [];
  page.on("requestfinished", async (request) => {
    const path = new URL(request.url()).pathname;
    if (path.startsWith("/MyService/")) return;
    const headers = (await (await request.response())?.allHeaders()) ?? {};
    const bytes = (await request.sizes()).responseBodySize;
    loaded.push({ path, bytes, encoding: headers["content-encoding"], cache: headers["cache-control"] });
  });
  await page.goto("/", { waitUntil: "networkidle" });
  const total = loaded.reduce((sum, { bytes }) => sum + bytes, 0);
  assert.ok(total > 0 && total < 64 * 1024, `the page takes ${total} bytes: ${JSON.stringify(loaded)}`);
  const assets = loaded.filter(({ path }) => path.startsWith("/assets/"));
  assert.equal(assets.length, 2, JSON.stringify(loaded));
  for (const { path, encoding, cache } of assets) {
    assert.equal(encoding, "gzip", path);
    assert.equal(cache, "public, max-age=31536000, immutable", path);
  }
});
