//! `[groups.NAME]`.

use std::time::Duration;

use super::mistakes::each;
use super::*;
use crate::balance::{BreakerPolicy, ChoiceBy, RetryOn, RetryPolicy, StickyBy};

/// Three upstreams.
const UPSTREAMS: &str = "[upstreams.a]\nprovider = \"other\"\nurl = \"http://127.0.0.1:1\"\napi_key = \"none\"\ndefault_model = \"m\"\n\
    [upstreams.b]\nprovider = \"other\"\nurl = \"http://127.0.0.1:2\"\napi_key = \"none\"\ndefault_model = \"m\"\n\
    [upstreams.azure]\nurl = \"https://r\"\napi_key = { value = \"k\" }\n";

const ROUTE: &str = "[[routes]]\nupstream = \"chat\"\n";

fn groups(text: &str) -> Vec<GroupSettings> {
    settings(&format!("{UPSTREAMS}{text}\n{ROUTE}")).groups
}

fn member(upstream: usize) -> MemberSettings {
    MemberSettings { upstream, weight: 1, model: None }
}

#[test]
fn group_has_its_members_by_preference_and_defaults() {
    let groups = groups(
        "[groups.chat]\ntiers = [[\"azure\"], [\"b\", { upstream = \"a\", weight = 2, model = \"x\" }]]",
    );
    let [group] = &groups[..] else { panic!("{groups:?}") };
    let last = MemberSettings { upstream: 0, weight: 2, model: Some("x".to_owned()) };
    assert_eq!((group.name.as_str(), &group.tiers), ("chat", &vec![vec![member(2)], vec![member(1), last]]));
    assert_eq!(group.retry, RetryPolicy::default());
    assert_eq!(group.retry.attempts_of(3), 3);
}

#[test]
fn retry_has_its_own_words_and_numbers() {
    let retry = |lines: &str| {
        let text = format!("[groups.chat]\ntiers = [[\"a\", \"b\"]]\n[groups.chat.retry]\n{lines}");
        groups(&text).remove(0).retry
    };
    let on = retry("on = [\"429\", \"connect\", \"429\"]").on;
    assert_eq!(on, RetryOn::parse(["connect", "429"]).unwrap());
    assert_eq!(retry("on = []").on, RetryOn::NONE);
    let retry =
        retry("attempts = 1\ndeadline = \"20s\"\nbudget = 10\non = [\"doubtful\"]\nfirst_byte = \"5s\"");
    assert_eq!((retry.attempts, retry.deadline, retry.budget), (1, Duration::from_secs(20), 10.0));
    assert_eq!(retry.first_byte, Some(Duration::from_secs(5)));
}

#[test]
fn same_upstream_may_be_there_with_several_models() {
    groups(
        "[groups.chat]\ntiers = [[\"a\", { upstream = \"a\", model = \"x\" }], [{ upstream = \"a\", model = \"y\" }]]",
    );
}

