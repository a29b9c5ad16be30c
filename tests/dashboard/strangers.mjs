// Pages of other origins in a real browser: none of their requests may reach an upstream.
//
// Headless Chromium opens pages of another origin, of another port of this machine, of no
// origin, and of a name that was rebound to this machine. Each tries every way in which a page can send a request. The upstream
// counts what reaches it. checks.mjs describes STREAMGAUGE_BIN and DASHBOARD_NODE.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";

import { launch, runChecks } from "./checks.mjs";
import { FLAGS, inPage, proxy, serve, servePages } from "./pages.mjs";

// The requests that reached the upstream: method, path and the header with the number of the try.
const reached = [];
const upstream = await serve(
  (request, response) => {
    reached.push(`${request.method} ${request.url}`);
    response.setHeader("content-type", "application/json");
    request.resume().on("end", () => response.end('{"object":"chat.completion","choices":[]}'));
  },
  (request, socket) => {
    reached.push(`upgrade ${request.url}`);
    socket.destroy();
  },
);
const pages = await servePages();

// Runs in the page: tries every way in, and returns the result of each. A refused or unreadable one is "nothing".
async function attack({ port, name }) {
  const base = `http://${name}:${port}`;
  const body = '{"model":"m","messages":[]}';
  const seen = {};
  const attempt = async (what, run) => {
    const late = new Promise((resolve) => setTimeout(resolve, 3000, "nothing"));
    seen[what] = await Promise.race([run().catch(() => "nothing"), late]);
  };
  const element = (tag, members, parent = document.body) =>
    new Promise((resolve) => {
      const node = Object.assign(document.createElement(tag), members);
      node.onload = () => resolve("nothing");
      node.onerror = () => resolve("nothing");
      parent.append(node);
    });
  const read = async (response) => (response.type === "opaque" ? "nothing" : `${response.status}`);
  await attempt("fetch no-cors", async () => read(await fetch(`${base}/v1/chat/completions?no-cors`, { method: "POST", mode: "no-cors", body })));
  await attempt("fetch cors", async () => read(await fetch(`${base}/v1/chat/completions?cors`, { method: "POST", body })));
  await attempt("fetch json", async () =>
    read(await fetch(`${base}/v1/chat/completions?json`, { method: "POST", headers: { "content-type": "application/json" }, body })));
  await attempt("fetch get", async () => read(await fetch(`${base}/v1/models?get`, { mode: "no-cors" })));
  await attempt("beacon", async () => (navigator.sendBeacon(`${base}/v1/chat/completions?beacon`, body), "nothing"));
  await attempt("image", () => element("img", { src: `${base}/v1/models?image` }));
  await attempt("script", () => element("script", { src: `${base}/v1/models?script` }));
  await attempt("frame", () => element("iframe", { src: `${base}/v1/models?frame` }));
  await attempt("form", () => {
    const form = Object.assign(document.createElement("form"), { method: "post", enctype: "text/plain", action: `${base}/v1/chat/completions?form`, target: "form" });
    form.append(Object.assign(document.createElement("input"), { name: body, value: "" }));
    const done = element("iframe", { name: "form" });
    document.body.append(form);
    form.submit();
    return done;
  });
  await attempt("websocket", () =>
    new Promise((resolve) => {
      const socket = new WebSocket(`ws://${name}:${port}/v1/realtime?model=m`);
      socket.onopen = () => resolve("open");
      socket.onclose = () => resolve("nothing");
    }));
  await attempt("events", () =>
    new Promise((resolve) => {
      const events = new EventSource(`${base}/v1/models?events`);
      events.onopen = () => resolve("open");
      events.onerror = () => (events.close(), resolve("nothing"));
    }));
  return seen;
}

// The attacker's names: one for pages elsewhere, one that now leads to this machine.
const browser = await launch("--host-resolver-rules=MAP evil.example 127.0.0.1, MAP rebound.example 127.0.0.1", ...FLAGS);

// Attacks from a page: returns its results, and its requests that reached the upstream.
async function attackFrom(url, target) {
  reached.length = 0;
  const seen = await inPage(browser, url, (page) => page.evaluate(attack, target));
  return { seen, reached: [...reached] };
}

const plain = await proxy("plain", { upstream });
const open = await proxy("open", { upstream, server: `origins = ["http://evil.example:${pages}"]` });

const checks = {
  async "a page of another origin reaches nothing"() {
    for (const name of ["127.0.0.1", "localhost"]) {
      const { seen, reached } = await attackFrom(`http://evil.example:${pages}/`, { port: plain.proxy, name });
      assert.deepEqual(reached, [], `through ${name}`);
      assert.deepEqual(new Set(Object.values(seen)), new Set(["nothing"]), JSON.stringify(seen));
    }
  },

  async "a page of another port of this machine reaches nothing"() {
    for (const [from, name] of [["localhost", "localhost"], ["127.0.0.1", "127.0.0.1"], ["localhost", "127.0.0.1"]]) {
      const { reached } = await attackFrom(`http://${from}:${pages}/`, { port: plain.proxy, name });
      assert.deepEqual(reached, [], `from ${from} to ${name}`);
    }
  },

  async "a page without an origin reaches nothing"() {
    const { reached } = await attackFrom("data:text/html,<body>", { port: plain.proxy, name: "127.0.0.1" });
    assert.deepEqual(reached, []);
  },

  async "a name that was rebound reaches nothing, and the page learns nothing"() {
    const { seen, reached } = await attackFrom(`http://rebound.example:${plain.proxy}/v1/models`, { port: plain.proxy, name: "rebound.example" });
    assert.deepEqual(reached, []);
    // The page has the same origin, so that it may read the responses, which are refusals.
    for (const what of ["fetch no-cors", "fetch cors", "fetch json", "fetch get"]) assert.equal(seen[what], "403", what);
    assert.equal(seen.websocket, "nothing");
    assert.equal(seen.events, "nothing");
  },

  async "a rebound name reads nothing of the admin pages"() {
    // The refusal's content policy also forbids its document to fetch anything.
    const status = (path) => fetch(path).then((response) => response.status, () => "refused");
    await inPage(browser, `http://rebound.example:${plain.admin}/`, async (page) => {
      for (const path of ["/", "/usage", "/records", "/config"]) {
        assert.ok([421, "refused"].includes(await page.evaluate(status, path)), path);
        assert.equal((await page.goto(`http://rebound.example:${plain.admin}${path}`)).status(), 421, path);
      }
    });
  },

  async "a listed origin's requests arrive"() {
    const { reached } = await attackFrom(`http://evil.example:${pages}/`, { port: open.proxy, name: "127.0.0.1" });
    for (const what of ["POST /v1/chat/completions?no-cors", "POST /v1/chat/completions?cors"]) assert.ok(reached.includes(what), reached.join(", "));
    assert.ok(reached.some((line) => line.startsWith("upgrade /v1/realtime")), reached.join(", "));
  },

  async "a program, which sends neither Origin nor Sec-Fetch-Site, is served"() {
    reached.length = 0;
    const request = http.request({ port: plain.proxy, host: "127.0.0.1", path: "/v1/models" }).end();
    const [response] = await once(request, "response");
    response.resume();
    assert.equal(response.statusCode, 200);
    assert.deepEqual(reached, ["GET /v1/models"]);
  },
};

await runChecks("stranger", browser, checks);
