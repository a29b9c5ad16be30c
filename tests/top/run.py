#!/usr/bin/env python3
"""Checks `streamgauge top` on a pseudo terminal, whose screen pyte emulates, before a proxy with streams of the simulator.

STREAMGAUGE_BIN names the binary (target/debug/streamgauge if unset). Needs tests/top/requirements.txt.
"""

import contextlib
import errno
import fcntl
import http.client
import json
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

import pyte
import wcwidth

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
from programs import BIN, PATIENCE, Proxy, free_port, simulator, started, until, upstream  # noqa: E402

TOKEN, READ_TOKEN = "the-token-that-may-change", "the-token-that-only-reads"
SEARCH = "the-key-of-search"

# Users whose names control terminals, turn their lines around, are wide, or combine.
ODD = [
    "\x1b[2J\x1b]0;title\x07\x1b[31mred",
    "a\u202edessik\u2066b",
    "通义千问-max-通义千问-max",
    "🦀e\u0301\u0301\u0301",
    "a\r\nb\tc\x9b5Ad",
]

TABLES = f"""
[clients.search]
key = {{ value = "{SEARCH}" }}
limits = [{{ requests = 20, per = "day" }}, {{ tokens = 1000000, per = "month" }}]
[groups.chat]
tiers = [["alpha"], ["beta"]]
[[routes]]
upstream = "chat"
[[prices]]
model = "*"
input = 1
output = 2
"""

failures = 0


def check(name, condition, reason=""):
    global failures
    failures += not condition
    print(f"{'ok      ' if condition else 'FAILED  '}{name}{'' if condition else f': {reason}'}", flush=True)


class Terminal:
    """A terminal with a program in it, whose controlling terminal it is."""

    def __init__(self, words, columns=80, lines=24, env=None, program=BIN):
        self.master, slave = pty.openpty()
        self.slave = os.dup(slave)
        self.screen, self.raw = pyte.Screen(columns, lines), b""
        self.stream = pyte.ByteStream(self.screen)
        self.size(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        env = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        take = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # noqa: E731
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        self.child = subprocess.Popen([program, *words], **streams, env=env, start_new_session=True, preexec_fn=take)
        os.close(slave)

    def size(self, columns, lines):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def read(self, patience=0.05):
        """Takes what the program has written."""
        while select.select([self.master], [], [], patience)[0]:
            try:
                data = os.read(self.master, 1 << 16)
            except OSError as error:
                if error.errno == errno.EIO:
                    return
                raise
            self.raw += data
            self.stream.feed(data)

    def type(self, keys):
        os.write(self.master, keys)

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display)

    def columns(self, text):
        """The columns at which a line has this text. A wide character takes two."""
        cells = [[self.screen.buffer[line][column].data for column in range(self.screen.columns)] for line in range(self.screen.lines)]
        return {column for line in cells for column in range(len(line)) if "".join(line[column:]).startswith(text)}

    def shows(self, what, *texts, patience=PATIENCE):
        """Waits until the screen has all of the texts."""
        end = time.monotonic() + patience
        while True:
            self.read()
            if all(text in self.text() for text in texts):
                check(what, True)
                return
            if time.monotonic() > end or self.child.poll() is not None:
                check(what, False, f"not all of {texts} are in\n{self.text()}")
                return

    def ended(self):
        """The status of the program, with everything that it has written."""
        try:
            status = self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            status = f"none within {PATIENCE} s"
        self.read()
        return status

    def is_restored(self):
        """The program has left the terminal as it was, with its cursor, lines that wrap, and the screen before."""
        modes = [self.raw.rfind(on) > self.raw.rfind(off) for on, off in [(b"\x1b[?25h", b"\x1b[?25l"), (b"\x1b[?7h", b"\x1b[?7l")]]
        left = self.raw.rfind(b"\x1b[?1049l") > self.raw.rfind(b"\x1b[?1049h")
        return left and all(modes) and termios.tcgetattr(self.slave) == self.before

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def terminal(words, **options):
    shown = Terminal(words, **options)
    try:
        yield shown
    finally:
        shown.close()


class Streams:
    """Streams through the proxy that run until they are closed."""

    def __init__(self, port):
        self.port, self.open = port, []

    def start(self, user, directions="events=1000000,pace=20ms", model="gpt-4.1-mini"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        body = {"model": model, "stream": True, "user": user, "messages": [{"role": "user", "content": "Go."}]}
        headers = {"authorization": f"Bearer {SEARCH}", "content-type": "application/json", "x-simulate": directions}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200 or not response.read(1):
            raise SystemExit(f"FAILED: a stream got status {response.status}")
        self.open.append((connection, response))

    def close(self):
        for connection, response in self.open:
            response.close()
            connection.close()
        self.open.clear()


def once(words, env=None):
    done = subprocess.run([BIN, "top", *words], capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, **(env or {})}, check=False)
    return done.returncode, done.stdout, done.stderr


