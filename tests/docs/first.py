#!/usr/bin/env python3
"""Follows `streamgauge init` as a new user does: in an empty folder, by the commands that it prints and nothing else.

`init`, the simulated service, `check --live`, `serve`, one call of the SDK, `usage` and the dashboard take less than three minutes.
STREAMGAUGE_BIN names the binary, DOCS_PYTHON a Python that has openai (target/clients/venv, which tests/run makes).
"""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
from programs import BIN, ROOT, free_port, started, until  # noqa: E402

PYTHON = os.environ.get("DOCS_PYTHON", str(ROOT / "target/clients/venv/bin/python"))
# The longest time of all steps, in seconds.
MOST = 180
# A file of a user, whatever the mode of a new one.
KEPT = "# mine\n"

failures = 0


def check(name, condition, reason=""):
    global failures
    failures += not condition
    print(f"{'ok      ' if condition else 'FAILED  '}{name}{'' if condition else f': {reason}'}", flush=True)
    return condition


def environment(**more):
    """No key of a service is in it."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY") and not name.startswith("STREAMGAUGE_")}
    return {**kept, "PATH": f"{pathlib.Path(BIN).parent}:{pathlib.Path(PYTHON).parent}:{kept['PATH']}", **more}


def run(folder, command, env=None, text=None):
    return subprocess.run(
        command, shell=isinstance(command, str), cwd=folder, env=env or environment(), input=text, capture_output=True, text=True, timeout=60
    )


def init(folder, *words, text=None, **more):
    return run(folder, [BIN, "init", *words], environment(**more), text)


def steps(printed):
    """The commands after "Next:", without what is said about them."""
    lines = printed.partition("Next:\n")[2].splitlines()
    return [re.sub(r"\s+# .*", "", line).strip() for line in lines]


def follow(folder):
    """The whole way of a new user."""
    begun = time.monotonic()
    done = init(folder, "--yes")
    if not check("init --yes", done.returncode == 0 and "configuration is valid" in done.stdout, done.stdout + done.stderr):
        return
    ports = {usual: str(free_port()) for usual in ("8080", "8081", "9090")}

    def here(text):
        return re.sub(r"127\.0\.0\.1:(\d+)", lambda at: f"127.0.0.1:{ports[at[1]]}", text)

    config = folder / "streamgauge.toml"
    config.write_text(here(config.read_text()))
    commands = [here(command) for command in steps(done.stdout)]
    names = [" ".join(command.split()[:2]) for command in commands]
    expected = ["streamgauge simulate", "streamgauge check", "streamgauge serve", "python3 -c", "streamgauge usage", "curl -s"]
    if not check("the next commands", names == expected, names):
        return
    _, live, _, request, usage, page = commands
    with contextlib.ExitStack() as stack:
        address = f"127.0.0.1:{ports['8081']}"
        stack.enter_context(started("the simulator", [BIN, "simulate", "--listen", address], int(ports["8081"]), cwd=folder))
        done = run(folder, live)
        check("check --live", done.returncode == 0, done.stdout + done.stderr)
        log = folder / "serve.log"
        stack.enter_context(started("the proxy", [BIN, "serve"], int(ports["8080"]), log, cwd=folder, env=environment()))
        done = run(folder, request)
        check("a call of the SDK", done.returncode == 0 and done.stdout.strip(), done.stdout + done.stderr)
        counted = until("the request is counted", lambda: (text := run(folder, usage).stdout) and ("sim" in text or None) and text)
        check("usage", re.search(r"\bsim\b.* 1 ", counted), counted)
        done = run(folder, page)
        check("the dashboard", done.returncode == 0 and "<html" in done.stdout and "sim" in done.stdout, done.stdout[:500])
    took = time.monotonic() - begun
    check(f"all steps within {MOST} s: {took:.0f} s", took < MOST)


def existing_file_stays(folder):
    config = folder / "streamgauge.toml"
    config.write_text(KEPT)
    done = init(folder, "--yes")
    check("an existing file", done.returncode == 2 and config.read_text() == KEPT, done.stderr)
    done = init(folder, "--yes", "--config", "other.toml", "--service", "openai")
    printed = steps(done.stdout)
    named = printed[1:2] == ["streamgauge check --live --config 'other.toml'"]
    check("a file of another name", done.returncode == 0 and printed[0] == "export OPENAI_API_KEY=..." and named, done.stdout + done.stderr)


def questions(folder):
    """OpenAI with the key in another variable, and a server on this machine."""
    done = init(folder, text="1,5\nhttp://127.0.0.1:8000/v1\nMY_KEY\nn\n", MY_KEY="k")
    text = (folder / "streamgauge.toml").read_text() if done.returncode == 0 else ""
    right = 'api_key = { env = "MY_KEY" }' in text and 'url = "http://127.0.0.1:8000/v1"' in text and "configuration is valid" in done.stdout
    check("questions", right, done.stdout + done.stderr + text)


def no_reply(folder):
    done = init(folder, text="")
    check("an end of the input", done.returncode == 2 and "--yes" in done.stderr and not list(folder.iterdir()), done.stderr)


for scene in (follow, existing_file_stays, questions, no_reply):
    with tempfile.TemporaryDirectory() as name:
        scene(pathlib.Path(name))
print(f"first steps: {failures} failed")
sys.exit(failures > 0)
