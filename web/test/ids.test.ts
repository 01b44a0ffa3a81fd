import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_IDS, parseIds } from "../src/ids.ts";

const readable: [what: string, text: string, ids: number[]][] = [
  ["nothing", "", []],
  ["blank", " \n\t ", []],
  ["one id", "7", [7]],
  ["commas, spaces and a range", "1, 2 5-9", [1, 2, 5, 6, 7, 8, 9]],
  ["a repeated id is asked for each time", "3 1 3", [3, 1, 3]],
  ["a pasted column", "1\r\n2\n3\n", [1, 2, 3]],
  ["a pasted JSON list", "[1, 2]", [1, 2]],
  ["quoted ids", `"1";'2'`, [1, 2]],
  ["a negative id", "-5", [-5]],
  ["a typographic minus", "\u22125", [-5]],
  ["a hyphen before a number is its sign", "5 -9", [5, -9]],
  ["a hyphen alone between numbers is a range", "5 - 7", [5, 6, 7]],
  ["a hyphen that touches the left number is a range", "5- 7", [5, 6, 7]],
  ["a dash is a range", "5\u20137", [5, 6, 7]],
  ["dots are a range", "5..7", [5, 6, 7]],
  ["a range of negative ids", "-3--1", [-3, -2, -1]],
  ["a range across zero", "-1-1", [-1, 0, 1]],
  ["a range of one", "4-4", [4]],
  ["leading zeros", "007", [7]],
  ["the least and the greatest id", "-2147483648 2147483647", [-2147483648, 2147483647]],
];

for (const [what, text, ids] of readable) {
  test(`${what}: ${JSON.stringify(text)}`, () => {
    const parsed = parseIds(text);
    assert.deepEqual(parsed.problems, []);
    assert.deepEqual(parsed.ids, ids);
  });
}

const unreadable: [what: string, text: string, problem: RegExp][] = [
  ["a word", "anna", /“anna” is not an id; write whole numbers/],
  ["a number with letters", "12a", /“12a” is not an id/],
  ["half a range", "5-", /“5-” is not an id/],
  ["a range of three", "1-5-9", /“1-5-9” is not an id/],
  ["a fraction", "3.5", /“3.5” is not a whole number/],
  ["an exponent", "1e3", /“1e3” is not an id/],
  ["one too great", "2147483648", /2147483648 is out of range; ids are int32, from -2147483648 to 2147483647/],
  ["one too small", "-2147483649", /-2147483649 is out of range/],
  ["a range that ends too high", "2147483647-2147483648", /2147483648 is out of range/],
  ["digits beyond any number", "9".repeat(400), /^9{24}… is out of range/],
  ["a range backwards", "9-5", /9-5 runs backwards; write 5-9/],
  ["a range of most ids there are", "1-2147483647", /1-2147483647 is 2,147,483,647 ids; this page sends at most 100,000/],
  ["too many in two ranges", "1-60000 1-60000", /more than 100,000 ids/],
];

for (const [what, text, problem] of unreadable) {
  test(`${what} is refused in words: ${JSON.stringify(text.slice(0, 30))}`, () => {
    const { problems } = parseIds(text);
    assert.equal(problems.length, 1, problems.join(" "));
    assert.match(problems[0] ?? "", problem);
  });
}

test("every problem is told and the good ids are kept", () => {
  const parsed = parseIds("1 x 2 y 3");
  assert.deepEqual(parsed.ids, [1, 2, 3]);
  assert.equal(parsed.problems.length, 2);
});

test("as many ids as the page sends are read", () => {
  const parsed = parseIds(`1-${MAX_IDS}`);
  assert.deepEqual(parsed.problems, []);
  assert.equal(parsed.ids.length, MAX_IDS);
  assert.equal(parsed.ids.at(-1), MAX_IDS);
});

test("the compact form reads back as the same ids", () => {
  for (const text of ["1, 2 5-9", "-3--1", "5 -9", "[3, 1, 3]", "7"]) {
    const parsed = parseIds(text);
    assert.match(parsed.compact, /^[-0-9,]*$/);
    assert.deepEqual(parseIds(parsed.compact).ids, parsed.ids, text);
  }
  assert.equal(parseIds("1, 2 5 - 9").compact, "1,2,5-9");
});
