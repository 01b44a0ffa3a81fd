// One look-up at a time: a new one, Escape or the cancel button ends the one
// in flight.

import { useEffect, useRef, useState } from "preact/hooks";
import type { User } from "../../gen/es/api_pb.ts";
import { createService, LOOK_UP_TIMEOUT_MS, unknownOf } from "./calls.ts";
import type { Choice } from "./choice.ts";
import { explain, type Failure, isCancelled } from "./failure.ts";

export type Outcome =
  /** unknown has the ids that nobody has, once it is known which they are. */
  | { kind: "found"; users: User[]; message: string; unknown?: readonly number[] }
  | { kind: "failed"; failure: Failure }
  | { kind: "cancelled" };

/** A look-up that has ended, with what was asked and how. */
export type Finished = Outcome & { ids: readonly number[]; choice: Choice; ms: number };

export interface LookUp {
  finished: Finished | null;
  /** How many ids the call in flight asks for; null when none is. */
  pending: number | null;
  run(ids: readonly number[], choice: Choice, token: string): void;
  cancel(): void;
  /** Ends any call and forgets the last one. */
  clear(): void;
}

// Most calls end sooner; showing and hiding "looking up" for them is flicker.
const PENDING_AFTER_MS = 150;

export function useLookUp(onEnd: (outcome: Outcome, token: string) => void): LookUp {
  const [finished, setFinished] = useState<Finished | null>(null);
  const [pending, setPending] = useState<number | null>(null);
  const inFlight = useRef<AbortController | null>(null);
  // Of the question which ids are unknown, which is asked once the users are shown.
  const asking = useRef<AbortController | null>(null);

  function abort() {
    inFlight.current?.abort();
    asking.current?.abort();
  }

  useEffect(() => abort, []);

  async function run(ids: readonly number[], choice: Choice, token: string) {
    abort();
    const controller = new AbortController();
    inFlight.current = controller;
    setPending(null);
    const showPending = setTimeout(() => setPending(ids.length), PENDING_AFTER_MS);
    const start = performance.now();
    const outcome = await call(ids, choice, token, controller.signal);
    const ms = performance.now() - start;
    clearTimeout(showPending);
    // A newer look-up, or clear(), has taken over.
    if (inFlight.current !== controller) return;
    inFlight.current = null;
    setPending(null);
    const finished = { ...outcome, ids, choice, ms };
    setFinished(finished);
    onEnd(outcome, token);
    // If nobody was found it is clear which ids are unknown.
    if (finished.kind !== "found" || finished.users.length === 0 || finished.users.length === ids.length) return;
    const question = new AbortController();
    asking.current = question;
    const unknown = await unknownOf(ids, token, question.signal);
    if (question.signal.aborted || unknown === null) return;
    // Users may have come or gone between the two calls.
    if (known(ids, unknown).length === finished.users.length) setFinished({ ...finished, unknown });
  }

  return {
    finished,
    pending,
    run: (ids, choice, token) => void run(ids, choice, token),
    cancel: () => inFlight.current?.abort(),
    clear() {
      abort();
      inFlight.current = null;
      setPending(null);
      setFinished(null);
    },
  };
}

/** The ids that somebody has, in the order asked, repeats kept. */
export function known(ids: readonly number[], unknown: readonly number[]): number[] {
  const without = new Set(unknown);
  return ids.filter((id) => !without.has(id));
}

async function call(
  ids: readonly number[],
  choice: Choice,
  token: string,
  signal: AbortSignal,
): Promise<Outcome> {
  try {
    const reply = await createService(choice, token).user(
      { userIDs: [...ids] },
      { signal, timeoutMs: LOOK_UP_TIMEOUT_MS },
    );
    return { kind: "found", users: reply.data, message: reply.message };
  } catch (error) {
    if (signal.aborted && isCancelled(error)) return { kind: "cancelled" };
    const failure = explain(error, { asked: ids.length, timeoutMs: LOOK_UP_TIMEOUT_MS, token: token !== "" });
    return { kind: "failed", failure };
  }
}
