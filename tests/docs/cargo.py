"""Replaces `cargo` in the commands of the documentation: their targets, profiles and features must be in Cargo.toml."""

import pathlib
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
names = {kind: {target["name"] for target in manifest.get(kind, [])} for kind in ("test", "bench", "example", "bin")}
names["test"] |= {path.stem for path in (ROOT / "tests").glob("*.rs")}
known = {**names, "profile": set(manifest["profile"]), "features": set(manifest["features"])}

words = sys.argv[1:]
for word, value in zip(words, words[1:]):
    if word.startswith("--") and word[2:] in known and value not in known[word[2:]]:
        sys.exit(f"Cargo.toml has no {word[2:]} {value}")
