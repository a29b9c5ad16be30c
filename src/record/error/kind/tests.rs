use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use http::{HeaderValue, header};

use super::{Blame, Info, KINDS, Kind, LimitReached, Retry};
use crate::record::error::Error;

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
            Retry::AfterPause => "after a pause",
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
fn only_faults_of_upstreams_can_be_repeated_at_once() {
    for info in KINDS.iter().filter(|info| !matches!(info.retry, Retry::Never | Retry::AfterPause)) {
        assert_eq!(info.blame, Blame::Upstream, "{}", info.code);
    }
}

#[test]
fn refusal_has_retry_after_exactly_if_repeated_after_a_pause() {
    let pause = Duration::from_secs(2);
    let reached = LimitReached {
        whose: "client search".to_owned(),
        key: "limits[0] in [clients.search]".to_owned(),
        unit: "requests".to_owned(),
        used: "1".to_owned(),
        want: "1".to_owned(),
        most: "1".to_owned(),
        remaining: "0".to_owned(),
        is_rate: true,
        retry_after: Some(pause),
        until: None,
    };
    let refusals = [
        Kind::UpstreamsRateLimited { retry_after: Some(pause), holder: None },
        Kind::UpstreamsBusy { wait: pause, holder: None },
        Kind::UpstreamBusy,
        Kind::QueueFull,
        Kind::LimitReached(Box::new(reached)),
        Kind::LimitsUnavailable,
        Kind::Overloaded,
        Kind::ClientOverloaded,
        Kind::MemoryFull,
        Kind::NoPlace,
    ];
    assert_eq!(KINDS.iter().filter(|info| info.retry == Retry::AfterPause).count(), refusals.len());
    let others =
        [Kind::KeyMissing, Kind::Unreachable, Kind::Unanswered, Kind::ModelsUnavailable, Kind::Stopped];
    let kinds = refusals.into_iter().map(|kind| (kind, true)).chain(others.map(|kind| (kind, false)));
    for (kind, has_pause) in kinds {
        let error = Error::from(kind);
        let response = error.to_response(HeaderValue::from_static("the-id"), None);
        let has_header = response.headers().contains_key(header::RETRY_AFTER);
        assert_eq!(has_header, has_pause, "{}", error.code());
        assert_eq!(error.retry() == Retry::AfterPause, has_pause, "{}", error.code());
        assert!(!has_pause || !error.may_be_executed(), "{}", error.code());
    }
}

#[test]
fn info_is_the_row_of_the_kind() {
    assert_eq!(Kind::MalformedHead.info().code, "malformed_request");
    assert_eq!(Kind::Redirect { host: String::new() }.info().code, "upstream_redirect");
    assert_eq!(Kind::Stopped.info().code, "stopped");
}
