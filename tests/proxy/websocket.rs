//! WebSockets: tunnelled both ways byte for byte, with metered realtime sessions. No other upgrade
//! is granted.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::harness::{Client, Connection, Tunnels, Upstream, header, proxy, sized, tls_choosing, upstream};

const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: realtime\r\n\r\n";

const CREATED: &str = r#"{"type":"session.created","session":{"model":"gpt-realtime-real"}}"#;
pub(crate) const BEGUN: &str = r#"{"type":"response.created","response":{"usage":null}}"#;
pub(crate) const DELTA: &str = r#"{"type":"response.output_text.delta","delta":"Hi"}"#;
pub(crate) const DONE: &str = r#"{"type":"response.done","response":{"usage":{"total_tokens":11,"input_tokens":9,"output_tokens":2,"input_token_details":{"cached_tokens":4,"audio_tokens":3},"output_token_details":{"audio_tokens":1}}}}"#;

/// A frame of less than 64 KB; a client must use a mask.
pub(crate) fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(bit | length as u8),
        length => {
            frame.push(bit | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

pub(crate) fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes(), None)
}

pub(crate) fn close(code: u16, mask: Option<[u8; 4]>) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes(), mask)
}

pub(crate) const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

/// Requests a session as an SDK does.
pub(crate) fn ask<'a>(client: &'a mut Client, target: &str, more: &str) -> &'a mut Client {
    client.send(format!(
        "GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-extensions: permessage-deflate\r\n{more}\r\n"
    ))
}

