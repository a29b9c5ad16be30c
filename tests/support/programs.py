"""Starts the programs that checks need, waits until they listen, and reads the proxy's records.

Checks find it by `sys.path`: it is not a package, so that they run with any Python. STREAMGAUGE_BIN names the binary
(target/debug/streamgauge if unset). Programs listen on loopback addresses only.
"""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("STREAMGAUGE_BIN", str(ROOT / "target/debug/streamgauge"))

# The longest wait for a program to listen, for a record to be written, and for a program to stop, in seconds.
PATIENCE = 20


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, probe, patience=PATIENCE):
    """Calls `probe` until it returns something other than None."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if (result := probe()) is not None:
            return result
        time.sleep(0.02)
    raise SystemExit(f"FAILED: {what}: not within {patience} s")


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return None


@contextlib.contextmanager
def started(name, command, port, log=None, patience=PATIENCE, **options):
    """A program that listens on `port`, stopped in any case. `log` is the file of its output."""
    with open(log or os.devnull, "wb") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **options)

    def listens():
        if child.poll() is not None:
            raise SystemExit(f"FAILED: {name} ended with status {child.returncode}:\n{log.read_text() if log else ''}")
        return accepts(port)

    try:
        until(f"{name} listens", listens, patience)
        yield child
    finally:
        child.terminate()
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise SystemExit(f"FAILED: {name} did not stop within {PATIENCE} s of SIGTERM") from None


def simulator(port, *more):
    """The command of a simulated upstream."""
    return [BIN, "simulate", "--listen", f"127.0.0.1:{port}", "--workers", "1", *more]


def upstream(port, name="up", key='"none"', more=""):
    """The table of an upstream on this machine."""
    return (
        f'[upstreams.{name}]\nprovider = "other"\nurl = "http://127.0.0.1:{port}/v1"\ndefault_model = "m"\n'
        f"api_key = {key}\n{more}\n"
    )


class Proxy:
    """The program under test, configured in `folder`. `server` is more of its [server] table, `tables` are its upstreams."""

    def __init__(self, folder, tables, server="workers = 1\n"):
        self.folder, self.port, self.admin = folder, free_port(), free_port()
        self.file, self.log = folder / "records.jsonl", folder / "proxy.log"
        config = folder / "streamgauge.toml"
        config.write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\n{server}[admin]\nlisten = "127.0.0.1:{self.admin}"\n'
            f'[log]\nformat = "json"\n[ledger]\npath = ""\njsonl = {json.dumps(str(self.file))}\n{tables}'
        )
        self.command = [BIN, "serve", "--config", str(config)]
        self.url = f"http://127.0.0.1:{self.port}"

    def running(self):
        """Runs the proxy to the end of the block, after which all its records are written."""
        return started("the proxy", self.command, self.port, self.log)

    def records(self):
        """The records so far, without an incomplete line."""
        lines = self.file.read_text().splitlines(keepends=True) if self.file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]


@contextlib.contextmanager
def postgres(folder, password, *settings):
    """The URL of an empty database. Its server refuses to run as root. `settings` are options of the server."""
    programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    home, port = folder / "postgres", free_port()
    home.mkdir()
    (home / "password").write_text(password)
    as_other = []
    if os.getuid() == 0:
        as_other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        folder.chmod(0o755)
        for path in (home, home / "password"):
            shutil.chown(path, "postgres", "postgres")
    options = ["--no-sync", "--auth=scram-sha-256", "--username=gauge", f"--pwfile={home}/password", "--pgdata", str(home / "data")]
    subprocess.run([*as_other, str(programs / "initdb"), *options], check=True, capture_output=True, cwd=home)
    server = [str(programs / "postgres"), "-D", str(home / "data"), "-h", "127.0.0.1", "-p", str(port), "-k", str(home), *settings]
    with started("PostgreSQL", [*as_other, *server], port, cwd=home):
        yield f"postgres://gauge:{password}@127.0.0.1:{port}/postgres?sslmode=disable"
