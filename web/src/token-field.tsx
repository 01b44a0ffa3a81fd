// The field for a token. Most servers ask for none, so it is folded away until
// somebody opens it or a look-up is refused for want of one.

import type { Ref } from "preact";
import { useState } from "preact/hooks";
import type { TokenState } from "./token.ts";

interface Props {
  field: Ref<HTMLInputElement>;
  state: TokenState;
  open: boolean;
  onOpen(open: boolean): void;
}

export function TokenField({ field, state: { token, valid, set }, open, onOpen }: Props) {
  const [shown, setShown] = useState(false);
  const attributes = {
    id: "token",
    ref: field,
    value: token,
    placeholder: "roster_…",
    spellcheck: false,
    autocomplete: "off",
    autocapitalize: "off",
    "aria-describedby": "token-hint token-problem",
    "aria-invalid": !valid,
    onInput: (event: { currentTarget: HTMLInputElement }) => set(event.currentTarget.value),
  } as const;
  return (
    <details class="token" open={open} onToggle={(event) => onOpen(event.currentTarget.open)}>
      <summary>{token === "" ? "Token" : "Token, given"}</summary>
      <label class="field-label" for="token">
        Token to look up with
      </label>
      <div class="token-row">
        {shown ? <input {...attributes} type="text" /> : <input {...attributes} type="password" />}
        <button type="button" class="secondary" aria-pressed={shown} onClick={() => setShown(!shown)}>
          Show<span class="visually-hidden"> the token</span>
        </button>
      </div>
      <p class="hint" id="token-hint">
        Sent with look-ups, and forgotten when this tab is closed.
      </p>
      <div id="token-problem" role="alert">
        {!valid && <p class="problems">A token has letters, digits and - . _ ~ + / = only.</p>}
      </div>
    </details>
  );
}
