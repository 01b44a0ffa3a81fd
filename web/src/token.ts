// The token that look-ups carry, for a server that asks for one. It is kept for
// this tab alone: sessionStorage goes when the tab is closed, and no other tab
// or visit sees it.

import { useState } from "preact/hooks";

const KEY = "roster.token";

/** What a token is made of (RFC 6750 §2.1). */
export function isToken(text: string): boolean {
  return /^[\w.~+/=-]+$/.test(text);
}

export interface TokenState {
  /** As typed, without spaces around it; empty for none. */
  token: string;
  /** Whether it can be sent; none can, too. */
  valid: boolean;
  set(text: string): void;
}

export function useToken(): TokenState {
  const [token, setToken] = useState(recall);
  return {
    token,
    valid: token === "" || isToken(token),
    set(text) {
      const trimmed = text.trim();
      setToken(trimmed);
      remember(trimmed);
    },
  };
}

// A browser may refuse storage, by a setting; then a token lasts until reload.
function recall(): string {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

function remember(token: string) {
  try {
    if (token === "") sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, token);
  } catch {
    // It is in memory.
  }
}
