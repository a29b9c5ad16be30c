#!/usr/bin/env python3
"""Checks the documentation against the program: its commands and snippets run, its links have targets, its tables are complete.

Commands of this program run against the simulator; SDK snippets are sent through the proxy by the real SDKs. STREAMGAUGE_BIN names
the binary (target/debug/streamgauge if unset), DOCS_PYTHON a Python that has openai, anthropic and yaml, SDK_NODE a folder whose
node_modules has openai (tests/run makes both under target/).
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
import migrations  # noqa: E402
from pages import ROOT, all_pages  # noqa: E402
from programs import BIN, PATIENCE, free_port, postgres, simulator, started, until  # noqa: E402

README_LINES = 150
MAX_PICTURE = 100_000
# The time limit of a block of commands, in seconds.
BLOCK_TIMEOUT = 60
KEY = "a-key-of-the-documentation-tests"
LANGUAGES = {"sh", "toml", "python", "js", "json", "yaml", "nginx", "text"}
# The pages with the tables of fields and of metrics.
FIELD_PAGES, METRIC_PAGE = "docs/records.md", "docs/monitoring.md"
# Columns that are not fields of records.
TABLE_COLUMNS = {"seq", "instance"}

PAGES = all_pages()
BY_NAME = {page.name: page for page in PAGES}
PYTHON = os.environ.get("DOCS_PYTHON", str(ROOT / "target/clients/venv/bin/python"))
NODE = pathlib.Path(os.environ.get("SDK_NODE", ROOT / "target/sdk/node"))

failures = []


def fail(place, reason):
    failures.append(place)
    print(f"FAILED  {place}: {reason}", flush=True)


def blocks(*languages):
    return [block for page in PAGES for block in page.blocks if block.language in languages]


# Checks that need no program.


def check_readme():
    if (lines := len(BY_NAME["README.md"].lines)) > README_LINES:
        fail("README.md", f"has {lines} lines, more than {README_LINES}")
    linked = {target.split("#")[0] for _, target in BY_NAME["README.md"].links()}
    for page in PAGES:
        if page.name not in linked and page.name != "README.md":
            fail("README.md", f"does not lead to {page.name}")


def check_links():
    for page in PAGES:
        for line, target in page.links():
            if re.match(r"https?://", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.path.parent / path).resolve() if path else page.path
            if not file.exists():
                fail(f"{page.name}:{line}", f"there is no {target}")
            elif anchor and file.suffix == ".md":
                other = next((other for other in PAGES if other.path == file), None)
                if other is None or anchor not in other.anchors():
                    fail(f"{page.name}:{line}", f"{path or page.name} has no heading #{anchor}")


def check_names():
    """Files and keys of the configuration that the text names."""
    reference = (ROOT / "config/default.toml").read_text()
    for page in PAGES:
        for line, text in page.prose:
            for path in re.findall(r"`((?:\.ci|benches|config|docs|fuzz|src|tests)/[\w./-]*)[^`]*`", text):
                if page.name != "CHANGELOG.md" and not (ROOT / path).exists():
                    fail(f"{page.name}:{line}", f"there is no {path}")
            # `server.address` and `server.port` are attributes of spans.
            for table, key in re.findall(r"`(server|admin|ledger|network|otlp|log|timeouts|pool)\.(?!address|port)(\w+)`", text):
                if not re.search(rf"^#?(?:{key} = |\[(?:[\w.]+\.)?{table}\.{key}\])", reference, flags=re.M):
                    fail(f"{page.name}:{line}", f"config/default.toml has no {table}.{key}")


def check_codes():
    """Codes beside a status, such as 413 `model_too_late`; those of the admin pages are their own."""
    table = {tuple(split(line)[:2]) for _, line in BY_NAME["docs/errors.md"].prose if line.startswith("| `")}
    for page in PAGES:
        for line, text in page.prose:
            for status, code in re.findall(r"\b([45]\d\d) (`\w+`)", text):
                if (code, status) not in table and page.name not in ("docs/admin.md", "CHANGELOG.md"):
                    fail(f"{page.name}:{line}", f"docs/errors.md has no {status} {code}")


def check_blocks_and_pictures():
    for page in PAGES:
        for block in page.blocks:
            if block.language not in LANGUAGES:
                fail(block, f"no test knows the language {block.language!r}")
    for picture in (ROOT / "docs/images").iterdir():
        if picture.stat().st_size > MAX_PICTURE:
            fail(picture.name, f"has more than {MAX_PICTURE} bytes")
        if picture.suffix == ".svg":
            xml.etree.ElementTree.parse(picture)


def check_figures():
    """Figures of performance must be those of the bench."""
    measured = [row for _, row in rows_of(enumerate((ROOT / "benches/peers/figures.md").read_text().splitlines(), 1))]
    for name in ["README.md", "docs/performance.md"]:
        rows = list(rows_of(BY_NAME[name].prose))
        if not rows:
            fail(name, "has no figures")
        for line, row in rows:
            if not any(row.items() <= found.items() for found in measured):
                fail(f"{name}:{line}", "benches/peers/figures.md has other figures")


def rows_of(lines):
    """The rows of tables of costs, by the titles of their columns except the first."""
    titles, before = [], ""
    for line, text in lines:
        if re.match(r"\|[-|]+\|$", text):
            titles = split(before)[1:]
        elif re.match(r"\| .* \| [\d.]+ (?:µs/\w+|KB) \|", text):
            yield line, dict(zip(titles, split(text)[1:]))
        before = text


def split(row):
    """The cells of a table's row."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


