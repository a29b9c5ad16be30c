"""The pages for people who come from other gateways: what is imported, and what the results serve."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import tomllib
import urllib.error
import urllib.request

from programs import BIN, PATIENCE, free_port, simulator, started

FOLDER = "docs/migrate/"
# The URLs of providers that have one, below their hosts.
PATHS = {"openai": "/v1", "anthropic": "/v1", "gemini": ""}


def is_foreign(block):
    """A configuration of another program, in TOML."""
    return block.page.name == f"{FOLDER}tensorzero.md" and "[models." in block.text


def check(pages, fail, complete):
    """Imports LiteLLM's configuration, and sends a request by each route of each result."""
    port = free_port()
    with started("the simulator", simulator(port), port):
        for page in pages:
            if not page.name.startswith(FOLDER):
                continue
            results = [block for block in page.blocks if block.language == "toml" and not is_foreign(block)]
            before = [block for block in page.blocks if block not in results]
            if not results or not before:
                fail(page.name, "has no before, or no after")
            for block in results:
                with tempfile.TemporaryDirectory() as folder:
                    serve(block, *complete(block.text, pathlib.Path(folder)), pathlib.Path(folder), port, fail)
            for block in before:
                if "model_list:" in block.text:
                    with tempfile.TemporaryDirectory() as folder:
                        imported(block, pathlib.Path(folder), complete, fail)


def imported(block, folder, complete, fail):
    source = folder / "config.yaml"
    source.write_text(block.text)
    done = subprocess.run([BIN, "import", "litellm", str(source)], capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode not in (0, 1):
        return fail(block, done.stderr)
    text, environment = complete(done.stdout, folder)
    result = folder / "streamgauge.toml"
    result.write_text(text)
    command = [BIN, "check", "--config", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **environment}, timeout=PATIENCE)
    if done.returncode:
        fail(block, done.stdout + done.stderr)


def serve(block, text, environment, folder, simulated, fail):
    """Serves the result with its upstreams at the simulator."""
    values = tomllib.loads(text)
    text = re.sub(r'url = "https?://[^/"]+', f'url = "http://127.0.0.1:{simulated}', text)
    for name, upstream in values["upstreams"].items():
        provider = upstream.get("provider", name)
        if "url" not in upstream:
            table = f"[upstreams.{name}]"
            text = re.sub(rf"{re.escape(table)}[^\n]*\n", f'{table}\nurl = "http://127.0.0.1:{simulated}{PATHS[provider]}"\n', text)
    text = re.sub(r"\[ledger\.postgres\]\n[^\[]*", "", text)
    (folder / "served.toml").write_text(text)
    port = free_port()
    more = {"STREAMGAUGE_SERVER__LISTEN": f"127.0.0.1:{port}", "STREAMGAUGE_ADMIN__LISTEN": "", "STREAMGAUGE_LEDGER__PATH": ""}
    env = {"PATH": os.environ["PATH"], **environment, **more}
    keys = [client["key"]["env"] for client in values.get("clients", {}).values()]
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {environment[keys[0]]}"} if keys else {})}
    command = [BIN, "serve", "--config", str(folder / "served.toml")]
    with started(f"the result of {block}", command, port, folder / "log", env=env):
        for route in values["routes"]:
            # The simulator has no paths of Gemini.
            target = values["upstreams"].get(route["upstream"], {})
            if target.get("provider", route["upstream"]) == "gemini":
                continue
            model = route.get("model", "sim").replace("*", "-x")
            body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
            url = f"http://127.0.0.1:{port}{route.get('path', '')}/v1/chat/completions"
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                    response.read()
            except urllib.error.HTTPError as error:
                fail(block, f"{route}: {error.code} {error.read()[:300]}")