def command_line(proxy, folder):
    """What `top` says without a terminal, and why it shows nothing."""
    address = f"127.0.0.1:{proxy.admin}"
    own = ["--config", str(proxy.folder / "streamgauge.toml")]
    status, out, err = once(own)
    check("one frame without a terminal", status == 0 and "Running now" in out and "search" in out and not err, f"{status} {out} {err}")
    check("the frame is plain text of 80 columns", "\x1b" not in out and all(wcwidth.wcswidth(line) <= 80 for line in out.splitlines()), out)
    read = folder / "read.toml"
    read.write_text(f'[admin]\nlisten = "{address}"\nread_token = {{ value = "{READ_TOKEN}" }}\n')
    status, out, err = once(["--once", "--config", str(read)])
    check("the read token suffices", status == 0 and "Running now" in out, err)
    status, out, err = once(["--address", address], {"STREAMGAUGE_ADMIN__READ_TOKEN__VALUE": READ_TOKEN})
    check("address and token of the command line suffice", status == 0 and "Running now" in out, err)
    read.write_text(f'[admin]\nlisten = "{address}"\nread_token = {{ value = "another-token-than-the-process" }}\n')
    status, out, err = once(["--config", str(read)])
    check("a wrong token is an error", status == 1 and not out and "status 401" in err and "admin.read_token" in err, f"{status} {err}")
    status, out, err = once(["--address", address])
    check("a missing token is an error", status == 1 and "STREAMGAUGE_ADMIN__READ_TOKEN__VALUE" in err, f"{status} {err}")
    read.write_text('[admin]\nlisten = ""\n')
    status, out, err = once(["--config", str(read)])
    check("no admin port is an error", status == 1 and "admin.listen" in err, f"{status} {err}")
    read.write_text(f'[admin]\nlisten = "127.0.0.1:{free_port()}"\n')
    status, out, err = once(["--config", str(read)])
    check("a proxy that does not run is an error", status == 1 and "nothing listens there" in err, f"{status} {err}")
    status, out, err = once(["--interval", "1ms", *own])
    check("too short an interval is refused", status == 2 and "200ms" in err, f"{status} {err}")
    shown = subprocess.run(f"'{BIN}' top --config '{own[1]}' | head -1", shell=True, capture_output=True, text=True, timeout=PATIENCE, check=False)
    check("a reader that has seen enough is no error", "streamgauge" in shown.stdout and not shown.stderr, shown.stderr)


