#!/usr/bin/env python3
"""Checks the files for deployment against the documentation: the image's Dockerfile, the systemd unit, the sidecar.

The image is not built as a whole, since that fetches another one. Its last stage is built here with a static binary, and run
without rights. STATIC_BIN names that binary (tests/run builds it), DOCS_TOOLS the folder of hadolint and kubernetes-validate.
Needs root, for chroot, and Debian's buildah.
"""

import contextlib
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
SOCKETS = [ROOT / "config/systemd/streamgauge.socket", ROOT / "config/systemd/streamgauge-admin.socket"]
SIDECAR = ROOT / "config/kubernetes/sidecar.yaml"
# The oldest version with native sidecars by default, the first in which they are stable, and the newest that the tool knows.
KUBERNETES = ["1.29", "1.33", "1.37"]
# systemd's figure for the rights of a unit, from 0 to 10; the remaining one is the network.
MAX_EXPOSURE = 1.4
USER = 65532
UNSHARED = "DEPLOYMENT_CHECKS_UNSHARED"

failures = []


def run(name, command, **options):
    """The output of the command; a status other than 0 is a failure."""
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
    """The Dockerfile's last stage, with folders instead of the stage before it."""
    text = DOCKERFILE.read_text()
    stage = text[text.rindex("\nFROM ") + 1 :]
    return re.sub(r"^COPY --from=build (.*?)/(\S+) (\S+)$", r"COPY \1\2 \3", stage, flags=re.M)


def enter(root, config):
    """Enters the image like a container's process: its root, its user, its working folder."""
    user, group = map(int, config["User"].split(":"))

    def begin():
        os.chroot(root)
        os.chdir(config["WorkingDir"])
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)

    return begin


def check_image():
    run("hadolint", [TOOLS / "hadolint", DOCKERFILE])
    check("static", "INTERP" not in run("readelf", ["readelf", "-lW", STATIC]), "the binary needs a loader")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for part, mode in (("image/etc/ssl/certs", 0o755), ("image/etc/streamgauge", 0o755), ("image/tmp", 0o1777), ("state", 0o700)):
            (folder / part).mkdir(parents=True)
            (folder / part).chmod(mode)
        shutil.copy(STATIC, folder / "image/streamgauge")
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", folder / "image/etc/ssl/certs/ca-certificates.crt")
        (folder / "Dockerfile").write_text(last_stage())
        buildah = ["buildah", "--root", folder / "store", "--runroot", folder / "run", "--storage-driver", "vfs"]
        # The format docker, since the other one has no health checks.
        run("buildah bud", [*buildah, "bud", "--isolation", "chroot", "--format", "docker", "-t", "streamgauge", folder])
        container = run("buildah from", [*buildah, "from", "streamgauge"]).split()[-1]
        config = json.loads(json.loads(run("buildah inspect", [*buildah, "inspect", container]))["Config"])["config"]
        check("image", config["User"] == f"{USER}:{USER}", config["User"])
        root = pathlib.Path(run("buildah mount", [*buildah, "mount", container]).strip())
        with runtime_files(root):
            run_image(root, config)
        run("buildah umount", [*buildah, "umount", container])


@contextlib.contextmanager
def runtime_files(root):
    """/proc and devices, which a runtime brings. Single files are bound, so that nothing below them can be deleted through the image."""
    (root / "dev").mkdir()
    (root / "proc").mkdir()
    devices = [root / "dev" / name for name in ("null", "random", "urandom", "zero")]
    with contextlib.ExitStack() as stack:
        for place in [*devices, root / "proc"]:
            if place in devices:
                place.touch()
            subprocess.run(["mount", "--bind", f"/{place.relative_to(root)}", place], check=True)
            stack.callback(subprocess.run, ["umount", place], check=True)
        yield


def run_image(root, config):
    """Runs the program of the image as a container would."""
    entry, health = config["Entrypoint"], config["Healthcheck"]["Test"][1:]
    options = {"preexec_fn": enter(root, config), "env": {}}
    run("image: demo", [*entry, "demo", "--once"], **options)
    proxy, admin = free_port(), free_port()
    (root / "etc/streamgauge/streamgauge.toml").write_text(
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
    # `verify` requires the program to exist.
    with tempfile.TemporaryDirectory() as name:
        unit = pathlib.Path(name) / UNIT.name
        unit.write_text(text.replace("/usr/local/bin/streamgauge", BIN))
        sockets = [shutil.copy(socket, name) for socket in SOCKETS]
        said = run("systemd-analyze verify", ["systemd-analyze", "verify", unit, *sockets])
        check("systemd-analyze verify", not said.strip(), said)
    # In tenths, since it compares integers.
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
    # Runs in a mount namespace of its own, whose mounts end with it.
    if UNSHARED not in os.environ:
        os.environ[UNSHARED] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    check_image()
    check_unit()
    check_sidecar()
    if failures:
        print(f"FAILED: deployment checks: {', '.join(failures)}")
        sys.exit(1)
    print("deployment checks: all well")


if __name__ == "__main__":
    main()
