#!/usr/bin/env python3
"""Measures what the parts bear that instances share: the ledger's file, PostgreSQL and Redis.

A ledger is filled with records of a typical company's week (tests/dashboard/fill.rs). Then the proxy, without requests, ships all
of them to a new PostgreSQL of the system, with its usual settings. At last clients with limits in a new Redis send requests.

    cargo build --example fill-ledger
    tests/soak/shared.py                 # 100,000 records
    tests/soak/shared.py 1000000

STREAMGAUGE_BIN names the binary, which should be a release build (target/release/streamgauge if unset). Exit status 1 if a record
is missing in PostgreSQL.
"""

import http.client
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ.setdefault("STREAMGAUGE_BIN", str(ROOT / "target/release/streamgauge"))
sys.path.insert(0, str(HERE.parent / "support"))
from programs import BIN, free_port, postgres, simulator, started, upstream  # noqa: E402

FILL = ROOT / "target/debug/examples/fill-ledger"
DAYS = 7
PASSWORD = "a-password-of-the-soak"

# The clients with limits in Redis, the limits of each, the time between two requests of one and that of a measurement, in seconds.
CLIENTS = 10
LIMITS = '[{ requests = "10M", per = "day" }, { tokens = "900M", per = "minute" }]'
PAUSE, MEASURED = 0.02, 10

# The longest time without a new row, in seconds.
PATIENCE = 30


def main():
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as at:
        folder = pathlib.Path(at)
        ledger = folder / "usage.db"
        subprocess.run([FILL, ledger, str(records), str(DAYS)], check=True)
        kept = sum(file.stat().st_size for file in folder.glob("usage.db*"))
        print(f"SQLite: {kept / records:.0f} bytes a record", flush=True)
        with postgres(folder, PASSWORD) as url:
            failed = ship(folder, ledger, records, url)
        limit(folder)
        return failed


def ship(folder, ledger, records, url):
    psql = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]

    def ask(query):
        done = subprocess.run([psql, url, "-Atc", query], capture_output=True, text=True)
        return int(done.stdout or 0) if done.returncode == 0 else 0

    port = free_port()
    config = folder / "streamgauge.toml"
    config.write_text(
        f'[server]\nlisten = "127.0.0.1:{port}"\nworkers = 1\n[admin]\nlisten = ""\n[ledger]\npath = "{ledger}"\n'
        f'[ledger.postgres]\nurl = {{ value = "{url}" }}\n'
        f'[upstreams.up]\nprovider = "other"\nurl = "http://127.0.0.1:1/v1"\napi_key = "none"\ndefault_model = "m"\n'
    )
    subprocess.run([BIN, "ledger", "migrate", "--config", str(config)], check=True, capture_output=True)
    began = time.monotonic()
    with started("the proxy", [BIN, "serve", "--config", str(config)], port, folder / "proxy.log") as proxy:
        rows, changed = 0, began
        while rows < records:
            time.sleep(0.1)
            found, now = ask("SELECT count(*) FROM usage_records"), time.monotonic()
            if found != rows:
                rows, changed = found, now
            elif now - changed > PATIENCE:
                print(f"FAILED: PostgreSQL has {rows} of {records} records")
                return 1
        seconds = changed - began
        ticks = pathlib.Path(f"/proc/{proxy.pid}/stat").read_text().rsplit(") ", 1)[1].split()[11:13]
        cpu = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    size = ask("SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('usage_records')")
    print(f"PostgreSQL: {records / seconds:.0f} rows a second, {size / records:.0f} bytes a row with its indexes")
    print(f"CPU of the proxy: {cpu / records * 1e6:.1f} µs a row")
    return 0


def limit(folder):
    """Prints the load of Redis by one instance, without requests and with some."""
    redis, up, port = free_port(), free_port(), free_port()
    key = "sg-0123456789abcdef-{}".format
    clients = "".join(f'[clients.c{n}]\nkey = {{ value = "{key(n)}" }}\nlimits = {LIMITS}\n' for n in range(CLIENTS))
    config = folder / "limited.toml"
    config.write_text(
        f'[server]\nlisten = "127.0.0.1:{port}"\nworkers = 1\n[admin]\nlisten = ""\n[ledger]\npath = "{folder}/limited.db"\n'
        f'[redis]\nurl = {{ value = "redis://127.0.0.1:{redis}" }}\n{clients}{upstream(up)}'
    )

    def send(number, over, done):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        headers = {"content-type": "application/json", "authorization": f"Bearer {key(number)}"}
        while not over.wait(PAUSE):
            connection.request("POST", "/v1/chat/completions", '{"model":"sim:events=2","messages":[]}', headers)
            response = connection.getresponse()
            response.read()
            done.append(response.status == 200)

    def load():
        info = subprocess.run(["redis-cli", "-p", str(redis), "info", "all"], capture_output=True, text=True, check=True).stdout
        return [float(re.search(rf"{name}:([\d.]+)", info)[1]) for name in ("total_commands_processed", "used_cpu_user", "used_cpu_sys")]

    server = ["redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with started("Redis", server, redis), started("the simulator", simulator(up), up):
        with started("the proxy", [BIN, "serve", "--config", str(config)], port, folder / "limited.log"):
            for active in (0, CLIENTS):
                over, done = threading.Event(), []
                senders = [threading.Thread(target=send, args=(number, over, done)) for number in range(active)]
                for sender in senders:
                    sender.start()
                time.sleep(2)
                before, sent = load(), len(done)
                time.sleep(MEASURED)
                commands, user, system = (now - then for now, then in zip(load(), before))
                rate = (len(done) - sent) / MEASURED
                over.set()
                for sender in senders:
                    sender.join()
                cpu = (user + system) / MEASURED
                print(f"Redis: {rate:.0f} requests/s, {commands / MEASURED:.0f} commands/s, {100 * cpu:.2f} % of a core")


if __name__ == "__main__":
    sys.exit(main())
