#!/usr/bin/env python3
"""Holds the files for deployment to what the documentation says of them: the image's Dockerfile, the systemd unit, the sidecar.

The image is not built as a whole, since that fetches another one. Its last stage is made here from a static binary, and run in an
empty root without rights. STATIC_BIN names that binary (tests/run builds it), DOCS_TOOLS the folder of hadolint and
kubernetes-validate. Needs root, for chroot.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
from programs import BIN, ROOT, accepts, free_port, until  # noqa: E402

TOOLS = pathlib.Path(os.environ.get("DOCS_TOOLS", ROOT / "target/docs/venv/bin"))
STATIC = pathlib.Path(os.environ.get("STATIC_BIN", ROOT / "target/static/streamgauge"))
DOCKERFILE = ROOT / "config/container/Dockerfile"
UNIT = ROOT / "config/systemd/streamgauge.service"
SIDECAR = ROOT / "config/kubernetes/sidecar.yaml"
# The oldest with native sidecars by default, the first in which they are stable, and the newest that the tool knows.
KUBERNETES = ["1.29", "1.33", "1.37"]
# systemd's figure for what a unit may do, from 0 to 10; what is left is the network.
MAX_EXPOSURE = 1.2
USER = 65532

failures = []


def run(name, command, **options):
    """Its output; a status other than 0 is a failure."""
    result = subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=120, **options)
    if result.returncode:
        failures.append(name)
        print(f"FAILED  {name}: status {result.returncode}\n{result.stdout}{result.stderr}".rstrip(), flush=True)
    else:
        print(f"ok      {name}", flush=True)
    return result.stdout + result.stderr


def check(name, condition, reason):
    if not condition:
        failures.append(name)
        print(f"FAILED  {name}: {reason}", flush=True)


def last_stage():
    """The instructions of the Dockerfile's last stage: (name, arguments)."""
    text = re.sub(r"\\\n", " ", "".join(line for line in DOCKERFILE.open() if not line.startswith("#")))
    stage = text[text.rindex("\nFROM ") + 1 :]
    return [tuple(line.split(None, 1)) for line in stage.splitlines() if line.strip()]


def image(root):
    """The root of the image, with a binary that was built outside."""
    for folder, mode in (("etc/ssl/certs", 0o755), ("etc/streamgauge", 0o755), ("tmp", 0o1777), ("var/lib/streamgauge", 0o700)):
        (root / folder).mkdir(parents=True)
        (root / folder).chmod(mode)
    os.chown(root / "var/lib/streamgauge", USER, USER)
    shutil.copy(STATIC, root / "streamgauge")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")


def enter(root, folder):
    """What a container's process is: in the image's root, as its user, in its working folder."""

    def begin():
        os.chroot(root)
        os.chdir(folder)
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)
        os.umask(0o022)

    return begin


def check_image():
    run("hadolint", [TOOLS / "hadolint", DOCKERFILE])
    stage = last_stage()
    words = {name: rest for name, rest in stage}
    check("Dockerfile", words["FROM"] == "scratch" and words["USER"] == f"{USER}:{USER}", words)
    check("Dockerfile", [line for line in stage if line[0] == "COPY"] == [
        ("COPY", "--from=build /image/ /"),
        ("COPY", f"--from=build --chown={USER}:{USER} /state /var/lib/streamgauge"),
    ], "its last stage copies something else than this test does")  # fmt: skip
    check("static", "INTERP" not in run("readelf", ["readelf", "-lW", STATIC]), "the binary needs a loader")
    entry, health = json.loads(words["ENTRYPOINT"]), json.loads(words["HEALTHCHECK"].split("CMD ")[1])
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        image(root)
        options = {"preexec_fn": enter(root, words["WORKDIR"]), "env": {}}
        run("image: demo", [*entry, "demo", "--once"], **options)
        proxy, admin = free_port(), free_port()
        config = root / "etc/streamgauge/streamgauge.toml"
        config.write_text(
            f'[server]\nlisten = "127.0.0.1:{proxy}"\n[admin]\nlisten = "127.0.0.1:{admin}"\n'
            '[upstreams.openai]\napi_key = { value = "a-key-of-this-test" }\n'
        )
        run("image: check", [*entry, "check"], **options)
        child = subprocess.Popen(entry, stderr=subprocess.DEVNULL, **options)
        try:
            until("the image's program listens", lambda: accepts(admin))
            run("image: health", health, **options)
            run("image: health --ready", [*health, "--ready"], **options)
        finally:
            child.terminate()
            check("image", child.wait(20) == 0, f"it ended with status {child.returncode}")
        check("image", (root / "var/lib/streamgauge/streamgauge.db").exists(), "it has no ledger in its working folder")


def check_unit():
    text = UNIT.read_text()
    # `verify` wants the program to be there.
    with tempfile.TemporaryDirectory() as name:
        unit = pathlib.Path(name) / UNIT.name
        unit.write_text(text.replace("/usr/local/bin/streamgauge", BIN))
        said = run("systemd-analyze verify", ["systemd-analyze", "verify", unit])
        check("systemd-analyze verify", not said.strip(), said)
    # In tenths, as integers are what it compares.
    threshold = str(round(MAX_EXPOSURE * 10))
    run("systemd-analyze security", ["systemd-analyze", "security", "--offline=yes", f"--threshold={threshold}", UNIT])
    command = re.search(r"^ExecStart=\S+ (.*)$", text, flags=re.M)[1]
    run("ExecStart", [BIN, *shlex.split(command), "--help"])


def check_sidecar():
    for version in KUBERNETES:
        run(f"sidecar for {version}", [TOOLS / "kubernetes-validate", "--strict", "-k", version, SIDECAR])
    read = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))"
    parsed = subprocess.run([TOOLS / "python", "-c", read], input=SIDECAR.read_text(), text=True, capture_output=True, check=True)
    config, deployment = json.loads(parsed.stdout)
    pod = deployment["spec"]["template"]["spec"]
    sidecar = pod["initContainers"][0]
    check("sidecar", sidecar["restartPolicy"] == "Always" and pod["securityContext"]["runAsUser"] == USER, "another user")
    with tempfile.TemporaryDirectory() as name:
        path = pathlib.Path(name) / "streamgauge.toml"
        path.write_text(config["data"][path.name].replace(":8080", ":0").replace(":9090", ":0"))
        environment = {entry["name"]: "a-key-of-this-test" for entry in sidecar["env"]}
        said = run("sidecar: check", [BIN, "check", "-c", path], cwd=name, env=environment)
        check("sidecar: check", "warning" not in said, said)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        run(f"sidecar: {probe}", [BIN, *sidecar[probe]["exec"]["command"][1:], "--help"])


def main():
    check_image()
    check_unit()
    check_sidecar()
    if failures:
        print(f"FAILED: deployment checks: {', '.join(failures)}")
        sys.exit(1)
    print("deployment checks: all well")


if __name__ == "__main__":
    main()
