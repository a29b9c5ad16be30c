#!/usr/bin/env python3
"""Three proxies share their limits through one Redis, which is killed, emptied, frozen and failed over while requests run.

Requests go to all three at random until the limit of --requests a day is used up. Each time, once no request runs:

* Redis has the sums of all ledgers again in less than two seconds: requests and tokens, of living proxies and of one that has lost its
  ledger. The same where Redis is emptied, killed and frozen while no request runs, counted from its return.
* Never more requests were admitted than the limit allows; when it is used up at the end, exactly as many.
* Where all proxies lose Redis for good, and use up the rest alone: no more than the limit, and what was granted in the two seconds before.
* No request has waited for Redis longer than 50 ms: --slack is what the machine may add. Where each request lacks a grant when Redis
  is frozen, the slowest takes at most 50 ms, and what the machine adds, longer than the slowest of those that do not wait.

--requests is the limit. STREAMGAUGE_BIN names the binary (target/debug/streamgauge if unset).
"""

import argparse
import asyncio
import collections
import contextlib
import json
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from programs import BIN, accepts, free_port, simulator, started, until, upstream  # noqa: E402

KEY = "alice-0123456789abcdef"

# The requests that run at once.
RUNNING = 24

# The freezes, and the requests at once in each; and what timers and threads add in the best of them, in seconds.
FREEZES, AT_ONCE, TIMER = 6, 8, 0.005

# The longest wait for Redis, in seconds, and the time within which the sums are back. The time for which they are looked at.
WAIT, BACK, LOOKED = 0.05, 2.0, 2.5


def tables(url, more, limit):
    return (
        f'[redis]\nurl = {{ value = "{url}" }}\n{more}\n[clients.alice]\nkey = {{ value = "{KEY}" }}\n'
        f'limits = [{{ requests = {limit}, per = "day" }}, {{ tokens = {1 << 39}, per = "day" }}, {{ tokens = {1 << 39}, per = "minute" }}, '
        "{ concurrent = 1000 }]\n"
    )


