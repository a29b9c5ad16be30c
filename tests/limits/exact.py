#!/usr/bin/env python3
"""Mixed requests under limits of every kind; afterwards each limit has counted what the ledger has.

The requests are whole responses and streams, by two clients of one team and one without: read to their end, left by the client at once or
in mid-stream, drained or cancelled, cut or reset by the upstream, refused by it, thrown away by a group, refused by a limit. The proxy is
then killed (SIGKILL) in the middle of more of them, and started again on its ledger. Both times, once no request runs:

* The count of each limit of a period (`streamgauge_limit_used_ratio`) is the sum of the ledger's requests, tokens or costs, as
  `streamgauge usage --attempts` adds them.
* Limits of running requests hold nothing.

--requests is the number of requests before the kill. STREAMGAUGE_BIN names the binary (target/debug/streamgauge if unset).
"""

import argparse
import asyncio
import collections
import contextlib
import decimal
import json
import math
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from programs import BIN, accepts, free_port, simulator, started, until, upstream  # noqa: E402

# So large that no request is refused, and a power of two, so that a ratio times it is exact.
ROOM = 1 << 39

# In USD, so large that no request is refused.
BUDGET = 1 << 20

TABLES = f"""
[[prices]]
model = "*"
input = 3.25
cached_input = 0.5
output = 11


[clients.alice]
key = {{ value = "alice-0123456789abcdef" }}
team = "readers"
limits = [{{ requests = {ROOM}, per = "day" }}, {{ tokens = {ROOM}, per = "day" }}, {{ tokens = {ROOM}, per = "minute" }}, {{ concurrent = 10000 }},
          {{ cost = {BUDGET}, per = "month" }}]

[clients.bob]
key = {{ value = "bob-0123456789abcdef" }}
team = "readers"
limits = [{{ tokens = {ROOM}, per = "week" }}, {{ tokens = 4000, per = "second" }}, {{ requests = 200, per = "second" }}]

[clients.carol]
key = {{ value = "carol-0123456789abcdef" }}
limits = [{{ tokens = {ROOM}, per = "day" }}, {{ requests = {ROOM}, per = "week" }}, {{ concurrent = 6 }}]

[teams.readers]
limits = [{{ tokens = {ROOM}, per = "week" }}, {{ requests = {ROOM}, per = "month" }}, {{ concurrent = 10000 }}]

[groups.chat]
tiers = [[{{ upstream = "broken", model = "sim:status=503" }}], ["plain"]]

[groups.chat.retry]
on = ["retryable", "doubtful"]
budget = 10

[[routes]]
model = "grouped*"
upstream = "chat"

[[routes]]
upstream = "plain"
"""

# The model, the events after which the client leaves, and more headers. Weights are how often a kind comes.
KINDS = [
    (20, "sim:events=3", None, {}),
    (20, "sim:events=3", -1, {}),
    (6, "sim:events=40,pace=1ms", 2, {}),
    (6, "sim:events=40,pace=1ms", 2, {"x-streamgauge-on-disconnect": "drain"}),
    (4, "sim:events=5,delay=5ms..20ms", 0, {}),
    (4, "sim:events=9,fault=cut@4", -1, {}),
    (4, "sim:events=9,fault=reset@4", -1, {}),
    (4, "sim:events=9,fault=cut@100", None, {}),
    (4, "sim:events=9,fault=cut", None, {}),
    (4, "sim:events=9,fault=garbage", None, {}),
    (4, "sim:events=9,fault=error@4", -1, {}),
    (4, "sim:status=400", None, {}),
    (4, "sim:status=500", -1, {}),
    (4, "sim:events=3,usage=every", -1, {}),
    (4, "sim:events=6,reasoning=20,cached=1", -1, {}),
    (6, "grouped", -1, {}),
    (6, "grouped", None, {}),
]

# The limits of periods that nothing exceeds: what they count, and whose.
PERIODS = {
    ("clients.alice", 0): ("requests", ["alice"]),
    ("clients.alice", 1): ("tokens", ["alice"]),
    ("clients.alice", 4): ("cost", ["alice"]),
    ("clients.bob", 0): ("tokens", ["bob"]),
    ("clients.carol", 0): ("tokens", ["carol"]),
    ("clients.carol", 1): ("requests", ["carol"]),
    ("teams.readers", 0): ("tokens", ["alice", "bob"]),
    ("teams.readers", 1): ("requests", ["alice", "bob"]),
}

# The limits of running requests.
CONCURRENT = [("clients.alice", 3), ("clients.carol", 2), ("teams.readers", 2)]

# The requests that run at once.
RUNNING = 48

CLIENTS = ("alice", "bob", "carol")


class Gone(Exception):
    """The proxy was killed."""


