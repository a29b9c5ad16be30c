//! Limits of the turns of WebSocket sessions.

use std::sync::mpsc;

use serde_json::Value;

use crate::harness::{Client, Connection, PATIENCE, Proxy, Upstream, proxy, until};
use crate::websocket::{BEGUN, DELTA, DONE, MASK, ask, close, frame, granting, text};

/// Asks for a response.
const CREATE: &str = r#"{"type":"response.create","event_id":"mine"}"#;

/// The end of a response in a session of `responses`.
const COMPLETED: &str =
    r#"{"type":"response.completed","response":{"usage":{"input_tokens":9,"output_tokens":2}}}"#;

const KEY: &str = "authorization: Bearer sg-search-0123456789\r\n";

fn tables(limits: &str) -> String {
    format!("[clients.search]\nkey = {{ value = \"sg-search-0123456789\" }}\nlimits = [{limits}]\n")
}

/// A proxy with a ledger, from which periods are read.
struct Limited {
    proxy: Proxy,
    _folder: tempfile::TempDir,
}

impl std::ops::Deref for Limited {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxy
    }
}

fn limited(up: &Upstream, limits: &str) -> Limited {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("usage.db");
    let proxy = proxy().upstream(up).tables(&tables(limits)).ledger(&ledger).admin().run();
    Limited { proxy, _folder: folder }
}

pub fn create() -> Vec<u8> {
    frame(0x81, CREATE.as_bytes(), MASK)
}

/// An upstream that responds to each message with these texts, until the client closes.
pub fn responding(texts: &'static [&'static str]) -> Upstream {
    granting(move |connection| {
        while message(connection).is_some() {
            texts.iter().for_each(|part| connection.send(text(part)));
        }
        connection.send(close(1000, None));
    })
}

/// The next short message of a client. `None`: a close frame.
fn message(connection: &mut Connection) -> Option<Vec<u8>> {
    let head = connection.try_read(6)?;
    let payload = connection.try_read((head[1] & 0x7f).into())?;
    (head[0] != 0x88).then_some(payload)
}

/// The next message for a client, which has to be a whole text.
pub fn received(client: &mut Client) -> Value {
    let head = client.read(2);
    assert_eq!(head[0], 0x81, "{head:?}");
    let length = match head[1] {
        126 => {
            let length = client.read(2);
            u16::from_be_bytes([length[0], length[1]]).into()
        }
        length => usize::from(length),
    };
    serde_json::from_slice(&client.read(length)).unwrap()
}

/// The code and the reason of the close frame that is all that is left.
fn closed(client: &mut Client) -> (u16, String) {
    let rest = client.rest();
    assert_eq!(rest[0], 0x88, "{rest:?}");
    (u16::from_be_bytes([rest[2], rest[3]]), String::from_utf8(rest[4..].to_vec()).unwrap())
}

/// The used part of the first limit.
fn used(proxy: &Proxy) -> f64 {
    proxy.metric("streamgauge_limit_used_ratio{whose=\"clients.search\",limit=\"limits[0]\"}")
}

pub fn open(proxy: &Proxy, target: &str) -> Client {
    let mut client = proxy.client();
    let head = ask(&mut client, target, KEY).head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

#[test]
fn turns_count_as_requests_and_one_without_room_gets_an_error() {
    let up = responding(&[BEGUN, DONE]);
    let proxy = limited(&up, "{ requests = 4, per = \"day\" }");
    let mut client = open(&proxy, "/v1/realtime?model=m");
    for turn in 1..=4 {
        client.send(create());
        assert_eq!(received(&mut client)["type"], "response.created");
        assert_eq!(received(&mut client)["type"], "response.done");
        // Counted at once, while the session goes on.
        assert_eq!(used(&proxy), f64::from(turn) / 4.0, "{turn}");
    }
    for _ in 0..2 {
        let event = received(client.send(create()));
        assert_eq!(
            (&event["type"], &event["error"]["code"]),
            (&"error".into(), &"insufficient_quota".into())
        );
        assert_eq!(event["error"]["event_id"], "mine");
        assert_eq!(event["error"]["type"], "streamgauge_error");
        assert!(event["event_id"].as_str().unwrap().starts_with("event_"), "{event}");
        let message = event["error"]["message"].as_str().unwrap();
        assert!(message.contains("4 of 4 requests") && message.contains("limits[0]"), "{message}");
    }
    // Another session is refused before it begins.
    assert_eq!(ask(&mut proxy.client(), "/v1/realtime?model=m", KEY).response().status(), 429);
    proxy.record();
    client.send(close(1000, MASK)).rest();
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["events"]), (&"complete".into(), &4.into()), "{record}");
    assert!(
        record["error"].as_str().unwrap().starts_with("a turn was refused: insufficient_quota"),
        "{record}"
    );
    assert_eq!(used(&proxy), 1.0);
}

