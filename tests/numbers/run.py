#!/usr/bin/env python3
"""Checks that every report has the same numbers, for random selections of a ledger that is shipped to PostgreSQL.

For each selection (time, filters, fields, time zone, comparison) these must agree exactly on requests, failures, tokens of each kind
and costs: a sum over the rows in this program, `streamgauge usage` over SQLite and over PostgreSQL, `/usage` of an instance and of
the fleet, both dashboards, and the queries of config/grafana/postgres.json, as Grafana would send them. Costs are not in
PostgreSQL, so Grafana's queries have none. Prometheus' sums over a time are estimates: tests/monitoring compares its counters with
the records.

STREAMGAUGE_BIN and FILL_LEDGER name the binary and the tool that fills ledgers (in target/debug if unset). Needs Debian's PostgreSQL.
`--seed N` repeats a run, whose seed is printed; `--selections N` is their number.
"""

import argparse
import contextlib
import datetime
import decimal
import html.parser
import json
import os
import pathlib
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zoneinfo
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
from programs import BIN, ROOT, free_port, postgres, started, until  # noqa: E402

FILL = os.environ.get("FILL_LEDGER", str(ROOT / "target/debug/examples/fill-ledger"))
ROWS, DAYS = 2000, 30
# The time limit of a request, a command or a query, in seconds.
LONGEST = 60

TEAMS = {"search": "engineering", "ide-plugin": "engineering", "support-bot": "service"}
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]
FILTERS = ["client", "user", "upstream", "model", "endpoint", "outcome", "team"]
BY = ["model", "client", "team", "user", "upstream", "endpoint", "outcome", "usage_source", "status", "provider", "hour", "day", "week", "month"]
TABS = ["user", "model", "client", "team", "upstream", "endpoint", "outcome"]
GOOD = ["complete", "client_disconnected"]
COUNTS = ["requests", "failed_requests", "input_tokens", "cached_input_tokens", "output_tokens", "total_tokens"]

UTC = datetime.timezone.utc
DECIMAL = decimal.Decimal


def prices(changed):
    """The prices of a million tokens, in order: model, first day, currency, input, cached input, output."""
    old, new = datetime.date.min, changed
    return [
        ("gpt-4.1-mini-2025-04-14", old, "USD", "0.4", "0.1", "1.6"),
        ("gpt-4.1-mini-2025-04-14", new, "USD", "0.37", "0.093", "1.51"),
        ("gpt-4.1-2025-04-14", old, "USD", "2", "0.5", "8"),
        ("gpt-4o-2024-11-20", old, "EUR", "2.5", "1.25", "10"),
        ("text-embedding-3-small", new, "USD", "0.02", "0.02", "0"),
    ]


def configuration(ledger, url, prices, upstreams, admin=""):
    """A proxy on its own ledger; with `admin`, its pages are those of the fleet."""
    port, pages = free_port(), free_port()
    text = f'[server]\nlisten = "127.0.0.1:{port}"\nworkers = 1\n[admin]\nlisten = "127.0.0.1:{pages}"\n{admin}'
    text += f'[ledger]\npath = {json.dumps(str(ledger))}\nretention = "3650d"\n'
    text += f'[ledger.postgres]\nurl = {{ value = {json.dumps(url)} }}\ninstance = "{ledger.stem}"\n'
    text += "".join(f"[teams.{team}]\n" for team in sorted(set(TEAMS.values())))
    for client in ("support-bot", "search", "ide-plugin", "batch"):
        team = f'team = "{TEAMS[client]}"\n' if client in TEAMS else ""
        text += f'[clients.{client}]\nkey = {{ value = "the-key-of-{client}" }}\n{team}'
    for name in upstreams:
        text += f'[upstreams.{name}]\nprovider = "other"\nurl = "http://127.0.0.1:9/v1"\napi_key = "none"\ndefault_model = "m"\n'
    text += f'[[routes]]\nupstream = "{upstreams[0]}"\n'
    for model, first, currency, *amounts in prices:
        day = "" if first == datetime.date.min else f'from = "{first}"\n'
        paid = dict(zip(("input", "cached_input", "output"), amounts, strict=True))
        text += f'[[prices]]\nmodel = "{model}"\ncurrency = "{currency}"\n{day}' + "".join(f"{key} = {paid[key]}\n" for key in paid)
    config = ledger.with_suffix(".toml")
    config.write_text(text)
    return config, port, f"http://127.0.0.1:{pages}"


