// The calls the page makes, always to the address that served it.

import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { MyService } from "../../gen/es/api_pb.ts";
import type { Choice } from "./choice.ts";
import { baseOf } from "./link.ts";

export const LOOK_UP_TIMEOUT_MS = 10_000;
// The server itself gives its store one second.
export const HEALTH_TIMEOUT_MS = 3_000;

/** token is sent along; empty for none. */
export function createService({ protocol, encoding }: Choice, token = ""): Client<typeof MyService> {
  const authorize: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  const options = {
    baseUrl: baseOf(location.href),
    useBinaryFormat: encoding === "binary",
    interceptors: token === "" ? [] : [authorize],
  };
  return createClient(
    MyService,
    protocol === "grpcweb" ? createGrpcWebTransport(options) : createConnectTransport(options),
  );
}

/**
 * Asks which of these ids nobody has, which the reply to a look-up does not tell. It is null if the server
 * cannot say: a server of api.proto alone does not have this call.
 */
export async function unknownOf(ids: readonly number[], token: string, signal: AbortSignal): Promise<number[] | null> {
  try {
    const response = await fetch(`${baseOf(location.href)}/roster.v1.DirectoryService/BatchGetUsers`, {
      method: "POST",
      headers: { "content-type": "application/json", ...(token !== "" && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify({ ids }),
      signal: AbortSignal.any([signal, AbortSignal.timeout(LOOK_UP_TIMEOUT_MS)]),
    });
    if (!response.ok) return null;
    const reply: { unknownIds?: unknown } = await response.json();
    const unknown = reply.unknownIds;
    return Array.isArray(unknown) && unknown.every((id) => typeof id === "number") ? unknown : null;
  } catch {
    return null;
  }
}

/** "3.2 ms", "128 ms", "2.41 s". */
export function formatDuration(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}
