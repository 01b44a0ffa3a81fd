// The page below a path, as a proxy serves it that removes the path: /roster/ here.

import assert from "node:assert/strict";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before } from "node:test";
import { browserTests, lookUp, rowOf, type Roster, startRoster, tableRows, users, waitForSummary } from "./roster.ts";

const pageTest = browserTests();

let roster: Roster;
let proxy: Server;
let outside: string[] = []; // requests that are not below the path

before(async () => {
  roster = await startRoster();
  proxy = createServer((incoming, response) => {
    const path = incoming.url ?? "";
    if (!path.startsWith("/roster/")) {
      // Chromium looks for an icon of the licences, which are text, by itself.
      if (path !== "/favicon.ico") outside.push(path);
      response.writeHead(path === "/favicon.ico" ? 204 : 404).end();
      return;
    }
    const { method, headers } = incoming;
    const passed = request(roster.url + path.slice("/roster".length), { method, headers }, (reply) => {
      response.writeHead(reply.statusCode ?? 502, reply.headers);
      reply.pipe(response);
    });
    passed.on("error", () => response.destroy());
    incoming.pipe(passed);
  });
  await new Promise<void>((done) => proxy.listen(0, "127.0.0.1", done));
});

after(async () => {
  proxy?.closeAllConnections();
  proxy?.close();
  await roster?.stop();
});

for (const way of ["", "&protocol=grpcweb&encoding=binary"]) {
  pageTest(
    `the page works below a path: ${way || "as usual"}`,
    async (page) => {
      outside = [];
      const address = `127.0.0.1:${(proxy.address() as AddressInfo).port}/roster`;
      await page.goto(`http://${address}/?ids=3${way}`);
      await waitForSummary(page, "1 of 1 found");
      await page.getByRole("status", { name: "Server health" }).filter({ hasText: "Server healthy" }).waitFor();
      await page.getByText(`the user directory at ${address}`).waitFor();
      await lookUp(page, "1, 2, 777777");
      await page.getByText("Nobody here has the id 777777.").waitFor();
      assert.deepEqual(await tableRows(page), users(1, 2).map(rowOf));
      assert.equal(new URL(page.url()).pathname, "/roster/");
      const source = page.getByRole("tabpanel");
      assert.ok((await source.innerText()).includes(`http://${address}/MyService/User`));
      await page.getByRole("tab", { name: "Python" }).click();
      assert.match(await source.innerText(), /gRPC calls have no path before the service/);
      assert.deepEqual(outside, []);
      await page.getByRole("link", { name: "Licences" }).click();
      await page.getByText("Apache-2.0").first().waitFor();
      assert.equal(page.url(), `http://${address}/licenses.md`);
    },
    { otherServers: true },
  );
}