class Naive:
    """The rows of the ledger, added up one after the other."""

    def __init__(self, ledger, prices):
        self.prices = prices
        with contextlib.closing(sqlite3.connect(ledger)) as file:
            file.row_factory = sqlite3.Row
            self.columns = [row[1] for row in file.execute("PRAGMA table_info(usage_records)")]
            self.rows = [dict(row) for row in file.execute("SELECT * FROM usage_records")]
        for row in self.rows:
            row["at"] = moment(row["started_at"])
            row["team"] = TEAMS.get(row["client"])
            row["days"] = {zone: row["at"].astimezone(zoneinfo.ZoneInfo(zone)).date() for zone in ZONES}

    def values(self, field):
        return sorted({row[field] for row in self.rows if row[field] is not None})

    def selected(self, selection):
        outcomes = selection.outcomes(self)
        filters = {field: value for field, value in selection.filters.items() if field != "outcome"}
        for row in self.rows:
            inside = selection.since <= row["at"] < selection.until
            if inside and row["outcome"] in outcomes and all(row[field] == value for field, value in filters.items()):
                yield row

    def total(self, selection):
        """The sums, with `None` for what no row has."""
        sums, cost, unpriced = dict.fromkeys(COUNTS), {}, 0
        sums["requests"] = sums["failed_requests"] = 0
        for row in self.selected(selection):
            sums["requests"] += 1
            sums["failed_requests"] += row["outcome"] not in GOOD
            both = [row["input_tokens"], row["output_tokens"]]
            known = [tokens for tokens in both if tokens is not None]
            total = row["total_tokens"] if row["total_tokens"] is not None else sum(known) if known else None
            for field, tokens in [*((name, row[name]) for name in COUNTS[2:5]), ("total_tokens", total)]:
                if tokens is not None:
                    sums[field] = (sums[field] or 0) + tokens
            if not known:
                continue
            day = row["days"][selection.zone]
            fitting = [price for price in self.prices if price[0] == (row["model"] or row["model_requested"]) and price[1] <= day]
            if not fitting:
                unpriced += 1
                continue
            _, _, currency, *paid = max(fitting, key=lambda price: price[1])
            cached = row["cached_input_tokens"] or 0
            parts = [max((both[0] or 0) - cached, 0), cached, both[1] or 0]
            amount = sum(DECIMAL(price) * tokens for price, tokens in zip(paid, parts, strict=True)) / 1_000_000
            cost[currency] = cost.get(currency, 0) + amount
        return {**sums, "requests_without_price": unpriced, "cost": {name: float(amount) for name, amount in cost.items()}}


