// Whoever comes, with whatever they have: a keyboard, a screen reader, a
// phone, a dark room.

import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { contrastFailures } from "./contrast.ts";
import { browserTests, lookUp, rowOf, tableRows, UNKNOWN_ID, users, waitForSummary } from "./roster.ts";

const pageTest = browserTests();

/** What has the keyboard focus: its role or kind, and its words. */
function focused(page: Page): Promise<string> {
  return page.evaluate(() => {
    const element = document.activeElement;
    if (!element || element === document.body) return "nothing";
    if (element instanceof HTMLTextAreaElement) return "field";
    if (element instanceof HTMLInputElement) {
      return element.type === "radio" ? `radio ${element.value}` : `input ${element.labels?.[0]?.textContent}`;
    }
    const kind = element.getAttribute("role") ?? element.localName;
    return `${kind} ${element.getAttribute("aria-label") ?? element.textContent}`.trim();
  });
}

/** Whether what has the focus, or the label drawn for it, has an outline. */
function focusIsVisible(page: Page): Promise<boolean> {
  return page.evaluate(() => {
    const element = document.activeElement;
    return [element, element?.nextElementSibling].some((each) => {
      if (!each) return false;
      const { outlineStyle, outlineWidth } = getComputedStyle(each);
      return outlineStyle !== "none" && Number.parseFloat(outlineWidth) >= 2;
    });
  });
}

pageTest(
  "the whole page works from the keyboard, and shows where the focus is",
  async (page) => {
    await page.goto("/");
    const press = async (key: string, lands: string) => {
      await page.keyboard.press(key);
      assert.equal(await focused(page), lands, `after ${key}`);
      assert.ok(await focusIsVisible(page), `the focus on ${lands} is visible`);
    };

    await press("Tab", "field");
    await page.keyboard.type("1, 2");
    await page.keyboard.press("Enter");
    await waitForSummary(page, "2 of 2 found");
    assert.equal(await focused(page), "field");

    await press("Tab", "button Look up");
    await press("Tab", "radio connect");
    await press("ArrowRight", "radio grpcweb");
    await press("Tab", "radio json");
    await press("ArrowRight", "radio binary");
    await press("Tab", "a Look up 1,2");
    await press("Tab", "a Look up 5-9");
    await press("Tab", "a Look up 1-50");
    await press("Shift+Tab", "a Look up 5-9");
    const request = page.waitForRequest("**/MyService/User");
    await page.keyboard.press("Enter");
    assert.equal((await (await request).allHeaders())["content-type"], "application/grpc-web+proto");
    await waitForSummary(page, "5 of 5 found");
    assert.deepEqual(await tableRows(page), users(5, 6, 7, 8, 9).map(rowOf));
    assert.equal(await focused(page), "field");

    for (const stop of ["button Look up", "radio grpcweb", "radio binary", "a Look up 1,2", "a Look up 5-9", "a Look up 1-50"]) {
      await press("Tab", stop);
    }
    await press("Tab", "summary Token");
    await page.keyboard.press("Enter");
    await press("Tab", "input Token to look up with");
    await press("Tab", "button Show the token");
    await press("Shift+Tab", "input Token to look up with");
    await press("Shift+Tab", "summary Token");
    await page.keyboard.press("Enter");
    await press("Tab", "tab curl");
    await press("ArrowRight", "tab Python");
    await press("End", "tab Go");
    await press("ArrowRight", "tab curl");
    await press("ArrowLeft", "tab Go");
    await press("Home", "tab curl");
    assert.equal(await page.getByRole("tab", { name: "curl" }).getAttribute("aria-selected"), "true");
    await press("Tab", "button Copy curl");
    await page.keyboard.press("Enter");
    await page.getByRole("status", { name: "Copying" }).filter({ hasText: "curl copied" }).waitFor();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /"userIDs":\[5,6,7,8,9\]/);
    await press("Tab", "pre curl source");
    await press("Tab", "a Licences");
  },
  { permissions: ["clipboard-read", "clipboard-write"] },
);

const VIEWPORTS = { phone: { width: 320, height: 640 }, desktop: { width: 1280, height: 800 } };

for (const [device, viewport] of Object.entries(VIEWPORTS)) {
  pageTest(
    `a screen reader finds everything by role and name: ${device}`,
    async (page) => {
      await page.goto("/?ids=1,2");
      await waitForSummary(page, "2 of 2 found");
      const [first, second] = users(1, 2);
      assert.ok(first && second);
      await page.getByRole("status", { name: "Server health" }).filter({ hasText: "Server healthy" }).waitFor();
      await page.getByText("Token", { exact: true }).click();
      const tree = await page.locator("body").ariaSnapshot();
      for (const part of [
        '- heading "Roster" [level=1]',
        '- status "Server health": Server healthy',
        '- search "Look users up":',
        '- textbox "User ids":',
        '- button "Look up"',
        '- group "Protocol":',
        '- radio "Connect" [checked]',
        '- radio "gRPC-Web"',
        '- group "Encoding":',
        '- radio "JSON" [checked]',
        '- radio "Binary"',
        '- textbox "Token to look up with":',
        '- button "Show the token"',
        '- region "Users":',
        '- heading "Users" [level=2]',
        "- status: 2 of 2 found",
        '- table "Users found":',
        '- columnheader "Id"',
        '- columnheader "Name"',
        '- columnheader "Age"',
        '- columnheader "Email"',
        `- rowheader "${first.name}"`,
        `- cell "${second.email}"`,
        '- region "The same call":',
        '- tablist "The same call":',
        '- tab "curl" [selected]',
        '- button "Copy curl"',
        '- tabpanel "curl":',
        '- link "Licences"',
      ]) {
        assert.ok(tree.includes(part), `${part} is not in\n${tree}`);
      }
      const field = page.getByRole("textbox", { name: "User ids" });
      for (const described of [field, page.getByLabel("Token to look up with")]) {
        const hints = ((await described.getAttribute("aria-describedby")) ?? "").split(" ");
        assert.equal(await page.locator(hints.map((id) => `#${id}`).join(",")).count(), hints.length);
      }
      assert.equal(await page.locator("html").getAttribute("lang"), "en");
    },
    { viewport },
  );
}