class Redis:
    """A server, or a sentinel, without anything on disk."""

    def __init__(self, folder, lines="", program="redis-server"):
        self.port, self.program, self.folder = free_port(), program, folder / f"{program}-{free_port()}"
        self.folder.mkdir()
        self.config = self.folder / "redis.conf"
        keep = "" if program == "redis-sentinel" else 'save ""\nappendonly no\n'
        self.config.write_text(f"bind 127.0.0.1\nport {self.port}\ndir {self.folder}\n{keep}{lines}\n")
        self.start()

    def start(self):
        self.child = subprocess.Popen([self.program, str(self.config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until(f"{self.program} listens", lambda: accepts(self.port))

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def ask(self, *command):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *command], check=True, capture_output=True, text=True, timeout=10)
        return done.stdout

    def fields(self, unit):
        """The fields of the limit of a day."""
        [key] = [key for key in self.ask("KEYS", f"*:{unit}:day:*").splitlines() if key] or [None]
        fields = self.ask("HGETALL", key).splitlines() if key else []
        return list(zip(fields[::2], fields[1::2], strict=True))

    def spent(self):
        """What all instances have reported: requests, and thousandths of tokens."""
        return {unit: sum(int(value) for name, value in self.fields(unit) if name.startswith("s:")) for unit in ("requests", "tokens")}

    def granted(self):
        """The requests that all instances have spent or may spend."""
        return sum(int(value.split()[0]) for name, value in self.fields("requests") if name[:2] in ("s:", "g:"))


class Load:
    """Requests to all proxies at random."""

    def __init__(self, ports, options):
        self.ports, self.random = ports, random.Random(options.seed)
        # Disturbances take some 15 seconds in all, in which a half of the limit may be used.
        self.pause = RUNNING * 30 / options.requests
        self.statuses, self.times = collections.Counter(), []

    @property
    def admitted(self):
        return self.statuses[200]

    async def one(self):
        body = {"model": "sim:events=2", "stream": self.random.random() < 0.5, "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
        data = json.dumps(body).encode()
        port = self.random.choice(self.ports)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {KEY}\r\nhost: localhost\r\nconnection: close\r\n"
        begun, writer = time.monotonic(), None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
            status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
            self.times.append(time.monotonic() - begun)
            await reader.read()
            self.statuses[status] += 1
        finally:
            if writer:
                writer.close()

    async def run(self, count, meanwhile=None):
        """Sends `count` requests, and further ones until `meanwhile` is over, which begins in their middle."""
        sent, running = 0, None

        async def worker():
            nonlocal sent, running
            while sent < count or (running and not running.done()):
                sent += 1
                if meanwhile and sent == count // 2:
                    running = asyncio.ensure_future(meanwhile())
                if meanwhile:
                    await asyncio.sleep(2 * self.pause * self.random.random())
                await self.one()

        self.times = []
        await asyncio.gather(*(worker() for _ in range(RUNNING)))
        if running:
            await running


class Fleet:
    """Three proxies with ledgers of their own."""

    def __init__(self, folder, programs, url, more, limit, up):
        self.folder, self.programs, self.limit, self.mistakes = folder, programs, limit, []
        # What a loss of Redis may add to the limit.
        self.over = 0
        self.ports, self.children, self.configs, self.lost = [], [], [], []
        for number in range(3):
            home = folder / f"proxy-{number}"
            home.mkdir(parents=True)
            port, config = free_port(), home / "streamgauge.toml"
            config.write_text(
                f'[server]\nlisten = "127.0.0.1:{port}"\nworkers = 1\n[admin]\nlisten = ""\n[ledger]\npath = "{home / "ledger.db"}"\n'
                + upstream(up, "plain", '{ value = "none" }')
                + tables(url, more, limit)
            )
            self.ports.append(port)
            self.configs.append(config)
            self.children.append(None)
            self.start(number)

    def start(self, number):
        command, log = [BIN, "serve", "--config", str(self.configs[number])], self.folder / f"log-{number}"
        with open(log, "ab") as output:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.programs.callback(child.kill)
        self.children[number] = child
        until("the proxy listens", lambda: accepts(self.ports[number]))

    def stop(self, number):
        self.children[number].terminate()
        self.children[number].wait(20)

    def recorded(self):
        """The requests and thousandths of tokens of all ledgers."""
        sums = collections.Counter()
        for ledger in [config.parent / "ledger.db" for config in self.configs] + self.lost:
            command = [BIN, "usage", "--ledger", str(ledger), "--attempts", "--by", "outcome", "--since", "today", "--format", "json"]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
            for row in json.loads(done.stdout)["groups"]:
                sums["requests"] += row["requests"] if row["outcome"] != "rejected" else 0
                sums["tokens"] += 1000 * ((row["input_tokens"] or 0) + (row["output_tokens"] or 0))
        return dict(sums)

    def check(self, what, is_right, text):
        print(f"{'ok    ' if is_right else 'FAILED'} {what}: {text}", flush=True)
        self.mistakes += [] if is_right else [what]

    def check_sums(self, when, redis):
        """The sums of Redis are those of the ledgers in less than two seconds from now on."""
        begun, looks = time.monotonic(), []
        while time.monotonic() - begun < LOOKED:
            looked = time.monotonic() - begun
            with contextlib.suppress(subprocess.SubprocessError, ValueError):
                sums = redis.spent()
                looks.append((time.monotonic() - begun, sums))
            time.sleep(max(0.0, 0.02 - (time.monotonic() - begun - looked)))
        recorded = self.recorded()
        self.check(f"{when}: the sums are those of the ledgers", looks and looks[-1][1] == recorded, f"{looks[-1:]}; the ledgers have {recorded}")
        wrong = [looked for looked, sums in looks if sums != recorded]
        right = min((looked for looked, _ in looks if looked > max(wrong, default=-1.0)), default=LOOKED)
        self.check(f"{when}: in time", right < BACK, f"{right:.2f} s")

    def check_at_rest(self, when, redis, load, slack):
        """The sums of Redis are those of the ledgers, and all admitted requests within the limit."""
        self.check_sums(when, redis)
        self.check(f"{when}: not over the limit", load.admitted <= self.limit + self.over, f"{load.admitted} of {self.limit} + {self.over} admitted")
        longest, half = max(load.times), statistics.median(load.times)
        text = f"median {half * 1e3:.1f} ms, longest {longest * 1e3:.1f} ms of {len(load.times)} requests"
        self.check(f"{when}: no request waits for Redis", longest < WAIT + slack, text)


async def disturbed(fleet, redis, load, options):
    """One server that is killed, emptied and frozen; and a proxy that loses its ledger."""
    part = options.requests // 16
    await load.run(part)
    fleet.check_at_rest("undisturbed", redis, load, options.slack)

    async def killed():
        redis.kill()
        await asyncio.sleep(1.5)
        redis.start()
        await asyncio.sleep(1.5)

    async def emptied():
        redis.ask("FLUSHALL")
        await asyncio.sleep(1)

    async def frozen():
        redis.signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        redis.signal(signal.SIGCONT)
        await asyncio.sleep(1.5)

    for name, meanwhile in (("killed and back empty", killed), ("emptied", emptied), ("frozen", frozen)):
        await load.run(part, meanwhile)
        fleet.check_at_rest(name, redis, load, options.slack)
    back_at_rest(fleet, redis)
    fleet.stop(2)
    ledger = fleet.configs[2].parent / "ledger.db"
    lost = fleet.folder / "lost.db"
    for suffix in ("", "-wal", "-shm"):
        if (path := ledger.with_name(ledger.name + suffix)).exists():
            shutil.move(path, lost.with_name(lost.name + suffix))
    fleet.lost.append(lost)
    fleet.start(2)
    fleet.stop(1)
    fleet.start(1)
    await load.run(part)
    fleet.check_at_rest("after restarts, one with an empty ledger", redis, load, options.slack)
    await use_up(fleet, redis, load, options)


def back_at_rest(fleet, redis):
    """Redis loses its state, or is away, while no request runs. The sums are back in time after its return."""
    for _ in range(3):
        redis.ask("FLUSHALL")
        fleet.check_sums("emptied at rest", redis)
    for away in (0.3, 1.7, 4.1):
        redis.kill()
        time.sleep(away)
        redis.start()
        fleet.check_sums(f"killed at rest for {away} s", redis)
    for away in (1.3, 4.7, 9.1):
        redis.signal(signal.SIGSTOP)
        time.sleep(away)
        # It comes back without what it had.
        redis.signal(signal.SIGCONT)
        redis.ask("FLUSHALL")
        fleet.check_sums(f"frozen and emptied at rest for {away} s", redis)


async def failed_over(fleet, primary, replica, load, options):
    """A primary that is killed, and its replica that takes its place."""
    part = options.requests // 16
    await load.run(part)

    async def failover():
        primary.kill()
        while not replica.ask("ROLE").startswith("master"):
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)

    await load.run(part, failover)
    fleet.check_at_rest("failed over", replica, load, options.slack)
    await use_up(fleet, replica, load, options)


async def lost(fleet, redis, load, options):
    """A server that all lose at once. They use up what is left without it, each its part."""
    await load.run(options.requests // 16)

    async def killed():
        # In this time each has had a reply.
        begun, earlier = time.monotonic(), [redis.granted()]
        while time.monotonic() - begun < 2.5:
            await asyncio.sleep(0.1)
            earlier.append(redis.granted())
        redis.kill()
        fleet.over = earlier[-1] - min(earlier)

    await load.run(options.requests // 16, killed)
    before = None
    while before != load.admitted:
        before = load.admitted
        await load.run(200)
    redis.start()
    await asyncio.sleep(1.5)
    fleet.check_at_rest("used up alone", redis, load, options.slack)
    fleet.check("most of what is left is used alone", load.admitted > 0.9 * fleet.limit, f"{load.admitted} of {fleet.limit}")


class Lines:
    """Connections over which each of many clients, whose limits grant nothing in advance, sends one request."""

    def __init__(self, folder, programs, redis, up, count):
        self.port, self.metrics, home = free_port(), free_port(), folder / "lines"
        home.mkdir()
        self.keys = [f"client-{number:04}-0123456789abcdef" for number in range(count)]
        clients = (
            f'[clients.c{number}]\nkey = {{ value = "{key}" }}\nlimits = [{{ requests = 3, per = "day" }}]\n'
            for number, key in enumerate(self.keys)
        )
        config = home / "streamgauge.toml"
        config.write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\nworkers = 1\n[admin]\nlisten = "127.0.0.1:{self.metrics}"\n'
            f'[ledger]\npath = "{home / "ledger.db"}"\n[redis]\nurl = {{ value = "redis://127.0.0.1:{redis.port}" }}\n'
            + upstream(up, "plain", '{ value = "none" }')
            + "".join(clients)
        )
        with open(folder / "log-lines", "ab") as output:
            child = subprocess.Popen([BIN, "serve", "--config", str(config)], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        programs.callback(lambda: (child.kill(), child.wait()))
        until("the proxy listens", lambda: accepts(self.port))

    def metric(self, name):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=10).read().decode()
        return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)

    async def send(self, count, before=lambda: None):
        """The statuses of `count` requests that are sent at once, and their times in seconds."""
        lines = [await asyncio.open_connection("127.0.0.1", self.port) for _ in range(count)]
        before()
        body = json.dumps({"model": "sim:events=2", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]})

        async def one(reader, writer, key):
            head = f"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {key}\r\nhost: localhost\r\nconnection: close\r\n"
            begun = time.monotonic()
            writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
            status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
            taken = time.monotonic() - begun
            writer.close()
            return status, taken

        done = await asyncio.gather(*(one(*line, self.keys.pop()) for line in lines))
        return {status for status, _ in done}, sorted(taken for _, taken in done)


