// A failed call in words: what went wrong, what the server said, what to do.

import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, RetryInfoSchema } from "../../gen/es/google/rpc/error_details_pb.ts";
import { formatCount } from "./ids.ts";

export interface Failure {
  title: string;
  /** The protocol's name of the code: "invalid_argument". */
  code: string;
  /** The server's words, or the browser's when no server answered. */
  message: string;
  /** What the server found wrong with which field, where the message does not say it. */
  problems: string[];
  advice: string;
  /** Whether the same call may fare better later. */
  retry: boolean;
}

export interface Attempt {
  /** How many ids the call asked for. */
  asked: number;
  timeoutMs: number;
  /** Whether it carried a token. */
  token?: boolean;
}

export function explain(error: unknown, attempt: Attempt): Failure {
  const failed = ConnectError.from(error);
  // fetch rejects with a TypeError when there is no HTTP answer at all, and
  // Connect-Web passes that on as "unknown". Other gRPC clients call the same
  // thing unavailable, so the page does too.
  if (failed.code === Code.Unknown && failed.cause instanceof TypeError) {
    return {
      title: "The server cannot be reached",
      code: codeName(Code.Unavailable),
      message: failed.rawMessage,
      problems: [],
      advice: "No answer came back. Check that Roster is running and that you are online, then try again.",
      retry: true,
    };
  }
  const failure = {
    ...words(failed.code, attempt),
    code: codeName(failed.code),
    message: failed.rawMessage,
    problems: problemsOf(failed),
  };
  const wait = waitOf(failed);
  return wait > 0 ? { ...failure, advice: `Try again in ${wait === 1 ? "a second" : `${wait} seconds`}: the server asks for that.`, retry: true } : failure;
}

const MAX_PROBLEMS = 5;

/** The fields that the server refused (google.rpc.BadRequest), in words. */
function problemsOf(failed: ConnectError): string[] {
  const problems = failed
    .findDetails(BadRequestSchema)
    .flatMap((detail) => detail.fieldViolations)
    .filter(({ field, description }) => !failed.rawMessage.includes(field) || !failed.rawMessage.includes(description))
    .map(({ field, description }) => (field === "" ? description : `${field}: ${description}`));
  const more = problems.length - MAX_PROBLEMS;
  return more <= 0 ? problems : [...problems.slice(0, MAX_PROBLEMS), `And ${formatCount(more)} more like these.`];
}

/** How many seconds the server asks to wait (google.rpc.RetryInfo); 0 if it does not. */
function waitOf(failed: ConnectError): number {
  const delay = failed.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay ? Math.max(0, Math.ceil(Number(delay.seconds) + delay.nanos / 1e9)) : 0;
}

/** Whether the caller ended the call itself. */
export function isCancelled(error: unknown): boolean {
  return ConnectError.from(error).code === Code.Canceled;
}

function codeName(code: Code): string {
  return (Code[code] ?? `code ${code}`).replace(/(?<=[a-z])[A-Z]/g, "_$&").toLowerCase();
}

const LARGE_BATCH = 1000;

function words(code: Code, { asked, timeoutMs, token }: Attempt): Pick<Failure, "title" | "advice" | "retry"> {
  // The codes that refuse a batch for its size have other uses too.
  const fewer = asked >= LARGE_BATCH ? `This call asked for ${formatCount(asked)} ids: ask for fewer at a time.` : "";
  switch (code) {
    case Code.InvalidArgument:
    case Code.OutOfRange:
      return {
        title: "The server refused this request",
        advice: fewer || "Change what is asked for; the same request will be refused again.",
        retry: false,
      };
    case Code.ResourceExhausted:
      return {
        title: "That is more than the server allows",
        advice: fewer || "Wait a moment, then try again.",
        retry: fewer === "",
      };
    case Code.DeadlineExceeded:
      return {
        title: "The call ran out of time",
        advice: `No answer within ${timeoutMs / 1000} s. ${fewer || "The server may be busy: try again."}`,
        retry: true,
      };
    case Code.Unavailable:
      return {
        title: "The server cannot answer now",
        advice: "It is starting, stopping or has lost its store. Try again in a moment.",
        retry: true,
      };
    case Code.Unauthenticated:
      if (token) {
        return {
          title: "The server does not accept this token",
          advice: "Correct it, or give another one, under Token, above. Whoever runs this server makes them, with roster token create.",
          retry: true,
        };
      }
      return {
        title: "The server wants a token",
        advice: "Give one under Token, above. Whoever runs this server makes them, with roster token create.",
        retry: true,
      };
    case Code.PermissionDenied:
      return {
        title: "The server does not allow this",
        advice: "Ask whoever runs this server for access.",
        retry: false,
      };
    case Code.Unimplemented:
    case Code.NotFound:
      return {
        title: "This server does not know the call",
        advice: "What answers at this address may not be a Roster, or does not speak the protocol or encoding chosen.",
        retry: false,
      };
    case Code.Internal:
    case Code.DataLoss:
      return {
        title: "The server failed",
        advice: "The cause is in the server’s log. Trying again may work.",
        retry: true,
      };
    default:
      return {
        title: "The call failed",
        advice: "Try again, or choose another protocol to see whether something between here and the server is in the way.",
        retry: true,
      };
  }
}