#[test]
fn turn_holds_its_expected_use_and_settles_what_is_reported() {
    let (tell, told) = mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let up = granting(move |connection| {
        while message(connection).is_some() {
            connection.send(text(BEGUN));
            told.lock().unwrap().recv().unwrap();
            connection.send(text(DONE));
        }
        connection.send(close(1000, None));
    });
    let proxy = limited(&up, "{ tokens = 10000, per = \"day\" }");
    let mut client = open(&proxy, "/v1/realtime?model=m");
    let tokens = || (used(&proxy) * 10_000.0).round();
    assert_eq!(tokens(), 1.0, "the upgrade");
    // 45 bytes are 13 tokens, beside a slice of output; later the conversation is input too.
    for (turn, context) in [(0, 0), (1, 11), (2, 11)] {
        client.send(create());
        received(&mut client);
        let input = (CREATE.len() as f64 / 3.5).ceil();
        assert_eq!(tokens(), f64::from(turn) * 11.0 + input + f64::from(context) + 1024.0, "{turn}");
        tell.send(()).unwrap();
        received(&mut client);
        assert_eq!(tokens(), f64::from(turn + 1) * 11.0);
    }
    client.send(close(1000, MASK)).rest();
    assert_eq!(proxy.record()["total_tokens"], 33);
    assert_eq!(tokens(), 33.0);
}

#[test]
fn error_has_the_form_of_responses_sessions() {
    let up = responding(&[BEGUN, COMPLETED]);
    let proxy = limited(&up, "{ requests = 1, per = \"hour\" }");
    let mut client = open(&proxy, "/v1/responses");
    client.send(create());
    received(&mut client);
    received(&mut client);
    let event = received(client.send(create()));
    assert_eq!((&event["type"], &event["status"]), (&"error".into(), &429.into()));
    assert_eq!(event["error"]["code"], "rate_limit_exceeded");
}

#[test]
fn messages_pass_byte_for_byte_in_fragments_and_as_binary() {
    let item = br#"{"type":"conversation.item.create","item":{}}"#;
    let from_client = [
        frame(0x81, item, MASK),
        frame(0x01, &item[..20], MASK),
        frame(0x89, b"ping", MASK),
        frame(0x80, &item[20..], MASK),
        frame(0x82, item, None),
        frame(0x01, &CREATE.as_bytes()[..9], MASK),
        frame(0x80, &CREATE.as_bytes()[9..], MASK),
        frame(0x8a, b"pong", MASK),
        frame(0x82, CREATE.as_bytes(), MASK),
        close(1000, MASK),
    ]
    .concat();
    // A ping does not wait for the end of the message around it.
    let mut expected = from_client.clone();
    let (ping, message) = (frame(0x89, b"ping", MASK), item.len() + 6);
    let first = frame(0x01, &item[..20], MASK);
    expected[message..][..first.len() + ping.len()].copy_from_slice(&[&ping[..], &first].concat());
    for size in [1, 7, from_client.len()] {
        let (tell, told) = mpsc::channel();
        let length = expected.len();
        let up = granting(move |connection| {
            tell.send(connection.read(length)).unwrap();
            connection.send([text(DONE), text(DONE), close(1000, None)].concat());
        });
        let proxy = limited(&up, "{ tokens = 10000, per = \"day\" }, { requests = 2, per = \"day\" }");
        let mut client = open(&proxy, "/v1/realtime?model=m");
        for piece in from_client.chunks(size) {
            client.send(piece);
        }
        assert!(told.recv_timeout(PATIENCE).unwrap() == expected, "in pieces of {size}");
        assert_eq!(client.rest(), [text(DONE), text(DONE), close(1000, None)].concat());
        assert_eq!(proxy.record()["outcome"], "complete");
    }
}

#[test]
fn message_that_cannot_be_read_ends_a_session_with_limits() {
    for message in [
        // A compressed one, although no extension was granted.
        frame(0xc1, CREATE.as_bytes(), MASK),
        frame(0x81, b"{\"type\":\"response.create\"", MASK),
        frame(0x82, b"\0\x01\xff", MASK),
    ] {
        let up = granting(|connection| connection.wait_for_close());
        let proxy = limited(&up, "{ requests = 9, per = \"day\" }");
        let mut client = open(&proxy, "/v1/realtime?model=m");
        client.send(&message);
        assert_eq!(closed(&mut client), (1008, "message_unreadable".to_owned()));
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["events"]), (&"rejected".into(), &0.into()), "{record}");
        assert_eq!(used(&proxy), 0.0);
    }
}