#[test]
fn member_mistakes() {
    let tiers = |tiers: &str| format!("[groups.chat]\ntiers = {tiers}\n{ROUTE}");
    each(
        UPSTREAMS,
        &[
            (&format!("[groups.chat]\n{ROUTE}"), "groups.chat.tiers", "is missing: write the members"),
            (&tiers("[]"), "groups.chat.tiers", "is empty"),
            (&tiers("[[\"a\"], []]"), "groups.chat.tiers[1]", "is an empty tier"),
            (&tiers("\"a\""), "groups.chat.tiers", "must be a list of tiers"),
            (&tiers("[\"a\"]"), "groups.chat.tiers[0]", "must be a list of members"),
            (&tiers("[[1]]"), "groups.chat.tiers[0][0]", "must be the name of an upstream in quotes"),
            (
                &tiers("[[\"azrue\"]]"),
                "groups.chat.tiers[0][0]",
                "there is no upstream \"azrue\"; did you mean \"azure\"?",
            ),
            (&tiers("[[{ upstream = \"vertex\" }]]"), "groups.chat.tiers[0][0].upstream", "only a, b, azure"),
            (&tiers("[[{ weight = 1 }]]"), "groups.chat.tiers[0][0].upstream", "is missing"),
            (
                &tiers("[[{ upstream = \"a\", wieght = 1 }]]"),
                "groups.chat.tiers[0][0].wieght",
                "did you mean `weight`?",
            ),
            (
                &tiers("[[{ upstream = \"a\", weight = 9000000 }]]"),
                "groups.chat.tiers[0][0].weight",
                "at most 1000000",
            ),
            (
                &tiers("[[{ upstream = \"a\", model = \"\" }]]"),
                "groups.chat.tiers[0][0].model",
                "leave it out",
            ),
            (&tiers("[[\"a\"], [\"b\", \"a\"]]"), "groups.chat.tiers[1][1]", "is in this group already"),
            (&tiers("[[{ upstream = \"a\", weight = 0 }]]"), "groups.chat.tiers", "the weight of each is 0"),
            (
                &tiers("[[\"a\", \"chat\"]]"),
                "groups.chat.tiers[0][1]",
                "\"chat\" is a group, and the members",
            ),
            (
                &format!("[groups.a]\ntiers = [[\"b\"]]\n{}", tiers("[[\"a\"]]")),
                "groups.a",
                "is the name of an upstream too",
            ),
            (
                &format!(
                    "{}[[routes]]\nupstream = \"chta\"",
                    tiers("[[\"a\"]]").replace("[[routes]]", "[[routes]]\npath = \"/x\"")
                ),
                "routes[1].upstream",
                "did you mean \"chat\"?",
            ),
            (
                &tiers("[[\"azure\"], [\"a\"]]").replace("[[routes]]", "[[routes]]\npath = \"/openai\""),
                "routes[0]",
                "which `a` of the group does not serve",
            ),
        ],
    );
}

#[test]
fn retry_mistakes() {
    let retry = |lines: &str| {
        format!("[groups.chat]\ntiers = [[\"a\", \"b\"]]\n[groups.chat.retry]\n{lines}\n{ROUTE}")
    };
    each(
        UPSTREAMS,
        &[
            (&retry("attempts = 3"), "groups.chat.retry.attempts", "3 is more than the group's 2 members"),
            (&retry("on = [\"retriable\"]"), "groups.chat.retry.on[0]", "did you mean \"retryable\"?"),
            (
                &retry("on = [\"501\"]"),
                "groups.chat.retry.on[0]",
                "write some of retryable, doubtful, connect",
            ),
            (&retry("on = \"429\""), "groups.chat.retry.on", "must be an array of texts"),
            (&retry("first_byte = \"5s\""), "groups.chat.retry.first_byte", "without \"first_byte\" in `on`"),
            (
                &retry("on = [\"doubtful\"]\nfirst_byte = \"10m\"\ndeadline = \"20m\""),
                "groups.chat.retry.first_byte",
                "is longer than timeouts.first_byte of every member, at most 200s",
            ),
            (
                &retry("on = [\"doubtful\"]\nfirst_byte = \"30s\"\ndeadline = \"20s\""),
                "groups.chat.retry.deadline",
                "is shorter than first_byte",
            ),
            (&retry("budget = 10.5"), "groups.chat.retry.budget", "must be a number from 0 to 10"),
            (&retry("budget = \"1\""), "groups.chat.retry.budget", "must be a number from 0 to 10"),
            (&retry("attempt = 1"), "groups.chat.retry.attempt", "did you mean `attempts`?"),
        ],
    );
}

