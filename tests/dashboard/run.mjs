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

// The same page on both screens in both schemes.
async function everyWay(name, url, prepare = async () => {}, more = {}) {
  for (const width of [1280, 390]) {
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
      await page.locator("#tokens-over-time .column").first().waitFor();
    });
    // A past time range stays the same while the test runs.
    const day = (ago) => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);
    const [since, until] = [day(20), day(3)];
    const range = `range=custom&since=${since}T00:00&until=${until}T00:00`;
    for (const [query, filter] of [["", []], ["&user=ada&upstream=openai", ["--user", "ada", "--upstream", "openai"]]]) {
      await withPage({}, async (page) => {
        await page.goto(`${proxy.pages}/?${range}${query}`);
        const args = ["--since", since, "--until", until, ...filter];
        const { total } = usage(ledger, [...args, "--by", ""]);
        assert.ok(total.requests > 1000, "there is something to compare");
        assert.equal(await exact(page, "Requests"), total.requests);
        assert.equal(await exact(page, "Total tokens"), total.total_tokens);
        assert.equal(await exact(page, "Input tokens"), total.input_tokens);
        assert.equal(await exact(page, "Output tokens"), total.output_tokens);
        for (const [column, id, most] of [["user", "user-totals", 12], ["model", "models", 12], ["upstream", "upstreams", 12], ["client", "clients", 12]]) {
          const { groups } = usage(ledger, [...args, "--by", column]);
          groups.sort((a, b) => (b.total_tokens ?? 0) - (a.total_tokens ?? 0));
          const rows = page.locator(`#${id} tbody tr`);
          for (const [place, group] of groups.slice(0, most).entries()) {
            const row = rows.nth(place);
            assert.equal((await row.locator("th").innerText()).trim(), group[column] ?? "not named", `${id} ${place}`);
            const shown = await row.locator("td.number data").evaluateAll((all) => all.map((each) => Number(each.value)));
            const expected = id === "user-totals" ? [group.total_tokens] : [group.requests, group.input_tokens, group.output_tokens];
            assert.deepEqual(shown.slice(0, expected.length), expected.filter((value) => value !== null), `${id} ${place}`);
          }
        }
        const { groups: days } = usage(ledger, [...args, "--by", "day"]);
        await page.locator("#requests-over-time-numbers summary").press("Enter");
        const shown = await page.locator("#requests-over-time-numbers tbody tr").evaluateAll((rows) =>
          rows.reduce((sums, row) => {
            const key = row.cells[0].textContent.slice(0, 10);
            return { ...sums, [key]: (sums[key] ?? 0) + Number(row.cells[1].textContent.replaceAll(",", "")) };
          }, {}));
        assert.deepEqual(shown, Object.fromEntries(days.map((each) => [each.day, each.requests])));
        const csv = await (await fetch(new URL(await page.getByRole("link", { name: "sums as CSV" }).getAttribute("href"), proxy.pages))).text();
        const sum = csv.trim().split("\n").slice(1).reduce((sum, line) => sum + Number(line.match(/^\d{4}-\d\d-\d\d,(?:[^,"]*|"(?:[^"]|"")*"),(?:[^,"]*|"(?:[^"]|"")*"),[^,]*,[^,]*,(\d+),/)[1]), 0);
        assert.equal(sum, total.requests, "the selection as CSV");
      });
    }
  },

  async "filters, times and records are reached by links, forms and the keyboard"() {
    const { pages } = checks.full;
    await withPage({}, async (page) => {
      await page.goto(`${pages}/`);
      await page.getByRole("link", { name: "Last 7 days" }).click();
      await page.waitForURL(/range=7d/);
      const all = await exact(page, "Requests");
      await page.locator("#user-totals").getByRole("link", { name: "grace" }).click();
      await page.waitForURL(/user=grace/);
      const hers = await exact(page, "Requests");
      assert.ok(hers > 0 && hers < all, `${hers} of ${all}`);
      assert.deepEqual(await page.locator("#user-totals tbody th").allInnerTexts(), ["grace"]);
      await page.getByRole("combobox", { name: "Model" }).fill("gpt-4o-2024-11-20");
      await page.getByRole("combobox", { name: "Model" }).press("Enter");
      await page.waitForURL(/model=gpt-4o/);
      const both = await exact(page, "Requests");
      assert.ok(both > 0 && both < hers, `${both} of ${hers}`);
      assert.equal(new URL(page.url()).searchParams.get("range"), "7d", "the time stays");
      await page.getByRole("link", { name: "Clear" }).click();
      await page.waitForURL((url) => !url.search.includes("user="));
      assert.ok(Math.abs((await exact(page, "Requests")) - all) < all / 100);
      await page.getByRole("combobox", { name: "User" }).fill("nobody");
      await page.getByRole("button", { name: "Filter" }).click();
      await page.getByText("No request matches all filters").waitFor();
      await page.goto(`${pages}/`);
      await page.locator("#custom summary").press("Enter");
      await looksRight(page, "custom-1280-light");
      await page.getByLabel("From (UTC)").fill("2020-01-01T00:00");
      await page.getByLabel("Until (UTC)").fill("2020-02-01T00:00");
      await page.getByRole("button", { name: "Show" }).click();
      await page.waitForURL(/since=2020-01-01T00%3A00/);
      await page.getByText("No requests in this time").waitFor();
      await page.goto(`${pages}/?range=30d`);
      const link = page.locator("#records tbody a.id").first();
      const id = await link.innerText();
      const record = await (await fetch(new URL(await link.getAttribute("href"), pages))).json();
      assert.equal(record.id, id);
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the numbers");
    });
  },

  async "the page works without a script"() {
    const { pages } = checks.full;
    await withPage({ javaScriptEnabled: false }, async (page) => {
      await page.goto(`${pages}/?range=30d`);
      await page.getByRole("combobox", { name: "User" }).fill("ada");
      await page.getByRole("button", { name: "Filter" }).click();
      await page.waitForURL(/user=ada/);
      assert.ok((await exact(page, "Requests")) > 100);
      assert.equal(await page.getByRole("button", { name: "Pause updates" }).count(), 0);
    });
  },

  async "during a stream the counts grow on the page, and its record comes, without a reload"() {
    const { pages, proxy } = checks.full;
    await withPage({}, async (page) => {
      await page.goto(`${pages}/?range=1h`);
      await live(page);
      await page.evaluate(() => (window.sameDocument = true));
      const before = await exact(page, "Requests");
      const { id, text } = await stream(proxy, "events=60,pace=100ms", "grace");
      for (const name of ["b", "c"]) (await stream(proxy, "events=60,pace=100ms,delay=10ms", `user-${name}`)).text;
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
      await eventually("the sums", async () => (await exact(page, "Requests")) >= before + 1);
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
      await page.locator("#tokens-over-time-numbers summary").press("Enter");
      const focused = () => page.evaluate(() => document.activeElement.closest("[id]")?.id);
      const next = async () => {
        const id = (await stream(proxy, "events=2")).id;
        await page.locator(`#records a[href="usage/${id}"]`).waitFor();
      };
      await next();
      assert.equal(await focused(), "tokens-over-time-numbers", "the focus stays where it was");
      assert.ok(await page.locator("#tokens-over-time-numbers").evaluate((details) => details.open));
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
      await page.locator("#running .figure strong", { hasText: "40" }).waitFor();
      await page.getByText("and 15 more").waitFor();
      await looksRight(page, "live-390-dark");
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
