import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const repository = fileURLToPath(new URL("..", import.meta.url));

export default defineConfig({
  // gen/es lies outside this folder, where no node_modules is above it:
  // dedupe resolves its imports from here.
  resolve: { dedupe: ["@bufbuild/protobuf"] },
  build: {
    target: "es2022",
    // The server's policy forbids data: scripts and styles; a file is also
    // cached, which an inlined copy is not.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: "licenses.md" },
  },
  server: {
    fs: { allow: [repository] },
    // `npm run dev` against a Roster on its usual port.
    proxy: { "/MyService": "http://localhost:50051" },
  },
});