#[test]
fn choice_has_its_words_and_mistakes() {
    let of = |lines: &str| groups(&format!("[groups.chat]\ntiers = [[\"a\"]]\n{lines}")).remove(0);
    let group = of("");
    let words = |words: &[&str]| words.iter().map(|word| StickyBy::parse(word).unwrap()).collect::<Vec<_>>();
    assert_eq!(group.balance, ChoiceBy::Latency);
    assert_eq!(group.sticky, words(&["session", "prompt_cache_key", "prompt"]));
    assert_eq!(group.first_event, Some(Duration::from_secs(2)));
    let group = of("balance = \"weight\"\nsticky = [\"x-thread\", \"conversation\"]\nfirst_event = \"\"");
    assert_eq!((group.balance, group.first_event), (ChoiceBy::Weight, None));
    assert_eq!(group.sticky, words(&["x-thread", "conversation"]));
    let text = |lines: &str| format!("[groups.chat]\ntiers = [[\"a\"]]\n{lines}\n{ROUTE}");
    each(
        UPSTREAMS,
        &[
            (&text("balance = \"random\""), "groups.chat.balance", "write \"latency\" or \"weight\""),
            (&text("sticky = [\"sesion\"]"), "groups.chat.sticky[0]", "did you mean \"session\"?"),
            (&text("sticky = [\"a b\"]"), "groups.chat.sticky[0]", "is not a header name"),
            (&text("sticky = [\"authorization\"]"), "groups.chat.sticky[0]", "is never forwarded"),
            (&text("sticky = [\"cookie\"]"), "groups.chat.sticky[0]", "is never forwarded"),
            (&text("first_event = \"0s\""), "groups.chat.first_event", "longer than zero"),
        ],
    );
}

#[test]
fn queue_has_its_numbers_and_mistakes() {
    let of = |lines: &str| {
        let group = groups(&format!("[groups.chat]\ntiers = [[\"a\"]]\n{lines}")).remove(0);
        (group.concurrent, group.wait, group.queue)
    };
    assert_eq!(of(""), (0, None, 1000));
    let own = of("concurrent = 4\nwait = \"60s\"\nqueue = 10");
    assert_eq!(own, (4, Some(Duration::from_secs(60)), 10));
    let text = |lines: &str| format!("[groups.chat]\ntiers = [[\"a\"]]\n{lines}\n{ROUTE}");
    each(
        UPSTREAMS,
        &[
            (&text("concurrent = -1"), "groups.chat.concurrent", "0 or more"),
            (&text("concurrent = 1000001"), "groups.chat.concurrent", "at most 1000000; 0 is any number"),
            (&text("wait = 5"), "groups.chat.wait", "must be a duration"),
            (&text("wait = \"61s\""), "groups.chat.wait", "is longer than retry.deadline, 60s"),
            (
                &text("wait = \"10s\"\n[groups.chat.retry]\ndeadline = \"9s\""),
                "groups.chat.wait",
                "is longer than retry.deadline, 9s",
            ),
            (&text("wait = \"1s\"\nqueue = 0"), "groups.chat.queue", "must be at least 1"),
            (&text("wait = \"1s\"\nqueue = 100001"), "groups.chat.queue", "must be at most 100000"),
            (&text("wiat = \"1s\""), "groups.chat.wiat", "did you mean `wait`?"),
        ],
    );
    let warnings = from_text(&format!("{UPSTREAMS}{}", text("queue = 5"))).unwrap().warnings;
    let warned = |warning: &&String| warning.contains("groups.chat.queue: has no effect without `wait`");
    assert_eq!(warnings.iter().filter(warned).count(), 1, "{warnings:?}");
}

#[test]
fn breaker_has_its_numbers_and_pauses() {
    let breaker = |lines: &str| {
        let text = format!("[groups.chat]\ntiers = [[\"a\"]]\n[groups.chat.breaker]\n{lines}");
        groups(&text).remove(0).breaker
    };
    let trial = Duration::from_secs(200);
    assert_eq!(breaker(""), BreakerPolicy { trial, ..BreakerPolicy::default() });
    let own = breaker("failures = 0\nsuccess_rate = 0.9\nrequests = 10\npause = [\"1s\", \"5m\"]");
    let (pause, longest_pause) = (Duration::from_secs(1), Duration::from_secs(300));
    let expected =
        BreakerPolicy { failures: 0, success_rate: 0.9, requests: 10, pause, longest_pause, trial };
    assert_eq!(own, expected);
}

