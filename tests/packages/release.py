#!/usr/bin/env python3
"""Checks config/release/make: all files of a release are there, the same twice, and can be verified.

STATIC_BIN names a static program (tests/run builds it). Runs with the Python of target/packages/venv, as root, and leaves the files
in target/packages/release.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib

import helm_python
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
from programs import ROOT  # noqa: E402

STATIC = pathlib.Path(os.environ.get("STATIC_BIN", ROOT / "target/static/streamgauge"))
FILES = ROOT / "target/packages/release"
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
NAMESPACE = "streamgauge-release"
SIGNER = "releases@streamgauge.invalid"
# Linked, by build scripts only, and by tests only.
LINKED, BUILT, TESTED = {"tokio", "rustls", "aws-lc-sys", "libsqlite3-sys", "tiktoken"}, {"cc"}, {"criterion", "rcgen", "tempfile"}

failures = []


def check(name, condition, reason=""):
    print(f"{'ok      ' if condition else 'FAILED  '}{name}{'' if condition else f': {reason}'}", flush=True)
    if not condition:
        failures.append(name)


def run(*command, **options):
    return subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=300, cwd=ROOT, **options)


def make(binary, key, out):
    # Fast rather than small.
    environment = {**os.environ, "DEB_COMPRESSION_LEVEL": "0"}
    result = run("config/release/make", "--binary", binary, "--key", key, "--out", out, env=environment)
    check("config/release/make", result.returncode == 0, result.stdout + result.stderr)


def signed(folder, signers):
    command = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", SIGNER, "-n", NAMESPACE, "-s", folder / "SHA256SUMS.sig"]
    with (folder / "SHA256SUMS").open() as sums:
        result = run(*command, stdin=sums)
    return result.returncode == 0


def check_signature(signers, folder):
    check("the signature is right", signed(FILES, signers))
    listed = {line.split()[1] for line in (FILES / "SHA256SUMS").read_text().splitlines()}
    there = {path.name for path in FILES.iterdir()} - {"SHA256SUMS", "SHA256SUMS.sig"}
    check("every file has a checksum", listed == there, f"{listed} {there}")
    result = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=FILES)
    check("the checksums are right", result.returncode == 0)
    changed = folder / "changed"
    changed.mkdir()
    shutil.copy(FILES / "SHA256SUMS.sig", changed)
    (changed / "SHA256SUMS").write_text((FILES / "SHA256SUMS").read_text().replace("0", "1", 1))
    check("changed checksums are not signed", not signed(changed, signers))


def check_bill(binary):
    text = (FILES / f"streamgauge-{VERSION}.cdx.json").read_text()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    check("the list of components is valid CycloneDX", error is None, error)
    bill = json.loads(text)
    digest = hashlib.sha256(binary.read_bytes()).hexdigest()
    check("it has the program's checksum", bill["metadata"]["component"]["hashes"][0]["content"] == digest)
    scopes = {scope: {part["name"] for part in bill["components"] if part["scope"] == scope} for scope in ("required", "excluded")}
    check("it has what is linked", LINKED <= scopes["required"] and BUILT <= scopes["excluded"], scopes)
    check("it has nothing of tests", not TESTED & (scopes["required"] | scopes["excluded"]), TESTED)
    check("every crate has a licence and a checksum", all("licenses" in part and "hashes" in part for part in bill["components"]))
    references = {part["bom-ref"] for part in bill["components"]}
    edges = {name for edge in bill["dependencies"] for name in edge["dependsOn"]}
    check("dependencies are components", edges <= references, edges - references)


def check_archives(binary):
    name = f"streamgauge-{VERSION}-linux-{os.uname().machine}"
    with tarfile.open(FILES / f"{name}.tar.gz") as archive:
        program = archive.extractfile(f"{name}/streamgauge").read()
        names = set(archive.getnames())
        owners = {(member.uid, member.gid) for member in archive}
    needed = {f"{name}/{path}" for path in ("LICENSE", "man/streamgauge.1", "completions/streamgauge.zsh", "systemd/streamgauge.service", "default.toml")}
    check("the archive has the program and its files", program == binary.read_bytes() and needed <= names, needed - names)
    check("the archive names no user of this machine", owners == {(0, 0)}, owners)
    with helm_python.Chart.load(FILES / f"streamgauge-{VERSION}.tgz") as chart, helm_python.Chart.load(ROOT / "config/helm/streamgauge") as folder:
        check("the chart's archive is the chart", chart.render({}) == folder.render({}) and chart.version == VERSION)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        binary, key = folder / "streamgauge", folder / "key"
        # The names of functions are as large as the program, and are in no release.
        run("strip", "-o", binary, STATIC, check=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", SIGNER, "-f", key, check=True)
        signers = folder / "allowed_signers"
        signers.write_text(f"{SIGNER} {key.with_suffix('.pub').read_text()}")
        shutil.rmtree(FILES, ignore_errors=True)
        make(binary, key, FILES)
        make(binary, key, folder / "again")
        sums = [(place / "SHA256SUMS").read_text() for place in (FILES, folder / "again")]
        check("a second release has the same bytes", sums[0] == sums[1], "\n".join(sums))
        check_signature(signers, folder)
        check_bill(binary)
        check_archives(binary)
    if failures:
        print(f"FAILED: release checks: {', '.join(failures)}")
        sys.exit(1)
    print("release checks: all well")


if __name__ == "__main__":
    main()
