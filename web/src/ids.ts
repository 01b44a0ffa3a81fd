// Ids as people type them: "1, 2 5-9", a pasted JSON list, a spreadsheet
// column. The contract's ids are int32, so negative ones are ids too.

export const MIN_ID = -2_147_483_648;
export const MAX_ID = 2_147_483_647;

// Far above the 10,000 a Roster takes in one call unless told otherwise, so
// that the limit people meet is the server's own and in its own words; low
// enough that a slip such as 1-999999999 does not freeze the tab.
export const MAX_IDS = 100_000;

export interface ParsedIds {
  /** In the order typed, repeats kept: the server answers each of them. */
  ids: number[];
  /** One sentence for each thing that is not an id. Empty when all is well. */
  problems: string[];
  /** The same ids in the shortest form, ranges kept; what a link carries. */
  compact: string;
}

const count = new Intl.NumberFormat("en");

/** A number with thousands separators: 10001 is "10,001". */
export function formatCount(n: number): string {
  return count.format(n);
}

export function parseIds(text: string): ParsedIds {
  const ids: number[] = [];
  const problems: string[] = [];
  const compact: string[] = [];
  for (const token of tokens(text)) {
    const range = parseToken(token);
    if (typeof range === "string") {
      problems.push(range);
      continue;
    }
    const { from, to } = range;
    const size = to - from + 1;
    if (ids.length + size > MAX_IDS) {
      problems.push(
        size > MAX_IDS
          ? `${from}-${to} is ${formatCount(size)} ids; this page sends at most ${formatCount(MAX_IDS)} in one call.`
          : `These are more than ${formatCount(MAX_IDS)} ids, the most this page sends in one call.`,
      );
      break;
    }
    for (let id = from; id <= to; id++) ids.push(id);
    compact.push(from === to ? `${from}` : `${from}-${to}`);
  }
  return { ids, problems, compact: compact.join(",") };
}

// A hyphen is a minus or a range. It joins two numbers when it touches the
// left one ("5-9", "5- 9") or stands alone between them ("5 - 9"); in "5 -9"
// it belongs to the 9. Ranges leave here as "5..9".
function tokens(text: string): string[] {
  return text
    .replace(/\u2212/g, "-")
    .replace(/(\d)(?:\s*(?:\u2013|\u2014|\.\.+)\s*|-\s*|\s+-\s+)(?=-?\d)/g, "$1..")
    .split(/[\s,;[\]()"']+/)
    .filter((token) => token !== "");
}

function parseToken(token: string): { from: number; to: number } | string {
  const match = /^(-?\d+)(?:\.\.(-?\d+))?$/.exec(token);
  // The dots of a range are ours: show the token as it was typed.
  const typed = clip(token.replaceAll("..", "-"));
  if (!match) {
    return /^-?\d*\.\d+$/.test(token)
      ? `“${typed}” is not a whole number; ids are whole numbers.`
      : `“${typed}” is not an id; write whole numbers such as 7, or ranges such as 5-9.`;
  }
  const from = Number(match[1]);
  const to = match[2] === undefined ? from : Number(match[2]);
  for (const [id, digits] of [
    [from, match[1]],
    [to, match[2]],
  ] as const) {
    if (id < MIN_ID || id > MAX_ID) {
      return `${clip(digits ?? "")} is out of range; ids are int32, from ${MIN_ID} to ${MAX_ID}.`;
    }
  }
  if (from > to) return `${typed} runs backwards; write ${to}-${from}.`;
  return { from, to };
}

function clip(token: string): string {
  return token.length > 24 ? `${token.slice(0, 24)}…` : token;
}
