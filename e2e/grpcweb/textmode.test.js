// The two libraries that speak gRPC-Web's text mode by default, against the real binary: Google's
// grpc-web over XMLHttpRequest, and protobuf-ts over fetch. Their messages are described here by hand,
// so that no generated code of theirs is needed.

import assert from "node:assert/strict";
import { test } from "node:test";
import grpcWeb from "grpc-web";
import XMLHttpRequest from "xhr2";
import { GrpcWebFetchTransport } from "@protobuf-ts/grpcweb-transport";
import { MessageType, ScalarType } from "@protobuf-ts/runtime";
import { ServiceType } from "@protobuf-ts/runtime-rpc";

// A browser shows the text of a reply while it arrives; xhr2 does so at its end alone.
globalThis.XMLHttpRequest = class extends XMLHttpRequest {
  _onHttpResponseData(response, data) {
    this.responseText += data.toString("latin1");
    super._onHttpResponseData(response, data);
    this.dispatchEvent(new XMLHttpRequest.ProgressEvent("readystatechange"));
  }
};

const url = process.env.ROSTER_URL;
const patience = 20_000;

const field = (no, name, T, more) => ({ no, name, kind: "scalar", T, ...more });
const User = new MessageType("User", [
  field(1, "name", ScalarType.STRING),
  field(2, "age", ScalarType.INT32),
  field(3, "email", ScalarType.STRING),
]);
const UserReq = new MessageType("UserReq", [field(1, "userIDs", ScalarType.INT32, { repeat: 1, localName: "userIDs" })]);
const UserReply = new MessageType("UserReply", [
  field(1, "message", ScalarType.STRING),
  { no: 2, name: "data", kind: "message", repeat: 1, T: () => User },
]);
const HealthReq = new MessageType("grpc.health.v1.HealthCheckRequest", [field(1, "service", ScalarType.STRING)]);
const HealthReply = new MessageType("grpc.health.v1.HealthCheckResponse", [field(1, "status", ScalarType.INT32)]);
const serving = 1;

const ids = Array.from({ length: 300 }, (_, i) => i + 1);

// How a library calls: a unary call resolves to its reply, or throws an error with the code's number
// and the text. follow resolves to the first message of a stream, and then cancels it.
const clients = {
  "grpc-web": (format) => {
    const client = new grpcWeb.GrpcWebClientBase({ format });
    const descriptor = (path, type, Req, Res) =>
      new grpcWeb.MethodDescriptor(path, type, Object, Object, (m) => Req.toBinary(Req.create(m)), (b) => Res.fromBinary(b));
    return {
      unary: (path, Req, Res, message) =>
        new Promise((resolve, reject) => {
          const metadata = { deadline: String(Date.now() + patience) };
          client.rpcCall(url + path, message, metadata, descriptor(path, "unary", Req, Res), (error, reply) =>
            error ? reject(error) : resolve(reply),
          );
        }),
      follow: (path, Req, Res, message) =>
        new Promise((resolve, reject) => {
          const stream = client.serverStreaming(url + path, message, {}, descriptor(path, "server_streaming", Req, Res));
          stream.on("data", (reply) => {
            stream.cancel();
            resolve(reply);
          });
          stream.on("error", reject);
          stream.on("end", () => reject(new Error("the stream ended without a message")));
        }),
    };
  },
  "protobuf-ts": (format) => {
    const transport = new GrpcWebFetchTransport({ baseUrl: url, format });
    const method = (path, Req, Res, serverStreaming) => {
      const [, service, name] = path.split("/");
      return new ServiceType(service, [{ name, I: Req, O: Res, serverStreaming }]).methods[0];
    };
    const numbered = (error) => {
      error.code = { UNIMPLEMENTED: 12, INVALID_ARGUMENT: 3, RESOURCE_EXHAUSTED: 8 }[error.code] ?? error.code;
      error.message = decodeURIComponent(error.message);
      throw error;
    };
    return {
      unary: async (path, Req, Res, message) => {
        const call = transport.unary(method(path, Req, Res, false), Req.create(message), transport.mergeOptions({ timeout: patience }));
        const { response, status } = await call.then((done) => done, numbered);
        assert.equal(status.code, "OK");
        return response;
      },
      follow: async (path, Req, Res, message) => {
        const abort = new AbortController();
        const call = transport.serverStreaming(method(path, Req, Res, true), Req.create(message), transport.mergeOptions({ abort: abort.signal }));
        for (const outcome of [call.headers, call.status, call.trailers]) outcome.catch(() => {});
        for await (const reply of call.responses) {
          abort.abort();
          return reply;
        }
        throw new Error("the stream ended without a message");
      },
    };
  },
};

for (const [library, create] of Object.entries(clients)) {
  for (const format of ["text", "binary"]) {
    const client = create(format);
    const it = (what, run) => test(`${library}, ${format}: ${what}`, { timeout: 2 * patience }, run);
    const user = (userIDs) => client.unary("/MyService/User", UserReq, UserReply, { userIDs });

    it("one user", async () => {
      const reply = await user([1]);
      assert.equal(reply.message, "success");
      assert.deepEqual(reply.data.map((u) => u.name), ["Leila Dubois"]);
    });

    it("a long reply", async () => {
      const reply = await user(Array.from({ length: 10 }, () => ids).flat());
      assert.equal(reply.data.length, 3000);
      assert.deepEqual(reply.data.slice(0, 300), reply.data.slice(2700));
    });

    it("requests of every length, for each form of the padding", async () => {
      for (let n = 0; n < 7; n++) {
        assert.equal((await user(ids.slice(0, n))).data.length, n);
      }
    });

    it("an error of the handler", () =>
      assert.rejects(user(Array.from({ length: 10_001 }, () => 1)), (error) => {
        assert.equal(error.code, 8);
        assert.match(error.message, /10001 ids in one call/);
        return true;
      }));

    it("a refusal", () =>
      assert.rejects(client.unary("/MyService/Nope", UserReq, UserReply, { userIDs: [] }), (error) => {
        assert.equal(error.code, 12);
        assert.match(error.message, /no such procedure/);
        return true;
      }));

    // grpc-web shows no message of a binary stream before it ends, since XMLHttpRequest does not.
    if (library === "grpc-web" && format === "binary") continue;
    it("a stream, message by message", async () => {
      const reply = await client.follow("/grpc.health.v1.Health/Watch", HealthReq, HealthReply, { service: "MyService" });
      assert.equal(reply.status, serving);
    });
  }
}
