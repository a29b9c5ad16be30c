// Shared by both browser checks: the program, the browser, and a runner of checks in order.
//
// STREAMGAUGE_BIN names the program (target/debug/streamgauge if unset); DASHBOARD_NODE a folder whose node_modules has the
// packages, which tests/run makes under target/dashboard.

import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";

export const ROOT = path.resolve(import.meta.dirname, "../..");
export const BIN = path.resolve(process.env.STREAMGAUGE_BIN ?? path.join(ROOT, "target/debug/streamgauge"));
export const PATIENCE = 20_000; // the longest wait for anything, in ms

const NODE = path.resolve(process.env.DASHBOARD_NODE ?? path.join(ROOT, "target/dashboard/node"));
export const require = createRequire(path.join(NODE, "package.json"));

// A folder for this run, and the processes that end with it.
export const folder = fs.mkdtempSync(path.join(os.tmpdir(), "streamgauge-pages-"));
export const processes = [];

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

// Debian's Chromium, driven by playwright-core.
export function launch(...flags) {
  return require("playwright-core").chromium.launch({ executablePath: "/usr/bin/chromium", args: [...FLAGS, ...flags] });
}

// Runs the checks that `chosen` names, in their order; then ends the browser and all processes. `label` is in the last line.
export async function runChecks(label, browser, checks, chosen = () => true) {
  let failed = 0;
  try {
    for (const [name, check] of Object.entries(checks)) {
      if (!chosen(name)) continue;
      const begun = Date.now();
      try {
        await check();
        console.log(`ok      ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
      } catch (error) {
        failed += 1;
        console.log(`FAILED  ${name}\n${error.stack}`);
      }
    }
  } finally {
    await browser.close();
    for (const child of processes) child.kill("SIGKILL");
    fs.rmSync(folder, { recursive: true, force: true });
  }
  console.log(failed ? `FAILED: ${failed} ${label} checks` : `${label} checks: all passed`);
  process.exitCode = failed ? 1 : 0;
}
