// The page over TLS: HTTP/2 throughout. Without https in
// ROSTER_URL there is nothing to test.

import assert from "node:assert/strict";
import { browserTests, lookUp, rosterURL, rowOf, tableRows, users, waitForSummary } from "./roster.ts";

if (rosterURL.startsWith("https://")) {
  const pageTest = browserTests();

  pageTest("the page, what it loads and the calls it makes come by HTTP/2", async (page) => {
    await page.goto("/");
    await lookUp(page, "1 2");
    await waitForSummary(page, "2 of 2 found");
    assert.deepEqual(await tableRows(page), users(1, 2).map(rowOf));

    const loaded = await page.evaluate(() =>
      [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].map((entry) => {
        const { name, nextHopProtocol } = entry as PerformanceResourceTiming;
        return { path: new URL(name).pathname, protocol: nextHopProtocol };
      }),
    );
    const paths = loaded.map(({ path }) => path);
    assert.ok(paths.includes("/") && paths.includes("/MyService/User"), `loaded ${paths.join(" ")}`);
    assert.deepEqual(
      loaded.filter(({ protocol }) => protocol !== "h2"),
      [],
    );
    assert.equal(await page.evaluate(() => isSecureContext), true);
  });

  pageTest("many calls at once are not held to the six connections of HTTP/1.1", async (page) => {
    await page.goto("/");
    const codes = await page.evaluate(async () => {
      const call = async () =>
        (
          await fetch("/MyService/User", {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: '{"userIDs":[1]}',
          })
        ).status;
      return Promise.all(Array.from({ length: 100 }, call));
    });
    assert.deepEqual(codes, Array(100).fill(200));
    const protocols = await page.evaluate(() => [
      ...new Set(
        performance
          .getEntriesByType("resource")
          .filter(({ name }) => name.endsWith("/MyService/User"))
          .map((entry) => (entry as PerformanceResourceTiming).nextHopProtocol),
      ),
    ]);
    assert.deepEqual(protocols, ["h2"]);
  });
}