async def ask(port, rng, statuses):
    """One request on a connection of its own, which the client leaves after some events."""
    [(_, model, leaves, headers)] = rng.choices(KINDS, [kind[0] for kind in KINDS])
    body = {"model": model, "messages": [{"role": "user", "content": "word " * rng.randint(1, 30)}]}
    if leaves is not None:
        body["stream"] = True
    if rng.random() < 0.3:
        body["max_tokens"] = rng.randint(1, 3000)
    data = json.dumps(body).encode()
    client = rng.choice(CLIENTS)
    lines = [f"authorization: Bearer {client}-0123456789abcdef", "host: localhost", "content-type: application/json", "connection: close",
             f"content-length: {len(data)}", *(f"{name}: {value}" for name, value in headers.items())]
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(("POST /v1/chat/completions HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode() + data)
        if leaves == 0:
            await asyncio.sleep(rng.random() / 100)
            statuses["left"] += 1
            return
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status == 200 and leaves is not None and leaves > 0:
            for _ in range(leaves):
                await reader.readuntil(b"data: ")
            statuses["left"] += 1
            return
        await reader.read()
        statuses[status] += 1
    except (OSError, asyncio.IncompleteReadError) as error:
        raise Gone from error
    finally:
        if writer:
            writer.close()


async def load(port, rng, count, kill=None):
    """Sends `count` requests; with `kill`, half of them before it. Returns how often each status came."""
    statuses, left = collections.Counter(), count

    async def worker():
        nonlocal left
        while left > 0:
            left -= 1
            if kill and left == count // 2:
                kill()
            try:
                await ask(port, rng, statuses)
            except Gone:
                if not kill:
                    raise
                return

    await asyncio.gather(*(worker() for _ in range(RUNNING)))
    return statuses


def used(admin):
    """How much of each limit is used or held, by the owner's table and the place in it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=20) as response:
        text = response.read().decode()
    ratios = re.findall(r'^streamgauge_limit_used_ratio{whose="(.+?)",limit="limits\[(\d+)\]"} (\S+)$', text, re.MULTILINE)
    return {(whose, int(place)): float(ratio) for whose, place, ratio in ratios}


def at_rest(admin):
    """The same, once no limit of running requests holds anything."""

    def probe():
        ratios = used(admin)
        return ratios if all(ratios[limit] == 0 for limit in CONCURRENT) else None

    return until("the limits of running requests hold nothing", probe)


def sums(config):
    """The ledger's requests that were not refused, and its tokens with those of thrown-away attempts, by client."""
    command = [BIN, "usage", "--config", str(config), "--attempts", "--by", "client,outcome", "--since", "this month", "--format", "json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    found = {"requests": collections.Counter(), "tokens": collections.Counter(), "cost": collections.defaultdict(decimal.Decimal)}
    for row in json.loads(done.stdout, parse_float=decimal.Decimal)["groups"]:
        found["requests"][row["client"]] += row["requests"] if row["outcome"] != "rejected" else 0
        found["tokens"][row["client"]] += (row["input_tokens"] or 0) + (row["output_tokens"] or 0)
        found["cost"][row["client"]] += decimal.Decimal(row["cost"].get("USD") or 0)
    return found


def compare(ratios, found, when):
    """The limits of periods that have counted something else than the ledger."""
    mistakes = []
    for (whose, place), (unit, clients) in PERIODS.items():
        room, recorded = BUDGET if unit == "cost" else ROOM, sum(found[unit][client] for client in clients)
        counted = ratios[whose, place] * room
        # A ratio has 53 bits, which are enough for whole numbers.
        is_right = math.isclose(counted, recorded, rel_tol=1e-12)
        print(f"{'ok    ' if is_right else 'FAILED'} {when}: {whose}.limits[{place}]: {unit}: {counted:g} counted, {recorded} recorded")
        mistakes += [] if is_right else [whose]
    return mistakes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as programs:
        folder = pathlib.Path(folder)
        plain, broken, port, admin = (free_port() for _ in range(4))
        config, log, key = folder / "streamgauge.toml", folder / "log", '{ value = "none" }'
        config.write_text(
            f'[server]\nlisten = "127.0.0.1:{port}"\n[admin]\nlisten = "127.0.0.1:{admin}"\n[ledger]\npath = "ledger.db"\n'
            + upstream(plain, "plain", key) + upstream(broken, "broken", key) + TABLES
        )
        command = [BIN, "serve", "--config", str(config)]
        for name, listener in (("plain", plain), ("broken", broken)):
            programs.enter_context(started(name, simulator(listener), listener))
        with started("the proxy", command, port, log):
            print("statuses:", dict(asyncio.run(load(port, rng, options.requests))))
            ratios = at_rest(admin)
        mistakes = compare(ratios, sums(config), "at rest")
        killed = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("the proxy listens", lambda: accepts(port))
        asyncio.run(load(port, rng, options.requests // 2, killed.kill))
        killed.wait()
        with started("the proxy", command, port, log):
            mistakes += compare(used(admin), sums(config), "after SIGKILL")
            asyncio.run(load(port, rng, options.requests // 2))
            ratios = at_rest(admin)
        mistakes += compare(ratios, sums(config), "at rest again")
    print(f"exact limits: {len(mistakes)} failed")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