#[test]
fn response_without_room_for_its_next_slice_is_cut() {
    let (tell, left) = mpsc::channel();
    let up = granting(move |connection| {
        message(connection);
        connection.send(text(BEGUN));
        while connection.try_send(&text(DELTA)) {}
        tell.send(()).unwrap();
    });
    let proxy = limited(&up, "{ tokens = 2200, per = \"day\", at_limit = \"cut\" }");
    let mut client = open(&proxy, "/v1/realtime?model=m");
    client.send(create());
    received(&mut client);
    let mut deltas = 0;
    let end = loop {
        let head = client.read(2);
        let payload = client.read(head[1].into());
        if head[0] == 0x88 {
            break payload;
        }
        deltas += 1;
    };
    assert_eq!(end, [&1008_u16.to_be_bytes()[..], b"budget_exhausted"].concat());
    assert!(deltas >= 2_048, "{deltas}");
    left.recv_timeout(PATIENCE).expect("the upstream is left");
    let record = proxy.record();
    assert_eq!(record["outcome"], "cut", "{record}");
    assert!(record["error"].as_str().unwrap().contains("limits[0] in [clients.search]"), "{record}");
}

#[test]
fn response_that_the_service_begins_by_itself_counts() {
    let up = granting(|connection| {
        for part in [BEGUN, DONE, BEGUN] {
            connection.send(text(part));
        }
        connection.wait_for_close();
    });
    let proxy = limited(&up, "{ requests = 1, per = \"day\" }");
    let mut client = open(&proxy, "/v1/realtime?model=m");
    for kind in ["response.created", "response.done", "response.created"] {
        assert_eq!(received(&mut client)["type"], kind);
    }
    assert_eq!(closed(&mut client), (1008, "budget_exhausted".to_owned()));
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["events"]), (&"cut".into(), &1.into()), "{record}");
    assert_eq!(used(&proxy), 1.0);
}