/// An upstream that grants every session, and then runs `script`.
pub(crate) fn granting(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Upstream {
    upstream(move |connection| {
        if connection.head().is_some() {
            connection.send(GRANTED);
            script(connection);
        }
    })
}

#[test]
fn session_passes_byte_for_byte_and_sums_its_responses() {
    let (tell, heads) = mpsc::channel();
    let from_server = [
        text(CREATED),
        frame(0x82, b"\0\xff", None),
        text(BEGUN),
        text(DELTA),
        // In three frames, with a ping between them.
        frame(0x01, &DONE.as_bytes()[..20], None),
        frame(0x89, b"ping", None),
        frame(0x00, &DONE.as_bytes()[20..50], None),
        frame(0x80, &DONE.as_bytes()[50..], None),
        text(DONE),
        close(1000, None),
    ]
    .concat();
    let from_client =
        [frame(0x81, b"{\"type\":\"response.create\"}", MASK), frame(0x8a, b"ping", MASK), close(1000, MASK)]
            .concat();
    let (sent, received) = (from_server.clone(), from_client.clone());
    let up = upstream(move |connection| {
        tell.send(connection.head().unwrap()).unwrap();
        // The first frames come with the head.
        connection.send([GRANTED.as_bytes(), &sent[..40]].concat());
        sent[40..].chunks(7).for_each(|piece| connection.send(piece));
        assert_eq!(connection.read(received.len()), received);
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let head = ask(
        &mut client,
        "/v1/realtime?model=gpt-realtime",
        "authorization: Bearer sk-client\r\nopenai-beta: realtime=v1\r\nsec-websocket-protocol: realtime, openai-insecure-api-key.sk-client\r\n",
    )
    .head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!(header(&head, "connection"), Some("Upgrade"));
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(header(&head, "sec-websocket-protocol"), Some("realtime"));
    assert!(header(&head, "x-streamgauge-id").is_some());
    assert_eq!((header(&head, "content-length"), header(&head, "transfer-encoding")), (None, None));
    client.send(&from_client);
    assert_eq!(client.rest(), from_server);

    let head = heads.recv().unwrap();
    assert!(head.starts_with("GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "authorization"), Some("Bearer sk-upstream"));
    assert_eq!(header(&head, "connection"), Some("Upgrade"));
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(header(&head, "sec-websocket-protocol"), Some("realtime"));
    assert_eq!(header(&head, "openai-beta"), Some("realtime=v1"));
    assert!(!head.contains("sk-client") && !head.contains("permessage-deflate"), "{head}");

    let record = proxy.record();
    assert_eq!(record["outcome"], "complete", "{record}");
    assert_eq!(record["status"], 101);
    assert_eq!(record["stream"], true);
    assert_eq!(record["endpoint"], "realtime");
    assert_eq!(record["model_requested"], "gpt-realtime");
    assert_eq!(record["model"], "gpt-realtime-real");
    assert_eq!(record["usage_source"], "reported");
    assert_eq!(record["input_tokens"], 18);
    assert_eq!(record["output_tokens"], 4);
    assert_eq!(record["total_tokens"], 22);
    assert_eq!(record["cached_input_tokens"], 8);
    assert_eq!(record["input_audio_tokens"], 6);
    assert_eq!(record["output_audio_tokens"], 2);
    assert_eq!(record["events"], 2, "the responses that ended");
    assert_eq!(record["request_bytes"], from_client.len());
    assert_eq!(record["response_bytes"], from_server.len());
    assert!(record["time_to_first_token_ms"].is_f64());
    assert!(record["error"].is_null(), "{record}");
}

#[test]
fn refused_upgrade_gets_an_ordinary_response() {
    let up = Upstream::responding(sized(
        "401 Unauthorized",
        "application/json",
        b"{\"error\":{\"message\":\"no\"}}",
    ));
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    for _ in 0..2 {
        let response = ask(&mut client, "/v1/realtime?model=m", "").response();
        assert_eq!((response.status(), response.text()), (401, "{\"error\":{\"message\":\"no\"}}"));
        let record = proxy.record();
        assert_eq!((&record["status"], &record["outcome"]), (&401.into(), &"upstream_error".into()));
    }
}

#[test]
fn an_upgrade_that_nobody_asked_for_is_refused() {
    let up = Upstream::responding(GRANTED);
    let proxy = proxy().upstream(&up).run();
    let response = proxy.client().get("/v1/models").response();
    assert_eq!(response.status(), 502);
    assert_eq!(response.error()["code"], "upstream_protocol");
}

#[test]
fn a_client_that_leaves_is_told_to_the_upstream_at_once() {
    for (under_way, source) in [(false, "reported"), (true, "partial")] {
        let (tell, left) = mpsc::channel();
        let up = granting(move |connection| {
            connection.send([text(DONE), if under_way { text(BEGUN) } else { Vec::new() }].concat());
            connection.wait_for_close();
            tell.send(()).unwrap();
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        ask(&mut client, "/v1/realtime?model=m", "").head();
        client.read(text(DONE).len() + if under_way { text(BEGUN).len() } else { 0 });
        drop(client);
        left.recv_timeout(crate::harness::PATIENCE).expect("the upstream is told");
        let record = proxy.record();
        assert_eq!(record["outcome"], "client_disconnected");
        assert_eq!(record["usage_source"], source);
        assert_eq!(record["input_tokens"], 9);
    }
}

#[test]
fn broken_upstream_is_truncated_and_failure_close_is_an_error() {
    let cut = granting(|connection| connection.send(text(DONE)));
    let proxy_of = |up: &Upstream| proxy().upstream(up).run();
    let proxy = proxy_of(&cut);
    let mut client = proxy.client();
    ask(&mut client, "/v1/realtime?model=m", "").head();
    assert!(client.rest().starts_with(&text(DONE)));
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["input_tokens"]), (&"truncated".into(), &9.into()), "{record}");

    let failing = granting(|connection| {
        connection.send(frame(
            0x88,
            &[&1011_u16.to_be_bytes()[..], b"keepalive ping timeout"].concat(),
            None,
        ));
    });
    let proxy = proxy_of(&failing);
    let mut client = proxy.client();
    ask(&mut client, "/v1/realtime?model=m", "").head();
    client.rest();
    let record = proxy.record();
    assert_eq!(record["outcome"], "upstream_error");
    assert_eq!(record["error"], "the upstream closed with 1011: keepalive ping timeout");
}

#[test]
fn silent_session_is_closed_with_1001_on_both_sides() {
    let (tell, said) = mpsc::channel();
    let up = granting(move |connection| {
        let head = connection.read(6);
        tell.send((head, connection.read(2))).unwrap();
    });
    let proxy = proxy().upstream(&up).tables("[upstreams.up.timeouts]\nidle = \"200ms\"").run();
    let mut client = proxy.client();
    ask(&mut client, "/v1/realtime?model=m", "").head();
    let rest = client.rest();
    assert_eq!(&rest[..1], [0x88]);
    assert_eq!(&rest[2..4], 1001_u16.to_be_bytes());
    let (head, code) = said.recv_timeout(crate::harness::PATIENCE).unwrap();
    assert_eq!((head[0], head[1] & 0x80), (0x88, 0x80), "a client's frames are masked");
    assert_eq!([code[0] ^ head[2], code[1] ^ head[3]], 1001_u16.to_be_bytes());
    assert_eq!(proxy.record()["outcome"], "timed_out");
}

#[test]
fn session_outlives_start_of_drain_and_gets_1001_at_its_end() {
    let up = granting(|connection| {
        connection.send(text(DONE));
        connection.wait_for_close();
    });
    let proxy = proxy().server("drain_timeout = \"300ms\"").upstream(&up).run();
    let mut client = proxy.client();
    ask(&mut client, "/v1/realtime?model=m", "").head();
    client.read(text(DONE).len());
    let waiter = thread::spawn(move || client.rest());
    let records = proxy.stop();
    let rest = waiter.join().unwrap();
    assert_eq!((rest[0], &rest[2..4]), (0x88, &1001_u16.to_be_bytes()[..]), "{rest:?}");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["outcome"], "cut");
    assert_eq!(records[0]["error"], "the proxy was stopped before the session ended");
    assert_eq!((&records[0]["usage_source"], &records[0]["input_tokens"]), (&"reported".into(), &9.into()));
}

#[test]
fn a_browsers_key_among_the_subprotocols_is_the_clients_key() {
    let up = granting(|connection| connection.send(close(1000, None)));
    let proxy = proxy().upstream(&up).tables("[clients.alice]\nkey = { value = \"sg-alice\" }").run();
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, "/v1/realtime?model=m", "").response().status(), 401);
    proxy.record();
    let more = "sec-websocket-protocol: realtime, openai-insecure-api-key.sg-alice\r\n";
    let mut client = proxy.client();
    assert!(ask(&mut client, "/v1/realtime?model=m", more).head().starts_with("HTTP/1.1 101 "));
    client.send(close(1000, MASK)).rest();
    let record = proxy.record();
    assert_eq!((&record["client"], &record["outcome"]), (&"alice".into(), &"complete".into()));
}

#[test]
fn other_upgrades_get_an_ordinary_response() {
    let (tell, heads) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(head) = connection.head() {
            tell.send(head).unwrap();
            connection.send(sized("200 OK", "application/json", b"{}"));
        }
    });
    let proxy = proxy().upstream(&up).run();
    for upgrade in [
        &b"upgrade: h2c"[..],
        b"upgrade: \xa0h2c",
        b"upgrade: h2c\xa0",
        b"upgrade: websocket, h2c",
        b"upgrade: h2c,websocket",
        b"upgrade: websocket\r\nupgrade: h2c",
        b"upgrade: \xa0websocket",
        b"upgrade: TLS/1.0",
        b"upgrade: other/1",
        b"upgrade: websocket/13",
    ] {
        let mut client = proxy.client();
        client.send(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nhttp2-settings: AAMAAABk\r\n");
        client.send(b"connection: Upgrade, HTTP2-Settings\r\n").send(upgrade).send(b"\r\n\r\n");
        assert_eq!(client.response().status(), 200, "{}", String::from_utf8_lossy(upgrade));
        let head = heads.recv().unwrap();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(header(&head, name), None, "{head}");
        }
        assert_eq!(proxy.record()["status"], 200);
    }
    let post = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                content-length: 0\r\n\r\n";
    assert_eq!(proxy.client().send(post).response().status(), 200);
    assert_eq!(header(&heads.recv().unwrap(), "upgrade"), None);
}

