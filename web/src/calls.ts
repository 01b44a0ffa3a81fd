// The calls the page makes, always to the origin that served it.

import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { MyService } from "../../gen/es/api_pb.ts";
import type { Choice } from "./choice.ts";

export const LOOK_UP_TIMEOUT_MS = 10_000;
// The server itself gives its store one second.
export const HEALTH_TIMEOUT_MS = 3_000;

export function createService({ protocol, encoding }: Choice): Client<typeof MyService> {
  const options = { baseUrl: location.origin, useBinaryFormat: encoding === "binary" };
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
