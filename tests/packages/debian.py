#!/usr/bin/env python3
"""Checks a Debian package: lintian, then installations, an update, a removal and a purge.

    debian.py PACKAGE

They happen in a copy of this system's files that ends with the test: an overlay, in a mount namespace. A program that records its
calls replaces systemctl there. Needs root, and Debian's lintian.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

# The folder of this test, in the environment of the process with namespaces of its own.
FOLDER = "DEBIAN_CHECKS_FOLDER"
CONFIGURATION = "/etc/streamgauge/streamgauge.toml"
WANTED = "/etc/systemd/system/multi-user.target.wants/streamgauge.service"
VALID = '[upstreams.openai]\napi_key = { file = "credentials/openai" }\n'
# systemd's figure for the rights of the unit, in tenths from 0 to 100; the remaining one is the network.
MAX_EXPOSURE = 14
LEDGER = "/var/lib/streamgauge/streamgauge.db"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A unit is enabled if its symlink is there, as a preset makes it, and never active.
SYSTEMCTL = f"""#!/bin/sh
echo "$*" >>/run/calls
case "$*" in
    *is-enabled*) [ -L {WANTED} ] && echo enabled || {{ echo disabled; exit 1; }} ;;
    *is-active*) exit 3 ;;
    *preset*) mkdir -p {pathlib.Path(WANTED).parent} && ln -sf /usr/lib/systemd/system/streamgauge.service {WANTED} ;;
esac
"""

failures = []


def check(name, condition, reason=""):
    print(f"{'ok      ' if condition else 'FAILED  '}{name}{'' if condition else f': {reason}'}", flush=True)
    if not condition:
        failures.append(name)


def run(*command, **options):
    return subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=120, **options)


def lintian(package):
    result = run("lintian", "--allow-root", "--fail-on", "error,warning", package)
    check("lintian", result.returncode == 0 and not result.stdout, result.stdout + result.stderr)


def contents(package):
    names = set(re.findall(r"(?<= \./)\S*[^/\s](?=$)", run("dpkg-deb", "-c", package).stdout, flags=re.M))
    needed = {
        "usr/bin/streamgauge",
        "usr/lib/systemd/system/streamgauge.service",
        "usr/share/bash-completion/completions/streamgauge",
        "usr/share/zsh/vendor-completions/_streamgauge",
        "usr/share/fish/vendor_completions.d/streamgauge.fish",
        "usr/share/man/man1/streamgauge.1.gz",
        "usr/share/man/man1/streamgauge-usage.1.gz",
        "usr/share/doc/streamgauge/sbom.cdx.json.gz",
        CONFIGURATION[1:],
    }
    check("contents", needed <= names, needed - names)


class System:
    """The copy of this system at `root`. Its changes are below `upper`."""

    def __init__(self, folder):
        self.root, self.upper = folder / "root", folder / "files/upper"
        for path in (self.root, folder / "files"):
            path.mkdir()
        run("mount", "-t", "tmpfs", "tmpfs", folder / "files", check=True)
        for path in (self.upper, folder / "files/work"):
            path.mkdir()
        options = f"lowerdir=/,upperdir={self.upper},workdir={folder}/files/work"
        run("mount", "-t", "overlay", "overlay", "-o", options, self.root, check=True)
        run("mount", "-t", "proc", "proc", self.root / "proc", check=True)
        # Single files, so that nothing of this machine can be deleted through them.
        for name in ("null", "zero", "full", "random", "urandom"):
            self.path(f"/dev/{name}").unlink(missing_ok=True)
            self.path(f"/dev/{name}").touch()
            run("mount", "--bind", f"/dev/{name}", self.path(f"/dev/{name}"), check=True)
        for name in ("run", "tmp"):
            run("mount", "-t", "tmpfs", "tmpfs", self.root / name, check=True)
        self.path("/run/systemd/system").mkdir(parents=True)
        self.path("/usr/bin/systemctl").unlink(missing_ok=True)
        self.path("/usr/bin/systemctl").write_text(SYSTEMCTL)
        self.path("/usr/bin/systemctl").chmod(0o755)
        # Packages of this machine may forbid starts, or have no documentation installed.
        self.path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)

    def path(self, name):
        return self.root / name[1:]

    def run(self, *command):
        environment = {"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        return run("chroot", self.root, *command, env=environment)

    def dpkg(self, name, *arguments):
        """The output of dpkg, and the calls of systemctl that it caused."""
        self.path("/run/calls").write_text("")
        result = self.run("dpkg", "--force-confdef", "--force-confold", "--force-unsafe-io", *arguments)
        said = result.stdout + result.stderr
        check(name, result.returncode == 0, said)
        return said, self.path("/run/calls").read_text()

    def install(self, name, package):
        here = self.path("/tmp/package.deb")
        here.write_bytes(package.read_bytes())
        return self.dpkg(name, "-i", "/tmp/package.deb")

    def mode(self, name):
        return self.run("stat", "-c", "%a %U:%G", name).stdout.strip()

    def as_user(self, user, *command):
        return self.run("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command).returncode


def newer(package, folder):
    """The package with a higher version, and another default of its configuration."""
    tree, made = folder / "newer", folder / "newer.deb"
    run("dpkg-deb", "-R", package, tree, check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: (.*)", r"Version: \1+1", control.read_text(), flags=re.M))
    with (tree / CONFIGURATION[1:]).open("a") as file:
        file.write("# Another comment.\n")
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made, check=True)
    return made


def first_installation(system, package):
    said, calls = system.install("installation", package)
    check("without a configuration it says what is missing", "needs an upstream" in said, said)
    check("without a configuration it is not started", "start" not in calls and not system.path(WANTED).is_symlink(), calls)
    check("its modes", system.mode(CONFIGURATION) == "640 root:streamgauge", system.mode(CONFIGURATION))
    credentials = "/etc/streamgauge/credentials"
    check("its modes", system.mode(credentials) == "750 root:streamgauge", system.mode(credentials))
    check("the service reads its configuration", system.as_user("streamgauge", "cat", CONFIGURATION) == 0)
    check("others do not", system.as_user("nobody", "cat", CONFIGURATION) != 0)
    check("the program runs", system.run("streamgauge", "--version").returncode == 0)
    unit = "/usr/lib/systemd/system/streamgauge.service"
    text = system.path(unit).read_text()
    lines = {"ExecStart=/usr/bin/streamgauge serve", "User=streamgauge"}
    check("the unit", lines <= set(text.splitlines()) and "/usr/local" not in text, text)
    verified = system.run("systemd-analyze", "verify", unit)
    check("systemd-analyze verify", verified.returncode == 0 and not verified.stderr, verified.stdout + verified.stderr)
    secured = system.run("systemd-analyze", "security", "--offline=yes", f"--threshold={MAX_EXPOSURE}", unit)
    check("systemd-analyze security", secured.returncode == 0, secured.stdout)


def configure(system):
    """An administrator's first steps."""
    system.path("/etc/streamgauge/credentials/openai").write_text("a-key-of-this-test")
    system.path(CONFIGURATION).write_text(VALID)
    result = system.run("streamgauge", "check", "--config", CONFIGURATION)
    check("its configuration is valid", result.returncode == 0, result.stdout + result.stderr)
    system.path(LEDGER).parent.mkdir(parents=True)
    system.path(LEDGER).write_text("rows")


