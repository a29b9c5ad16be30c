#!/usr/bin/env python3
"""Cuts recorded streams at 20 places and checks that each client raises, with the proxy and without it.

STREAMGAUGE_BIN names the binary (target/debug/streamgauge if unset). tests/run installs the clients under target/clients.
The recordings are read from ../shared/corpus. Exit status 1 if a client treats a cut response as complete.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import upstream

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import programs  # noqa: E402

INSTALLED = programs.ROOT / "target/clients"
PLACES = 20

# The time limit of all jobs of one language, in seconds.
PATIENCE = 180

# Each client, and the path of its request.
PYTHON = {
    "openai-python chat": "/chat/completions",
    "openai-python responses": "/responses",
    "openai-python responses.stream": "/responses",
    "anthropic-python messages": "/messages",
    "anthropic-python messages.stream": "/messages",
    "langchain-python openai": "/chat/completions",
    "langchain-python anthropic": "/messages",
}
NODE = {
    "openai-node chat": "/chat/completions",
    "openai-node responses": "/responses",
    "anthropic-node messages": "/messages",
    "anthropic-node messages.stream": "/messages",
    "langchain-node openai": "/chat/completions",
    "vercel-ai openai chat": "/chat/completions",
    "vercel-ai openai responses": "/responses",
    "vercel-ai anthropic": "/messages",
}
CURL = {f"curl {path}": path for path in upstream.RECORDINGS}


def curl(job, path):
    command = ["curl", "-sN", f"{job['url']}/v1{path}", "-H", f"x-cut: {job['cut']}", "-H", "content-type: application/json"]
    done = subprocess.run([*command, "-d", '{"model":"recorded","stream":true}'], capture_output=True, timeout=PATIENCE, check=False)
    # 18 is "partial file".
    return {**job, "raised": f"exit {done.returncode}" if done.returncode else None, "text": ""}


def results(command, jobs, env):
    done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, timeout=PATIENCE, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"FAILED: {command[-1]} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def jobs_for(clients, targets):
    for client, path in clients.items():
        for cut in [*upstream.cuts(path, PLACES), "whole"]:
            for url in targets.values():
                yield {"client": client, "url": url, "cut": str(cut)}


def main():
    with tempfile.TemporaryDirectory() as folder:
        port = upstream.start()
        proxy = programs.Proxy(pathlib.Path(folder), programs.upstream(port))
        targets = {"direct": f"http://127.0.0.1:{port}", "proxy": proxy.url}
        env = {**os.environ, "CLIENTS_NODE": str(INSTALLED / "node")}
        with proxy.running():
            found = results([str(INSTALLED / "venv/bin/python"), str(HERE / "clients.py")], list(jobs_for(PYTHON, targets)), env)
            found += results(["node", str(HERE / "clients.mjs")], list(jobs_for(NODE, targets)), env)
            found += [curl(job, CURL[job["client"]]) for job in jobs_for(CURL, targets)]
    return judge(found, targets)


def judge(found, targets):
    """Prints a line per client, and every place at which the proxy changes the result for the application."""
    at = {(each["client"], each["cut"], each["url"]): each for each in found}
    passed, failed = 0, 0
    for client in [*PYTHON, *NODE, *CURL]:
        wrong, places = [], sorted({cut for name, cut, _ in at if name == client}, key=lambda cut: (cut == "whole", cut.zfill(9)))
        for cut in places:
            direct, proxied = (at[client, cut, url] for url in targets.values())
            whole = cut == "whole"
            if whole and (direct["raised"] or proxied["raised"] or direct["text"] != proxied["text"]):
                wrong.append(f"whole: direct {direct['raised']}, through the proxy {proxied['raised']}")
            if not whole and not proxied["raised"]:
                wrong.append(f"cut at {cut}: direct {direct['raised']}, through the proxy taken for whole")
            if not direct["text"].startswith(proxied["text"]) and not proxied["text"].startswith(direct["text"]):
                wrong.append(f"cut at {cut}: the text differs")
        unraised = sum(not at[client, cut, targets["direct"]]["raised"] for cut in places if cut != "whole")
        raised = sorted({at[client, cut, targets["proxy"]]["raised"] or "nothing" for cut in places if cut != "whole"})
        print(f"{'FAILED' if wrong else 'ok    '} {client}: {len(places) - 1} cuts, raises {', '.join(raised)}"
              + (f"; without the proxy {unraised} are taken for whole" if unraised else ""))
        for line in wrong:
            print(f"       {line}")
        passed, failed = passed + (not wrong), failed + bool(wrong)
    print(f"client checks: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
