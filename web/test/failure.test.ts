import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, RetryInfoSchema } from "../../gen/es/google/rpc/error_details_pb.ts";
import { explain, isCancelled } from "../src/failure.ts";

const attempt = { asked: 2, timeoutMs: 10_000 };

test("no HTTP answer at all is an unreachable server, called unavailable as everywhere else", () => {
  // What Connect-Web makes of a fetch that fails.
  const failure = explain(ConnectError.from(new TypeError("Failed to fetch")), attempt);
  assert.deepEqual(failure, {
    title: "The server cannot be reached",
    code: "unavailable",
    message: "Failed to fetch",
    problems: [],
    advice: "No answer came back. Check that Roster is running and that you are online, then try again.",
    retry: true,
  });
});

test("the server's words are kept as they are, without the code in front", () => {
  const failure = explain(new ConnectError("the limit is 10000 ids", Code.InvalidArgument), {
    ...attempt,
    asked: 10_001,
  });
  assert.equal(failure.code, "invalid_argument");
  assert.equal(failure.message, "the limit is 10000 ids");
  assert.equal(failure.advice, "This call asked for 10,001 ids: ask for fewer at a time.");
  assert.equal(failure.retry, false);
});

test("a batch over the limit is not to be tried again, a busy server is", () => {
  const batch = explain(new ConnectError("over the limit", Code.ResourceExhausted), { ...attempt, asked: 10_001 });
  assert.equal(batch.advice, "This call asked for 10,001 ids: ask for fewer at a time.");
  assert.equal(batch.retry, false);
  const busy = explain(new ConnectError("slow down", Code.ResourceExhausted), attempt);
  assert.equal(busy.advice, "Wait a moment, then try again.");
  assert.equal(busy.retry, true);
});

test("a token that is refused is said to be wrong, and not to be missing", () => {
  const error = new ConnectError("the token is not known here", Code.Unauthenticated);
  assert.equal(explain(error, attempt).title, "The server wants a token");
  const failure = explain(error, { ...attempt, token: true });
  assert.equal(failure.title, "The server does not accept this token");
  assert.match(failure.advice, /^Correct it, or give another one/);
  assert.equal(failure.message, "the token is not known here");
});

test("running out of time names the time there was", () => {
  const failure = explain(new ConnectError("the operation timed out", Code.DeadlineExceeded), attempt);
  assert.equal(failure.code, "deadline_exceeded");
  assert.match(failure.advice, /^No answer within 10 s\./);
});

test("every code has its protocol's name, a title, advice and no placeholder", () => {
  const names = Object.values(Code).filter((code): code is Code => typeof code === "number");
  assert.equal(names.length, 16);
  for (const code of names) {
    for (const asked of [0, 1, 20_000]) {
      const failure = explain(new ConnectError("said", code), { ...attempt, asked });
      assert.match(failure.code, /^[a-z]+(_[a-z]+)*$/);
      assert.ok(failure.title.length > 10, failure.code);
      assert.ok(failure.advice.length > 10, failure.code);
      assert.doesNotMatch(failure.title + failure.advice, /undefined|NaN/);
    }
  }
});

test("a look-up without a token is told where to give one, and may be tried again", () => {
  const failure = explain(new ConnectError("this call needs a token", Code.Unauthenticated), attempt);
  assert.equal(failure.title, "The server wants a token");
  assert.match(failure.advice, /^Give one under Token, above\./);
  assert.equal(failure.retry, true);
});

test("a call its caller ended is told from one that failed", () => {
  assert.equal(isCancelled(new DOMException("aborted", "AbortError")), true);
  assert.equal(isCancelled(new ConnectError("busy", Code.Unavailable)), false);
});

function refusal(message: string, fieldViolations: { field: string; description: string }[]) {
  return new ConnectError(message, Code.InvalidArgument, undefined, [{ desc: BadRequestSchema, value: { fieldViolations } }]);
}

test("fields that the server refused are told, once", () => {
  const said = refusal("ids: must not be empty", [{ field: "ids", description: "must not be empty" }]);
  assert.deepEqual(explain(said, attempt).problems, []);
  const unsaid = refusal("bad request", [
    { field: "ids[3]", description: "must be odd" },
    { field: "", description: "is too early" },
  ]);
  assert.deepEqual(explain(unsaid, attempt).problems, ["ids[3]: must be odd", "is too early"]);
  const many = refusal(
    "bad request",
    Array.from({ length: 2000 }, (_, at) => ({ field: `ids[${at}]`, description: "must be odd" })),
  );
  const { problems } = explain(many, attempt);
  assert.equal(problems.length, 6);
  assert.equal(problems[5], "And 1,995 more like these.");
});

test("a server that says when to try again is quoted", () => {
  for (const [seconds, nanos, advice] of [
    [2n, 0, "Try again in 2 seconds: the server asks for that."],
    [0n, 300_000_000, "Try again in a second: the server asks for that."],
  ] as const) {
    const busy = new ConnectError("busy", Code.ResourceExhausted, undefined, [
      { desc: RetryInfoSchema, value: { retryDelay: { seconds, nanos } } },
    ]);
    const failure = explain(busy, { ...attempt, asked: 10_001 });
    assert.equal(failure.advice, advice);
    assert.equal(failure.retry, true);
  }
});