#[test]
fn probe_is_a_path_or_nothing() {
    let probe = |lines: &str| {
        let text = format!("[groups.chat]\ntiers = [[\"a\"]]\n[groups.chat.breaker]\n{lines}");
        groups(&text).remove(0).probe
    };
    for (lines, path) in [
        ("", None),
        ("probe = \"\"", None),
        ("probe = \"/v1/models\"", Some("/v1/models")),
        ("probe = \"/health\"", Some("/health")),
    ] {
        assert_eq!(probe(lines).as_deref(), path, "{lines}");
    }
}

#[test]
fn breaker_mistakes() {
    let breaker =
        |lines: &str| format!("[groups.chat]\ntiers = [[\"a\"]]\n[groups.chat.breaker]\n{lines}\n{ROUTE}");
    each(
        UPSTREAMS,
        &[
            (
                &breaker("success_rate = 1.5"),
                "groups.chat.breaker.success_rate",
                "must be a number from 0 to 1",
            ),
            (&breaker("requests = 0"), "groups.chat.breaker.requests", "must be at least 1"),
            (&breaker("probe = \"v1/models\""), "groups.chat.breaker.probe", "must begin with a slash"),
            (&breaker("probe = \"/v1/models?x\""), "groups.chat.breaker.probe", "without a query"),
            (&breaker("probe = \"/v1/../x\""), "groups.chat.breaker.probe", "no `.`, `..` or empty segments"),
            (&breaker("probe = \"/v1/chat/completions\""), "groups.chat.breaker.probe", "cost tokens"),
            (&breaker("probe = \"/v1/images/edits\""), "groups.chat.breaker.probe", "cost tokens"),
            (&breaker("probe = true"), "groups.chat.breaker.probe", "must be a path in quotes"),
            (&breaker("failures = -1"), "groups.chat.breaker.failures", "0 or more"),
            (&breaker("pause = [\"2s\"]"), "groups.chat.breaker.pause", "must be two durations"),
            (&breaker("pause = \"2s\""), "groups.chat.breaker.pause", "must be an array of texts"),
            (&breaker("pause = [\"2m\", \"60s\"]"), "groups.chat.breaker.pause", "swap them"),
            (&breaker("pause = [\"0s\", \"60s\"]"), "groups.chat.breaker.pause[0]", "longer than zero"),
        ],
    );
}

#[test]
fn all_mistakes_of_groups_are_named_at_once_with_their_lines() {
    let text =
        "[groups.chat]\ntiers = [\n  [\"x\"],\n  [],\n]\n[groups.chat.retry]\nattempts = 9\non = [\"y\"]\n";
    let mistakes = load_text(Some(&format!("{text}{UPSTREAMS}{ROUTE}")), &[], None).expect_err(text).0;
    let lines: Vec<_> = mistakes.iter().map(Mistake::to_string).collect();
    for (line, place) in
        [("3", "groups.chat.tiers[0][0]"), ("4", "groups.chat.tiers[1]"), ("8", "groups.chat.retry.on[0]")]
    {
        let expected = format!(":{line}: {place}: ");
        assert!(lines.iter().any(|mistake| mistake.contains(&expected)), "{expected} in {lines:#?}");
    }
}

#[test]
fn group_without_a_route_is_warned_of_and_its_members_are_not() {
    let warnings = |route: &str| {
        let text = format!(
            "{UPSTREAMS}[groups.chat]\ntiers = [[\"a\"], [\"azure\"]]\n[[routes]]\nupstream = \"{route}\""
        );
        from_text(&text).unwrap().warnings
    };
    let places = |warnings: Vec<String>| {
        let unused = warnings.into_iter().filter(|warning| warning.contains("no route leads here"));
        unused.map(|warning| warning.split(": ").nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(places(warnings("chat")), ["upstreams.b"]);
    assert_eq!(places(warnings("b")), ["groups.chat"]);
}
