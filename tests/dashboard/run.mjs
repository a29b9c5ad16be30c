// The dashboard in a real browser, checked by axe-core.
//
// FILL_LEDGER names the tool that fills ledgers (target/debug/examples/fill-ledger); STREAMGAUGE_BIN and DASHBOARD_NODE are described
// in checks.mjs. Screenshots go to target/dashboard/shots. Every complaint of the browser fails the current check, unless the
// check expects it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";

import { BIN, PATIENCE, ROOT, folder, launch, processes, require, runChecks } from "./checks.mjs";

const FILL = path.resolve(process.env.FILL_LEDGER ?? path.join(ROOT, "target/debug/examples/fill-ledger"));
const SHOTS = path.join(ROOT, "target/dashboard/shots");
const AXE = fs.readFileSync(require.resolve("axe-core"), "utf8");

const ROWS = 100_000;
const TOKEN = "a-token-of-the-browser-tests";

fs.mkdirSync(SHOTS, { recursive: true });

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function eventually(what, check) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const result = await check();
    if (result) return result;
    if (Date.now() > end) throw new Error(`${what}: not within ${PATIENCE} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// Starts the program, and waits until it responds at `address`.
async function start(args, address) {
  const child = spawn(BIN, args, { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (text) => (said += text));
  processes.push(child);
  await eventually(`${args[0]} at ${address}`, async () => {
    if (child.exitCode !== null) throw new Error(`${args[0]} ended: ${said}`);
    return fetch(`http://${address}/`).then(() => true, () => false);
  });
  return child;
}

const simulator = `127.0.0.1:${await freePort()}`;
await start(["simulate", "--listen", simulator], simulator);

// A proxy with its admin port and a ledger.
async function serve(name, { ledger = path.join(folder, `${name}.db`), admin = "", prices = "" } = {}) {
  const [proxy, pages] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const config = path.join(folder, `${name}.toml`);
  fs.writeFileSync(config, `
[server]
listen = "${proxy}"
workers = 1
[admin]
listen = "${pages}"
${admin}
[ledger]
path = "${ledger}"
[upstreams.sim]
provider = "other"
url = "http://${simulator}/v1"
api_key = "none"
default_model = "sim"
${prices}
`);
  const child = await start(["serve", "--config", config], pages);
  return { child, config, ledger, proxy: `http://${proxy}`, pages: `http://${pages}` };
}

const browser = await launch();

// A page of a browser without a history. `expected` are complaints that must occur; all others must not.
async function withPage({ width = 1280, scheme = "light", expected = [], ...more }, use) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme, ...more });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("requestfailed", (request) => {
    if (request.failure().errorText !== "net::ERR_ABORTED") complaints.push(`${request.url()}: ${request.failure().errorText}`);
  });
  await page.addInitScript(() => {
    window.shifted = 0;
    new PerformanceObserver((list) => list.getEntries().forEach(({ value }) => (window.shifted += value))).observe({ type: "layout-shift", buffered: true });
    addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
  });
  await use(page);
  const unexpected = complaints.filter((complaint) => !expected.some((pattern) => pattern.test(complaint)));
  assert.deepEqual(unexpected, [], "the browser complains");
  for (const pattern of expected) assert.ok(complaints.some((text) => pattern.test(text)), `no complaint ${pattern}`);
  await context.close();
}