#[test]
fn upgrade_is_written_anew_for_both_sides() {
    let (tell, heads) = mpsc::channel();
    let up = upstream(move |connection| {
        tell.send(connection.head().unwrap()).unwrap();
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: x-hop, UPGRADE\r\nUpgrade: WebSocket\r\n\r\n",
        );
        connection.send(close(1000, None));
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let head = client
        .send("GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\nconnection: UPGRADE\r\nupgrade: WebSocket\r\n\r\n")
        .head();
    assert_eq!((header(&head, "connection"), header(&head, "upgrade")), (Some("Upgrade"), Some("websocket")));
    let head = heads.recv().unwrap();
    assert_eq!((header(&head, "connection"), header(&head, "upgrade")), (Some("Upgrade"), Some("websocket")));
}

#[test]
fn upstream_that_grants_another_protocol_gets_502() {
    for granted in [
        "connection: upgrade\r\nupgrade: h2c\r\n",
        "connection: upgrade\r\nupgrade: websocket, h2c\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c\r\n",
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "",
    ] {
        let up = upstream(move |connection| {
            connection.head().unwrap();
            connection.send(format!("HTTP/1.1 101 Switching Protocols\r\n{granted}\r\n"));
            connection.wait_for_close();
        });
        let proxy = proxy().upstream(&up).run();
        let response = ask(&mut proxy.client(), "/v1/realtime?model=m", "").response();
        assert_eq!(
            (response.status(), &response.error()["code"]),
            (502, &"upstream_protocol".into()),
            "{granted}"
        );
        assert_eq!(proxy.record()["outcome"], "upstream_error");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn bulk_passes_both_ways_and_slow_side_slows_the_other() {
    const PIECE: usize = 60_000;
    const COUNT: usize = 200;
    let payload: Vec<u8> = (0..PIECE).map(|at| (at % 251) as u8).collect();
    let server = frame(0x82, &payload, None);
    let expected = frame(0x82, &payload, MASK);
    let (from_client, from_server) = (expected.clone(), server.clone());
    let (tell, stuck) = mpsc::channel();
    let up = granting(move |connection| {
        connection.block_after(Duration::from_millis(500));
        // The client does not read yet: there is room for far less than all of it.
        let mut sent = 0;
        while sent < 100 * COUNT && connection.try_send(&server) {
            sent += 1;
        }
        tell.send(sent).unwrap();
        for _ in 0..COUNT {
            assert!(connection.read(expected.len()) == expected);
        }
    });
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    ask(&mut client, "/v1/realtime?model=m", "").head();
    let sent = stuck.recv_timeout(crate::harness::PATIENCE).unwrap();
    assert!(sent < 100 * COUNT, "the upstream was slowed down");
    (0..COUNT).for_each(|_| {
        client.send(&from_client);
    });
    for _ in 0..sent {
        assert!(client.read(from_server.len()) == from_server, "byte for byte");
    }
}

/// Checks a session of one response with the upstream in these tables, by its record.
fn whole_session(tables: &str) {
    let proxy = proxy().tables(tables).run();
    let mut client = proxy.client();
    let head = ask(&mut client, "/v1/realtime?model=m", "").head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.send(frame(0x81, b"{\"type\":\"response.create\"}", MASK));
    assert_eq!(client.read(text(DONE).len()), text(DONE));
    client.send(close(1000, MASK));
    assert_eq!(client.rest(), close(1000, None));
    let record = proxy.record();
    assert_eq!((&record["status"], &record["outcome"]), (&101.into(), &"complete".into()), "{record}");
    assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&9.into(), &2.into()));
}

/// An upstream that responds in turn, so that each side's frames are needed for the other's.
fn responding_in_turn() -> (Upstream, mpsc::Receiver<String>) {
    let (tell, heads) = mpsc::channel();
    let up = upstream(move |connection| {
        tell.send(connection.head().unwrap()).unwrap();
        connection.send(GRANTED);
        let asked = frame(0x81, b"{\"type\":\"response.create\"}", MASK);
        assert_eq!(connection.read(asked.len()), asked);
        connection.send(text(DONE));
        assert_eq!(connection.read(8), close(1000, MASK));
        connection.send(close(1000, None));
    });
    (up, heads)
}

#[test]
fn session_with_upstream_that_prefers_http2_uses_http1() {
    let (up, heads) = responding_in_turn();
    let front = tls_choosing(&["h2", "http/1.1"], up.address);
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), &front.pem).unwrap();
    whole_session(&format!(
        "[upstreams.up]\nprovider = \"other\"\nurl = \"https://localhost:{}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n[upstreams.up.tls]\nca = {{ file = {:?} }}",
        front.address.port(),
        ca.path()
    ));
    let head = heads.recv().unwrap();
    assert!(head.starts_with("GET /v1/realtime?model=m HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
}

#[test]
fn a_session_through_an_outbound_proxy_has_a_tunnel_of_its_own() {
    let (up, heads) = responding_in_turn();
    let tunnels = Tunnels::to(up.address);
    whole_session(&format!(
        "[upstreams.up]\nprovider = \"other\"\nurl = \"http://llm.invalid:8000/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\nproxy = \"http://{}\"",
        tunnels.address
    ));
    let opening = tunnels.opening();
    assert!(opening.starts_with("CONNECT llm.invalid:8000 HTTP/1.1\r\n"), "{opening}");
    assert_eq!(tunnels.more_openings(), 0);
    let head = heads.recv().unwrap();
    assert!(head.starts_with("GET /v1/realtime?model=m HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some("llm.invalid:8000"));
}

#[test]
fn session_whose_upstream_breaks_off_is_closed_with_1011() {
    let up = granting(|connection| connection.send(text(DONE)));
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    ask(&mut client, "/v1/realtime?model=m", "").head();
    client.read(text(DONE).len());
    let rest = client.rest();
    assert_eq!((rest[0], &rest[2..4]), (0x88, &1011_u16.to_be_bytes()[..]), "{rest:?}");
    assert_eq!(proxy.record()["outcome"], "truncated");
}

/// A turn of a session of `responses`, with 100 and 50 tokens if it has usage.
fn turn(ending: &str, rest: &str) -> Vec<u8> {
    let response = format!(r#""response":{{"id":"resp_{ending}","model":"gpt-real""#);
    let created =
        format!(r#"{{"type":"response.created",{response},"status":"in_progress","usage":null}}}}"#);
    let last = format!(r#"{{"type":"response.{ending}",{response},{rest}}}}}"#);
    [text(&created), text(DELTA), text(&last)].concat()
}

const TURN_USAGE: &str = r#""error":null,"usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":60},"output_tokens":50,"output_tokens_details":{"reasoning_tokens":7},"total_tokens":150}"#;

#[test]
fn the_turns_of_a_session_of_responses_are_added_up() {
    let failed = r#""error":{"code":"server_error","message":"it broke"},"usage":null"#;
    let from_server = [
        turn("completed", TURN_USAGE),
        turn("incomplete", TURN_USAGE),
        text(r#"{"type":"error","status":400,"error":{"code":"previous_response_not_found","message":"no such response"}}"#),
        turn("failed", failed),
        close(1000, None),
    ]
    .concat();
    let ask_for =
        br#"{"type":"response.create","input":[{"role":"user","content":"Hi"}],"model":"gpt-asked"}"#;
    let from_client = [
        // In two frames, with a ping between them.
        frame(0x01, &ask_for[..30], MASK),
        frame(0x89, b"", MASK),
        frame(0x80, &ask_for[30..], MASK),
        frame(0x81, br#"{"type":"response.create","model":"gpt-later"}"#, MASK),
        close(1000, MASK),
    ]
    .concat();
    for path in ["/v1/responses", "/v1/responses?x=1"] {
        let (sent, received) = (from_server.clone(), from_client.clone());
        let up = granting(move |connection| {
            assert_eq!(connection.read(received.len()), received);
            sent.chunks(11).for_each(|piece| connection.send(piece));
        });
        let proxy = proxy().upstream(&up).run();
        let mut client = proxy.client();
        ask(&mut client, path, "").head();
        from_client.chunks(13).for_each(|piece| {
            client.send(piece);
        });
        assert_eq!(client.rest(), from_server);
        let record = proxy.record();
        assert_eq!(record["usage_source"], "reported", "{record}");
        assert_eq!((&record["endpoint"], &record["events"]), (&"responses".into(), &3.into()));
        assert_eq!((&record["model_requested"], &record["model"]), (&"gpt-asked".into(), &"gpt-real".into()));
        for (field, sum) in [
            ("input_tokens", 200),
            ("output_tokens", 100),
            ("total_tokens", 300),
            ("cached_input_tokens", 120),
            ("reasoning_tokens", 14),
        ] {
            assert_eq!(record[field], sum, "{field} of {record}");
        }
        assert_eq!((&record["outcome"], &record["error"]), (&"complete".into(), &"no such response".into()));
    }
}

#[test]
fn a_session_of_responses_is_metered_on_azures_paths() {
    let up = granting(|connection| {
        connection.send([turn("completed", TURN_USAGE), close(1000, None)].concat());
    });
    let azure = format!(
        "[upstreams.az]\nprovider = \"azure\"\nurl = \"http://{}\"\napi_key = {{ value = \"k\" }}",
        up.address
    );
    let proxy = proxy().tables(&azure).run();
    for path in ["/openai/v1/responses", "/v1/responses", "/openai/responses?api-version=preview"] {
        let mut client = proxy.client();
        ask(&mut client, path, "").head();
        client.send(close(1000, MASK)).rest();
        let record = proxy.record();
        assert_eq!(
            (&record["input_tokens"], &record["events"]),
            (&100.into(), &1.into()),
            "{path}: {record}"
        );
    }
}

#[test]
fn responses_session_is_routed_by_the_model_in_its_query() {
    let (tell, heads) = mpsc::channel();
    let named = {
        let tell = tell.clone();
        upstream(move |connection| {
            tell.send(connection.head().unwrap()).unwrap();
            connection.send([GRANTED.as_bytes(), &close(1000, None)].concat());
        })
    };
    let other = granting(|connection| connection.send(close(1000, None)));
    let tables = "models = { fast = \"gpt-real\" }\n[[routes]]\nmodel = \"fast\"\nupstream = \"named\"\n[[routes]]\nupstream = \"other\"";
    let proxy = proxy().other("other", other.address).other("named", named.address).tables(tables).run();
    for (target, upstream, model, has_note) in [
        ("/v1/responses?model=fast", "named", Some("fast"), false),
        ("/v1/responses", "other", None, true),
        ("/v1/responses?model=x", "other", Some("x"), false),
    ] {
        let mut client = proxy.client();
        ask(&mut client, target, "").head();
        client.send(close(1000, MASK)).rest();
        let record = proxy.record();
        assert_eq!(
            (&record["upstream"], record["model_requested"].as_str()),
            (&upstream.into(), model),
            "{record}"
        );
        assert_eq!(record["error"].is_string(), has_note, "{record}");
    }
    let head = heads.recv().unwrap();
    assert!(head.starts_with("GET /v1/responses?model=gpt-real HTTP/1.1\r\n"), "{head}");
}

#[test]
fn azure_deployment_in_query_is_recorded_as_its_model() {
    let upstream = granting(|connection| connection.send(close(1000, None)));
    let proxy = proxy()
        .tables(&format!(
            "[upstreams.azure]\nprovider = \"azure\"\nurl = \"http://{}\"\napi_version = \"2024-10-21\"\n\
             api_key = {{ value = \"az\" }}\ndeployments = {{ \"gpt-rt\" = \"my-rt\" }}",
            upstream.address
        ))
        .run();
    for (deployment, model) in [("my-rt", "gpt-rt"), ("own", "own")] {
        let mut client = proxy.client();
        ask(&mut client, &format!("/openai/realtime?deployment={deployment}"), "").head();
        client.send(close(1000, MASK)).rest();
        assert_eq!(proxy.record()["model_requested"], model, "{deployment}");
    }
}
