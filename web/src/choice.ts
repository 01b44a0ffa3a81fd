// How a call travels. Roster serves all four combinations on one port.

export type Protocol = "connect" | "grpcweb";
export type Encoding = "json" | "binary";

export interface Choice {
  protocol: Protocol;
  encoding: Encoding;
}

export const DEFAULT_CHOICE: Choice = { protocol: "connect", encoding: "json" };

export const PROTOCOL_NAMES: Record<Protocol, string> = {
  connect: "Connect",
  grpcweb: "gRPC-Web",
};

export const ENCODING_NAMES: Record<Encoding, string> = {
  json: "JSON",
  binary: "Binary",
};

/** The Content-Type a call goes out with; it names both choices. */
export function contentType({ protocol, encoding }: Choice): string {
  if (protocol === "grpcweb") {
    return encoding === "json" ? "application/grpc-web+json" : "application/grpc-web+proto";
  }
  return encoding === "json" ? "application/json" : "application/proto";
}
