//! Checks that dependencies between modules point downward only, by the table in `src/lib.rs`:
//! reads the `use` lines and the paths.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Words that must not occur in the pure modules, which convert bytes and values.
const PURE: &[&str] = &["codec", "llm", "gate", "balance"];
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "tracing",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "std::time",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "fastrand",
    "std::fs",
    "std::env",
    "std::thread",
];

/// Exceptions for pure modules, with the reasons.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("balance", "std::time", "the caller passes the time"),
    ("balance", "Instant", "the caller passes the time"),
    ("balance", "fastrand", "members are chosen at random, and tests pass the seed"),
];

/// The modules whose own modules are ordered, by the table in their documentation.
const ROOMS: &[&str] = &["llm", "proxy", "server", "sinks", "support", "upstream"];

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
        // A longer word is a different one.
        let has = |word: &str| {
            let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric());
            code.split(word).skip(1).any(ends)
        };
        let may_use = |word: &&str| EXCEPTIONS.iter().any(|(of, what, _)| module == *of && *what == *word);
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

/// A line of a room's table.
struct Line {
    number: usize,
    /// Its modules use each other.
    is_mutual: bool,
}

fn read(room: &str) -> String {
    fs::read_to_string(format!("{}/src/{room}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The table in the documentation of a room.
fn order(room: &str) -> BTreeMap<String, Line> {
    let mut order = BTreeMap::new();
    for line in read(room).lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<_> = line.split(" | ").collect();
        let [number, modules, what] = cells[..] else { continue };
        let Ok(number) = number.parse() else { continue };
        let is_mutual = what.contains("they use each other");
        for module in modules.split(", ").map(|module| module.trim_matches('`').to_owned()) {
            assert!(order.insert(module, Line { number, is_mutual }).is_none(), "twice in {room}: {line}");
        }
    }
    order
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The modules of a room without tests, and the module of each name that the room's own file uses.
fn modules_and_names(room: &str) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let text = read(room);
    let code: String =
        text.lines().filter(|line| !line.starts_with("//")).map(|line| format!("{line}\n")).collect();
    let code = code.replace("#[cfg(test)]\nmod ", "#[cfg(test)] ");
    let (mut modules, mut names) = (BTreeSet::new(), BTreeMap::new());
    let statements = |word: &'static str| {
        let statements = code.split(';').filter_map(move |statement| {
            let line =
                statement.trim_start().lines().last().filter(|_| word == "mod").unwrap_or(statement.trim());
            let (visibility, rest) = line.split_once(&format!("{word} "))?;
            let visibility = visibility.trim();
            (visibility.is_empty() || visibility.starts_with("pub")).then(|| rest.to_owned())
        });
        statements.collect::<Vec<_>>()
    };
    modules.extend(statements("mod").into_iter().filter(|name| words(name).count() == 1));
    for path in statements("use") {
        let mut words = words(&path);
        if let Some(module) = words.next().filter(|module| modules.contains(*module)) {
            names.extend(words.map(|name| (name.to_owned(), module.to_owned())));
        }
    }
    (modules, names)
}

/// The first words of the paths behind each `prefix`, which may be a list in braces.
fn used(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.extend(words(rest).next().map(str::to_owned));
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.extend(words(&std::mem::take(&mut item)).next().map(str::to_owned))
                }
                c => item.push(c),
            }
        }
        found.extend(words(&item).next().map(str::to_owned));
    }
    found
}

#[test]
fn modules_of_a_room_use_those_below_them_only() {
    let mut wrong = Vec::new();
    let sources = sources();
    for room in ROOMS {
        let (order, (modules, names)) = (order(room), modules_and_names(room));
        let named: BTreeSet<_> = order.keys().cloned().collect();
        assert_eq!(named, modules, "the table in src/{room}.rs does not name the modules of the room");
        for (_, file, code) in sources.iter().filter(|(module, ..)| module == room) {
            let Some(inside) = file.strip_prefix(&format!("{room}/")).filter(|file| !file.contains("tests/"))
            else {
                continue;
            };
            let module = inside.split('/').next().unwrap().trim_end_matches(".rs");
            let above = "super::".repeat(inside.split('/').count());
            let paths = [used(code, &format!("crate::{room}::")), used(code, &above)].concat();
            for name in paths {
                let used = if modules.contains(&name) { Some(&name) } else { names.get(&name) };
                let Some(used) = used.filter(|used| *used != module) else { continue };
                let (from, to) = (&order[module], &order[used.as_str()]);
                if to.number < from.number || (to.number == from.number && !from.is_mutual) {
                    wrong.push(format!("src/{file}: `{module}` may not use `{used}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn exceptions_are_used_and_have_a_reason() {
    for (module, word, reason) in EXCEPTIONS {
        assert!(!reason.is_empty(), "{module}: {word}");
        let is_used = sources().iter().any(|(of, _, code)| of == module && code.contains(word));
        assert!(is_used, "{module} does not use {word}");
    }
}