#[test]
fn turn_that_the_service_refuses_gives_back_its_hold() {
    let up = responding(&[r#"{"type":"error","error":{"code":"invalid_value","message":"no"}}"#]);
    let proxy = limited(&up, "{ requests = 1, per = \"day\" }");
    let mut client = open(&proxy, "/v1/realtime?model=m");
    for _ in 0..3 {
        let event = received(client.send(create()));
        assert_eq!(event["error"]["code"], "invalid_value", "{event}");
    }
    client.send(close(1000, MASK)).rest();
    assert_eq!(proxy.record()["events"], 0);
    assert_eq!(used(&proxy), 0.0);
}

#[test]
fn turn_for_another_model_than_the_limits_is_refused() {
    let up = responding(&[BEGUN, COMPLETED]);
    let limits = "{ tokens = 5000, per = \"day\", model = \"m*\" }]\nmodels = [\"m*\"";
    let proxy = limited(&up, limits);
    let mut client = open(&proxy, "/v1/responses?model=m");
    let named = |model: &str| {
        frame(0x81, format!(r#"{{"type":"response.create","model":"{model}"}}"#).as_bytes(), MASK)
    };
    for model in ["m2", "other"] {
        assert_eq!(received(client.send(named(model)))["error"]["code"], "model_ambiguous");
    }
    assert_eq!(received(client.send(create()))["error"]["code"], "model_unknown");
    assert_eq!(received(client.send(named("m")))["type"], "response.created");
    for (target, code) in [("/v1/responses", "model_unknown"), ("/v1/responses?model=x", "model_not_allowed")]
    {
        assert_eq!(ask(&mut proxy.client(), target, KEY).response().error()["code"], code, "{target}");
    }
}

#[test]
fn key_that_was_replaced_ends_its_session_at_the_next_turn() {
    // A response that is asked for, and one that the service begins by itself.
    for (limits, asks) in [("{ requests = 9, per = \"hour\" }", true), ("", true), ("", false)] {
        let (tell, told) = mpsc::channel::<()>();
        let told = std::sync::Mutex::new(told);
        let up = granting(move |connection| {
            for _ in 0..2 {
                if asks {
                    // The proxy closes before the second one.
                    if connection.try_read(6 + CREATE.len()).is_none() {
                        return;
                    }
                } else {
                    told.lock().unwrap().recv().unwrap();
                }
                connection.send([text(BEGUN), text(DONE)].concat());
            }
            connection.wait_for_close();
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streamgauge.toml");
        let builder = proxy().upstream(&up).tables(&tables(limits)).admin();
        std::fs::write(&path, builder.text()).unwrap();
        let proxy = builder.run_from(&path);
        let mut client = open(&proxy, "/v1/realtime?model=m");
        let turn = |client: &mut Client| {
            if asks {
                client.send(create());
            } else {
                tell.send(()).unwrap();
            }
        };
        turn(&mut client);
        received(&mut client);
        received(&mut client);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("sg-search-0123456789", "sg-search-9876543210")).unwrap();
        proxy.reload();
        turn(&mut client);
        let rest = client.rest();
        assert!(rest.ends_with(b"the key was revoked"), "{limits} {asks}");
        let record = proxy.record();
        assert_eq!(record["outcome"], "cut", "{record}");
        assert!(record["error"].as_str().unwrap().contains("revoked"), "{record}");
    }
}

#[test]
fn counts_of_sessions_equal_the_ledger_also_after_a_restart() {
    let up = granting(|connection| {
        let mut turns = 0;
        while message(connection).is_some() {
            turns += 1;
            connection.send(text(BEGUN));
            if turns == 3 {
                // Inside a response.
                return;
            }
            connection.send(text(DONE));
        }
        connection.send(close(1000, None));
    });
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("usage.db");
    let tables = tables("{ tokens = 100000, per = \"month\" }, { requests = 100, per = \"month\" }");
    let run = || proxy().upstream(&up).tables(&tables).admin().ledger(&ledger).run();
    let counts = |proxy: &Proxy| {
        let ratio = |limit| {
            proxy.metric(&format!(
                "streamgauge_limit_used_ratio{{whose=\"clients.search\",limit=\"limits[{limit}]\"}}"
            ))
        };
        ((ratio(0) * 100_000.0).round(), (ratio(1) * 100.0).round())
    };
    let proxy = run();
    for turns in 0..=3 {
        let mut client = open(&proxy, "/v1/realtime?model=m");
        for _ in 0..turns {
            client.send(create());
            received(&mut client);
        }
        if turns < 3 {
            client.send(close(1000, MASK));
        }
        client.rest();
        proxy.record();
    }
    assert_eq!(counts(&proxy), (55.0, 5.0), "five responses ended");
    let drifts = || {
        proxy.compare_limits();
        let drift = |limit| {
            proxy.metric(&format!(
                "streamgauge_limit_drift{{whose=\"clients.search\",limit=\"limits[{limit}]\"}}"
            ))
        };
        (drift(0), drift(1))
    };
    until(PATIENCE, "equal counts", || (drifts() == (0.0, 0.0)).then_some(()));
    proxy.stop();
    assert_eq!(counts(&run()), (55.0, 5.0));
}

#[test]
fn burst_of_refused_turns_gets_an_error_for_each() {
    let up = responding(&[BEGUN, DONE]);
    let proxy = limited(&up, "{ requests = 1, per = \"day\" }");
    let mut client = open(&proxy, "/v1/realtime?model=m");
    client.send(create().repeat(41));
    // The errors come between the two messages of the service, or around them.
    let events: Vec<_> = (0..42).map(|_| received(&mut client)).collect();
    let refusals = events.iter().filter(|event| event["error"]["code"] == "insufficient_quota");
    assert_eq!(refusals.count(), 40);
    client.send(close(1000, MASK)).rest();
    let record = proxy.record();
    assert_eq!((&record["outcome"], &record["events"]), (&"complete".into(), &1.into()), "{record}");
}

#[test]
fn too_large_message_ends_both_sides_with_a_close_frame() {
    let (tell, told) = mpsc::channel();
    let up = granting(move |connection| {
        let head = connection.read(2);
        tell.send(head).unwrap();
        connection.wait_for_close();
    });
    let tables = tables("{ requests = 9, per = \"hour\" }");
    let proxy = proxy().upstream(&up).server("max_request_bytes = 1000").tables(&tables).run();
    let mut client = open(&proxy, "/v1/realtime?model=m");
    // The head of a frame is enough.
    client.send(&frame(0x81, &[b' '; 2_000], MASK)[..8]);
    assert_eq!(closed(&mut client), (1008, "request_too_large".to_owned()));
    assert_eq!(told.recv_timeout(PATIENCE).unwrap()[0], 0x88);
    assert_eq!(proxy.record()["outcome"], "rejected");
}

#[test]
fn refused_turn_does_not_name_the_model_of_the_record() {
    let up = responding(&[BEGUN, COMPLETED]);
    let proxy = limited(&up, "{ tokens = 5000, per = \"day\", model = \"m*\" }]\nmodels = [\"m*\"");
    let mut client = open(&proxy, "/v1/responses?model=m");
    let other = br#"{"type":"response.create","model":"other"}"#;
    assert_eq!(received(client.send(frame(0x81, other, MASK)))["error"]["code"], "model_ambiguous");
    client.send(close(1000, MASK)).rest();
    assert_eq!(proxy.record()["model_requested"], "m");
}
