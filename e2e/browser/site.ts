// Sites of other origins than Roster's, for pages that call it from there.

import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { build } from "vite";

export function portOf(server: { address(): AddressInfo | string | null }): number {
  return (server.address() as AddressInfo).port;
}

export async function listen<S extends { listen(port: number, host: string, done: () => void): unknown }>(server: S): Promise<S> {
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return server;
}

/** A site with one page, which runs a program of this folder, and with files by their paths. */
export async function site(program: string, files: Record<string, Buffer> = {}): Promise<Server> {
  const bundle = await build({
    configFile: false,
    logLevel: "silent",
    // npm runs scripts in web/, where tsc put what it made of the program.
    build: { write: false, lib: { entry: resolve(`build/e2e/browser/${program}.js`), formats: ["es"], fileName: program } },
  });
  const output = Array.isArray(bundle) ? bundle[0]?.output[0] : "output" in bundle ? bundle.output[0] : undefined;
  assert.ok(output?.type === "chunk", "vite made no script");
  const script = output.code;
  const server = createServer((request, response) => {
    const file = files[request.url ?? ""];
    if (file) {
      response.end(file);
      return;
    }
    const isScript = request.url === "/program.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? script : '<!doctype html><link rel="icon" href="data:,"><script type="module" src="/program.js"></script>');
  });
  return listen(server);
}
