//! Checks the rules of CONTRIBUTING.md for words and names, as far as a program can.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Words and phrases that comments, documentation and messages avoid, each with a plain one.
const WORDS: &[(&str, &str)] = &[
    ("anew", "again"),
    ("answer", "response"),
    ("answered", "responded"),
    ("answers", "responses, responds"),
    ("be it", "whether"),
    ("but for", "except"),
    ("goes by", "passes, follows"),
    ("is told", "gets, receives"),
    ("lest", "so that ... not"),
    ("nobody", "no client, no one"),
    ("shall", "must"),
    ("somebody", "a client, a program"),
    ("the way of a request", "the path of a request"),
    ("the way out", "the connection"),
    ("thereof", "of it"),
    ("whoever", "the client that"),
    ("whom", "the client that"),
];

/// First words of comments whose sentence has no noun as its subject.
const NO_SUBJECTS: &[&str] = &[
    "as", "how", "it", "of", "so", "that", "they", "what", "when", "where", "whether", "which", "who",
    "whoever", "whom", "whose", "why",
];

/// The largest number of characters of a test's name.
const TEST_NAME: usize = 60;

/// Type names that more than one module may define.
const SHARED_NAMES: &[&str] = &["Error", "Result"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), extension, &mut found);
    assert!(!found.is_empty(), "no .{extension} file below {folder}");
    found
}

/// The lines of a file without the unit tests at its end.
fn production_code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Returns true if `text` has `phrase` with no letter beside it.
fn has_phrase(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(at, _)| {
        let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphabetic() || c == '-');
        !is_letter(text[..at].chars().next_back()) && !is_letter(text[at + phrase.len()..].chars().next())
    })
}

/// The comments of source code, one text for each run of comment lines, with its first line.
fn comments(code: &str, mark: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (number, line) in code.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix(mark) else {
            is_open = false;
            continue;
        };
        let comment = comment.trim_start_matches(['/', '!', '#']).trim();
        match found.last_mut().filter(|_| is_open) {
            Some((_, text)) => {
                text.push(' ');
                text.push_str(comment);
            }
            None => found.push((number + 1, comment.to_owned())),
        }
        is_open = true;
    }
    found
}

/// The first word of each paragraph of comments, with its line.
fn first_words(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for (number, line) in code.lines().enumerate() {
        let text =
            line.trim_start().strip_prefix("//").map(|text| text.trim_start_matches(['/', '!']).trim());
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            is_inside = false;
            continue;
        };
        if !is_inside {
            let text = text.trim_start_matches(|c: char| !c.is_alphanumeric());
            let word = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            found.push((number + 1, word.to_lowercase()));
        }
        is_inside = true;
    }
    found
}

fn refused_words(place: &str, text: &str, wrong: &mut Vec<String>) {
    let text: String = text.split('`').step_by(2).collect::<Vec<_>>().join("``").to_lowercase();
    for (word, plain) in WORDS.iter().filter(|(word, _)| has_phrase(&text, word)) {
        wrong.push(format!("{place}: \"{word}\"; write: {plain}"));
    }
}

