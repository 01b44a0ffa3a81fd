// What came back: the users, or why there are none, and what the call took.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { formatDuration } from "./calls.ts";
import { contentType, PROTOCOL_NAMES } from "./choice.ts";
import type { Failure } from "./failure.ts";
import { CrossIcon } from "./icons.tsx";
import { formatCount } from "./ids.ts";
import { type Finished, known, type LookUp } from "./lookup.ts";
import { UserTable } from "./user-table.tsx";

interface Props {
  lookUp: LookUp;
  onRetry(finished: Finished): void;
  /** A button that had the focus is gone; the page says where it goes. */
  onFocusLost(): void;
}

// A table of 10,000 rows takes the browser longer than the call that filled
// it; so it grows on request.
const FIRST_ROWS = 100;
const MORE_ROWS = 1000;

export function Results({ lookUp, onRetry, onFocusLost }: Props) {
  const { finished, pending } = lookUp;
  const [rows, setRows] = useState(FIRST_ROWS);
  // The same look-up comes once more when the unknown ids have been named.
  useEffect(() => setRows(FIRST_ROWS), [finished?.kind === "found" ? finished.users : finished]);

  const hidden = finished?.kind === "found" ? Math.max(0, finished.users.length - rows) : 0;
  const summary = pending === null ? summaryOf(finished) : `Looking up ${ids(pending)}…`;
  return (
    <section class="card results" aria-labelledby="results-heading" aria-busy={pending !== null}>
      <div class="results-head">
        <h2 id="results-heading">Users</h2>
        {finished && <CallFacts finished={finished} />}
      </div>
      <div class={summary === "" ? "summary-row quiet" : "summary-row"}>
        <p class="summary" role="status">
          {summary}
        </p>
        {pending !== null && (
          <PassingButton onFocusLost={onFocusLost} onClick={lookUp.cancel}>
            Cancel
          </PassingButton>
        )}
      </div>
      <div role="alert">
        {finished?.kind === "failed" && <FailureNote failure={finished.failure} />}
      </div>
      {finished && canRetry(finished) && pending === null && (
        <PassingButton onFocusLost={onFocusLost} onClick={() => onRetry(finished)}>
          Try again
        </PassingButton>
      )}
      {!finished && <Placeholder />}
      {finished?.kind === "found" && (
        <Unknowns asked={finished.ids} found={finished.users.length} unknown={finished.unknown} />
      )}
      {finished?.kind === "found" && finished.users.length > 0 && (
        <UserTable
          users={finished.users.slice(0, rows)}
          // A reply has the users in the order asked, but not their ids: row and id
          // go together when every id was answered, or it is known which were not.
          ids={idsOf(finished)}
        />
      )}
      {hidden > 0 && (
        <PassingButton onFocusLost={onFocusLost} onClick={() => setRows(rows + MORE_ROWS)}>
          Show {formatCount(Math.min(hidden, MORE_ROWS))} more of {formatCount(hidden)}
        </PassingButton>
      )}
    </section>
  );
}

function summaryOf(finished: Finished | null): string {
  if (!finished) return "Type ids above and press Enter.";
  switch (finished.kind) {
    case "found":
      return `${formatCount(finished.users.length)} of ${formatCount(finished.ids.length)} found`;
    case "cancelled":
      return "Look-up cancelled.";
    case "failed":
      return "";
  }
}

function canRetry(finished: Finished): boolean {
  return finished.kind === "cancelled" || (finished.kind === "failed" && finished.failure.retry);
}

/** Where users will stand; nothing to read. */
function Placeholder() {
  return (
    <div class="placeholder" aria-hidden="true">
      {[0, 1, 2, 3].map((row) => (
        <div key={row}>
          <span />
          <span />
          <span />
        </div>
      ))}
    </div>
  );
}

function CallFacts({ finished: { choice, ms } }: { finished: Finished }) {
  return (
    <p class="facts">
      <span class="fact-time">
        <span class="visually-hidden">The call took </span>
        {formatDuration(ms)}
      </span>
      <span>{PROTOCOL_NAMES[choice.protocol]}</span>
      <code>{contentType(choice)}</code>
    </p>
  );
}

function FailureNote({ failure }: { failure: Failure }) {
  return (
    <div class="failure">
      <CrossIcon />
      <div>
        <h3>{failure.title}</h3>
        <p class="failure-said">
          <code>{failure.code}</code> {failure.message}
        </p>
        {failure.problems.length > 0 && (
          <ul class="problems">
            {failure.problems.map((problem) => (
              <li key={problem}>{problem}</li>
            ))}
          </ul>
        )}
        <p>{failure.advice}</p>
      </div>
    </div>
  );
}

/** The id of each user, null while they are not known. */
function idsOf(finished: Extract<Finished, { kind: "found" }>): readonly number[] | null {
  if (finished.users.length === finished.ids.length) return finished.ids;
  return finished.unknown ? known(finished.ids, finished.unknown) : null;
}

// More are counted: somebody who asks for thousands does not read them one by one.
const MAX_NAMED = 20;

interface UnknownsProps {
  asked: readonly number[];
  found: number;
  unknown: readonly number[] | undefined;
}

function Unknowns({ asked, found, unknown }: UnknownsProps) {
  const missing = asked.length - found;
  if (missing <= 0) return null;
  if (found === 0) {
    return (
      <p class="note">
        {asked.length === 1 ? `Nobody here has the id ${asked[0]}.` : `Nobody here has any of these ${ids(asked.length)}.`}
      </p>
    );
  }
  if (unknown) {
    const more = unknown.length - MAX_NAMED;
    const named = unknown.slice(0, MAX_NAMED).join(", ");
    return (
      <p class="note">
        {unknown.length === 1
          ? `Nobody here has the id ${named}.`
          : `Nobody here has the ids ${named}${more > 0 ? ` and ${formatCount(more)} more` : ""}.`}
      </p>
    );
  }
  return (
    <p class="note">
      {missing === 1 ? "One of the ids is unknown here and was" : `${formatCount(missing)} of the ids are unknown here and were`} left
      out. A reply carries users without their ids, so it does not tell which; look ids up one at a time to see.
    </p>
  );
}

function ids(n: number): string {
  return n === 1 ? "1 id" : `${formatCount(n)} ids`;
}

interface PassingButtonProps {
  onClick(): void;
  onFocusLost(): void;
  children: ComponentChildren;
}

// A button that goes away takes the keyboard's place on the page with it,
// unless the focus is moved on first.
function PassingButton({ onClick, onFocusLost, children }: PassingButtonProps) {
  const button = useRef<HTMLButtonElement>(null);
  useLayoutEffect(() => {
    const shown = button.current;
    return () => {
      if (shown === document.activeElement) onFocusLost();
    };
  }, []);
  return (
    <button type="button" class="secondary" ref={button} onClick={onClick}>
      {children}
    </button>
  );
}