def later(system, package, folder):
    _, calls = system.install("update of a service that is off", newer(package, folder))
    check("an update does not enable it", "restart streamgauge" not in calls and not system.path(WANTED).is_symlink(), calls)
    check("an update keeps the configuration", system.path(CONFIGURATION).read_text() == VALID, "it is another")
    check("an update keeps its mode", system.mode(CONFIGURATION) == "640 root:streamgauge", system.mode(CONFIGURATION))
    # As `systemctl enable` does.
    system.path(WANTED).parent.mkdir(parents=True, exist_ok=True)
    system.path(WANTED).symlink_to("/usr/lib/systemd/system/streamgauge.service")
    _, calls = system.install("update of a service", newer(package, folder / "again"))
    check("an update restarts it", "restart streamgauge.service" in calls, calls)
    _, calls = system.dpkg("removal", "--remove", "streamgauge")
    check("a removal stops it", "stop streamgauge.service" in calls, calls)
    kept = [system.path(name).exists() for name in (CONFIGURATION, LEDGER, "/etc/streamgauge/credentials/openai")]
    check("a removal keeps configuration and ledger", all(kept) and not system.path("/usr/bin/streamgauge").exists(), kept)
    _, calls = system.install("installation after a removal", package)
    check("it is started again", "restart streamgauge.service" in calls, calls)
    system.dpkg("purge", "--purge", "streamgauge")
    left = [str(path) for path in system.upper.rglob("*streamgauge*") if not path.is_char_device()]
    check("a purge leaves nothing", not left, left)


def configured_before(system, package):
    """A configuration that was there before the package, such as of Ansible."""
    folder = system.path("/etc/streamgauge/credentials")
    folder.mkdir(parents=True)
    (folder / "openai").write_text("a-key-of-this-test")
    system.path(CONFIGURATION).write_text(VALID)
    _, calls = system.install("installation with a configuration", package)
    check("it is enabled and started", "start streamgauge.service" in calls and system.path(WANTED).is_symlink(), calls)
    check("its configuration is kept", system.path(CONFIGURATION).read_text() == VALID, "it is another")


def main():
    package = pathlib.Path(sys.argv[1]).resolve()
    # Mounts and processes end with their namespaces, before the folder is deleted.
    if FOLDER not in os.environ:
        with tempfile.TemporaryDirectory() as name:
            unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
            sys.exit(subprocess.run([*unshare, sys.executable, *sys.argv], env={**os.environ, FOLDER: name}).returncode)
    folder = pathlib.Path(os.environ[FOLDER])
    lintian(package)
    contents(package)
    for name in ("again", "system"):
        (folder / name).mkdir()
    system = System(folder / "system")
    first_installation(system, package)
    configure(system)
    later(system, package, folder)
    configured_before(system, package)
    if failures:
        print(f"FAILED: package checks: {', '.join(failures)}")
        sys.exit(1)
    print("package checks: all well")


if __name__ == "__main__":
    main()