#[test]
fn comments_and_pages_use_plain_words() {
    let mut wrong = Vec::new();
    for path in ["src", "tests", "benches"].iter().flat_map(|folder| files(folder, "rs")) {
        if path.ends_with("tests/style.rs") {
            continue;
        }
        let code = fs::read_to_string(&path).unwrap();
        for (line, text) in comments(&code, "//") {
            refused_words(&format!("{}:{line}", shown(&path)), &text, &mut wrong);
        }
    }
    let configuration = root().join("config/default.toml");
    for (line, text) in comments(&fs::read_to_string(&configuration).unwrap(), "#") {
        refused_words(&format!("config/default.toml:{line}"), &text, &mut wrong);
    }
    let mut pages = files("docs", "md");
    pages.extend(["README.md", "CHANGELOG.md"].map(|page| root().join(page)));
    for page in pages {
        for (number, line) in fs::read_to_string(&page).unwrap().lines().enumerate() {
            refused_words(&format!("{}:{}", shown(&page), number + 1), line, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn comments_begin_with_a_noun_or_a_verb() {
    let mut wrong = Vec::new();
    for path in ["src", "tests", "benches", "fuzz/fuzz_targets"].iter().flat_map(|folder| files(folder, "rs"))
    {
        let code = fs::read_to_string(&path).unwrap();
        for (line, word) in first_words(&code) {
            if NO_SUBJECTS.contains(&word.as_str()) {
                wrong.push(format!("{}:{line}: begins with \"{word}\"", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

/// A response is called a response in identifiers and strings too.
#[test]
fn code_calls_a_response_a_response() {
    let mut wrong = Vec::new();
    for path in ["src", "tests", "benches", "fuzz/fuzz_targets"].iter().flat_map(|folder| files(folder, "rs"))
    {
        if path.ends_with("tests/style.rs") {
            continue;
        }
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.to_lowercase().replace("unanswered", "").contains("answer") {
                wrong.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

/// Checks the texts between double quotes in production code, which are mostly messages.
#[test]
fn messages_use_plain_words() {
    let mut wrong = Vec::new();
    for path in files("src", "rs") {
        if shown(&path).ends_with("tests.rs") || shown(&path).contains("/tests/") {
            continue;
        }
        for (number, line) in production_code(&path).lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for text in line.split('"').skip(1).step_by(2) {
                refused_words(&format!("{}:{}", shown(&path), number + 1), text, &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_public_type_has_a_name_of_its_own() {
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files("src", "rs").into_iter().filter(|path| !shown(path).contains("fuzzing")) {
        for line in production_code(&path).lines() {
            let Some(rest) = line.strip_prefix("pub ") else { continue };
            let mut words = rest.split(|c: char| !c.is_alphanumeric() && c != '_');
            if matches!(words.next(), Some("struct" | "enum" | "trait" | "type" | "union")) {
                let name = words.next().unwrap_or_default().to_owned();
                named.entry(name).or_default().push(shown(&path));
            }
        }
    }
    assert!(named.len() > 200, "the types were not found");
    named.retain(|name, places| places.len() > 1 && !SHARED_NAMES.contains(&name.as_str()));
    assert!(named.is_empty(), "{named:#?}");
}

/// A predicate takes `&self`, polls nothing and changes nothing.
#[test]
fn a_predicate_changes_nothing() {
    let mut wrong = Vec::new();
    for path in files("src", "rs") {
        let code = production_code(&path);
        for (at, _) in code.match_indices("fn ") {
            let signature = &code[at + 3..];
            let signature = &signature[..signature.find(['{', ';']).unwrap_or(signature.len())];
            let is_predicate = ["is_", "has_", "may_"].iter().any(|start| signature.starts_with(start));
            if is_predicate && (signature.contains("&mut self") || signature.contains("Context<")) {
                let name = signature.split(['(', '<']).next().unwrap_or_default();
                wrong.push(format!("{}: {name}", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The names of the functions that `#[test]` or `#[tokio::test]` marks.
fn test_names(code: &str) -> Vec<&str> {
    let mut is_marked = false;
    let mut found = Vec::new();
    for line in code.lines().map(str::trim_start) {
        is_marked |= ["#[test]", "#[tokio::test"].iter().any(|mark| line.starts_with(mark));
        let Some((_, rest)) = line.split_once("fn ").filter(|_| !line.starts_with(['/', '#'])) else {
            continue;
        };
        if std::mem::take(&mut is_marked) {
            found.extend(rest.split('(').next());
        }
    }
    found
}

#[test]
fn test_names_are_short_and_begin_with_a_subject() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for path in ["src", "tests", "benches"].iter().flat_map(|folder| files(folder, "rs")) {
        let code = fs::read_to_string(&path).unwrap();
        let names = test_names(&code);
        count += names.len();
        let has_subject = |name: &str| !NO_SUBJECTS.contains(&name.split('_').next().unwrap_or_default());
        let bad = names.into_iter().filter(|name| name.len() > TEST_NAME || !has_subject(name));
        wrong.extend(bad.map(|name| format!("{}: {name}, {} characters", shown(&path), name.len())));
    }
    assert!(count > 1000, "the tests were not found: {count}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn test_names_are_those_of_marked_functions() {
    let code = "fn a() {}\n#[test]\n// Not fn b().\n#[cfg(unix)]\nfn c() {}\n\
                #[tokio::test(start_paused = true)]\nasync fn d() {}\nfn e() {}\n";
    assert_eq!(test_names(code), ["c", "d"]);
}

#[test]
fn the_refused_words_are_found_by_whole_words() {
    assert!(has_phrase("the write fails, lest it be lost", "lest"));
    assert!(!has_phrase("the oldest of them", "lest"));
    assert!(has_phrase("nobody reads it", "nobody"));
    let comments = comments("fn a() {}\n/// One that goes\n/// by a name.\nlet x;\n// other\n", "//");
    assert_eq!(comments, [(2, "One that goes by a name.".to_owned()), (5, "other".to_owned())]);
}