// Checks that axe finds nothing serious or critical, and that nothing is wider than the screen.
async function looksRight(page, name) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter((found) => ["serious", "critical"].includes(found.impact));
  const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).slice(0, 5).join(", ")}`);
  assert.deepEqual(told, [], `${name}: axe`);
  const others = violations.filter((found) => !serious.includes(found)).map((found) => found.id);
  assert.deepEqual(others, [], `${name}: axe, minor`);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wider <= 0, `${name}: the page is ${wider} px wider than the screen`);
  await page.screenshot({ path: path.join(SHOTS, `${name}.png`), fullPage: true });
}

// The same page on several screens in both schemes.
async function everyWay(name, url, prepare = async () => {}, { widths = [1280, 390], ...more } = {}) {
  for (const width of widths) {
    for (const scheme of ["light", "dark"]) {
      await withPage({ width, scheme, ...more }, async (page) => {
        await page.goto(url);
        await prepare(page);
        await looksRight(page, `${name}-${width}-${scheme}`);
      });
    }
  }
}

const live = (page) => page.locator("#state", { hasText: "Live" }).waitFor();
const tile = (page, name) => page.locator(".tile", { has: page.locator("dt", { hasText: new RegExp(`^${name}`) }) });
const exact = (page, name) => tile(page, name).locator(".value data").getAttribute("value").then(Number);

// The output of `streamgauge usage` for the same rows.
function usage(ledger, args) {
  return JSON.parse(execFileSync(BIN, ["usage", "--ledger", ledger, "--format", "json", ...args], { maxBuffer: 1 << 28 }));
}

// A stream through the proxy, as an application reads it.
async function stream(proxy, simulate, user = "ada", signal = undefined) {
  const response = await fetch(`${proxy}/v1/chat/completions`, {
    method: "POST",
    signal,
    headers: { "content-type": "application/json", "x-simulate": simulate },
    body: JSON.stringify({
      model: "sim-live", user, stream: true, stream_options: { include_usage: true },
      messages: [{ role: "user", content: "How many tokens is this?" }],
    }),
  });
  assert.equal(response.status, 200);
  return { id: response.headers.get("x-streamgauge-id"), text: response.text().catch(() => "") };
}

const checks = {
  async "without records the page says what to do"() {
    const { pages } = await serve("empty");
    await everyWay("empty", `${pages}/`, async (page) => {
      await live(page);
      await page.getByText("No requests in this time").waitFor();
      await page.locator("#now > summary").press("Enter");
      await page.getByText("No stream is running").waitFor();
    });
  },

  async "without a ledger, and where it cannot be read, the page says so"() {
    const none = await serve("none", { ledger: "" });
    await everyWay("no-ledger", `${none.pages}/`, (page) => page.getByText("No ledger is kept: set ledger.path").waitFor());
    const broken = await serve("broken");
    for (const end of ["", "-wal", "-shm"]) fs.rmSync(broken.ledger + end, { force: true });
    execFileSync("python3", ["-c", `import sqlite3; sqlite3.connect(${JSON.stringify(broken.ledger)}).execute("CREATE TABLE notes (a)")`]);
    await withPage({ expected: [/status of 500/] }, async (page) => {
      // Another range than that of `serve`, since a page is cached for half a second.
      await page.goto(`${broken.pages}/?range=7d`);
      await page.getByText("The ledger cannot be read: is a database of another program").waitFor();
      await looksRight(page, "unreadable-1280-light");
    });
  },

  async "a hundred thousand records: the numbers are those of `streamgauge usage`"() {
    const ledger = path.join(folder, "full.db");
    execFileSync(FILL, [ledger, String(ROWS), "30"]);
    const prices = "[[prices]]\nmodel = \"gpt-4.1-mini*\"\ncurrency = \"USD\"\ninput = 0.4\ncached_input = 0.1\noutput = 1.6\n";
    const proxy = await serve("full", { ledger, prices });
    checks.full = proxy;
    await everyWay("month", `${proxy.pages}/?range=30d`, async (page) => {
      await live(page);
      await page.locator("#chart .column").first().waitFor();
    }, { widths: [390, 768, 1280, 1920] });
    // A past time range stays the same while the test runs.
    const day = (ago) => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);
    const [since, until] = [day(20), day(3)];
    const range = `range=custom&since=${since}T00:00&until=${until}T00:00`;
    for (const [query, filter] of [["", []], ["&user=ada&upstream=openai", ["--user", "ada", "--upstream", "openai"]]]) {
      await withPage({}, async (page) => {
        await page.goto(`${proxy.pages}/?${range}${query}&chart=requests`);
        const args = ["--config", proxy.config, "--since", since, "--until", until, ...filter];
        const { total } = usage(ledger, [...args, "--by", ""]);
        assert.ok(total.requests > 1000, "there is something to compare");
        assert.equal(await exact(page, "Cost, USD"), total.cost.USD);
        assert.equal(await exact(page, "Requests"), total.requests);
        assert.equal(await exact(page, "Input tokens"), total.input_tokens);
        assert.equal(await exact(page, "Output tokens"), total.output_tokens);
        assert.equal(await exact(page, "Error rate"), total.failed_requests);
        const { groups: days } = usage(ledger, [...args, "--by", "day"]);
        await page.locator("#chart-numbers summary").press("Enter");
        const shown = await page.locator("#chart-numbers tbody tr").evaluateAll((rows) =>
          Object.fromEntries(rows.map((row) => [row.cells[0].textContent.slice(-10), Number(row.cells[3].textContent.replaceAll(",", ""))])));
        assert.deepEqual(shown, Object.fromEntries(days.map((each) => [each.day, each.requests])));
        const csv = await (await fetch(new URL(await page.getByRole("link", { name: "sums as CSV" }).getAttribute("href"), proxy.pages))).text();
        const sum = csv.trim().split("\n").slice(1).reduce((sum, line) => sum + Number(line.match(/^\d{4}-\d\d-\d\d,(?:[^,"]*|"(?:[^"]|"")*"),(?:[^,"]*|"(?:[^"]|"")*"),[^,]*,[^,]*,(\d+),/)[1]), 0);
        assert.equal(sum, total.requests, "the selection as CSV");
        for (const tab of ["user", "model", "client", "upstream", "endpoint", "outcome"]) {
          await page.goto(`${proxy.pages}/?${range}${query}&tab=${tab}&sort=-requests`);
          const { groups } = usage(ledger, [...args, "--by", tab]);
          const rows = await page.locator("#table tbody tr").evaluateAll((rows) => rows.map((row) => [
            row.querySelector("th").textContent.trim(),
            [...row.querySelectorAll("td.number")].map((cell) => cell.querySelector("data")?.getAttribute("value") ?? cell.textContent).map((text) => (text === "–" ? null : Number(text))),
          ]));
          const expected = groups.map((group) => [
            group[tab] ?? "not named",
            [group.cost.USD, group.requests, group.failed_requests, group.input_tokens, group.cached_input_tokens, group.output_tokens, group.total_tokens],
          ]);
          assert.deepEqual(Object.fromEntries(rows), Object.fromEntries(expected), tab);
          const requests = rows.map(([, numbers]) => numbers[1]);
          assert.deepEqual(requests, requests.toSorted((one, other) => other - one), "in the order of the URL");
        }
      });
    }
  },

  async "filters, times and records are reached by links, forms and the keyboard"() {
    const { pages } = checks.full;
    await withPage({}, async (page) => {
      const shift = () => page.evaluate(() => window.shifted);
      await page.goto(`${pages}/`);
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the numbers");
      await page.locator("#range > summary").press("Enter");
      await looksRight(page, "range-1280-light");
      await page.getByRole("link", { name: "Last 7 days" }).press("Enter");
      await page.waitForURL(/range=7d/);
      const all = await exact(page, "Requests");
      await page.goto(`${pages}/?range=7d&tab=user`);
      await page.locator("#table").getByRole("link", { name: "grace" }).click();
      await page.waitForURL(/user=grace/);
      const hers = await exact(page, "Requests");
      assert.ok(hers > 0 && hers < all, `${hers} of ${all}`);
      assert.deepEqual(await page.locator("#table tbody th").allInnerTexts(), ["grace"]);
      await page.locator("#filters > summary").click();
      await page.getByRole("combobox", { name: "Model" }).fill("gpt-4o-2024-11-20");
      await looksRight(page, "filters-1280-light");
      await page.getByRole("combobox", { name: "Model" }).press("Enter");
      await page.waitForURL(/model=gpt-4o/);
      const both = await exact(page, "Requests");
      assert.ok(both > 0 && both < hers, `${both} of ${hers}`);
      assert.equal(new URL(page.url()).searchParams.get("range"), "7d", "the time stays");
      assert.equal(await shift(), 0, "nothing moves when a filter is set");
      await page.getByRole("link", { name: "Remove the filter Model" }).click();
      await page.waitForURL((url) => !url.search.includes("model="));
      await page.getByRole("link", { name: "Clear", exact: true }).click();
      await page.waitForURL((url) => !url.search.includes("user="));
      assert.ok(Math.abs((await exact(page, "Requests")) - all) < all / 100);
      await page.locator("#filters > summary").click();
      await page.getByRole("combobox", { name: "User" }).fill("no-such-user");
      await page.getByRole("button", { name: "Filter", exact: true }).click();
      await page.getByText("No request matches all filters").waitFor();
      await page.goto(`${pages}/`);
      await page.locator("#range > summary").press("Enter");
      await page.getByLabel("From").fill("2020-01-01T00:00");
      await page.getByLabel("Until").fill("2020-02-01T00:00");
      await page.getByRole("combobox", { name: "Time zone", exact: true }).fill("Asia/Tokyo");
      await page.getByRole("button", { name: "Show" }).click();
      await page.waitForURL(/since=2020-01-01T00%3A00/);
      await page.getByText("No requests in this time").waitFor();
      assert.match(await page.locator("#updated").innerText(), /Asia\/Tokyo/);
    });
  },

  async "a record's page has its times, its cost and the way back"() {
    const { pages } = checks.full;
    await withPage({ width: 390, scheme: "dark" }, async (page) => {
      await page.goto(`${pages}/?range=30d&model=gpt-4.1-mini-2025-04-14`);
      await page.locator("#records tbody a.id").first().click();
      await page.waitForURL(/usage\/[0-9a-f-]{36}$/);
      await page.getByRole("heading", { name: "Timeline" }).waitFor();
      await page.locator("#cost").getByText("Sum").waitFor();
      const json = JSON.parse(await page.locator("#fields pre").innerText());
      const raw = await (await fetch(page.url())).json();
      assert.deepEqual(json, raw);
      await looksRight(page, "record-390-dark");
      await page.getByRole("link", { name: "To the dashboard" }).click();
      await page.waitForURL(`${pages}/`);
    });
    await withPage({}, async (page) => {
      await page.goto(`${pages}/?range=30d`);
      await page.locator("#records").getByRole("link", { name: "Failures" }).click();
      await page.getByRole("heading", { name: "Latest failures" }).waitFor();
      const outcomes = await page.locator("#records .badge").allInnerTexts();
      assert.ok(outcomes.length > 5 && !outcomes.includes("complete") && !outcomes.includes("client disconnected"), outcomes.join());
      await looksRight(page, "failures-1280-light");
    });
  },

  async "the chart changes in place, and its columns are walked through and dragged over"() {
    const { pages } = checks.full;
    await withPage({}, async (page) => {
      await page.goto(`${pages}/?range=30d`);
      await live(page);
      await page.evaluate(() => (window.sameDocument = true));
      for (const [name, title] of [["Tokens", "Tokens"], ["Errors", "Failed requests"], ["Latency", "Time to first token"], ["Cached", "Cached share"], ["Cost", "Cost"]]) {
        await page.locator("#chart").getByRole("link", { name, exact: true }).click();
        await page.locator("#chart-title", { hasText: title }).waitFor();
        await looksRight(page, `chart-${name.toLowerCase()}-1280-light`);
      }
      await page.locator("#chart .splits").getByRole("link", { name: "model", exact: true }).click();
      await page.locator("#chart .legend").getByText("gpt-4.1-mini").waitFor();
      await page.locator("#controls").getByRole("button", { name: "Compare" }).click();
      await page.waitForURL(/compare=1/);
      assert.match(page.url(), /chart=cost&split=model/, "the links of the bar know the chart");
      await page.locator("#chart .line.before").waitFor({ state: "attached" });
      await looksRight(page, "compare-1280-light");
      await page.locator("#chart .hit").last().focus();
      await page.keyboard.press("ArrowLeft");
      const tip = page.locator("#chart .hit:focus .tip-head");
      const name = await tip.innerText();
      await page.keyboard.press("ArrowLeft");
      assert.notEqual(await tip.innerText(), name, "the arrow moves the focus");
      const hits = await page.locator("#chart .hit").evaluateAll((all) => all.map((each) => [each.getBoundingClientRect().x + 3, each.getBoundingClientRect().y + 80, each.dataset]));
      await page.mouse.move(hits[5][0], hits[5][1]);
      await page.mouse.down();
      await page.mouse.move(hits[9][0], hits[9][1], { steps: 4 });
      await page.mouse.up();
      await page.waitForURL(/range=custom/);
      const chosen = new URL(page.url()).searchParams;
      assert.deepEqual([chosen.get("since"), chosen.get("until")], [hits[5][2].since, hits[9][2].until]);
      assert.equal(chosen.get("split"), "model");
    });
    await withPage({ width: 390, hasTouch: true, isMobile: true }, async (page) => {
      await page.goto(`${pages}/?range=7d`);
      await live(page);
      const hit = page.locator("#chart .hit").nth(12);
      await hit.tap();
      await hit.locator(".tip-head").waitFor();
      assert.match(page.url(), /range=7d/, "the first touch shows the numbers");
      await hit.tap();
      await page.waitForURL(/range=custom/);
    });
  },

  async "odd names of five hundred users break nothing"() {
    const { pages, proxy } = await serve("odd");
    const odd = ["\"'><img src=x onerror=alert(1)>", "مستخدم طويل الاسم", "👩‍👩‍👧‍👦 family", "a\u202eb", "x".repeat(900), "semi;colon,comma", " spaces  ", "%2F..%2F", "ünï-çödé", "</td></table>"];
    const names = [...Array(500)].map((_, number) => `${odd[number % odd.length]} ${number}`);
    for (let first = 0; first < names.length; first += 50) {
      await Promise.all(names.slice(first, first + 50).map(async (name) => (await stream(proxy, "events=1", name)).text));
    }
    const rows = () => fetch(`${pages}/usage?by=user`).then((response) => response.json());
    await eventually("all records", async () => (await rows()).groups.length === 500);
    await everyWay("odd", `${pages}/?range=1h&split=user&chart=requests&tab=user&sort=user`, live);
    await withPage({}, async (page) => {
      const seen = new Set();
      for (let number = 1; number <= 20; number += 1) {
        await page.goto(`${pages}/?range=1h&tab=user&sort=user&page=${number}`);
        for (const href of await page.locator("#table tbody th a").evaluateAll((all) => all.map((each) => each.href))) seen.add(new URL(href).searchParams.get("user"));
      }
      assert.equal(seen.size, 500, "every row is on some page");
      await page.goto(`${pages}/?range=1h&user=${encodeURIComponent(names[0])}`);
      assert.equal(await exact(page, "Requests"), 1);
      await page.goto(`${pages}/?range=1h&tab=user&search=${encodeURIComponent("FAMILY")}`);
      assert.equal(await page.locator("#table tbody tr").count(), 25);
    });
  },

  async "the page works without a script"() {
    const { pages } = checks.full;
    await withPage({ javaScriptEnabled: false }, async (page) => {
      await page.goto(`${pages}/?range=30d`);
      await page.locator("#filters > summary").click();
      await page.getByRole("combobox", { name: "User" }).fill("ada");
      await page.getByRole("button", { name: "Filter", exact: true }).click();
      await page.waitForURL(/user=ada/);
      assert.ok((await exact(page, "Requests")) > 100);
      await page.locator("#chart").getByRole("link", { name: "Latency" }).click();
      await page.waitForURL(/chart=latency/);
      await page.locator("#table").getByRole("link", { name: "Models" }).click();
      await page.waitForURL(/tab=model/);
      await page.locator("#chart .hit").nth(3).click();
      await page.waitForURL(/range=custom/);
      assert.equal(await page.getByRole("button", { name: "Pause updates" }).count(), 0);
    });
  },

  async "during a stream the counts grow on the page, and its record comes, without a reload"() {
    const { pages, proxy } = checks.full;
    await withPage({}, async (page) => {
      // The filled records have other models: they leave the hour while the check runs.
      const earlier = await stream(proxy, "events=2");
      await earlier.text;
      await page.goto(`${pages}/?range=1h&model=sim-live`);
      await live(page);
      await page.locator(`#records a[href="usage/${earlier.id}"]`).waitFor();
      await page.evaluate(() => (window.sameDocument = true));
      const before = await exact(page, "Requests");
      const { id, text } = await stream(proxy, "events=60,pace=100ms", "grace");
      for (const name of ["b", "c"]) (await stream(proxy, "events=60,pace=100ms,delay=10ms", `user-${name}`)).text;
      await page.locator("#now > summary").press("Enter");
      const row = page.locator(`tr[data-stream="${id}"]`);
      await row.waitFor();
      await page.screenshot({ path: path.join(SHOTS, "live-1280-light.png"), fullPage: true });
      const events = () => row.locator("td.number data").first().getAttribute("value").then(Number);
      const first = await events();
      const second = await eventually("more events", async () => ((await events()) > first ? events() : null));
      assert.ok(second > first);
      assert.equal(await row.locator("td").nth(2).innerText(), "grace");
      await row.waitFor({ state: "detached" });
      assert.match(await text, /\[DONE\]/);
      await page.locator(`#records a[href="usage/${id}"]`).waitFor();
      await eventually("the sums", async () => (await exact(page, "Requests")) === before + 3);
      assert.ok(await page.evaluate(() => window.sameDocument), "the page was loaded anew");
    });
  },

  async "what is unfolded and focused stays so, and updates can be paused"() {
    const { pages, proxy } = checks.full;
    await withPage({}, async (page) => {
      await page.goto(`${pages}/?range=1h`);
      await live(page);
      await (await stream(proxy, "events=2")).text;
      const latest = page.locator("#records tbody a.id").first();
      await page.locator("#chart-numbers summary").press("Enter");
      const focused = () => page.evaluate(() => document.activeElement.closest("[id]")?.id);
      const next = async () => {
        const id = (await stream(proxy, "events=2")).id;
        await page.locator(`#records a[href="usage/${id}"]`).waitFor();
      };
      await next();
      assert.equal(await focused(), "chart-numbers", "the focus stays where it was");
      assert.ok(await page.locator("#chart-numbers").evaluate((details) => details.open));
      const href = await latest.getAttribute("href");
      await latest.focus();
      await next();
      assert.equal(await page.evaluate(() => document.activeElement.getAttribute("href")), href);
      await page.getByRole("button", { name: "Pause updates" }).click();
      await page.locator("#state", { hasText: "Paused" }).waitFor();
      const shown = await page.locator("#numbers").innerHTML();
      const { id } = await stream(proxy, "events=2");
      // Another page sees it; this one does not.
      await withPage({}, async (other) => {
        await other.goto(`${pages}/?range=1h`);
        await other.locator(`#records a[href="usage/${id}"]`).waitFor();
      });
      assert.equal(await page.locator("#numbers").innerHTML(), shown);
      await page.getByRole("button", { name: "Resume updates" }).click();
      await page.locator(`#records a[href="usage/${id}"]`).waitFor();
    });
  },

  async "many streams are shown on a phone in the dark"() {
    const { pages, proxy } = checks.full;
    const stop = new AbortController();
    const streams = await Promise.all([...Array(40)].map((_, n) => stream(proxy, "events=1000,pace=50ms", `user-${n}`, stop.signal)));
    await withPage({ width: 390, scheme: "dark" }, async (page) => {
      await page.goto(`${pages}/?range=24h`);
      await live(page);
      await page.locator("#now > summary strong", { hasText: "40" }).waitFor();
      await page.locator("#now > summary").click();
      await page.locator("#running .figure strong", { hasText: "40" }).waitFor();
      await page.getByText("and 15 more").waitFor();
      await looksRight(page, "live-390-dark");
      await page.goto(`${pages}/?range=24h&user=user-7`);
      await page.locator("#now > summary strong", { hasText: /^1$/ }).waitFor();
    });
    stop.abort();
    await Promise.all(streams.map((each) => each.text));
  },

  async "a proxy that is gone is told, and found again"() {
    const first = await serve("gone");
    await withPage({ expected: [/ERR_/] }, async (page) => {
      await page.goto(`${first.pages}/`);
      await live(page);
      first.child.kill("SIGKILL");
      await page.locator("#state", { hasText: "trying again" }).waitFor();
      await page.screenshot({ path: path.join(SHOTS, "lost-1280-light.png") });
      await start(["serve", "--config", first.config], first.pages.slice("http://".length));
      await live(page);
    });
  },

  async "the login opens the pages, and only with the token"() {
    const { pages } = await serve("login", { admin: `token = { value = "${TOKEN}" }` });
    assert.equal((await fetch(`${pages}/`)).status, 401);
    assert.equal((await fetch(`${pages}/`, { headers: { authorization: `Bearer ${TOKEN}` } })).status, 200);
    const refusals = { expected: [/status of 401/] };
    await everyWay("login", `${pages}/?range=7d`, (page) => page.getByLabel("Admin token").waitFor(), refusals);
    await withPage({ expected: [/status of 401/, /status of 403/] }, async (page) => {
      await page.goto(`${pages}/?range=7d`);
      await page.getByLabel("Admin token").fill("not-the-token-at-all");
      await page.getByLabel("Admin token").press("Enter");
      await page.getByRole("alert").filter({ hasText: "That is not the token." }).waitFor();
      await looksRight(page, "login-wrong-1280-light");
      await page.getByLabel("Admin token").fill(TOKEN);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.waitForURL(`${pages}/?range=7d`);
      await live(page);
      const [cookie] = await page.context().cookies();
      assert.ok(cookie.httpOnly && cookie.sameSite === "Strict" && !cookie.value.includes(TOKEN));
      assert.equal(await page.evaluate(() => document.cookie), "", "no script reads it");
      await page.getByRole("button", { name: "Sign out" }).click();
      await page.waitForURL(`${pages}/login`);
      await page.goto(`${pages}/`);
      await page.getByLabel("Admin token").waitFor();
    });
  },

  async "the policy holds: what is injected does not run"() {
    const { pages } = checks.full;
    await withPage({ expected: [/CSP: script-src/, /CSP: style-src/, /Content Security Policy/] }, async (page) => {
      await page.goto(`${pages}/`);
      await page.evaluate(() => {
        document.body.insertAdjacentHTML("beforeend", "<p style='color:red' onclick='1'>x</p>");
        const script = document.createElement("script");
        script.textContent = "window.injected = true";
        document.body.append(script);
      });
      assert.equal(await page.evaluate(() => window.injected), undefined);
    });
  },
};

// The first check fills the ledger for the others.
const only = process.argv[2] ?? "";
await runChecks("dashboard", browser, checks, (name) => name.includes(only) || name.startsWith("a hundred thousand"));