# Configurations.


def certificates(folder):
    """A certificate that is its own authority, and its key, under the names in the snippets."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *names]
        + ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")],
        check=True,
        capture_output=True,
    )


def service_account(folder):
    """The file of a service account's key."""
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    key = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.dumps({"type": "service_account", "client_email": "app@project.iam.gserviceaccount.com", "private_key": key})


def complete(text, folder):
    """The text as a configuration of its own: with the upstreams that it names if it has none, and with files and ports of this test."""

    def file(match):
        name = pathlib.Path(match[1])
        if name.suffix in (".key", ".crt"):
            path = folder / ("key.pem" if name.suffix == ".key" else "certificate.pem")
        elif name.name == "service-account.json":
            path = folder / name.name
            path.write_text(service_account(folder))
        elif name.name == "keys.toml":
            path = folder / "keys" / name.name  # missing, which is an empty store
        else:
            path = folder / name.name
            path.write_text(f"{KEY}-{name}")
        return f'file = "{path}"'

    values = tomllib.loads(text)
    named = [entry.get("upstream") for table in ("routes", "prices") for entry in values.get(table, [])]
    groups = values.get("groups", {})
    members = [member for group in groups.values() for tier in group.get("tiers", []) for member in tier]
    named = [name for name in named if name not in groups]
    named += [member if isinstance(member, str) else member["upstream"] for member in members] or ["openai"]
    missing = [] if values.get("upstreams") else sorted({name for name in named if name})
    text = re.sub(r'file = "([^"]+)"', file, text)
    for name in missing:
        text += f'\n[upstreams.{name}]\nprovider = "other"\nurl = "http://127.0.0.1:1/v1"\napi_key = "none"\ndefault_model = "m"\n'
    if len(missing) > 1 and "routes" not in values:
        text += "".join(f'[[routes]]\npath = "/{name}"\nupstream = "{name}"\n' for name in missing)

    def address(table):
        address = values.get(table, {}).get("listen", "127.0.0.1:0")
        if address.startswith("unix:"):
            return f"unix:{folder / pathlib.Path(address).name}"
        return re.sub(r":\d+$", ":0", address)

    listen = {f"STREAMGAUGE_{table.upper()}__LISTEN": address(table) for table in ("server", "admin")}
    secrets = {name: f"{KEY}-{name}" for name in re.findall(r'env = "(\w+)"', text)}
    schemes = {"REDIS_URL": "redis"}
    urls = {name: f"{schemes.get(name, 'postgres')}://u:p@127.0.0.1/0" for name in secrets if name.endswith("_URL")}
    urls |= {name: "https://hooks.example/secret" for name in urls if name == "ALERTS_URL"}
    return text, {**listen, **secrets, **urls}


