// One look-up at a time: a new one, Escape or the cancel button ends the one
// in flight.

import { useEffect, useRef, useState } from "preact/hooks";
import type { User } from "../../gen/es/api_pb.ts";
import { createService, LOOK_UP_TIMEOUT_MS } from "./calls.ts";
import type { Choice } from "./choice.ts";
import { explain, type Failure, isCancelled } from "./failure.ts";

export type Outcome =
  | { kind: "found"; users: User[]; message: string }
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

export function useLookUp(onFailure: (failure: Failure) => void): LookUp {
  const [finished, setFinished] = useState<Finished | null>(null);
  const [pending, setPending] = useState<number | null>(null);
  const inFlight = useRef<AbortController | null>(null);

  useEffect(() => () => inFlight.current?.abort(), []);

  async function run(ids: readonly number[], choice: Choice, token: string) {
    inFlight.current?.abort();
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
    setFinished({ ...outcome, ids, choice, ms });
    if (outcome.kind === "failed") onFailure(outcome.failure);
  }

  return {
    finished,
    pending,
    run: (ids, choice, token) => void run(ids, choice, token),
    cancel: () => inFlight.current?.abort(),
    clear() {
      inFlight.current?.abort();
      inFlight.current = null;
      setPending(null);
      setFinished(null);
    },
  };
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
    const failure = explain(error, { asked: ids.length, timeoutMs: LOOK_UP_TIMEOUT_MS });
    return { kind: "failed", failure };
  }
}
