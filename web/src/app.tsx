// The page: what is asked for, how the call travels and what came back.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Choice } from "./choice.ts";
import { LookUpForm } from "./form.tsx";
import { Health, useHealth } from "./health.tsx";
import { Mark } from "./icons.tsx";
import { parseIds } from "./ids.ts";
import { baseOf, fitsLink, readLink, writeLink } from "./link.ts";
import { useLookUp } from "./lookup.ts";
import { Results } from "./results.tsx";
import { SameCall } from "./same-call.tsx";
import { useToken } from "./token.ts";

// What "the same call" shows before anything is asked for.
const EXAMPLE_IDS = [1, 2];

export function App() {
  const initial = useMemo(() => readLink(location.search), []);
  const [text, setText] = useState(initial.ids ?? "");
  const [choice, setChoice] = useState<Choice>(initial.choice);
  // Half a number is not a mistake: problems are told when the look-up is
  // asked for, and from then on until they are gone.
  const [showProblems, setShowProblems] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const token = useToken();
  // start is made once, and looks up with the token and the health of the moment.
  const tokenNow = useRef(token);
  tokenNow.current = token;
  const tokenField = useRef<HTMLInputElement>(null);
  const [tokenOpen, setTokenOpen] = useState(false);
  const parsed = useMemo(() => parseIds(text), [text]);
  const health = useHealth(choice);
  const healthNow = useRef(health);
  healthNow.current = health;
  const [refused, setRefused] = useState(false); // the last look-up, for want of a token or for its token
  const lookUp = useLookUp((outcome) => {
    // What came of it is news of the server's health, unless the light says the same.
    if (outcome.kind === "failed" || (outcome.kind === "found" && healthNow.current.state.kind !== "healthy")) health.check();
    const unauthenticated = outcome.kind === "failed" && outcome.failure.code === "unauthenticated";
    setRefused(unauthenticated);
    if (unauthenticated) setTokenOpen(true);
  });

  // A look-up without one would be refused.
  useEffect(() => {
    if (health.wantsToken && tokenNow.current.token === "") setTokenOpen(true);
  }, [health.wantsToken]);

  const start = useCallback((typed: string, how: Choice, remember: boolean) => {
    const { ids, problems, compact } = parseIds(typed);
    const ready = ids.length > 0 && problems.length === 0;
    setShowProblems(!ready);
    if (!ready) {
      lookUp.clear();
      field.current?.focus();
      return;
    }
    if (!tokenNow.current.valid) {
      lookUp.clear();
      setTokenOpen(true);
      tokenField.current?.focus();
      return;
    }
    if (remember) rememberInAddress(writeLink(compact, how));
    document.title = `${compact.length > 24 ? `${compact.slice(0, 24)}…` : compact} · Roster`;
    lookUp.run(ids, how, tokenNow.current.token);
  }, []);

  useEffect(() => {
    function followAddress() {
      const link = readLink(location.search);
      setText(link.ids ?? "");
      setChoice(link.choice);
      if (link.ids) {
        start(link.ids, link.choice, false);
        return;
      }
      setShowProblems(false);
      document.title = "Roster";
      lookUp.clear();
    }
    if (initial.ids) start(initial.ids, initial.choice, false);
    addEventListener("popstate", followAddress);
    return () => removeEventListener("popstate", followAddress);
  }, []);

  const focusField = () => field.current?.focus();
  const usable = parsed.ids.length > 0 && parsed.problems.length === 0;

  return (
    <>
      <header class="top">
        <Mark />
        <div class="name">
          <h1>Roster</h1>
          <p>the user directory at {baseOf(location.href).replace(/^\w+:\/\//, "")}</p>
        </div>
        <Health state={health.state} />
      </header>
      <main>
        <LookUpForm
          field={field}
          text={text}
          parsed={parsed}
          choice={choice}
          showProblems={showProblems}
          token={token}
          tokenField={tokenField}
          tokenOpen={tokenOpen}
          onText={setText}
          onChoice={setChoice}
          onTokenOpen={setTokenOpen}
          onSubmit={() => start(text, choice, true)}
          onEscape={lookUp.cancel}
          onExample={(example) => {
            setText(example);
            start(example, choice, true);
            focusField();
          }}
        />
        <div class="columns">
          <Results
            lookUp={lookUp}
            onRetry={({ ids, choice: how }) => lookUp.run(ids, how, token.token)}
            onFocusLost={focusField}
          />
          <SameCall
            ids={usable ? parsed.ids : (lookUp.finished?.ids ?? EXAMPLE_IDS)}
            choice={choice}
            token={token.token !== "" || refused || health.wantsToken}
          />
        </div>
      </main>
      <footer>
        <p>
          One address for Python, Go, browsers and curl: gRPC, gRPC-Web and Connect on one port.{" "}
          <a href="licenses.md">Licences</a>
        </p>
      </footer>
    </>
  );
}

// Asking again for what the address already says is not a step to go back to.
function rememberInAddress(search: string) {
  const next = fitsLink(search) ? search : "";
  if (next !== location.search) history.pushState(null, "", `${location.pathname}${next}`);
}
