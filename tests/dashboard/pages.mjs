// Shared by the checks of pages of other origins: servers of pages and of the upstream, and the proxy.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import readline from "node:readline";

import { BIN, PATIENCE, folder, processes } from "./checks.mjs";

// Chromium's own protection of loopback addresses is disabled, since other browsers have none.
export const FLAGS = [
  "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessRespectPreflightResults",
];

// Serves `handler` on a free port; returns the port.
export async function serve(handler, upgrade) {
  const server = http.createServer(handler).listen(0, "127.0.0.1");
  if (upgrade) server.on("upgrade", upgrade);
  await once(server, "listening");
  server.unref();
  return server.address().port;
}

// Serves an empty page under every path; returns the port.
export function servePages() {
  return serve((request, response) => {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><title>a page</title>");
  });
}

// Starts the proxy with lines of its tables; returns its port and the admin server's.
export async function proxy(name, { upstream, server = "", tables = "" }) {
  const config = path.join(folder, `${name}.toml`);
  fs.writeFileSync(config, `
[server]
listen = "127.0.0.1:0"
workers = 1
${server}
[admin]
listen = "127.0.0.1:0"
[log]
format = "json"
[ledger]
path = ""
[upstreams.up]
provider = "other"
url = "http://127.0.0.1:${upstream}/v1"
api_key = "none"
default_model = "m"
${tables}
`);
  const child = spawn(BIN, ["serve", "--config", config], { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  processes.push(child);
  const ports = {};
  const said = [];
  for await (const line of readline.createInterface({ input: child.stderr })) {
    said.push(line);
    const { message, address } = JSON.parse(line);
    if (message === "listening") ports.proxy = Number(address.split(":").pop());
    if (message === "admin pages") ports.admin = Number(address.split(":").pop());
    if (ports.proxy && ports.admin) break;
  }
  assert.ok(ports.admin, `the proxy did not start: ${said.join("\n")}`);
  child.stderr.resume();
  return ports;
}

// Opens a page in a profile of its own; returns the result of `use`.
export async function inPage(browser, url, use) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(url);
  try {
    return await use(page);
  } finally {
    await context.close();
  }
}
