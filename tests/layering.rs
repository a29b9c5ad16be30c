//! Checks that dependencies between modules point downward only, by the table in `src/lib.rs`:
//! reads the `use` lines and the paths.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Words that must not occur in the pure modules, which convert bytes and values.
const PURE: &[&str] = &["codec", "llm", "gate", "balance"];
/// Words that `balance` may use: it takes the time as a value.
const TIME: &[&str] = &["std::time", "Instant"];
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
            // Tests and comments may mention anything.
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

/// The table in `src/lib.rs`: the layer of each module, counted from the top.
fn layers() -> BTreeMap<String, usize> {
    let lib = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
    let mut layers = BTreeMap::from([("main".to_owned(), 0)]);
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = line.split(" | ");
        let (Some(Ok(layer)), Some(modules)) = (cells.next().map(str::parse), cells.next()) else { continue };
        for module in modules.split(", ") {
            let module = module.trim_start_matches("[`").trim_end_matches("`]").to_owned();
            assert!(layers.insert(module, layer).is_none(), "a module of two layers: {line}");
        }
    }
    layers
}

#[test]
fn dependencies_point_downward_only() {
    let layers = layers();
    let layer_of = |module: &str| {
        *layers.get(module).unwrap_or_else(|| panic!("the table in src/lib.rs has no module `{module}`"))
    };
    let mut wrong = Vec::new();
    for (module, file, code) in sources() {
        for used in code.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if used != module && layer_of(&used) <= layer_of(&module) {
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
        let may_use = |word: &&str| module == "balance" && TIME.contains(word);
        for word in IMPURE.iter().filter(|word| has(word) && !may_use(word)) {
            wrong.push(format!("{file}: `{module}` is pure and may not use {word}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_in_lib_rs_names_every_module_and_no_other() {
    let modules: BTreeSet<_> = sources().into_iter().map(|(module, ..)| module).collect();
    assert!(modules.len() > 15, "the sources were not found");
    let named: BTreeSet<_> = layers().into_keys().collect();
    assert_eq!(named, modules);
}