def moment(nanoseconds):
    """A time of the ledger, in whole microseconds as in PostgreSQL."""
    return datetime.datetime.fromtimestamp(0, UTC) + datetime.timedelta(microseconds=nanoseconds // 1000)


class Selection:
    def __init__(self, draw, naive, begin, end):
        seconds = int((end - begin).total_seconds())
        first = draw.randrange(-86400, seconds - 7200)
        self.since = begin + datetime.timedelta(seconds=first)
        self.until = min(end, self.since + datetime.timedelta(seconds=draw.choice([3600, 86400, 7 * 86400, draw.randrange(60, seconds)])))
        self.zone = draw.choice(ZONES)
        self.by = draw.sample(BY, draw.choice([0, 1, 1, 2, 3]))
        self.tab = draw.choice(TABS)
        # Times of another period are other groups.
        self.compare = draw.random() < 0.5 and not {"hour", "day", "week", "month"}.intersection(self.by)
        self.filters = {}
        # Mostly the values of one row, so that few selections are empty.
        row = draw.choice(naive.rows)
        for field in FILTERS:
            if draw.random() < 0.2:
                value = row[field] if draw.random() < 0.9 else draw.choice(naive.values(field))
                self.filters[field] = value or draw.choice(naive.values(field))
        if "outcome" in self.filters and self.filters["outcome"] not in GOOD:
            self.filters["outcome"] = draw.choice(["failed", self.filters["outcome"]])

    def outcomes(self, naive):
        wanted, every = self.filters.get("outcome"), naive.values("outcome")
        if wanted == "failed":
            return [outcome for outcome in every if outcome not in GOOD]
        return [wanted] if wanted else every

    def times(self, until="until"):
        return {"since": self.since.strftime("%Y-%m-%dT%H:%M:%SZ"), until: self.until.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def __repr__(self):
        return f"{self.times()} {self.zone} by {self.by} {self.filters}{' compared' if self.compare else ''}"


def command(config, source, selection, by, compare=False):
    words = [BIN, "usage", "--config", str(config), "--from", source, "--format", "json", "--by", ",".join(by), "--time-zone", selection.zone]
    for key, value in {**selection.times(), **selection.filters}.items():
        words += [f"--{key}", value]
    done = subprocess.run([*words, *(["--compare"] if compare else [])], capture_output=True, text=True, timeout=LONGEST, check=False)
    if done.returncode:
        raise SystemExit(f"FAILED: {' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout)


def get(url, path, query):
    with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(query)}", timeout=LONGEST) as response:
        return response.read().decode()


def endpoint(url, selection, by, times=None):
    query = {**(times or selection.times()), **selection.filters, "by": ",".join(by), "time_zone": selection.zone, "format": "json"}
    return json.loads(get(url, "/usage", query))


class Page(html.parser.HTMLParser):
    """The tiles and the table of a dashboard, with the values for programs."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.tiles, self.rows, self.row, self.cell = [], {}, [], None, None
        self.name = self.changes = None
        self.changed = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        classes = (attributes.get("class") or "").split()
        if tag == "dt":
            self.name = ""
        elif tag == "dd" and "value" in classes:
            self.cell = None
            self.stack.append("value")
        elif tag == "dd":
            self.stack = ["change"] if "change" in classes else []
        elif tag == "table":
            self.table = "sums" in classes
        elif tag == "tr" and getattr(self, "table", False):
            self.row = []
        elif tag in ("td", "th") and self.row is not None:
            self.row.append(None if "wide" in classes else "")
        elif tag == "data" and self.row:
            self.row[-1] = float(attributes["value"])
        elif tag == "data" and self.stack == ["value"]:
            self.tiles[self.name.strip()] = float(attributes["value"])
        elif tag == "section":
            self.section = attributes.get("id")

    def handle_endtag(self, tag):
        if tag == "dt":
            self.tiles.setdefault(self.name.strip(), None)
        elif tag == "dd":
            self.stack = []
        elif tag == "tr" and self.row is not None:
            if getattr(self, "section", None) == "table":
                self.rows.append([cell for cell in self.row if cell is not None])
            self.row = None

    def handle_data(self, data):
        if self.row and isinstance(self.row[-1], str):
            self.row[-1] += data
        elif self.stack == ["change"]:
            self.changed[self.name.strip()] = self.changed.get(self.name.strip(), "") + data
        elif self.name is not None and self.name.strip() not in self.tiles:
            self.name += data


def dashboard(url, selection):
    query = {"range": "custom", **selection.times(), **selection.filters, "time_zone": selection.zone, "tab": selection.tab}
    return Page(get(url, "/", {**query, **({"compare": "1"} if selection.compare else {})}))


def change(now, before):
    """A tile's change of a number."""
    if not before or now is None:
        return "no comparison"
    percent = (now / before - 1) * 100
    return "more" if percent >= 0.5 else "less" if percent <= -0.5 else "= as before"


class Grafana:
    """The queries of the dashboard over PostgreSQL."""

    def __init__(self, url):
        self.url = url
        self.board = json.loads((ROOT / "config/grafana/postgres.json").read_text())
        self.every = {}
        self.choices = {}
        for variable in self.board["templating"]["list"]:
            if variable["type"] == "query":
                self.every[variable["name"]] = variable["allValue"]
            elif variable["type"] == "custom":
                pairs = [pair.replace("\0", ",") for pair in variable["query"].replace("\\,", "\0").split(",")]
                self.choices[variable["name"]] = dict(pair.strip().split(" : ", 1) for pair in pairs)

    def text(self, title):
        panel = next(panel for panel in self.board["panels"] if panel["title"] == title)
        return panel["targets"][0]["rawSql"]

    def filled(self, title, naive, selection, **chosen):
        """The query as Grafana fills it in. Its time has both ends, in microseconds as the database's."""
        values = dict(self.every)
        wanted = {field: [value] for field, value in selection.filters.items() if field not in ("team", "outcome")}
        if "outcome" in selection.filters:
            wanted["outcome"] = selection.outcomes(naive)
        if "team" in selection.filters:
            members = [client for client, team in TEAMS.items() if team == selection.filters["team"]]
            wanted["client"] = [client for client in wanted.get("client", members) if client in members] or ["no client"]
        for field, chosen_values in wanted.items():
            values[field] = ",".join("'" + value.replace("'", "''") + "'" for value in chosen_values)
        last = (selection.until - datetime.timedelta(microseconds=1)).isoformat()
        text = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN '{selection.since.isoformat()}' AND '{last}'", self.text(title))
        text = re.sub(r"\$__timeGroupAlias\((\w+), \$__interval\)", r'floor(extract(epoch from \1)/3600)*3600 AS "time"', text)
        for name, value in {**values, **chosen}.items():
            text = re.sub(rf"\${name}\b", lambda _, value=value: value, text)
        if "$" in text:
            raise SystemExit(f"FAILED: a variable of {title!r} has no value: {text}")
        return text

    def ask(self, texts):
        """The rows of each query."""
        words = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", self.url]
        for text in texts:
            words += ["-c", f"SELECT coalesce(json_agg(row), '[]')::jsonb FROM ({text}) row"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST, check=False)
        if done.returncode:
            raise SystemExit(f"FAILED: psql: {done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]


class Mismatch(Exception):
    pass


def same(what, one, other):
    if one != other:
        raise Mismatch(f"{what}: {json.dumps(one, default=str)[:1500]}\n  is not {json.dumps(other, default=str)[:1500]}")


def counts(total):
    return {name: total[name] for name in COUNTS}


def check(selection, naive, local, fleet, grafana):
    """Raises `Mismatch` at the first difference."""
    (config, _, url), (_, _, fleet_url) = local, fleet
    report = command(config, "sqlite", selection, selection.by, selection.compare)
    same("usage over PostgreSQL", command(config, "postgres", selection, selection.by, selection.compare), report)
    before = report.pop("before", None)
    # A comparison also has groups of the time before alone.
    report["groups"] = [group for group in report["groups"] if group["requests"]]
    for group in report["groups"]:
        group.pop("before", None)
    same("/usage", endpoint(url, selection, selection.by), report)
    same("/usage of the fleet", endpoint(fleet_url, selection, selection.by), report)
    total, expected = report["total"], naive.total(selection)
    same("requests and tokens of the rows", counts(total), counts(expected))
    paid = {currency: amount for currency, amount in total["cost"].items() if amount is not None}
    same("cost of the rows", {**paid, "none": total["requests_without_price"]}, {**expected["cost"], "none": expected["requests_without_price"]})
    if before:
        times = {"since": before["since"], "until": before["until"]}
        same("the time before", endpoint(url, selection, [], times)["total"], before["total"])

    sums = endpoint(url, selection, [selection.tab])
    for place, page in (("the page", dashboard(url, selection)), ("the page of the fleet", dashboard(fleet_url, selection))):
        if not total["requests"]:
            same(f"{place} without requests", page.tiles, {})
            continue
        shown = {"requests": page.tiles["Requests"], "failed_requests": page.tiles["Error rate"], "input_tokens": page.tiles["Input tokens"]}
        same(f"{place}: tiles", {**shown, "output_tokens": page.tiles["Output tokens"]}, {name: total[name] for name in [*shown, "output_tokens"]})
        for currency, amount in total["cost"].items():
            same(f"{place}: cost", page.tiles.get(f"Cost, {currency}"), amount)
        if before:
            same(f"{place}: change", change(total["requests"], before["total"]["requests"]) in page.changed["Requests"], True)
        same(f"{place}: {selection.tab}", shown_rows(page, total), expected_rows(sums, selection.tab, total))

    measures = ["Tokens", "Input tokens", "Cached input tokens", "Output tokens", "Requests", "Failed requests"]
    parts = {"model": "Model", "client": "Client", "user": "User", "upstream": "Upstream", "endpoint": "Endpoint", "outcome": "Outcome"}
    field = selection.tab if selection.tab in parts else "model"
    part = parts[field]
    texts = [grafana.filled(title, naive, selection) for title in ("Requests", "Input tokens", "Output tokens", "Error rate")]
    texts.append(grafana.filled("Sums", naive, selection, rows=grafana.choices["rows"][part]))
    split = grafana.choices["split"][part]
    texts += [grafana.filled("Chart", naive, selection, measure=grafana.choices["measure"][name], split=split) for name in measures]
    requests, put, out, errors, rows, *charts = grafana.ask(texts)
    shown = [requests[0]["requests"] or 0, put[0]["input"], out[0]["output"]]
    same("Grafana's tiles", shown, [total[name] for name in ("requests", "input_tokens", "output_tokens")])
    if total["requests"]:
        same("Grafana's error rate", errors[0]["errors"], total["failed_requests"] / total["requests"])
    names = ["requests", "failed", "input", "cached", "output", "total"]
    found = {row["name"]: [row[name] for name in names] for row in rows}
    groups = sums["groups"] if field == selection.tab else endpoint(url, selection, [field])["groups"]
    same(f"Grafana's sums by {field}", found, {group[field] or "-": [group[name] for name in COUNTS] for group in groups})
    wanted = ["total_tokens", "input_tokens", "cached_input_tokens", "output_tokens", "requests", "failed_requests"]
    for name, chart, key in zip(measures, charts, wanted, strict=True):
        same(f"Grafana's chart of {name}", sum(row["value"] or 0 for row in chart), total[key] or 0)


def shown_rows(page, total):
    """The numbers of the table, by the names of its rows."""
    width = len(total["cost"]) + len(COUNTS)
    rows = {}
    for name, *cells in page.rows[1:]:
        if cells:
            numbers = [cell if isinstance(cell, float) else 0.0 if cell.strip() == "0" else None for cell in cells[:width]]
            rows[name.strip()] = numbers
    return rows


def expected_rows(sums, tab, total):
    def numbers(group):
        return [group["cost"].get(currency) for currency in total["cost"]] + [group[name] for name in COUNTS]

    return {"not named" if group[tab] is None else group[tab]: numbers(group) for group in sums["groups"]}


def run(arguments, folder, url):
    ledger = folder / "gateway-1.db"
    subprocess.run([FILL, str(ledger), str(ROWS), str(DAYS)], check=True, timeout=60)
    end = datetime.datetime.now(UTC).replace(microsecond=0)
    begin = end - datetime.timedelta(days=DAYS)
    listed = prices((end - datetime.timedelta(days=DAYS // 2)).date())
    naive = Naive(ledger, listed)
    upstreams = naive.values("upstream")
    local = configuration(ledger, url, listed, upstreams)
    fleet = configuration(folder / "gateway-2.db", url, listed, upstreams, 'ledger = "postgres"\n')
    subprocess.run([BIN, "ledger", "migrate", "--config", str(local[0])], check=True, capture_output=True, timeout=60)
    grafana = Grafana(url)
    with contextlib.ExitStack() as running:
        for config, port, _ in (local, fleet):
            running.enter_context(started("the proxy", [BIN, "serve", "--config", str(config)], port, config.with_suffix(".log")))
        until("all records are shipped", lambda: True if grafana.ask(["SELECT count(*) AS n FROM usage_records"])[0][0]["n"] == ROWS else None, 60)
        draw = random.Random(arguments.seed)
        selections = [Selection(draw, naive, begin, end) for _ in range(arguments.selections)]

        def compared(selection):
            try:
                check(selection, naive, local, fleet, grafana)
            except Mismatch as mismatch:
                return f"{selection}\n  {mismatch}"
            return None

        with ThreadPoolExecutor(2) as threads:
            wrong = [result for result in threads.map(compared, selections) if result]
        empty = sum(naive.total(selection)["requests"] == 0 for selection in selections)
    for text in wrong[:5]:
        print(f"FAILED  {text}")
    if empty * 2 > len(selections):
        wrong.append("most selections are empty")
    print(f"numbers: seed {arguments.seed}, {len(selections)} selections, {empty} of them empty: {f'{len(wrong)} FAILED' if wrong else 'all equal'}")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--selections", type=int, default=200)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="numbers-") as name:
        folder = pathlib.Path(name)
        with postgres(folder, "numbers", "-c", "fsync=off") as url:
            return run(arguments, folder, url)


if __name__ == "__main__":
    sys.exit(main())
