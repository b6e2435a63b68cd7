// Turns the guest's source into a component: node build.mjs TOOLS WORK OUT.wasm, where TOOLS is the folder that node_modules is
// in and WORK one for what lies between.
//
// package.json names preview2-shim because componentize-js 0.23 uses it without saying so. package-lock.json is that of `npm install
// --package-lock-only` without its addresses, so that any registry will do, and without packages for platforms that are not there.

import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const [tools, work, out] = process.argv.slice(2);
// The tools are not in a folder above this file, where `import` would look for them.
const found = createRequire(`${tools}/`);
const { build } = found("esbuild");
const { componentize } = await import(pathToFileURL(`${tools}/node_modules/@bytecodealliance/componentize-js/src/componentize.js`));
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const sourcePath = `${work}/guest.js`;
await build({
  entryPoints: [here("src/main.ts")],
  outfile: sourcePath,
  bundle: true,
  format: "esm",
  target: "esnext",
  external: ["dormouse:*"],
  logLevel: "warning",
});
const { component } = await componentize({ sourcePath, witPath: here("../../../wit"), worldName: "task" });
await writeFile(out, component);
