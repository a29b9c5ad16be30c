use std::time::Instant;

use super::*;
use RetryClass::{Doubtful, OtherMember, Relay, Retryable};

fn clock() -> Clock {
    Clock { now: Instant::now(), unix: Duration::from_secs(1_700_000_000) }
}

fn of_status(status: u16, body: &str) -> Verdict {
    let error = UpstreamError::parse(body.as_bytes());
    Verdict::of(&Failure::Response { status, headers: &Headers::default(), error: &error }, clock())
}

fn of_event(data: &str) -> Verdict {
    Verdict::of(&Failure::FirstEvent { error: &UpstreamError::parse(data.as_bytes()) }, clock())
}

#[test]
fn status_decides_class_and_scope() {
    for (statuses, class, closes) in [
        (&[500, 502, 503, 529][..], Retryable, Closes::Run),
        (&[504], Doubtful, Closes::Run),
        (&[408], Doubtful, Closes::Nothing),
        (&[507, 520, 599], Relay, Closes::Run),
        (&[501, 505], Relay, Closes::Nothing),
        (&[400, 402, 404, 405, 409, 413, 415, 418, 422, 451], Relay, Closes::Nothing),
        (&[429], Retryable, Closes::Limit(None)),
        (&[401], OtherMember, Closes::Upstream(CREDENTIALS)),
        (&[403], OtherMember, Closes::Model(FORBIDDEN)),
        (&[200, 302, 600], Relay, Closes::Nothing),
    ] {
        for &status in statuses {
            let verdict = of_status(status, "");
            assert_eq!((verdict.class, verdict.closes), (class, closes), "{status}");
        }
    }
}

#[test]
fn failures_without_a_response_have_their_words() {
    let second = Duration::from_secs(1);
    for (failure, class, word, closes) in [
        (Failure::Connect, Retryable, RetryWord::Connect, Closes::Connection),
        (Failure::Closed, Doubtful, RetryWord::Closed, Closes::Run),
        (Failure::FirstByte(second), Doubtful, RetryWord::FirstByte, Closes::Run),
        (Failure::EmptyStream, Retryable, RetryWord::BadGateway, Closes::Run),
    ] {
        let verdict = Verdict::of(&failure, clock());
        assert_eq!((verdict.class, verdict.words[0], verdict.closes), (class, Some(word), closes));
    }
}

