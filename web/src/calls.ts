// The calls the page makes, always to the origin that served it.

import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { MyService } from "../../gen/es/api_pb.ts";
import type { Choice } from "./choice.ts";

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
    baseUrl: location.origin,
    useBinaryFormat: encoding === "binary",
    interceptors: token === "" ? [] : [authorize],
  };
  return createClient(
    MyService,
    protocol === "grpcweb" ? createGrpcWebTransport(options) : createConnectTransport(options),
  );
}

/** "3.2 ms", "128 ms", "2.41 s". */
export function formatDuration(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}