async def added_time(lines, redis, check, slack):
    """Requests that each need a reply of Redis, which is frozen when they are sent."""
    until("all limits are known", lambda: lines.metric("streamgauge_redis_grants_total") >= len(lines.keys) or None)
    rounds = []
    for _ in range(FREEZES):
        until("Redis responds", lambda: lines.metric("streamgauge_redis_connected") == 1 or None)
        usual, normal = await lines.send(AT_ONCE)
        statuses, frozen = await lines.send(AT_ONCE, lambda: redis.signal(signal.SIGSTOP))
        until("Redis is away", lambda: lines.metric("streamgauge_redis_connected") == 0 or None)
        later, away = await lines.send(AT_ONCE)
        redis.signal(signal.SIGCONT)
        rounds.append((frozen[-1] - away[-1], frozen, normal, away, usual | statuses | later))

    def text(times):
        return f"{statistics.median(times) * 1e3:.1f}/{times[-1] * 1e3:.1f}"

    for _, frozen, normal, away, _ in rounds:
        print(f"       ms, median/longest of {AT_ONCE}: frozen {text(frozen)}, responding {text(normal)}, away {text(away)}")
    check("frozen: all are admitted", all(statuses == {200} for *_, statuses in rounds), f"{[sorted(statuses) for *_, statuses in rounds]}")
    least = min(added for added, *_ in rounds)
    check("frozen: the slowest request takes at most 50 ms more than one that does not wait", least <= WAIT + TIMER, f"{least * 1e3:.1f} ms more")
    longest = max(frozen[-1] for _, frozen, *_ in rounds)
    check("frozen: none takes longer by what the machine adds", longest < WAIT + slack, f"{longest * 1e3:.1f} ms")
    waited = max(statistics.median(frozen) for _, frozen, *_ in rounds)
    check("frozen: requests have waited", waited > WAIT / 2, f"median {waited * 1e3:.1f} ms")
    quick = min(statistics.median(away) for *_, away, _ in rounds)
    check("away: requests do not wait", quick < WAIT / 2, f"median {quick * 1e3:.1f} ms")


