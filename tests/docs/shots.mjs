// Takes the screenshots of the documentation from the real dashboard: `node tests/docs/shots.mjs`.
//
// The ledger is filled by FILL_LEDGER (target/debug/examples/fill-ledger); STREAMGAUGE_BIN and
// DASHBOARD_NODE are as in tests/dashboard/checks.mjs. SHOTS is the folder (docs/images).

import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";

import { BIN, PATIENCE, ROOT, folder, launch, processes } from "../dashboard/checks.mjs";

const FILL = path.resolve(process.env.FILL_LEDGER ?? path.join(ROOT, "target/debug/examples/fill-ledger"));
const SHOTS = path.resolve(process.env.SHOTS ?? path.join(ROOT, "docs/images"));
const [ROWS, DAYS] = [40_000, 30];
// The largest file that a page of the repository may have.
const MAX_BYTES = 90_000;

const PRICES = [
  ["gpt-4.1-mini*", 0.4, 1.6], ["gpt-4.1*", 2, 8], ["gpt-4o*", 2.5, 10], ["llama*", 0.6, 0.6], ["text-embedding*", 0.02, 0],
].map(([model, input, output]) => `[[prices]]\nmodel = "${model}"\ninput = ${input}\noutput = ${output}\n`).join("");

const SHOT = [
  { name: "dashboard", scheme: "light", height: 640, from: null },
  { name: "dashboard-dark", scheme: "dark", height: 500, from: "Models" },
];

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

const ledger = path.join(folder, "usage.db");
execFileSync(FILL, [ledger, String(ROWS), String(DAYS)]);
const pages = `127.0.0.1:${await freePort()}`;
const config = path.join(folder, "streamgauge.toml");
fs.writeFileSync(config, `
[server]
listen = "127.0.0.1:0"
workers = 1
[admin]
listen = "${pages}"
[ledger]
path = "${ledger}"
[upstreams.openai]
api_key = { value = "no-request-is-sent" }
${PRICES}`);
const child = spawn(BIN, ["serve", "--config", config, "--log", "error"], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
processes.push(child);
const end = Date.now() + PATIENCE;
while (!(await fetch(`http://${pages}/healthz`).then((response) => response.ok, () => false))) {
  if (child.exitCode !== null || Date.now() > end) throw new Error("the program does not serve its pages");
  await new Promise((resolve) => setTimeout(resolve, 50));
}

const browser = await launch();
try {
  fs.mkdirSync(SHOTS, { recursive: true });
  for (const { name, scheme, height, from } of SHOT) {
    const context = await browser.newContext({ viewport: { width: 1180, height }, colorScheme: scheme });
    const page = await context.newPage();
    await page.goto(`http://${pages}/?range=30d&split=model&tab=model`);
    if (from) await page.getByRole("heading", { name: from }).first().evaluate((heading) => scrollTo(0, heading.getBoundingClientRect().top - 76));
    const file = path.join(SHOTS, `${name}.png`);
    await page.screenshot({ path: file });
    const { size } = fs.statSync(file);
    if (size > MAX_BYTES) throw new Error(`${file} has ${size} bytes, more than ${MAX_BYTES}`);
    console.log(`${file}: ${size} bytes`);
    await context.close();
  }
} finally {
  await browser.close();
  for (const running of processes) running.kill("SIGKILL");
  fs.rmSync(folder, { recursive: true, force: true });
}
