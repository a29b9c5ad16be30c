// Pages of `server.origins` in a real browser: they read streams, errors and headers through the proxy; other pages read nothing.
//
// The upstream permits every page to read, which must not count. checks.mjs describes STREAMGAUGE_BIN and DASHBOARD_NODE.

import assert from "node:assert/strict";

import { launch, runChecks } from "./checks.mjs";
import { FLAGS, inPage, proxy, serve, servePages } from "./pages.mjs";

const EVENTS = ["data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n", "data: [DONE]\n\n"];

// The requests that reached the upstream, with the headers of browsers in them.
const reached = [];
// The page that reads a stream lets it go on.
let goOn = () => {};
// The upstream waits before its response too.
let slow = false;

const upstream = await serve(async (request, response) => {
  const about = Object.keys(request.headers).filter((name) => name === "origin" || name.startsWith("sec-fetch-"));
  reached.push([request.method, request.url, ...about].join(" "));
  request.resume();
  response.setHeader("access-control-allow-origin", "*");
  response.setHeader("x-request-id", "req-1");
  if (request.url !== "/v1/chat/completions") return response.end('{"object":"list","data":[]}');
  const next = () => new Promise((resolve) => (goOn = resolve));
  if (slow) await next();
  response.setHeader("content-type", "text/event-stream");
  const first = next();
  response.write(EVENTS[0]);
  await first;
  response.end(EVENTS[1]);
});

const pages = await servePages();
const LISTED = `http://app.example:${pages}`;
const origins = `origins = ["app://x", "${LISTED}"]`;
const tables = `
[clients.page]
key = { value = "sk-page-0123456789abcdef" }
[clients.limited]
key = { value = "sk-limited-0123456789ab" }
limits = [{ requests = 1, per = "hour", burst = 1 }]
`;
const keyed = await proxy("keyed", { upstream, server: origins, tables });
const open = await proxy("open", { upstream, server: origins });
const silent = await proxy("silent", { upstream, server: origins, tables: 'keep_alive_comments = "50ms"' });

const browser = await launch("--host-resolver-rules=MAP app.example 127.0.0.1, MAP evil.example 127.0.0.1", ...FLAGS);

// Runs in the page: asks and returns the response as the page sees it; a failure is "nothing". The page calls `goOn` after the
// first piece of a stream.
async function ask({ port, path = "/v1/chat/completions", key, mode = "cors", method = "POST" }) {
  const headers = { "x-stainless-os": "Unknown" };
  if (key) headers.authorization = `Bearer ${key}`;
  if (method === "POST") headers["content-type"] = "application/json";
  const body = method === "POST" ? '{"model":"m","stream":true,"messages":[]}' : undefined;
  let response;
  try {
    response = await fetch(`http://127.0.0.1:${port}${path}`, { method, mode, body, headers: mode === "cors" ? headers : {} });
  } catch {
    return "nothing";
  }
  if (response.type === "opaque") return "nothing";
  const pieces = [];
  const decoder = new TextDecoder();
  for await (const piece of response.body) {
    pieces.push(decoder.decode(piece, { stream: true }));
    if (response.headers.get("content-type") === "text/event-stream") window.goOn();
  }
  return { status: response.status, type: response.type, headers: Object.fromEntries(response.headers), text: pieces.join(""), pieces };
}

// Does the same in a page of this origin.
function from(origin, ...asked) {
  reached.length = 0;
  return inPage(browser, `${origin}/`, async (page) => {
    await page.exposeFunction("goOn", () => goOn());
    const seen = [];
    for (const each of asked) seen.push(await page.evaluate(ask, each));
    return seen;
  });
}

const KEY = "sk-page-0123456789abcdef";

const checks = {
  async "a listed page reads a stream as it comes"() {
    for (const [port, key] of [[keyed.proxy, KEY], [open.proxy, undefined]]) {
      const [seen] = await from(LISTED, { port, key });
      assert.equal(seen.status, 200, JSON.stringify(seen));
      assert.deepEqual([seen.type, seen.text], ["cors", EVENTS.join("")]);
      assert.equal(seen.pieces[0], EVENTS[0], "the first event comes before the second is sent");
      assert.match(seen.headers["x-streamgauge-id"], /^[0-9a-f-]{36}$/);
      assert.equal(seen.headers["x-request-id"], "req-1");
      assert.deepEqual(reached, ["POST /v1/chat/completions"], "no preflight, and nothing about the page");
    }
  },

  async "a listed page reads a stream that begins with a comment"() {
    slow = true;
    const [seen] = await from(LISTED, { port: silent.proxy });
    slow = false;
    assert.equal(seen.status, 200, JSON.stringify(seen));
    assert.equal(seen.pieces[0], ": keep-alive\n\n");
    assert.ok(seen.text.endsWith(EVENTS[1]), seen.text);
  },

  async "a listed page reads errors and their headers"() {
    const limited = { port: keyed.proxy, key: "sk-limited-0123456789ab" };
    const [missing, unknown, first, second] = await from(
      LISTED, { port: keyed.proxy }, { port: keyed.proxy, key: "sk-wrong-0123456789ab" }, limited, limited,
    );
    for (const [seen, code] of [[missing, "missing_api_key"], [unknown, "invalid_api_key"]]) {
      assert.equal(seen.status, 401, JSON.stringify(seen));
      assert.equal(JSON.parse(seen.text).error.code, code);
      assert.ok(seen.headers["x-streamgauge-id"]);
    }
    assert.equal(first.status, 200, JSON.stringify(first));
    assert.equal(second.status, 429, JSON.stringify(second));
    assert.equal(JSON.parse(second.text).error.code, "rate_limit_exceeded");
    assert.ok(Number(second.headers["retry-after"]) > 0 || second.headers["x-should-retry"] === "false", JSON.stringify(second));
    assert.equal(second.headers["x-ratelimit-limit-requests"], "1");
    assert.deepEqual(reached, ["POST /v1/chat/completions"]);
  },

  async "another page reads and reaches nothing, with a key too"() {
    for (const origin of [`http://evil.example:${pages}`, `http://localhost:${pages}`]) {
      const asked = [];
      for (const { proxy } of [keyed, open]) {
        for (const mode of ["cors", "no-cors"]) asked.push({ port: proxy, key: KEY, mode });
        asked.push({ port: proxy, path: "/v1/models", key: KEY, method: "GET" });
      }
      assert.deepEqual(new Set(await from(origin, ...asked)), new Set(["nothing"]));
      assert.deepEqual(reached, [], origin);
    }
  },
};

await runChecks("origin", browser, checks);
