#!/usr/bin/env python3
"""Checks what packages get from the command line itself: completions in three shells, and the manual pages.

Needs Debian's bash, zsh, fish and mandoc.
"""

import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
from programs import BIN  # noqa: E402

# Each prints the completions of "streamgauge WORDS", where the last word is not complete.
BASH = """
source "$1"; shift
COMP_WORDS=(streamgauge "$@"); COMP_CWORD=$#
_streamgauge streamgauge "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'source $argv[1]; complete -C (string join -- " " streamgauge $argv[2..]) | string replace -r "\\t.*" ""'
# zsh completes on a terminal only: another zsh on a pseudo-terminal prints what its completion adds.
ZSH = """
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1= RPS1= LISTMAX=0; autoload -Uz compinit; compinit -u -d $3"
zpty -w z "fpath=($1 \\$fpath); autoload -Uz _streamgauge; compdef _streamgauge streamgauge"
zpty -w z 'compadd() { builtin compadd -A found "$@"; print -r -- "FOUND:${(j: :)found}:"; builtin compadd "$@" }'
zpty -w z 'print READY'
zpty -r -m z line '*READY*READY*'
zpty -w -n z "streamgauge $2"$'\\t'
zpty -r -m z line '*FOUND:[a-z-]*:*'
print -r -- "$line"
zpty -d z
"""

CASES = [
    (["us"], ["usage"], []),
    (["ledger", ""], ["backup", "migrate"], ["create"]),
    (["usage", "--fo"], ["--format"], ["--help"]),
    (["config", "show", "--format", ""], ["json", "toml"], ["show"]),
]

failures = 0


def check(name, condition, reason=""):
    global failures
    failures += not condition
    print(f"{'ok      ' if condition else 'FAILED  '}{name}{'' if condition else ': ' + reason}", flush=True)


def run(*command):
    result = subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=60)
    return result.returncode, result.stdout + result.stderr


def completions(folder):
    for shell in ("bash", "fish", "zsh"):
        status, script = run(BIN, "completions", shell)
        check(f"completions {shell}", status == 0, script)
        (folder / f"_streamgauge.{shell}").write_text(script)
    zsh = folder / "zsh"
    zsh.mkdir()
    (zsh / "_streamgauge").write_text((folder / "_streamgauge.zsh").read_text())
    shells = {
        "bash": lambda words: run("bash", "--norc", "-c", BASH, "bash", folder / "_streamgauge.bash", *words),
        "fish": lambda words: run("fish", "--no-config", "-c", FISH, folder / "_streamgauge.fish", *words),
        "zsh": lambda words: run("zsh", "-f", "-c", ZSH, "zsh", zsh, " ".join(words), folder / "zcompdump"),
    }
    for shell, complete in shells.items():
        for words, expected, others in CASES:
            status, output = complete(words)
            found = output.split("FOUND:")[-1].split(":")[0] if shell == "zsh" else output
            found = set(found.split())
            right = status == 0 and found.issuperset(expected) and found.isdisjoint(others)
            check(f"{shell}: streamgauge {' '.join(words)}", right, f"status {status}: {output}")


def manual(folder):
    status, output = run(BIN, "man", "--into", folder)
    check("man", status == 0, output)
    pages = sorted(folder.glob("*.1"))
    check("a page for each command", len(pages) > 20, str(pages))
    # Without -W, it also reports lines that are longer than 80 bytes.
    status, output = run("mandoc", "-T", "lint", "-W", "warning", *pages)
    check("mandoc -T lint", status == 0, output)
    status, output = run("mandoc", "-T", "utf8", folder / "streamgauge.1")
    check("the page names the commands", all(f"streamgauge-{name}(1)" in output for name in ("serve", "usage", "man")), output)


with tempfile.TemporaryDirectory() as name:
    completions(pathlib.Path(name))
with tempfile.TemporaryDirectory() as name:
    manual(pathlib.Path(name))
print(f"command checks: {failures} failed")
sys.exit(failures > 0)
