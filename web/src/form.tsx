// What to look up and how the call travels.

import type { Ref } from "preact";
import { type Choice, ENCODING_NAMES, PROTOCOL_NAMES } from "./choice.ts";
import { formatCount, type ParsedIds } from "./ids.ts";
import { TokenField } from "./token-field.tsx";
import type { TokenState } from "./token.ts";

interface Props {
  field: Ref<HTMLTextAreaElement>;
  text: string;
  parsed: ParsedIds;
  choice: Choice;
  showProblems: boolean;
  token: TokenState;
  tokenField: Ref<HTMLInputElement>;
  tokenOpen: boolean;
  onText(text: string): void;
  onChoice(choice: Choice): void;
  onTokenOpen(open: boolean): void;
  onSubmit(): void;
  onEscape(): void;
  onExample(text: string): void;
}

const EXAMPLES = ["1,2", "5-9", "1-50"];

export function LookUpForm(props: Props) {
  const { text, parsed, choice, showProblems } = props;
  const problems = showProblems ? problemsOf(parsed) : [];
  return (
    <form
      class="card ask"
      role="search"
      aria-label="Look users up"
      onSubmit={(event) => {
        event.preventDefault();
        props.onSubmit();
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape") props.onEscape();
      }}
    >
      <label class="field-label" for="ids">
        User ids
      </label>
      <div class="ask-row">
        {/* A text area, because a one-line field drops the line ends of a
            pasted column and runs its numbers together. */}
        <textarea
          id="ids"
          ref={props.field}
          rows={1}
          value={text}
          placeholder="1, 2  5-9"
          spellcheck={false}
          autocomplete="off"
          autocapitalize="off"
          enterkeyhint="search"
          aria-describedby="ids-hint ids-problems"
          aria-invalid={problems.length > 0}
          onInput={(event) => props.onText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            props.onSubmit();
          }}
        />
        <button type="submit" class="primary">
          Look up
        </button>
      </div>
      <p class="hint" id="ids-hint">
        Commas or spaces between them, ranges such as 5-9.{" "}
        <span class="ids-count">{parsed.problems.length === 0 ? countOf(parsed.ids.length) : ""}</span>
      </p>
      <div id="ids-problems" role="alert">
        {problems.length > 0 && (
          <ul class="problems">
            {problems.map((problem) => (
              <li key={problem}>{problem}</li>
            ))}
          </ul>
        )}
      </div>
      <div class="ask-options">
        <Choose
          legend="Protocol"
          name="protocol"
          names={PROTOCOL_NAMES}
          chosen={choice.protocol}
          onChoose={(protocol) => props.onChoice({ ...choice, protocol })}
        />
        <Choose
          legend="Encoding"
          name="encoding"
          names={ENCODING_NAMES}
          chosen={choice.encoding}
          onChoose={(encoding) => props.onChoice({ ...choice, encoding })}
        />
        <p class="examples">
          <span>Try</span>
          {EXAMPLES.map((example) => (
            <a
              key={example}
              href={`?ids=${example}`}
              onClick={(event) => {
                // Other clicks open the link elsewhere, as links do.
                if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
                event.preventDefault();
                props.onExample(example);
              }}
            >
              <span class="visually-hidden">Look up </span>
              {example}
            </a>
          ))}
        </p>
      </div>
      <TokenField field={props.tokenField} state={props.token} open={props.tokenOpen} onOpen={props.onTokenOpen} />
    </form>
  );
}

const MAX_PROBLEMS = 3;

function problemsOf({ ids, problems }: ParsedIds): string[] {
  if (problems.length === 0) {
    return ids.length === 0 ? ["Type at least one id, such as 1, 2 or 5-9."] : [];
  }
  const distinct = [...new Set(problems)];
  const more = distinct.length - MAX_PROBLEMS;
  if (more <= 1) return distinct;
  return [...distinct.slice(0, MAX_PROBLEMS), `And ${formatCount(more)} more like these.`];
}

function countOf(ids: number): string {
  if (ids === 0) return "";
  return ids === 1 ? "1 id." : `${formatCount(ids)} ids.`;
}

interface ChooseProps<Value extends string> {
  legend: string;
  name: string;
  names: Record<Value, string>;
  chosen: Value;
  onChoose(value: Value): void;
}

function Choose<Value extends string>({ legend, name, names, chosen, onChoose }: ChooseProps<Value>) {
  return (
    <fieldset class="choose">
      <legend>{legend}</legend>
      {(Object.keys(names) as Value[]).map((value) => (
        <label key={value}>
          <input
            type="radio"
            name={name}
            value={value}
            checked={value === chosen}
            onChange={() => onChoose(value)}
          />
          <span>{names[value]}</span>
        </label>
      ))}
    </fieldset>
  );
}
