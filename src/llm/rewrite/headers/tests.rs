use super::*;

/// Headers from lines, in their order.
fn headers(lines: &[&str]) -> Headers {
    let mut headers = Headers::default();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(name.as_bytes(), value.as_bytes());
    }
    headers
}

fn pairs(lines: &[&str]) -> Vec<(HeaderName, HeaderValue)> {
    let pair = |line: &&str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse().unwrap(), value.parse().unwrap())
    };
    lines.iter().map(pair).collect()
}

fn lines(headers: &Headers) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    headers.iter().map(|field| format!("{}: {}", text(field.name()), text(field.value()))).collect()
}

/// The headers of both versions, which are the same except for the case of names.
fn written(outbound: &OutboundHeaders, client: &Headers) -> Vec<String> {
    let mut out = Vec::new();
    outbound.write(client, &mut out);
    let lines: Vec<_> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
    let line = |(name, value): (HeaderName, HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let pairs: Vec<_> = outbound.pairs(client).map(line).collect();
    let lower = |line: &String| {
        let (name, value) = line.split_once(": ").unwrap();
        format!("{}: {value}", name.to_lowercase())
    };
    assert_eq!(pairs, lines.iter().map(lower).collect::<Vec<_>>());
    lines
}

/// The headers that go upstream, behind the host.
fn sent(custom: &[&str], credentials: &[&str], client: &[&str]) -> Vec<String> {
    let outbound =
        OutboundHeaders::new(HeaderValue::from_static("up.example"), pairs(custom), pairs(credentials));
    let mut client = headers(client);
    end_hop(&mut client);
    let mut lines = written(&outbound, &client);
    assert_eq!(lines.remove(0), "host: up.example", "the host comes first");
    lines
}

#[test]
fn end_to_end_headers_pass_in_their_order() {
    let client = [
        "x-zebra: 1",
        "content-type: application/json",
        "x-stainless-lang: python",
        "accept-encoding: gzip",
        "accept: */*",
        "openai-beta: assistants=v2",
        "x-multi: a",
        "x-multi: b",
        "user-agent: OpenAI/Python",
        "traceparent: 00-1-2-01",
    ];
    assert_eq!(sent(&[], &[], &client), client);
}

#[test]
fn hop_by_hop_headers_end_here() {
    let client = [
        "connection: keep-alive",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "proxy-anything: x",
        "te: trailers",
        "trailer: x-sum",
        "transfer-encoding: chunked",
        "upgrade: websocket",
        "x-stays: 1",
    ];
    assert_eq!(sent(&[], &[], &client), ["x-stays: 1"]);
}

#[test]
fn headers_named_by_connection_end_here() {
    let client =
        ["x-a: 1", "X-B: 2", "connection: close, X-a ,,x-c", "x-c: 3", "connection: x-b, @", "x-d: 4"];
    assert_eq!(sent(&[], &[], &client), ["x-d: 4"]);
}

#[test]
fn connection_cannot_name_away_what_the_proxy_puts_on() {
    let client = ["connection: host, authorization, x-team", "x-team: evil"];
    let own = ["x-team: search", "authorization: Bearer up"];
    assert_eq!(sent(&own[..1], &own[1..], &client), own);
}

#[test]
fn framing_and_host_are_written_anew() {
    assert_eq!(
        sent(&[], &[], &["host: proxy", "content-length: 5", "expect: 100-continue"]),
        Vec::<String>::new()
    );
}

#[test]
fn the_clients_credentials_never_go_out() {
    let client = [
        "authorization: Bearer mine",
        "api-key: mine",
        "x-api-key: mine",
        "cookie: session=mine",
        "proxy-authorization: Basic mine",
        "x-streamgauge-user: me",
        "x-stays: 1",
    ];
    assert_eq!(sent(&[], &[], &client), ["x-stays: 1"], "also to an upstream without credentials");
    assert_eq!(sent(&[], &["api-key: up"], &client), ["x-stays: 1", "api-key: up"]);
}

#[test]
fn custom_headers_override_clients_and_credentials_override_all() {
    let client = ["x-team: theirs", "openai-project: theirs", "x-other: 1"];
    let custom = ["X-Team: ours", "authorization: custom", "openai-project: custom", "cookie: custom"];
    let credentials = ["authorization: Bearer up", "openai-project: ours"];
    assert_eq!(
        sent(&custom, &credentials, &client),
        ["x-other: 1", "x-team: ours", "cookie: custom", "authorization: Bearer up", "openai-project: ours"]
    );
}

#[test]
fn overrides_of_path_and_method_end_here() {
    let client = [
        "x-original-url: /admin",
        "x-rewrite-url: /admin",
        "x-http-method-override: DELETE",
        "x-http-method: DELETE",
        "x-method-override: DELETE",
        "x-original: 1",
    ];
    assert_eq!(sent(&[], &[], &client), ["x-original: 1"]);
}

#[test]
fn an_underscore_is_judged_as_a_hyphen() {
    let client = [
        "transfer_encoding: chunked",
        "content_length: 5",
        "content_type: text/plain",
        "content_encoding: gzip",
        "api_key: mine",
        "x_api_key: mine",
        "x-api_key: mine",
        "proxy_authorization: mine",
        "keep_alive: 5",
        "x_streamgauge_on_disconnect: drain",
        "x_http_method_override: DELETE",
        "x_original-url: /admin",
        "x_team: theirs",
        "openai_organization: theirs",
        "x_stays: 1",
        "under_score: 2",
        "content-type: application/json",
    ];
    let own = ["x-team: ours", "openai-organization: ours"];
    let stay = ["x_stays: 1", "under_score: 2", "content-type: application/json"];
    assert_eq!(sent(&own[..1], &own[1..], &client), [&stay[..], &own].concat());
    assert_eq!(sent(&["x_team: ours"], &[], &["x-team: theirs"]), ["x_team: ours"]);
}

#[test]
fn headers_that_are_kept_from_clients_may_still_be_configured() {
    let names = ["openai-organization", "openai-project"];
    let host = HeaderValue::from_static("up.example");
    let outbound = OutboundHeaders::new(host, Vec::new(), pairs(&["openai-project: ours"])).without(&names);
    let client = headers(&["openai-organization: theirs", "OpenAI_Project: theirs", "x-stays: 1"]);
    assert_eq!(written(&outbound, &client)[1..], ["x-stays: 1", "openai-project: ours"]);
}

#[test]
fn headers_for_the_proxy_stay_after_the_end_of_the_hop() {
    let mut client = headers(&[
        "host: a",
        "authorization: Bearer k",
        "connection: close, host, authorization, content-length, content-encoding, x-a",
        "content-length: 5",
        "content-encoding: gzip",
        "x-b: 1",
        "x-a: 1",
        "x-c: 1",
    ]);
    end_hop(&mut client);
    let names: Vec<_> = client.iter().map(|field| str::from_utf8(field.name()).unwrap()).collect();
    assert_eq!(names, ["host", "authorization", "connection", "content-length", "x-b", "x-c"]);
}

#[test]
fn headers_that_http_decides_cannot_be_configured() {
    for name in
        ["host", "content-length", "transfer-encoding", "connection", "te", "proxy-x", "x-streamgauge-id"]
    {
        assert!(!is_configurable(&name.parse().unwrap()), "{name}");
        assert_eq!(sent(&[&format!("{name}: 1")], &[], &[]), Vec::<String>::new(), "{name}");
    }
    for name in ["x-team", "authorization", "user-agent", "cookie", "content-type"] {
        assert!(is_configurable(&name.parse().unwrap()), "{name}");
    }
}

#[test]
fn response_loses_hop_by_hop_headers_and_keeps_its_order() {
    let mut response = headers(&[
        "date: now",
        "transfer-encoding: chunked",
        "x-request-id: r1",
        "connection: keep-alive, x-hop",
        "set-cookie: a",
        "x-hop: 1",
        "x-ratelimit-remaining-tokens: 7",
        "set-cookie: b",
        "keep-alive: 5",
        "content-length: 5",
        "proxy-authenticate: Basic",
        "www-authenticate: Bearer",
    ]);
    inbound(&mut response);
    assert_eq!(
        lines(&response),
        [
            "date: now",
            "x-request-id: r1",
            "set-cookie: a",
            "x-ratelimit-remaining-tokens: 7",
            "set-cookie: b",
            "content-length: 5",
            "www-authenticate: Bearer"
        ]
    );
}

#[test]
fn response_without_them_is_the_same() {
    let response =
        headers(&["date: now", "content-type: text/event-stream", "set-cookie: a", "set-cookie: b"]);
    let mut kept = response.clone();
    inbound(&mut kept);
    assert_eq!(kept, response);
}

#[test]
fn a_debug_print_shows_names_only() {
    let outbound = OutboundHeaders::new(
        HeaderValue::from_static("up.example"),
        pairs(&["x-key: hidden"]),
        pairs(&["api-key: hidden"]),
    );
    let shown = format!("{outbound:?}");
    assert!(shown.contains("x-key") && shown.contains("api-key") && !shown.contains("hidden"), "{shown}");
}

#[test]
fn headers_of_a_decoded_response_match_what_is_sent() {
    let said = [
        "content-type: text/event-stream",
        "content-encoding: gzip",
        "content-encoding: br",
        "vary: accept-encoding",
        "etag: \"a\"",
        "content-length: 5",
        "content-digest: sha-256=:AA==:",
        "repr-digest: sha-256=:AA==:",
        "digest: sha-256=AA==",
        "content-md5: AA==",
        "accept-ranges: bytes",
        "x-request-id: r1",
    ];
    let mut response = headers(&said);
    decoded(&mut response);
    let kept =
        ["content-type: text/event-stream", "vary: accept-encoding", "etag: W/\"a\"", "x-request-id: r1"];
    assert_eq!(lines(&response), kept);
    assert_eq!(decoded_trailers(headers(&said).to_map()), headers(&kept).to_map());
    let mut weak = headers(&["etag: W/\"a\""]);
    decoded(&mut weak);
    assert_eq!(weak, headers(&["etag: W/\"a\""]));
}