#[test]
fn retry_on_decides_by_class_and_word() {
    let on = |words: &[&'static str]| RetryOn::parse(words.iter().copied()).unwrap();
    assert!(of_status(503, "").may_retry(on(&["retryable"])));
    assert!(!of_status(504, "").may_retry(on(&["retryable"])));
    assert!(of_status(504, "").may_retry(on(&["doubtful"])));
    assert!(of_status(503, "").may_retry(on(&["503"])) && !of_status(502, "").may_retry(on(&["503"])));
    assert!(of_status(401, "").may_retry(RetryOn::NONE), "another key may do");
    assert!(!of_status(400, "").may_retry(on(&RetryOn::WORDS)));
    let overloaded = of_event(r#"{"type":"error","error":{"type":"overloaded_error"}}"#);
    assert!(overloaded.may_retry(on(&["first_event"])) && overloaded.may_retry(on(&["529"])));
    assert!(!overloaded.may_retry(on(&["503"])));
}

#[test]
fn words_of_a_404_name_a_model() {
    for body in [
        r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","code":"model_not_found"}}"#,
        r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment does not exist."}}"#,
        r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-x"}}"#,
        r#"{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","code":404}"#,
    ] {
        let verdict = of_status(404, body);
        assert_eq!((verdict.class, verdict.closes), (OtherMember, Closes::Model(UNKNOWN_MODEL)), "{body}");
    }
    let body = r#"{"type":"error","error":{"type":"not_found_error","message":"no such path"}}"#;
    assert_eq!(of_status(404, body).class, Relay);
}

#[test]
fn state_of_another_account_is_asked_for_elsewhere() {
    for (status, code, class) in [
        (400, "previous_response_not_found", OtherMember),
        (404, "previous_response_not_found", OtherMember),
        (400, "invalid_encrypted_content", OtherMember),
        (400, "context_length_exceeded", Relay),
        (422, "previous_response_not_found", Relay),
    ] {
        let verdict = of_status(status, &format!(r#"{{"error":{{"code":"{code}"}}}}"#));
        assert_eq!((verdict.class, verdict.closes), (class, Closes::Nothing), "{status} {code}");
    }
}

#[test]
fn exhausted_quota_is_no_rate_limit() {
    let body = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    assert_eq!(of_status(429, body).closes, Closes::Upstream(QUOTA));
    assert_eq!(of_event(body).closes, Closes::Upstream(QUOTA));
    assert!(of_event(body).is_rate_limit() && of_event(body).class == Retryable);
}

#[test]
fn error_in_place_of_the_first_event_is_as_its_status() {
    for (data, class, closes) in [
        (r#"{"error":{"type":"rate_limit_error"}}"#, Retryable, Closes::Limit(None)),
        (
            r#"{"error":{"code":"rate_limit_exceeded","message":"Please try again in 2s."}}"#,
            Retryable,
            Closes::Limit(Some(Cooldown(Duration::from_secs(2)))),
        ),
        (r#"{"type":"error","error":{"type":"overloaded_error"}}"#, Retryable, Closes::Run),
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"}}}"#,
            Retryable,
            Closes::Run,
        ),
        (r#"{"type":"error","code":"server_is_overloaded","message":"m"}"#, Retryable, Closes::Run),
        (r#"{"error":{"code":"service_unavailable_error"}}"#, Retryable, Closes::Run),
        (r#"{"error":{"code":503}}"#, Retryable, Closes::Run),
        (r#"{"error":{"code":"502","message":"x"}}"#, Retryable, Closes::Run),
        (r#"[{"error":{"code":503,"status":"UNAVAILABLE"}}]"#, Retryable, Closes::Run),
        (r#"{"error":{"code":"504"}}"#, Doubtful, Closes::Run),
        (r#"{"error":{"type":"invalid_request_error"}}"#, Relay, Closes::Nothing),
        (r#"{"error":{"code":"context_length_exceeded","type":"server_error"}}"#, Relay, Closes::Nothing),
        (r#"{"error":{"code":"content_filter"}}"#, Relay, Closes::Nothing),
        (r#"{"error":{"code":400,"type":"server_error"}}"#, Relay, Closes::Nothing),
        (r#"{"error":{"code":401}}"#, Relay, Closes::Nothing),
        (r#"{"error":"something"}"#, Relay, Closes::Nothing),
        ("not JSON", Relay, Closes::Nothing),
    ] {
        let verdict = of_event(data);
        assert_eq!((verdict.class, verdict.closes), (class, closes), "{data}");
    }
}

#[test]
fn verdicts_of_content_close_no_upstream() {
    for status in (400..600).filter(|&status| status != 401) {
        for code in ["", "model_not_found", "server_error", "invalid_prompt", "content_filter"] {
            let body = format!(r#"{{"error":{{"code":"{code}"}}}}"#);
            for verdict in [of_status(status, &body), of_event(&body)] {
                assert!(
                    !matches!(verdict.closes, Closes::Upstream(_) | Closes::Connection),
                    "{status} {code}"
                );
            }
        }
    }
}

#[test]
fn words_are_bounded_and_any_bytes_are_no_panic() {
    let long = "é".repeat(5_000);
    let error = UpstreamError::parse(
        format!(r#"{{"error":{{"code":"{long}","type":"{long}","message":"{long}"}}}}"#).as_bytes(),
    );
    assert!(error.code.len() <= 64 && error.kind.len() <= 64 && error.message.len() <= 512);
    let mut random = fastrand::Rng::with_seed(3);
    let body = br#"[{"error":{"code":429,"status":"A_B","message":"retry after 5","details":[{"retryDelay":"5s"}]}}]"#;
    for _ in 0..5_000 {
        let mut body = body.to_vec();
        (0..random.usize(1..4)).for_each(|_| {
            let at = random.usize(..body.len());
            body[at] = random.u8(..);
        });
        body.truncate(random.usize(..=body.len()));
        let error = UpstreamError::parse(&body);
        of_status(429, &String::from_utf8_lossy(&body));
        Verdict::of(&Failure::FirstEvent { error: &error }, clock());
    }
}