def check_configuration(place, text, folder):
    text, environment = complete(text, folder)
    path = folder / "block.toml"
    path.write_text(text)
    result = subprocess.run(
        [BIN, "check", "--config", str(path)], cwd=folder, env={"PATH": os.environ["PATH"], **environment}, text=True,
        capture_output=True, timeout=BLOCK_TIMEOUT,
    )  # fmt: skip
    said = result.stdout + result.stderr
    if result.returncode or "configuration is valid" not in said or "warning" in said:
        fail(place, said.strip())


def check_stored_keys(block, folder):
    """A file of keys lies beside the configuration."""
    keys = folder / "keys.toml"
    keys.write_text(block.text)
    check_configuration(block, "[clients.search]\n", folder)
    keys.unlink()


def check_configurations():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        certificates(folder)
        for block in blocks("toml"):
            # The configuration of Codex, which tests/agents runs.
            if "[model_providers" in block.text or migrations.is_foreign(block):
                tomllib.loads(block.text)
            elif block.text.startswith("[[keys]]"):
                check_stored_keys(block, folder)
            else:
                check_configuration(block, block.text, folder)
        for example in sorted((ROOT / "config/examples").glob("*.toml")):
            check_configuration(example.relative_to(ROOT), example.read_text(), folder)


def check_other_formats():
    for block in blocks("json"):
        try:
            json.loads(block.text)
        except ValueError as error:
            fail(block, error)
    for block in blocks("yaml"):
        command = [PYTHON, "-c", "import sys, yaml; list(yaml.safe_load_all(sys.stdin))"]
        if "scrape_configs" in block.text:
            command = ["promtool", "check", "config", "--syntax-only", "/dev/stdin"]
        run(block, command, block.text)
    for block in blocks("nginx"):
        with tempfile.TemporaryDirectory() as name:
            path = pathlib.Path(name) / "nginx.conf"
            # The address of a name that this machine may be unable to look up.
            path.write_text(f"pid {name}/pid;\n" + block.text.replace("server api.openai.com:443", "server 127.0.0.1:443"))
            run(block, ["nginx", "-t", "-p", name, "-e", "stderr", "-c", str(path)])