async def use_up(fleet, redis, load, options):
    """Sends requests until none is admitted for three seconds."""
    last = time.monotonic()
    while time.monotonic() - last < 3:
        before = load.admitted
        await load.run(200)
        last = time.monotonic() if load.admitted > before else last
    fleet.check_at_rest("used up", redis, load, options.slack)
    fleet.check("the limit is used up exactly", load.admitted == fleet.limit, f"{load.admitted} of {fleet.limit}: {dict(load.statuses)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--slack", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    mistakes = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as programs:
        folder, up = pathlib.Path(folder), free_port()
        programs.enter_context(started("the upstream", simulator(up), up))
        redis = Redis(folder)
        programs.callback(lambda: redis.kill())
        fleet = Fleet(folder / "one", programs, f"redis://127.0.0.1:{redis.port}", "", options.requests, up)
        asyncio.run(disturbed(fleet, redis, Load(fleet.ports, options), options))
        for number in range(3):
            fleet.stop(number)
        lines = Lines(folder, programs, redis, up, 3 * FREEZES * AT_ONCE + 600)
        asyncio.run(added_time(lines, redis, fleet.check, options.slack))
        mistakes += fleet.mistakes
        redis.kill()

        redis = Redis(folder)
        fleet = Fleet(folder / "alone", programs, f"redis://127.0.0.1:{redis.port}", "", options.requests // 2, up)
        asyncio.run(lost(fleet, redis, Load(fleet.ports, options), options))
        mistakes += fleet.mistakes
        for number in range(3):
            fleet.stop(number)

        primary = Redis(folder)
        replica = Redis(folder, f"replicaof 127.0.0.1 {primary.port}")
        watched = f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\nsentinel down-after-milliseconds mymaster 500\n"
        sentinel = Redis(folder, watched + "sentinel failover-timeout mymaster 2000", "redis-sentinel")
        for server in (primary, replica, sentinel):
            programs.callback(server.kill)
        until("the sentinel knows the replica", lambda: str(replica.port) in sentinel.ask("SENTINEL", "REPLICAS", "mymaster") or None)
        url = f"redis://127.0.0.1:{sentinel.port}"
        fleet = Fleet(folder / "two", programs, url, 'sentinel = "mymaster"', options.requests // 2, up)
        asyncio.run(failed_over(fleet, primary, replica, Load(fleet.ports, options), options))
        mistakes += fleet.mistakes
    print(f"shared limits: {len(mistakes)} failed")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
