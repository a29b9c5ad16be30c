//! Dependencies between modules point downward only (DESIGN.md section 5): read off the `use` lines
//! and the paths.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// From the top down; a module may use those of the lines below its own.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["app"],
    &["proxy", "admin", "simulator"],
    &["meter", "metrics", "ledger", "otlp"],
    &["listener", "upstream"],
    &["error"],
    &["record"],
    &["config", "flow", "telemetry"],
    &["tls", "estimate", "resolver", "browser"],
    &["threads"],
    &["drain", "reload"],
    &["usage", "rewrite", "auth", "balance", "egress", "price"],
    &["provider", "route", "sse", "h1", "json", "coding", "websocket", "traceparent"],
    &["support"],
    &["secret"],
];

/// Modules of one line that may be used by others of it.
const SIDEWAYS: &[(&str, &str)] = &[("telemetry", "config"), ("auth", "rewrite"), ("price", "usage")];

/// What the pure modules may not touch (DESIGN.md section 5: bytes and values in, bytes and values
/// out).
const PURE: &[&str] = &[
    "sse",
    "h1",
    "usage",
    "provider",
    "rewrite",
    "route",
    "auth",
    "egress",
    "browser",
    "price",
    "secret",
    "json",
    "coding",
    "traceparent",
];
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "tracing",
    "TcpStream",
    "UdpSocket",
    "std::time",
    "Instant",
    "SystemTime",
    "std::fs",
    "std::env",
    "std::thread",
];

fn sources() -> Vec<(String, String, String)> {
    fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&root).unwrap().to_owned();
            let module = relative.components().next().unwrap().as_os_str().to_str().unwrap();
            let module = module.trim_end_matches(".rs").to_owned();
            // Tests may look at anything; so may words.
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code: String = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .map(|line| format!("{line}\n"))
                .collect();
            (module, relative.display().to_string(), code)
        })
        .filter(|(module, file, _)| module != "lib" && module != "fuzzing" && !file.ends_with("tests.rs"))
        .collect()
}

fn layer_of(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("the module `{module}` has no layer: give it one here and in src/lib.rs"))
}

#[test]
fn dependencies_point_downward_only() {
    let mut wrong = Vec::new();
    for (module, file, code) in sources() {
        for used in code.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let sideways = SIDEWAYS.contains(&(module.as_str(), used.as_str()));
            if used != module && !sideways && layer_of(&used) <= layer_of(&module) {
                wrong.push(format!("{file}: `{module}` may not use `{used}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_modules_have_no_runtime_clock_socket_or_log() {
    let mut wrong = Vec::new();
    for (module, file, code) in sources().into_iter().filter(|(module, ..)| PURE.contains(&module.as_str())) {
        // A longer word is another one.
        let has = |word: &str| {
            let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric());
            code.split(word).skip(1).any(ends)
        };
        for word in IMPURE.iter().filter(|word| has(word)) {
            wrong.push(format!("{file}: `{module}` is pure and may not use {word}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_in_lib_rs_names_every_module() {
    let lib = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
    let modules: BTreeMap<_, _> = sources().into_iter().map(|(module, file, _)| (module, file)).collect();
    assert!(modules.len() > 15, "the sources were not found");
    for module in modules.keys().filter(|module| *module != "main") {
        assert!(lib.contains(&format!("[`{module}`]")), "src/lib.rs does not name `{module}`");
    }
}
