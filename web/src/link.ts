// The look-up in the page's address, so that it can be linked and the back
// button returns to it: ?ids=1,2,5-9 and, when they are not the usual ones,
// protocol=grpcweb and encoding=binary.

import { type Choice, DEFAULT_CHOICE } from "./choice.ts";

/**
 * The address of the page without its own name, a query or a final slash. It has the path below which a
 * proxy may serve it: "https://example.com/roster" of "https://example.com/roster/?ids=1".
 */
export function baseOf(href: string): string {
  const { origin, pathname } = new URL(".", href);
  return origin + pathname.replace(/\/$/, "");
}

export interface Link {
  /** As typed, unchecked; null when the address asks for nothing. */
  ids: string | null;
  choice: Choice;
}

export function readLink(search: string): Link {
  const params = new URLSearchParams(search);
  return {
    ids: params.get("ids"),
    choice: {
      protocol: params.get("protocol") === "grpcweb" ? "grpcweb" : DEFAULT_CHOICE.protocol,
      encoding: params.get("encoding") === "binary" ? "binary" : DEFAULT_CHOICE.encoding,
    },
  };
}

/** compact: ids as parseIds gives them; digits, commas and hyphens only. */
export function writeLink(compact: string, { protocol, encoding }: Choice): string {
  let search = `?ids=${compact}`;
  if (protocol !== DEFAULT_CHOICE.protocol) search += `&protocol=${protocol}`;
  if (encoding !== DEFAULT_CHOICE.encoding) search += `&encoding=${encoding}`;
  return search;
}

// Servers and chat programs cut long addresses; a list past this stays out.
const MAX_LINK = 1800;

export function fitsLink(search: string): boolean {
  return search.length <= MAX_LINK;
}
