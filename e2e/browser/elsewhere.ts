// What a page of another origin runs: Connect-Web, as its author would use it.
// origins.test.ts bundles it and serves it to the browser.

import { ConnectError, createClient, Code } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { MyService } from "../../gen/es/api_pb.ts";

export interface Answer {
  names?: string[];
  code?: string;
  message?: string;
}

export interface Ask {
  baseUrl: string;
  protocol: "connect" | "grpcweb";
  binary: boolean;
  ids: number[];
  token?: string;
  /** Sent besides, as libraries for tracing do. */
  more?: Record<string, string>;
}

export async function ask({ baseUrl, protocol, binary, ids, token, more }: Ask): Promise<Answer> {
  const options = { baseUrl, useBinaryFormat: binary };
  const transport = protocol === "connect" ? createConnectTransport(options) : createGrpcWebTransport(options);
  const headers = { ...more, ...(token && { authorization: `Bearer ${token}` }) };
  try {
    const reply = await createClient(MyService, transport).user({ userIDs: ids }, { headers, timeoutMs: 10_000 });
    return { names: reply.data.map((user) => user.name) };
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return { code: Code[code], message: rawMessage };
  }
}

Object.assign(globalThis, { ask });
