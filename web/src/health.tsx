// Health at a glance, asked every ten seconds while somebody can see it.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { createService, formatDuration, HEALTH_TIMEOUT_MS } from "./calls.ts";
import type { Choice } from "./choice.ts";
import { explain, isCancelled } from "./failure.ts";
import { CheckIcon, CrossIcon, DotsIcon } from "./icons.tsx";

const POLL_MS = 10_000;

export type HealthState =
  | { kind: "checking" }
  | { kind: "healthy"; ms: number }
  | { kind: "failing"; words: string };

export interface HealthWatch {
  state: HealthState;
  /** Whether the server says that look-ups need a token. */
  wantsToken: boolean;
  /** Asks now instead of at the next tick. */
  check(): void;
}

/** Polls over the protocol chosen, since that is the way a look-up will go. */
export function useHealth(choice: Choice): HealthWatch {
  const [state, setState] = useState<HealthState>({ kind: "checking" });
  const [wantsToken, setWantsToken] = useState(false);
  const checkNow = useRef(() => {});
  const { protocol, encoding } = choice;

  useEffect(() => {
    const service = createService({ protocol, encoding });
    let timer: ReturnType<typeof setTimeout> | undefined;
    let inFlight: AbortController | undefined;

    function pause() {
      clearTimeout(timer);
      inFlight?.abort();
    }

    async function check() {
      pause();
      if (document.hidden) return;
      const controller = new AbortController();
      inFlight = controller;
      const next = await ask(service, controller.signal, setWantsToken);
      if (controller.signal.aborted) return;
      setState(next);
      timer = setTimeout(check, POLL_MS);
    }

    checkNow.current = () => void check();
    document.addEventListener("visibilitychange", check);
    addEventListener("online", check);
    addEventListener("offline", check);
    void check();
    return () => {
      pause();
      document.removeEventListener("visibilitychange", check);
      removeEventListener("online", check);
      removeEventListener("offline", check);
    };
  }, [protocol, encoding]);

  return { state, wantsToken, check: useCallback(() => checkNow.current(), []) };
}

async function ask(
  service: ReturnType<typeof createService>,
  signal: AbortSignal,
  onWantsToken: (wants: boolean) => void,
): Promise<HealthState> {
  // Health is open, and its reply tells whether other calls are (RFC 9110 §11.6.1).
  const onHeader = (header: Headers) => onWantsToken(/^Bearer\b/i.test(header.get("www-authenticate") ?? ""));
  const start = performance.now();
  try {
    await service.health({}, { signal, timeoutMs: HEALTH_TIMEOUT_MS, onHeader });
    return { kind: "healthy", ms: performance.now() - start };
  } catch (error) {
    if (isCancelled(error)) return { kind: "checking" };
    const { title } = explain(error, { asked: 0, timeoutMs: HEALTH_TIMEOUT_MS });
    return { kind: "failing", words: title };
  }
}

export function Health({ state }: { state: HealthState }) {
  return (
    <div class={`health ${state.kind}`}>
      {/* The words alone are announced, and only when they change; the time
          beside them changes at every poll. */}
      <p role="status" aria-label="Server health">
        <HealthWords state={state} />
      </p>
      {state.kind === "healthy" && <span class="health-time">{formatDuration(state.ms)}</span>}
    </div>
  );
}

function HealthWords({ state }: { state: HealthState }) {
  switch (state.kind) {
    case "checking":
      return (
        <>
          <DotsIcon /> Checking the server
        </>
      );
    case "healthy":
      return (
        <>
          <CheckIcon /> Server healthy
        </>
      );
    case "failing":
      return (
        <>
          <CrossIcon /> {state.words}
        </>
      );
  }
}
