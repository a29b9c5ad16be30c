#!/usr/bin/env python3
"""Runs the image of a release as a container would: as its user, on a read-only root, without a network.

    image.py ARCHIVE

Needs root, and Debian's buildah.
"""

import fcntl
import hashlib
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "docs"), str(HERE.parent / "support")]
from deployment import USER, check, enter, failures, run, runtime_files  # noqa: E402
from programs import accepts, until  # noqa: E402

# The folder of this test, in the environment of the process with namespaces of its own.
FOLDER = "IMAGE_CHECKS_FOLDER"
STATE = "var/lib/streamgauge"
CONFIGURATION = '[upstreams.openai]\napi_key = { value = "a-key-of-this-test" }\n'
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def loopback_up():
    with socket.socket() as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16xh22x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)


def check_files(root, config):
    check("image: user", config["User"] == f"{USER}:{USER}", config["User"])
    labels = config["Labels"]
    check("image: labels", labels["org.opencontainers.image.title"] == "streamgauge", labels)
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    certificates, components = "etc/ssl/certs/ca-certificates.crt", "usr/share/doc/streamgauge/sbom.cdx.json"
    check("image: files", files == ["etc/passwd", certificates, "streamgauge", components], files)
    program = json.loads((root / components).read_text())["metadata"]["component"]
    digest = hashlib.sha256((root / "streamgauge").read_bytes()).hexdigest()
    check("image: components", program["hashes"] == [{"alg": "SHA-256", "content": digest}], program)
    state = (root / STATE).stat()
    check("image: state", (state.st_uid, state.st_gid) == (USER, USER), state)


def check_run(root, config):
    """The program on a root without writes, except in its state."""
    options = {"preexec_fn": enter(root, config), "env": {}}
    try:
        (root / "written").touch()
        check("image: read-only", False, "its root can be written")
    except OSError:
        pass
    entry = config["Entrypoint"]
    child = subprocess.Popen([*entry, "serve"], stderr=subprocess.PIPE, text=True, **options)
    try:
        until("the image's program listens", lambda: accepts(9090))
        run("read-only image: health --ready", [*entry, "health", "--ready"], **options)
    finally:
        child.terminate()
        said = child.communicate(timeout=20)[1]
        check("read-only image: stop", child.returncode == 0, f"status {child.returncode}\n{said}")
    check("read-only image: ledger", (root / STATE / "streamgauge.db").exists(), "it has no ledger")


def main():
    archive = pathlib.Path(sys.argv[1]).resolve()
    # The usual ports are free in a network of its own. Mounts end with their namespace, before the folder is deleted.
    if FOLDER not in os.environ:
        with tempfile.TemporaryDirectory() as name:
            unshare = ["unshare", "--mount", "--net", "--propagation", "private"]
            sys.exit(subprocess.run([*unshare, sys.executable, *sys.argv], env={**os.environ, FOLDER: name}).returncode)
    loopback_up()
    folder = pathlib.Path(os.environ[FOLDER])
    buildah = ["buildah", "--root", folder / "store", "--runroot", folder / "run", "--storage-driver", "vfs"]
    container = run("buildah from", [*buildah, "from", "--quiet", "--pull-never", f"oci-archive:{archive}"]).split()[-1]
    config = json.loads(json.loads(run("buildah inspect", [*buildah, "inspect", container]))["Config"])["config"]
    files = pathlib.Path(run("buildah mount", [*buildah, "mount", container]).strip())
    check_files(files, config)
    (files / "etc/streamgauge/streamgauge.toml").write_text(CONFIGURATION)
    root = folder / "root"
    root.mkdir()
    mount("--bind", files, root)
    with runtime_files(root):
        mount("-t", "tmpfs", "-o", f"uid={USER},gid={USER},mode=0700", "tmpfs", root / STATE)
        mount("-o", "remount,bind,ro", root)
        check_run(root, config)
    if failures:
        print(f"FAILED: image checks: {', '.join(failures)}")
        sys.exit(1)
    print("image checks: all well")


if __name__ == "__main__":
    main()
