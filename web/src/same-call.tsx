// The same call from a terminal, Python or Go, ready to copy.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Choice } from "./choice.ts";
import { copyText } from "./clipboard.ts";
import { CheckIcon, CopyIcon } from "./icons.tsx";
import { baseOf } from "./link.ts";
import { type Language, LANGUAGE_NAMES, shorten, snippet } from "./snippets.ts";

const LANGUAGES = Object.keys(LANGUAGE_NAMES) as Language[];
const COPIED_FOR_MS = 2500;

type Copied = { text: string; words: string; ok: boolean };

interface Props {
  ids: readonly number[];
  choice: Choice;
  /** Whether look-ups carry a token, or need one; the text names where to put it. */
  token: boolean;
}

export function SameCall({ ids, choice, token }: Props) {
  const [language, setLanguage] = useState<Language>("curl");
  const [copied, setCopied] = useState<Copied | null>(null);
  const tabs = useRef<HTMLDivElement>(null);
  const text = useMemo(
    () => snippet(language, { base: baseOf(location.href), choice, ids, token }),
    [language, choice, ids, token],
  );
  const shown = shorten(text);

  // What is said about the last copy is stale once the text is another.
  const said = copied?.text === text ? copied : null;
  useEffect(() => {
    if (!copied?.ok) return;
    const timer = setTimeout(() => setCopied(null), COPIED_FOR_MS);
    return () => clearTimeout(timer);
  }, [copied]);

  async function copy() {
    const ok = await copyText(text);
    setCopied({
      text,
      ok,
      words: ok
        ? `${LANGUAGE_NAMES[language]} copied`
        : "The browser refused to copy: select the text and copy it by keyboard.",
    });
  }

  // The keys of the tabs pattern of WAI-ARIA: one tab stop, arrows between.
  function onKeyDown(event: KeyboardEvent) {
    const at = LANGUAGES.indexOf(language);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: LANGUAGES.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = (to + LANGUAGES.length) % LANGUAGES.length;
    const chosen = LANGUAGES[next];
    if (!chosen) return;
    setLanguage(chosen);
    tabs.current?.querySelectorAll("button")[next]?.focus();
  }

  return (
    <section class="card same-call" aria-labelledby="same-call-heading">
      <h2 id="same-call-heading">The same call</h2>
      <div class="same-call-bar">
        <div class="tabs" role="tablist" aria-labelledby="same-call-heading" ref={tabs} onKeyDown={onKeyDown}>
          {LANGUAGES.map((each) => (
            <button
              key={each}
              type="button"
              role="tab"
              id={`tab-${each}`}
              aria-selected={each === language}
              aria-controls="same-call-text"
              tabIndex={each === language ? 0 : -1}
              onClick={() => setLanguage(each)}
            >
              {LANGUAGE_NAMES[each]}
            </button>
          ))}
        </div>
        <button type="button" class="secondary copy" onClick={() => void copy()}>
          {said?.ok ? <CheckIcon /> : <CopyIcon />}
          {said?.ok ? "Copied" : "Copy"}
          <span class="visually-hidden"> {LANGUAGE_NAMES[language]}</span>
        </button>
      </div>
      <p role="status" aria-label="Copying" class={said && !said.ok ? "note" : "visually-hidden"}>
        {said?.words ?? ""}
      </p>
      <div role="tabpanel" id="same-call-text" aria-labelledby={`tab-${language}`}>
        {/* Scrolls sideways, so the keyboard must be able to reach it. */}
        <pre tabIndex={0} aria-label={`${LANGUAGE_NAMES[language]} source`}>
          <Source text={shown.text} comment={language === "go" ? "//" : "#"} />
        </pre>
        {token && <p class="hint">It takes the token from the environment, as ROSTER_TOKEN.</p>}
        {shown.shortened && <p class="hint">Shown shortened; the copy is whole.</p>}
        {language === "curl" && (choice.protocol !== "connect" || choice.encoding !== "json") && (
          <p class="hint">From curl it is Connect and JSON, on the same port.</p>
        )}
        {language === "python" && <p class="hint">From Python it is gRPC, on the same port.</p>}
        {language === "python" && new URL(baseOf(location.href)).pathname !== "/" && (
          <p class="hint">gRPC calls have no path before the service: ask whoever runs this server for the address of its gRPC.</p>
        )}
      </div>
    </section>
  );
}

/** The text with its comment lines set apart; nothing more needs colour. */
function Source({ text, comment }: { text: string; comment: string }) {
  const lines = text.trimEnd().split("\n");
  return (
    <code>
      {lines.map((line, at) => {
        const end = at < lines.length - 1 ? "\n" : "";
        return line.startsWith(comment) ? (
          <span key={at} class="comment">
            {line}
            {end}
          </span>
        ) : (
          line + end
        );
      })}
    </code>
  );
}