for (const width of [320, 390]) {
  pageTest(
    `a phone ${width} pixels wide never scrolls sideways, and its targets fit a finger`,
    async (page) => {
      const fits = async (state: string) => {
        const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(beyond <= 0, `${state}: the page is ${beyond} pixels too wide`);
        for (const target of await page.locator("button, a, label:has(input), textarea, input:not([type=radio]), summary").all()) {
          const box = await target.boundingBox();
          if (!box) continue;
          const name = await target.textContent();
          assert.ok(box.x >= 0 && box.x + box.width <= width, `${state}: "${name}" lies outside the screen`);
          // WCAG 2.5.8; a link within a sentence is exempt.
          const inSentence = name === "Licences";
          assert.ok(inSentence || (box.height >= 24 && box.width >= 24), `${state}: "${name}" is too small to hit`);
        }
      };
      await page.goto("/");
      await fits("at first");
      await page.getByText("Token", { exact: true }).click();
      await page.getByLabel("Token to look up with").fill("no token");
      await fits("with a token");
      await page.getByLabel("Token to look up with").fill("");
      await lookUp(page, "1-20");
      await waitForSummary(page, "20 of 20 found");
      await fits("with users");
      assert.deepEqual((await tableRows(page))[0], users(1).map(rowOf)[0]);
      for (const language of ["Python", "Go"]) {
        await page.getByRole("tab", { name: language }).click();
        await fits(`with ${language}`);
      }
      await lookUp(page, `1, ${UNKNOWN_ID}`);
      await waitForSummary(page, "1 of 2 found");
      await fits("with an unknown id");
      await lookUp(page, `${"x".repeat(200)} 2147483648`);
      await page.getByRole("search").getByRole("alert").filter({ hasText: "is not an id" }).waitFor();
      await fits("with a problem");
      await lookUp(page, "1-10001");
      await page.getByRole("region", { name: "Users" }).getByRole("alert").filter({ hasText: "ask for fewer" }).waitFor();
      await fits("with a failure");
    },
    { viewport: { width, height: 640 }, hasTouch: true, isMobile: true, failingCalls: true },
  );
}

for (const colorScheme of ["light", "dark"] as const) {
  pageTest(
    `${colorScheme}: the page follows the system, and its text stands out by WCAG AA`,
    async (page) => {
      await page.goto("/");
      await page.getByRole("status", { name: "Server health" }).filter({ hasText: "Server healthy" }).waitFor();
      const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const lightness = (ground.match(/\d+/g) ?? []).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
      assert.ok(colorScheme === "dark" ? lightness < 40 : lightness > 230, `the ground is ${ground}`);

      assert.deepEqual(await contrastFailures(page), [], "at first");
      await page.getByText("Token", { exact: true }).click();
      await page.getByLabel("Token to look up with").fill("no token");
      await page.getByRole("button", { name: "Show the token" }).click();
      await page.getByRole("search").getByRole("alert").filter({ hasText: "A token has letters" }).waitFor();
      assert.deepEqual(await contrastFailures(page), [], "with a token");
      await page.getByLabel("Token to look up with").fill("");
      await lookUp(page, `1-3 ${UNKNOWN_ID}`);
      await waitForSummary(page, "3 of 4 found");
      await page.getByRole("tab", { name: "Python" }).click();
      assert.deepEqual(await contrastFailures(page), [], "with users and a note");
      await lookUp(page, "x");
      await page.getByRole("search").getByRole("alert").filter({ hasText: "is not an id" }).waitFor();
      assert.deepEqual(await contrastFailures(page), [], "with a problem");
      await page.route("**/MyService/**", (route) => route.abort());
      await lookUp(page, "1");
      await page.getByRole("status", { name: "Server health" }).filter({ hasText: "cannot be reached" }).waitFor();
      assert.deepEqual(await contrastFailures(page), [], "with a failure");
    },
    { colorScheme, reducedMotion: "reduce", failingCalls: true },
  );
}

for (const [reducedMotion, moves] of [
  ["reduce", false],
  ["no-preference", true],
] as const) {
  pageTest(
    `motion: ${reducedMotion}`,
    async (page) => {
      await page.goto("/");
      const moving = await page.evaluate(
        () =>
          [...document.querySelectorAll("*")].filter((element) => {
            const { transitionDuration, animationName } = getComputedStyle(element);
            return transitionDuration.split(", ").some((time) => time !== "0s") || animationName !== "none";
          }).length,
      );
      assert.equal(moving > 0, moves);
    },
    { reducedMotion },
  );
}

pageTest("the page is sent with a policy that allows nothing but itself", async (page) => {
  const response = await page.goto("/");
  const headers = (await response?.allHeaders()) ?? {};
  assert.match(headers["content-security-policy"] ?? "", /^default-src 'none'; script-src 'self'; style-src 'self';/);
  assert.match(headers["content-security-policy"] ?? "", /; require-trusted-types-for 'script'; trusted-types 'none'$/);
  assert.equal(headers["cross-origin-opener-policy"], "same-origin");
  assert.equal(headers["cross-origin-resource-policy"], "same-origin");
  assert.match(headers["permissions-policy"] ?? "", /camera=\(\)/);
  assert.equal(headers["strict-transport-security"], undefined, "that is for TLS");
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.equal(headers["referrer-policy"], "no-referrer");
});
