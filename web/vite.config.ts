import { appendFileSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const repository = fileURLToPath(new URL("..", import.meta.url));

// Vite copies the licence files that packages come with. Those of @bufbuild and
// @connectrpc name their licences and come without the texts, which who passes
// their code on must pass on too: Apache-2.0 is this repository's own, and the
// other one stands at the head of the files that it is of.
function licenseTexts(): Plugin {
  return {
    name: "license-texts",
    writeBundle({ dir = "dist" }) {
      const apache = readFileSync(`${repository}/LICENSE`, "utf8");
      const varint = fileURLToPath(
        new URL("node_modules/@bufbuild/protobuf/dist/esm/wire/varint.js", import.meta.url),
      );
      const [head = ""] = readFileSync(varint, "utf8").split(/^(?!\/\/)/m, 1);
      if (!head.includes("Redistribution")) throw new Error(`no licence at the head of ${varint}`);
      const bsd = head.replaceAll(/^\/\/ ?/gm, "");
      const texts = `
## The text of Apache-2.0

${apache.replace(/^\n+/, "").trimEnd()}

## The text of BSD-3-Clause, of the parts of @bufbuild/protobuf that are Google's

${bsd.trim()}
`;
      appendFileSync(`${dir}/licenses.md`, texts);
    },
  };
}

export default defineConfig({
  // Relative, since a proxy may serve the page below a path.
  base: "./",
  plugins: [licenseTexts()],
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
