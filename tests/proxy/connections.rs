//! One HTTP/1.1 connection of a client: the end of a request, the begin of the next, and the close
//! of the connection.

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Client, EVENTS_HEAD, LAST_CHUNK, Upstream, chunk, proxy, sized,
    upstream,
};

/// Responds with a stream if one is requested, and otherwise with a body.
fn both() -> Upstream {
    upstream(|connection| {
        while let Some(request) = connection.request() {
            if request.body == CHAT_REQUEST.as_bytes() {
                connection.send([EVENTS_HEAD.as_bytes(), &chunk(CHAT_STREAM.as_bytes())].concat());
                connection.send(LAST_CHUNK);
            } else if request.line().starts_with("HEAD") {
                connection
                    .send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n");
            } else {
                connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
            }
        }
    })
}

fn post(head: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/chat/completions {head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn a_request_that_comes_byte_by_byte_is_one_request() {
    let up = both();
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    for _ in 0..2 {
        for byte in post("HTTP/1.1\r\nhost: localhost\r\n", CHAT_REQUEST).bytes() {
            client.send([byte]);
        }
        assert_eq!(client.response().text(), CHAT_STREAM);
        assert_eq!(proxy.record()["outcome"], "complete");
    }
}

#[test]
fn pipelined_requests_of_any_framing_get_ordered_responses() {
    let up = both();
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{}{LAST_CHUNK}",
        String::from_utf8(chunk(CHAT_REQUEST.as_bytes())).unwrap()
    );
    let sized = post("HTTP/1.1\r\nhost: localhost\r\n", "{\"model\":\"m\"}");
    let bare = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n";
    client.send([&chunked, "\r\n", &sized, bare, &chunked].concat());
    for text in [CHAT_STREAM, CHAT_BODY, CHAT_BODY, CHAT_STREAM] {
        assert_eq!(client.response().text(), text);
    }
    client.finish();
    assert_eq!(client.rest(), b"");
}

#[test]
fn large_body_in_pieces_is_whole_and_next_request_follows() {
    let words: String = (0..60_000).map(|number| format!("{number} ")).collect();
    let large = format!("{{\"model\":\"m\",\"x\":\"{words}\"}}");
    let sent = large.clone();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            let seen = if request.body == sent.as_bytes() { "[1]" } else { "[0]" };
            connection.send(sized("200 OK", "application/json", seen.as_bytes()));
        }
    });
    let proxy = proxy().upstream(&up).run();
    let head = "HTTP/1.1\r\nhost: localhost\r\n";
    let chunked = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let requests = [
        post(head, &large).into_bytes(),
        chunked.into(),
        large.as_bytes().chunks(50_000).flat_map(chunk).collect(),
        LAST_CHUNK.into(),
        post(head, CHAT_BODY).into_bytes(),
        post(head, &large).into_bytes(),
    ]
    .concat();
    let mut client = proxy.client();
    for piece in [1_000, 70_000, 333_333, requests.len()] {
        for piece in requests.chunks(piece) {
            client.send(piece);
        }
        let responses: Vec<_> = (0..4).map(|_| client.response().text().to_owned()).collect();
        assert_eq!(responses, ["[1]", "[1]", "[0]", "[1]"], "in pieces of {piece}");
    }
}

#[test]
fn http_1_0_client_gets_no_chunks_and_a_closed_connection() {
    let up = both();
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let head = client.send(post("HTTP/1.0\r\n", CHAT_REQUEST)).head();
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert_eq!(client.rest(), CHAT_STREAM.as_bytes());
}

#[test]
fn http_1_0_keep_alive_is_honoured_if_the_length_is_known() {
    let up = both();
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    for _ in 0..2 {
        let response =
            client.send(post("HTTP/1.0\r\nconnection: keep-alive\r\n", "{\"model\":\"m\"}")).response();
        assert_eq!(response.header("connection"), Some("keep-alive"));
        assert_eq!(response.text(), CHAT_BODY);
    }
    let head = client.send(post("HTTP/1.0\r\nconnection: keep-alive\r\n", CHAT_REQUEST)).head();
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(client.rest(), CHAT_STREAM.as_bytes());
}

#[test]
fn connection_close_of_a_client_is_echoed_and_honoured() {
    let up = both();
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let response =
        client.send(post("HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n", CHAT_REQUEST)).response();
    assert_eq!((response.header("connection"), response.text()), (Some("close"), CHAT_STREAM));
    assert_eq!(client.rest(), b"");
}

#[test]
fn response_to_head_has_its_length_and_no_body() {
    let up = both();
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    let head = client.send("HEAD /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").head();
    assert!(head.contains("content-length: 7"), "{head}");
    assert_eq!(
        client.get("/v1/models").response().text(),
        CHAT_BODY,
        "the next response begins behind the head"
    );
}

#[test]
fn request_with_ambiguous_end_is_refused_and_the_rest_not_read() {
    let up = both();
    let proxy = proxy().upstream(&up).run();
    for doubtful in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        "content-length: 4, 4\r\n\r\nabcd",
        "content-length: +4\r\n\r\nabcd",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "x: y\n\r\n",
    ] {
        let mut client = proxy.client();
        client.send(format!(
            "POST /v1/files HTTP/1.1\r\nhost: localhost\r\n{doubtful}GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
        ));
        let response = client.response();
        assert_eq!(response.status(), 400, "{doubtful:?}");
        assert_eq!(response.error()["code"], "malformed_request");
        assert_eq!(client.rest(), b"", "{doubtful:?}");
        assert_eq!(proxy.record()["status"], 400);
    }
    assert_eq!(up.accepted(), 0, "nothing of it reached the service");
    assert_eq!(proxy.stop().len(), 0);
}

#[test]
fn body_refused_unread_leaves_client_time_to_read_the_response() {
    let up = both();
    let proxy = proxy().server("max_request_bytes = 1000").upstream(&up).run();
    let mut client = proxy.client();
    // More than both sockets hold: it is sent while the response waits.
    let body = "x".repeat(1 << 20);
    let response = client.send(post("HTTP/1.1\r\nhost: localhost\r\n", &body)).response();
    assert_eq!((response.status(), response.header("connection")), (413, Some("close")));
    assert_eq!(response.error()["code"], "request_too_large");
    assert_eq!(client.rest(), b"");
}

#[test]
fn body_refused_unread_but_received_keeps_its_connection() {
    let up = both();
    let proxy = proxy().server("max_request_bytes = 10").upstream(&up).run();
    let mut client = proxy.client();
    let response = client.send(post("HTTP/1.1\r\nhost: localhost\r\n", CHAT_REQUEST)).response();
    assert_eq!((response.status(), response.header("connection")), (413, None));
    assert_eq!(client.get("/v1/models").response().text(), CHAT_BODY);
}

#[test]
fn a_client_that_waits_for_a_word_and_is_refused_gets_no_word() {
    let up = both();
    let proxy = proxy().server("max_request_bytes = 10").upstream(&up).run();
    let mut client = proxy.client();
    client.send("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 13\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.header("connection")), (413, Some("close")));
    assert_eq!(read_to_end(&mut client), b"", "what follows might be the body or a request");
}

fn read_to_end(client: &mut Client) -> Vec<u8> {
    client.finish();
    client.rest()
}

#[test]
fn a_body_broken_inside_its_frame_is_refused() {
    let up = both();
    let proxy = proxy().upstream(&up).run();
    let mut client = proxy.client();
    client.send("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n");
    let response = client.response();
    assert_eq!(response.status(), 400);
    assert_eq!(client.rest(), b"");
    assert_eq!(proxy.record()["status"], 400);
}