def screens(proxy, streams):
    """What the terminal shows."""
    words = ["top", "--config", str(proxy.folder / "streamgauge.toml"), "--interval", "200ms"]
    with terminal(words) as shown:
        rows = ("Running now", "5 streams", "tokens/s", "CLIENT", "通义千", "Members of groups", "alpha", "available", "Limits", "client search")
        shown.shows("everything is on 80 columns", *rows, "last minute", "today", "COST", "q quit")
        # The names of colours and titles may be there, as text.
        texts = [text for text in (line.strip() for line in shown.screen.display) if text]
        check("names control nothing", shown.screen.title == "" and len(texts) > 15 and "red" in shown.text(), shown.text())
        check("the screen has 24 lines", shown.screen.display[23].startswith("q quit"), shown.text())
        places = shown.columns("gpt-4.1")
        check("wide names move no column", len(places) == 1, f"{places}\n{shown.text()}")
        shown.type(b"s")
        shown.shows("a key changes the order", "s order: tokens")
        shown.size(120, 40)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not shown.screen.display[39].startswith("q quit"):
            shown.read()
        check("a larger terminal is used", shown.screen.display[39].startswith("q quit"), shown.text())
        shown.size(30, 8)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not shown.screen.display[7].startswith("q quit"):
            shown.read()
        check("a tiny terminal is used", shown.screen.display[7].startswith("q quit"), shown.text())
        shown.size(80, 24)
        streams.start("late")
        shown.shows("a new stream appears", "6 streams", "late")
        shown.type(b"q")
        check("q ends it", shown.ended() == 0, shown.text())
        check("q gives the terminal back", shown.is_restored(), repr(shown.raw[-200:]))
    for name, end in {
        "Ctrl-C": lambda shown: shown.type(b"\x03"),
        "SIGTERM": lambda shown: shown.child.send_signal(signal.SIGTERM),
        "SIGHUP": lambda shown: shown.child.send_signal(signal.SIGHUP),
    }.items():
        with terminal(words) as shown:
            shown.shows(f"the screen before {name}", "q quit")
            end(shown)
            status = shown.ended()
            check(f"{name} ends it and gives the terminal back", status == 0 and shown.is_restored(), f"{status} {shown.raw[-200:]!r}")
    with terminal(words) as shown:
        shown.shows("the screen before the terminal closes", "q quit")
        os.close(shown.master)
        os.close(shown.slave)
        with contextlib.suppress(subprocess.TimeoutExpired):
            shown.child.wait(PATIENCE)
        check("the end of the terminal ends it", shown.child.poll() is not None)
    with terminal(["--norc", "--noprofile", "-i"], env={"PS1": "$ "}, program="bash") as shown:
        shown.type(" ".join(f"'{word}'" for word in [BIN, *words]).encode() + b"\n")
        shown.shows("the screen before Ctrl-Z", "q quit")
        shown.type(b"\x1a")
        shown.shows("Ctrl-Z stops it", "Stopped")
        shown.type(b"stty -a | grep -o ' icanon'; fg\n")
        shown.shows("fg continues it", "Running now", "q quit")
        check("the shell had its terminal", b" icanon\r\n" in shown.raw, repr(shown.raw[-400:]))
        shown.type(b"q")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and shown.raw.count(b"\x1b[?1049l") < 2:
            shown.read()
        shown.type(b"exit\n")
        check("q ends it after that", shown.ended() == 0, shown.text())
    with terminal([*words, "--once"]) as shown:
        check("--once on a terminal ends at once", shown.ended() == 0 and "Running now" in shown.text(), shown.text())
        check("--once leaves no escape code", b"\x1b" not in shown.raw, repr(shown.raw[:200]))


def gone(folder, sim):
    """A proxy that ends and starts again while it is watched."""
    proxy = configured(folder, sim)
    words = ["top", "--config", str(proxy.folder / "streamgauge.toml"), "--interval", "200ms"]
    for env, is_colored in [({}, True), ({"NO_COLOR": "1"}, False)]:
        with contextlib.ExitStack() as running:
            running.enter_context(proxy.running())
            with terminal(words, env={"NO_COLOR": "", **env}) as shown:
                shown.shows("the screen before the proxy ends", "0 streams", "q quit")
                running.close()
                shown.shows("a proxy that is gone is said", "no reading since", "trying again", "Running now")
                has_color = b"\x1b[38;5;1m" in shown.raw
                check(f"colours with NO_COLOR={env.get('NO_COLOR', '')}", has_color == is_colored, repr(shown.raw[-400:]))
                running.enter_context(proxy.running())
                end = time.monotonic() + PATIENCE
                while time.monotonic() < end and "no reading since" in shown.text():
                    shown.read()
                check("a proxy that is back is found", "no reading" not in shown.text() and "q quit" in shown.text(), shown.text())
                shown.type(b"\x1b")
                check("Escape ends it", shown.ended() == 0 and shown.is_restored(), shown.text())


def configured(folder, sim):
    folder.mkdir()
    proxy = Proxy(folder, upstream(sim, "alpha") + upstream(sim, "beta") + TABLES)
    config = folder / "streamgauge.toml"
    tokens = f'[admin]\ntoken = {{ value = "{TOKEN}" }}\nread_token = {{ value = "{READ_TOKEN}" }}\n'
    ledger = f'[ledger]\npath = {json.dumps(str(folder / "usage.db"))}\n'
    config.write_text(config.read_text().replace("[admin]\n", tokens).replace('[ledger]\npath = ""\n', ledger))
    return proxy


def main():
    with tempfile.TemporaryDirectory(prefix="top-") as name:
        folder, sim = pathlib.Path(name), free_port()
        with started("the simulator", simulator(sim), sim):
            proxy = configured(folder / "proxy", sim)
            with proxy.running():
                streams = Streams(proxy.port)
                for user in ODD:
                    streams.start(user)
                until("the streams run", lambda: True if "5 streams" in once(["--config", str(proxy.folder / "streamgauge.toml")])[1] else None)
                command_line(proxy, folder)
                screens(proxy, streams)
                streams.close()
            gone(folder / "gone", sim)
    print(f"terminal checks: {'FAILED' if failures else 'all passed'}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
