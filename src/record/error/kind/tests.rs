use std::fmt::Write as _;
use std::path::Path;

use super::{Blame, Info, KINDS, Kind, Retry};

const BEGIN: &str = "<!-- begin: generated from src/record/error/kind.rs -->\n";
const END: &str = "<!-- end: generated -->\n";

/// The variable that makes the test write the table into the page instead of comparing it.
const UPDATE: &str = "UPDATE_DOCS";

fn table() -> String {
    let mut text = String::from("| code | status | fault | repeated | meaning |\n|---|---|---|---|---|\n");
    for Info { code, status, blame, retry, meaning } in KINDS {
        let blame = match blame {
            Blame::Client => "client",
            Blame::Upstream => "upstream",
            Blame::Us => "streamgauge",
        };
        let retry = match retry {
            Retry::Never => "no",
            Retry::NotSent => "safe",
            Retry::BeforeResponse => "may be billed twice",
        };
        writeln!(text, "| `{code}` | {} | {blame} | {retry} | {meaning} |", status.as_u16()).unwrap();
    }
    text
}

#[test]
fn errors_page_has_the_table_of_all_kinds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the begin marker");
    let (found, after) = rest.split_once(END).expect("the page has the end marker");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, [before, BEGIN, &table(), END, after].concat()).unwrap();
        return;
    }
    assert!(
        found == table(),
        "docs/errors.md differs from src/record/error/kind.rs: run `{UPDATE}=1 cargo test --lib errors_page`"
    );
}

#[test]
fn kinds_of_one_code_share_status_and_blame() {
    for one in KINDS {
        for other in KINDS.iter().filter(|other| other.code == one.code) {
            assert_eq!((one.status, one.blame), (other.status, other.blame), "{}", one.code);
        }
    }
}

#[test]
fn only_faults_of_upstreams_can_be_repeated() {
    for info in KINDS.iter().filter(|info| info.retry != Retry::Never) {
        assert_eq!(info.blame, Blame::Upstream, "{}", info.code);
    }
}

#[test]
fn info_is_the_row_of_the_kind() {
    assert_eq!(Kind::MalformedHead.info().code, "malformed_request");
    assert_eq!(Kind::Redirect { host: String::new() }.info().code, "upstream_redirect");
    assert_eq!(Kind::Stopped.info().code, "stopped");
}
