use super::*;

/// The time 2026-01-02T03:04:05Z.
const NOW: u64 = 1_767_323_045;

fn clock() -> Clock {
    Clock { now: Instant::now(), unix: Duration::from_secs(NOW) }
}

fn headers(lines: &[(&'static str, &str)]) -> Headers {
    let mut headers = Headers::default();
    lines.iter().for_each(|(name, value)| headers.append(name.as_bytes(), value.as_bytes()));
    headers
}

/// The pause in milliseconds.
fn pause(lines: &[(&'static str, &str)], body: &str) -> Option<u128> {
    let error = UpstreamError::parse(body.as_bytes());
    cooldown(&headers(lines), &error, clock()).map(|Cooldown(pause)| pause.as_millis())
}

#[test]
fn headers_of_each_service_say_when_a_limit_ends() {
    for (lines, expected) in [
        (&[("retry-after-ms", "250")][..], 250),
        (&[("retry-after", "7")], 7_000),
        (&[("retry-after", "0.5")], 500),
        (&[("retry-after", "Fri, 02 Jan 2026 03:04:15 GMT")], 10_000),
        (&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s")], 360_000),
        (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "17ms")], 17),
        (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "12")], 12_000),
        (
            &[
                ("anthropic-ratelimit-input-tokens-remaining", "0"),
                ("anthropic-ratelimit-input-tokens-reset", "2026-01-02T03:04:35Z"),
            ],
            30_000,
        ),
    ] {
        assert_eq!(pause(lines, ""), Some(expected), "{lines:?}");
    }
}

#[test]
fn bodies_say_when_a_limit_ends() {
    for (body, expected) in [
        (
            r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Quota","details":[{"@type":"a"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"52s"}]}}"#,
            Some(52_000),
        ),
        (r#"[{"error":{"code":429,"details":[{"retryDelay":"1.5s"}]}}]"#, Some(1_500)),
        (
            r#"{"error":{"code":"429","message":"Requests to the API have exceeded the token rate limit. Please retry after 26 seconds."}}"#,
            Some(26_000),
        ),
        (
            r#"{ "statusCode": 429, "message": "Rate limit is exceeded. Try again in 5 seconds." }"#,
            Some(5_000),
        ),
        (r#"{"error":{"message":"slow down"}}"#, None),
        ("<html>", None),
    ] {
        assert_eq!(pause(&[], body), expected, "{body}");
    }
}

#[test]
fn first_source_that_is_there_counts() {
    let body = r#"{"error":{"details":[{"retryDelay":"4s"}],"message":"retry after 5 seconds"}}"#;
    let all = [
        ("retry-after-ms", "1000"),
        ("retry-after", "2"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "3s"),
    ];
    assert_eq!(pause(&all, body), Some(1_000));
    assert_eq!(pause(&all[1..], body), Some(2_000));
    assert_eq!(pause(&all[2..], body), Some(3_000));
    assert_eq!(pause(&[], body), Some(4_000));
    assert_eq!(pause(&[], &body.replace("retryDelay", "delay")), Some(5_000));
}

#[test]
fn latest_exhausted_reset_counts() {
    let lines = |requests, tokens| {
        [
            ("x-ratelimit-remaining-requests", requests),
            ("x-ratelimit-reset-requests", "5s"),
            ("x-ratelimit-remaining-tokens", tokens),
            ("x-ratelimit-reset-tokens", "9s"),
        ]
    };
    assert_eq!(pause(&lines("0", "0"), ""), Some(9_000));
    assert_eq!(pause(&lines("0", "12"), ""), Some(5_000));
    assert_eq!(pause(&lines("7", "12"), ""), None);
}

#[test]
fn absurd_times_are_as_none_and_long_ones_are_cut() {
    for value in ["-5", "0", "abc", "", "NaN", "inf", "1e300", "Fri, 02 Jan 2026 03:04:05 GMT", "99999999999"]
    {
        assert_eq!(pause(&[("retry-after", value)], ""), None, "{value}");
        assert_eq!(pause(&[("retry-after-ms", value)], ""), None, "{value}");
    }
    assert_eq!(pause(&[("retry-after", "-5"), ("retry-after-ms", "x")], ""), None);
    assert_eq!(pause(&[("retry-after", "3600")], ""), Some(600_000));
    assert_eq!(pause(&[("retry-after", "Sat, 03 Jan 2026 03:04:05 GMT")], ""), Some(600_000));
    let lines = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "1y")];
    assert_eq!(pause(&lines, ""), None);
}

#[test]
fn guesses_double_to_30_s_within_a_fifth() {
    for (number, full) in [(1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (6, 30.0), (200, 30.0)] {
        for random in [0, u64::MAX / 3, u64::MAX] {
            let pause = guessed_pause(number, random).as_secs_f64();
            assert!((full * 0.8..=full * 1.2).contains(&pause), "{pause} of {full}");
        }
    }
}

#[test]
fn fewest_remaining_tokens_count_until_their_reset() {
    let of = |lines: &[(&'static str, &str)]| {
        let headers = headers(lines);
        let found = remaining(&headers, clock());
        assert!(may_have_limits(&headers) || found == Remaining::default(), "{lines:?}");
        found
    };
    let seconds = Duration::from_secs;
    let both = [
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "2s"),
        ("x-ratelimit-remaining-tokens", "500"),
        ("x-ratelimit-reset-tokens", "9s"),
    ];
    assert_eq!(of(&both).tokens, Some((0, seconds(2))), "no request is left");
    assert_eq!(of(&both[2..]).tokens, Some((500, seconds(9))));
    assert_eq!(of(&both[2..3]).tokens, None, "nothing says until when");
    let anthropic = [
        ("anthropic-ratelimit-tokens-remaining", "70000"),
        ("anthropic-ratelimit-tokens-reset", "2026-01-02T03:04:06Z"),
        ("anthropic-ratelimit-input-tokens-remaining", "50000"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-01-02T03:05:05Z"),
    ];
    assert_eq!(of(&anthropic).tokens, Some((50_000, seconds(60))));
    assert_eq!(of(&[]), Remaining::default());
}

#[test]
fn utilization_of_a_provisioned_deployment_is_read() {
    let of =
        |value| remaining(&headers(&[("azure-openai-deployment-utilization", value)]), clock()).utilization;
    assert_eq!(
        [of("45.2%"), of("101"), of("0.0%"), of("x"), of("-3%"), of("1e9")],
        [Some(452), Some(1010), Some(0), None, None, None]
    );
}