def run(place, command, text=None, **options):
    options = {"timeout": BLOCK_TIMEOUT, "capture_output": True, "text": True, **options}
    try:
        result = subprocess.run(command, input=text, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        return fail(place, error)
    if result.returncode:
        fail(place, f"status {result.returncode}\n{result.stdout}{result.stderr}".strip())
    return result


# Commands and snippets.

# `streamgauge` on the PATH of blocks: commands that serve get SIGTERM after two seconds.
WRAPPER = """#!/bin/sh
case "$1 $2" in
    "demo --once") ;;
    demo*|simulate*|serve*)
        export STREAMGAUGE_SERVER__LISTEN=127.0.0.1:0 STREAMGAUGE_ADMIN__LISTEN=127.0.0.1:0
        export STREAMGAUGE_LEDGER__PATH={folder}/served.db STREAMGAUGE_LEDGER__JSONL=
        [ "$1" != simulate ] || set -- "$@" --listen 127.0.0.1:0
        exec timeout --preserve-status -s TERM 2 {bin} "$@" ;;
esac
exec {bin} "$@"
"""

# curl, which fails at an error of the server.
CURL = '#!/bin/sh\nexec {curl} --fail-with-body --silent --show-error --max-time 20 "$@"\n'

# Commands for another machine, or with a test of their own: words that name a file of this repository must be right.
STUB = """#!/bin/sh
for word; do
    case "$word" in
        # The beginning of a name is sufficient: some options are names without the extension.
        config/*|tests/*|docs/*|benches/*) ls "{root}/$word"* >/dev/null 2>&1 || {{ echo "there is no $word" >&2; exit 1; }} ;;
    esac
done
[ "$(basename "$0")" != cargo ] || exec {python} {here}/cargo.py "$@"
"""
STUBS = ["apt", "cargo", "claude", "docker", "helm", "install", "kubectl", "podman", "systemctl"]


PRICE = '[[prices]]\nmodel = "sim*"\ninput = 1\noutput = 1\n'


class Scene:
    """The simulator, a proxy before it, and one that is an Azure resource's."""

    def __init__(self, folder, stack):
        self.folder, self.work = folder, folder / "work"
        self.work.mkdir()
        self.simulator = free_port()
        database = stack.enter_context(postgres(folder, KEY, "-c", "fsync=off"))
        stack.enter_context(started("the simulator", simulator(self.simulator), self.simulator))
        fleet = f'[ledger.postgres]\nurl = {{ value = "{database}" }}\n{PRICE}'
        self.proxy, self.admin = self.serve(stack, "openai", "/v1", fleet)
        self.azure, _ = self.serve(stack, "azure", "", "")
        self.socket = self.work / "clients.sock"
        self.serve(stack, "local", "/v1", 'provider = "other"\ndefault_model = "sim"\n', f"unix:{self.socket}")
        self.pages = self.work / "admin.sock"
        self.serve(stack, "watched", "/v1", 'provider = "other"\ndefault_model = "sim"\n', pages=f"unix:{self.pages}")
        # An unreachable collector, database and upstream, so that their metrics exist too.
        away = (
            f'[ledger.postgres]\nurl = {{ value = "postgres://u:p@127.0.0.1:{free_port()}/usage" }}\n'
            f'[otlp]\nendpoint = "http://127.0.0.1:{free_port()}"\n'
            f"{PRICE}"
            '[tags]\nnames = ["team"]\nmetrics = ["team"]\n'
            '[[routes]]\npath = "/away"\nupstream = "away"\n[[routes]]\npath = "/group"\nupstream = "group"\n'
            '[[routes]]\nupstream = "other"\n'
            '[groups.group]\ntiers = [["away"], ["other"]]\n[groups.group.retry]\nbudget = 0\n'
            f'[upstreams.away]\nprovider = "other"\nurl = "http://127.0.0.1:{free_port()}/v1"\napi_key = "none"\ndefault_model = "m"\n'
        )
        self.measured, self.metrics = self.serve(stack, "other", "/v1", f'provider = "other"\ndefault_model = "sim"\n{away}')
        prices = {"sim-small": {"litellm_provider": "openai", "input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}}
        (self.work / "model_prices_and_context_window.json").write_text(json.dumps(prices))
        local = {"model": "openai/sim", "api_base": f"http://127.0.0.1:{self.simulator}/v1", "api_key": "none"}
        # JSON is valid YAML.
        (self.work / "config.yaml").write_text(json.dumps({"model_list": [{"model_name": "sim", "litellm_params": local}]}))
        row = {"token": hashlib.sha256(KEY.encode()).hexdigest(), "key_alias": "search"}
        (self.work / "keys.json").write_text(json.dumps([row]))
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.script("streamgauge", WRAPPER.format(bin=BIN, folder=folder))
        self.script("curl", CURL.format(curl=shutil.which("curl")))
        for name in STUBS:
            self.script(name, STUB.format(root=ROOT, here=HERE, python=sys.executable))

    def script(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def serve(self, stack, name, path, more, listen=None, pages=None):
        proxy, admin = free_port(), free_port()
        pages = pages or f"127.0.0.1:{admin}"
        config = self.work / ("streamgauge.toml" if name == "openai" else f"{name}.toml")
        config.write_text(
            f'[server]\nlisten = "{listen or f"127.0.0.1:{proxy}"}"\nworkers = 1\nmax_memory = "1GiB"\n[admin]\nlisten = "{pages}"\n'
            f'[ledger]\npath = "{self.work / name}.db"\njsonl = "{self.work / name}.jsonl"\n'
            f'[upstreams.{name}]\nurl = "http://127.0.0.1:{self.simulator}{path}"\napi_key = {{ value = "{KEY}" }}\n{more}'
        )
        command = [BIN, "serve", "--config", str(config), "--log", "error"]
        port = admin if listen else proxy
        stack.enter_context(started(f"the proxy before {name}", command, port, self.folder / f"{name}.log"))
        return proxy, admin

    def here(self, text):
        """The text with the ports and files of this scene."""
        proxy = self.azure if "AzureOpenAI" in text else self.proxy
        for usual, port in ((8080, proxy), (9090, self.admin), (8081, self.simulator)):
            text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{port}")
        for usual, socket in (("clients", self.socket), ("admin", self.pages)):
            text = text.replace(f"/run/streamgauge/{usual}.sock", str(socket))
        text = text.replace("/backup/", f"{self.work}/backup-")
        return text.replace("01970c2e-4b5a-7cc3-8d2f-6a1b0f9e7d11", self.record()["id"])

    def with_keys(self, text):
        """The text with the id of a key, and a folder whose configuration has its client."""
        folder = self.folder / "keys"
        folder.mkdir()
        (folder / "streamgauge.toml").write_text(
            f'[upstreams.openai]\napi_key = {{ value = "{KEY}" }}\n[clients.search]\n[ledger]\npath = "{self.work}/openai.db"\n'
        )
        made = subprocess.run(
            [BIN, "keys", "create", "search", "--format", "json"], cwd=folder, capture_output=True, check=True, timeout=BLOCK_TIMEOUT,
        )  # fmt: skip
        return text.replace("9f86d081", json.loads(made.stdout)["id"]), folder

    def record(self):
        def newest():
            path = self.work / "openai.jsonl"
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            return json.loads(lines[-1]) if lines and lines[-1].endswith("\n") else None

        return until("a usage record is written", newest)


def post(port, path, body, headers=None):
    """Sends a request; any response will do."""
    headers = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=PATIENCE) as response:
        response.read()


def chat(**more):
    return {"model": "sim", "messages": [{"role": "user", "content": "Hello"}], **more}


def check_commands(scene):
    environment = {**os.environ, "PATH": f"{scene.bin}:{os.environ['PATH']}", "OPENAI_API_KEY": KEY, "HOME": str(scene.folder)}
    for block in blocks("sh"):
        text, folder = scene.here(block.text), scene.work
        if "streamgauge keys" in text:
            text, folder = scene.with_keys(text)
        text = re.sub(r"^(tests/run|config/release/\w+)", f"test -x {ROOT}/\\1 #", text, flags=re.M)
        text = re.sub(r"[A-Z_]+=\S+ (?:[A-Z_]+=\S+ )?claude", "claude", text)
        # `claude` has options of its own; the lines of one block are one shell, whose first failure ends it.
        run(block, ["bash", "-e", "-u", "-o", "pipefail", "-c", text], cwd=folder, env=environment)


PYTHON_CALLS = {
    "OpenAI": 'text = client.chat.completions.create(model="sim", messages=[{"role": "user", "content": "Hello"}])',
    "Anthropic": 'text = client.messages.create(model="sim", max_tokens=9, messages=[{"role": "user", "content": "Hello"}])',
}


def check_snippets(scene):
    for block in blocks("python"):
        call = PYTHON_CALLS["Anthropic" if "Anthropic(" in block.text else "OpenAI"]
        run(block, [PYTHON, "-c", f"{scene.here(block.text)}\n{call}\nassert text.usage, text\n"])
    for number, block in enumerate(blocks("js")):
        # Beside node_modules, so that imports are found.
        path = NODE / f"snippet-{number}.mjs"
        path.write_text(
            scene.here(block.text)
            + 'const text = await client.chat.completions.create({ model: "sim", messages: [{ role: "user", content: "Hello" }] });\n'
            "if (!text.usage) throw new Error(JSON.stringify(text));\n"
        )
        run(block, ["node", str(path)])
        path.unlink()


def named(cell):
    """The names in backticks of a table's cell."""
    return re.findall(r"`([\w.]+)`", cell)


def check_columns(scene):
    record = scene.record()
    with contextlib.closing(sqlite3.connect(f"file:{scene.work}/openai.db?mode=ro", uri=True)) as ledger:
        columns = {row[1] for row in ledger.execute("PRAGMA table_info(usage_records)")}
    text = (ROOT / FIELD_PAGES).read_text()
    for name in sorted(columns | set(record) | TABLE_COLUMNS):
        if f"`{name}`" not in text:
            fail(FIELD_PAGES, f"does not name the column {name}")
    fields = BY_NAME[FIELD_PAGES]
    for name in [name for cell in itertable(fields, "## Fields", "### Tool calls") for name in named(cell)]:
        if name not in columns | set(record):
            fail(FIELD_PAGES, f"{name} is not a column")


def itertable(page, begin, end):
    """The first cells of the rows between two headings."""
    inside = False
    for _, line in page.prose:
        inside = (inside or line.startswith(begin)) and not line.startswith(end)
        if inside and line.startswith("| `"):
            yield line.split("|")[1]


def check_metrics(scene):
    tags = {"x-streamgauge-tags": "team=docs"}
    post(scene.measured, "/v1/chat/completions", chat(stream=True, stream_options={"include_usage": True}), tags)
    post(scene.measured, "/away/v1/chat/completions", chat())
    post(scene.measured, "/v2/nothing", chat())
    # Until the budget of retries is used up, and the member that is away is left out.
    for number in range(8):
        prompt = {"messages": [{"role": "user", "content": str(number)}]}
        post(scene.measured, "/group/v1/chat/completions", chat(**prompt), {"x-stainless-retry-count": "1"})

    def exported():
        request = urllib.request.Request(f"http://127.0.0.1:{scene.metrics}/metrics")
        text = urllib.request.urlopen(request, timeout=PATIENCE).read().decode()
        names = set(re.findall(r"^# TYPE (\S+)", text, flags=re.M))
        needed = {"streamgauge_rejections_total", "streamgauge_upstream_failures_total", "streamgauge_cost_total", "streamgauge_breaker_opened_total"}
        return names if needed <= names else None

    exported = until("the metrics of these requests", exported)
    table = {name for cell in BY_NAME[METRIC_PAGE].rows() for name in named(cell) if name.startswith(("streamgauge_", "process_"))}
    for name in sorted(exported - table):
        fail(METRIC_PAGE, f"has no row of {name}")
    # Only a request that waits at a group has the first, which tests/proxy/group_waiting.rs checks, and only a proxy whose keys are
    # in PostgreSQL the second.
    rare = {"streamgauge_time_waiting_seconds", "streamgauge_key_store_up"}
    # Exported with the identity of a cloud only.
    rare |= {"streamgauge_identity_expires_seconds", "streamgauge_identity_renewals_total"}
    # Exported with [redis] only.
    rare |= {"streamgauge_redis_connected", "streamgauge_redis_grants_total", "streamgauge_redis_grant_seconds"}
    rare |= {"streamgauge_redis_id_lookups_total", "streamgauge_redis_id_writes_total"}
    for name in sorted(table - exported - rare):
        fail(METRIC_PAGE, f"{name} is not exported")


def check_table_of_commands():
    text = subprocess.run([BIN, "--help"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^  (\w+) ", text[text.index("Commands:") : text.index("Options:")], flags=re.M)
    readme = "\n".join(BY_NAME["README.md"].lines)
    for command in commands:
        if command != "help" and f"`streamgauge {command}" not in readme:
            fail("README.md", f"does not name the command {command}")


def main():
    check_readme()
    check_links()
    check_names()
    check_codes()
    check_blocks_and_pictures()
    check_figures()
    check_configurations()
    check_other_formats()
    check_table_of_commands()
    migrations.check(PAGES, fail, complete)
    with tempfile.TemporaryDirectory(prefix="streamgauge-docs-") as name, contextlib.ExitStack() as stack:
        scene = Scene(pathlib.Path(name), stack)
        post(scene.proxy, "/v1/chat/completions", chat())
        check_commands(scene)
        check_snippets(scene)
        check_columns(scene)
        check_metrics(scene)
    count = sum(len(page.blocks) for page in PAGES)
    if failures:
        print(f"FAILED: documentation checks: {len(failures)}")
        sys.exit(1)
    print(f"documentation checks: {len(PAGES)} pages, {count} blocks, all well")


if __name__ == "__main__":
    main()
