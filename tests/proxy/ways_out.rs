//! Connections to upstreams: the forward proxy, the bytes on each side, and the messages about
//! failures.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use http::{HeaderValue, Method, header};
use http_body_util::BodyExt as _;
use rustls::pki_types::{CertificateDer, ServerName};
use streamgauge::codec::h1::BodyFraming;
use streamgauge::codec::head::Headers;
use streamgauge::config::{HttpVersion, PoolLimits, Timeouts};
use streamgauge::llm::rewrite::headers::OutboundHeaders;
use streamgauge::support::Hosts;
use streamgauge::support::secret::Secret;
use streamgauge::tls::{ClientSettings, Connector, HTTP_1_1, Source, Watch};
use streamgauge::upstream::{
    Connect, ConnectSpec, ForwardProxyConnector, OutboundRequest, Payload, ProxyProtocol, Scratch, Socks5,
    UpstreamClient, Winner,
};

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, EVENTS_HEAD, Http2, LAST_CHUNK, Proxy, Tunnels, Upstream, chunk,
    proxy, sized, tls_in_front_of, upstream,
};

/// An upstream with a name that only a forward proxy can resolve.
const HIDDEN: &str = "[upstreams.up]\nprovider = \"other\"\nurl = \"http://llm.invalid:8000/v1\"\n\
                      api_key = { value = \"sk-upstream\" }\ndefault_model = \"m\"";

/// The proxy under test, whose only upstream is hidden behind this forward proxy.
fn behind(outbound: &str) -> Proxy {
    proxy().tables(HIDDEN).tables(&format!("[upstreams.up.proxy]\n{outbound}")).run()
}

fn responding() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()))
}

/// The code and the message of a refusal with 502.
fn refusal(proxy: &Proxy) -> (String, String) {
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.status(), 502, "{}", response.text());
    let error = response.error();
    let [code, message] = ["code", "message"].map(|key| error[key].as_str().unwrap().to_owned());
    assert!(message.contains("`up`"), "it names the upstream: {message}");
    (code, message)
}

#[test]
fn each_side_gets_what_is_its_own() {
    let (asked, requests) = mpsc::channel();
    let up = upstream(move |connection| {
        while let Some(request) = connection.request() {
            asked.send(request.head).unwrap();
            connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        }
    });
    let tunnels = Tunnels::to_with_authorization(up.address, "Basic bWU6cHctbWFya2Vy");
    let proxy = behind(&format!(
        "url = \"http://{}\"\nusername = \"me\"\npassword = {{ value = \"pw-marker\" }}\n\
         headers = {{ X-Team = \"search\", X-Key = {{ value = \"hd-marker\" }} }}",
        tunnels.address
    ));
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.post("/v1/chat/completions", CHAT_REQUEST).response().text(), CHAT_BODY);
    }
    assert_eq!(
        tunnels.opening(),
        "CONNECT llm.invalid:8000 HTTP/1.1\r\nhost: llm.invalid:8000\r\nproxy-authorization: Basic bWU6cHctbWFya2Vy\r\n\
         x-team: search\r\nx-key: hd-marker\r\n\r\n"
    );
    assert_eq!(tunnels.more_openings(), 0, "the tunnel is kept and used again");
    for head in requests.try_iter() {
        assert!(
            head.starts_with("POST /v1/chat/completions HTTP/1.1\r\nhost: llm.invalid:8000\r\n"),
            "{head}"
        );
        assert!(head.contains("authorization: Bearer sk-upstream"), "{head}");
        for foreign in ["proxy-", "x-team", "x-key", "bWU6", "marker"] {
            assert!(!head.contains(foreign), "{foreign} is the proxy's: {head}");
        }
    }
}

#[test]
fn forward_proxy_refusing_credentials_is_named_not_the_upstream() {
    let tunnels = Tunnels::to_with_authorization(responding().address, "Basic b3RoZXI6b3RoZXI=");
    for credentials in ["", "username = \"me\"\npassword = { value = \"pw-marker\" }"] {
        let proxy = behind(&format!("url = \"http://{}\"\n{credentials}", tunnels.address));
        let (code, message) = refusal(&proxy);
        assert_eq!(code, "proxy_refused");
        assert!(
            message.contains("responded with 407") && message.contains("password of the proxy"),
            "{message}"
        );
        assert!(message.contains(&tunnels.address.to_string()) && !message.contains("marker"), "{message}");
        let record = proxy.record();
        assert_eq!((&record["outcome"], &record["status"]), (&"upstream_error".into(), &502.into()));
    }
}

#[test]
fn a_proxy_that_opens_no_tunnel_is_a_502_that_says_why() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://login.corp/\r\n\r\n";
    for (response, code, reason) in [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nno way", "proxy_refused", "responded with 403"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "proxy_refused", "responded with 503"),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", "proxy_refused", "the password of the proxy"),
        (redirect, "proxy_refused", "responded with 302"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "proxy_failed", "it broke HTTP"),
        (
            "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "proxy_failed",
            "into the tunnel",
        ),
        ("HTTP/1.1 200 OK\r\n", "proxy_failed", "closed the connection without a response"),
        ("", "proxy_failed", "closed the connection without a response"),
    ] {
        let outbound = upstream(move |connection| {
            connection.head();
            connection.send(response);
        });
        let proxy = behind(&format!("url = \"http://{}\"", outbound.address));
        let (found, message) = refusal(&proxy);
        assert_eq!(found, code, "{response:?}: {message}");
        assert!(message.contains(reason), "{response:?}: {message}");
        assert_eq!(outbound.accepted(), 1, "nothing is tried twice, and no redirect followed");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, message) = refusal(&behind(&format!("url = \"http://{nobody}\"")));
    assert_eq!(code, "proxy_failed");
    assert!(message.contains("connection refused"), "{message}");
}

#[test]
fn silent_forward_proxy_gets_the_connect_timeout_at_each_step() {
    let silent = || upstream(|connection| connection.wait_for_close());
    for scheme in ["http", "https", "socks5h"] {
        let outbound = silent();
        let proxy = proxy()
            .tables(HIDDEN)
            .tables(&format!(
                "proxy = \"{scheme}://{}\"\ntimeouts = {{ connect = \"50ms\" }}",
                outbound.address
            ))
            .run();
        let (code, message) = refusal(&proxy);
        assert_eq!(code, "proxy_timeout", "{scheme}");
        assert!(message.contains("within 50ms (timeouts.connect)"), "{message}");
        assert_eq!(proxy.record()["outcome"], "timed_out");
    }
}

#[test]
fn a_silent_target_behind_a_good_proxy_is_the_targets_fault() {
    let up = upstream(|connection| connection.wait_for_close());
    let tunnels = Tunnels::to(up.address);
    let proxy = proxy()
        .tables(&HIDDEN.replace("http:", "https:"))
        .tables(&format!("proxy = \"http://{}\"\ntimeouts = {{ connect = \"50ms\" }}", tunnels.address))
        .run();
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!((response.status(), response.error()["code"].as_str()), (504, Some("connect_timeout")));
}

#[test]
fn an_https_proxy_has_its_own_ca_and_its_name_is_checked() {
    let tunnels = Tunnels::to(responding().address);
    let front = tls_in_front_of(tunnels.address);
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), &front.pem).unwrap();
    let ca = format!("ca = {{ file = {:?} }}", ca.path());
    let port = front.address.port();

    let proxy = behind(&format!("url = \"https://localhost:{port}\"\n{ca}"));
    let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.text(), CHAT_BODY);
    assert!(tunnels.opening().starts_with("CONNECT llm.invalid:8000 "));

    for (outbound, reason) in [
        (format!("url = \"https://localhost:{port}\""), "UnknownIssuer"),
        (format!("url = \"https://127.0.0.1:{port}\"\n{ca}"), "not valid for name"),
    ] {
        let (code, message) = refusal(&behind(&outbound));
        assert_eq!(code, "proxy_failed", "{outbound}");
        assert!(message.contains("no TLS session with the proxy itself"), "{message}");
        assert!(message.contains(reason), "{reason}: {message}");
    }
    assert_eq!(tunnels.more_openings(), 0, "who is not trusted is asked for nothing");
}

#[test]
fn http2_with_prior_knowledge_works_through_forward_proxies() {
    let up = Http2::default().run(|mut exchange| async move {
        exchange.body().await;
        exchange.respond("text/event-stream", CHAT_STREAM.as_bytes()).await;
    });
    let tunnels = Tunnels::to(up.address);
    let front = tls_in_front_of(tunnels.address);
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), &front.pem).unwrap();
    let socks = Tunnels::socks5_to(up.address, None);
    for (number, outbound) in [
        format!("url = \"http://{}\"", tunnels.address),
        format!("url = \"https://localhost:{}\"\nca = {{ file = {:?} }}", front.address.port(), ca.path()),
        format!("url = \"socks5h://{}\"", socks.address),
    ]
    .into_iter()
    .enumerate()
    {
        let proxy =
            proxy().tables(HIDDEN).tables("http = \"2\"\n[upstreams.up.proxy]").tables(&outbound).run();
        for _ in 0..2 {
            let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
            assert_eq!(response.text(), CHAT_STREAM, "{outbound}");
            let record = proxy.record();
            assert_eq!((&record["outcome"], &record["total_tokens"]), (&"complete".into(), &11.into()));
        }
        assert_eq!(up.accepted(), number + 1, "one connection carries both: {outbound}");
    }
}

#[test]
fn a_socks5_proxy_gets_the_name_or_looks_at_an_address() {
    let up = responding();
    let tunnels = Tunnels::socks5_to(up.address, Some(("me", "pw-marker")));
    let credentials = "username = \"me\"\npassword = { value = \"pw-marker\" }";
    let named = behind(&format!("url = \"socks5h://{}\"\n{credentials}", tunnels.address));
    let response = named.client().post("/v1/chat/completions", CHAT_REQUEST).response();
    assert_eq!(response.text(), CHAT_BODY);
    assert_eq!(tunnels.opening(), "llm.invalid:8000");

    let wrong = credentials.replace("pw-marker", "no");
    let (code, message) = refusal(&behind(&format!("url = \"socks5h://{}\"\n{wrong}", tunnels.address)));
    assert_eq!(code, "proxy_failed");
    assert!(message.contains("SOCKS5: Password auth failure"), "{message}");

    let open = Tunnels::socks5_to(up.address, None);
    let (_, message) = refusal(&behind(&format!("url = \"socks5://{}\"", open.address)));
    assert!(message.contains("cannot be looked up here"), "{message}");
    let proxy = proxy().upstream(&up).tables(&format!("proxy = \"socks5://{}\"", open.address)).run();
    assert_eq!(proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response().text(), CHAT_BODY);
    let opening = std::iter::from_fn(|| Some(open.opening())).find(|opening| opening.contains(':'));
    assert_eq!(opening, Some(up.address.to_string()));
}

#[test]
fn the_environment_is_asked_where_the_configuration_is_silent() {
    let up = responding();
    let tunnels = Tunnels::to(up.address);
    let url = format!("http://me:pw%2dmarker@{}", tunnels.address);
    for (no_proxy, own, through) in
        [("", "", true), ("llm.test", "", false), ("localhost", "", true), ("", "proxy = \"none\"", false)]
    {
        let proxy = proxy()
            .tables(&format!(
                "[upstreams.up]\nprovider = \"other\"\nurl = \"http://llm.test:{}/v1\"\napi_key = \"none\"\n\
                 default_model = \"m\"\n{own}",
                up.address.port()
            ))
            .env("http_proxy", &url)
            .env("NO_PROXY", no_proxy)
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .run();
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        if through {
            assert_eq!(response.text(), CHAT_BODY);
            let expected = format!(
                "CONNECT llm.test:{0} HTTP/1.1\r\nhost: llm.test:{0}\r\nproxy-authorization: Basic bWU6cHctbWFya2Vy\r\n\r\n",
                up.address.port()
            );
            assert_eq!(tunnels.opening(), expected);
        } else {
            // No host has that name, so that a direct connection fails.
            assert_eq!(response.error()["code"], "upstream_unreachable");
        }
        assert_eq!(tunnels.more_openings(), 0, "NO_PROXY={no_proxy:?} {own}");
    }
}

#[test]
fn the_environments_proxy_is_not_for_services_on_this_machine() {
    let up = responding();
    let proxy = proxy().upstream(&up).env("http_proxy", "http://127.0.0.1:1").run();
    assert_eq!(proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response().text(), CHAT_BODY);
}

#[test]
fn a_client_that_leaves_closes_the_tunnel() {
    let (closed, seen) = mpsc::channel();
    let first = CHAT_STREAM.split_inclusive("\n\n").next().unwrap();
    let up = upstream(move |connection| {
        connection.request();
        connection.send([EVENTS_HEAD.as_bytes(), &chunk(first.as_bytes())].concat());
        connection.wait_for_close();
        closed.send(()).unwrap();
    });
    let tunnels = Tunnels::to(up.address);
    let proxy = behind(&format!("url = \"http://{}\"", tunnels.address));
    let mut client = proxy.client();
    client.post("/v1/chat/completions", CHAT_REQUEST).head();
    assert_eq!(client.chunks(first.len()), first.as_bytes());
    drop(client);
    seen.recv_timeout(crate::harness::PATIENCE).expect("the upstream is told through the tunnel");
    assert_eq!(proxy.record()["outcome"], "client_disconnected");
}

#[test]
fn a_redirect_is_the_clients_and_is_never_followed() {
    let elsewhere = responding();
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let location = format!("http://{}/v1/chat/completions", elsewhere.address);
        let response = format!("HTTP/1.1 {status}\r\nlocation: {location}\r\ncontent-length: 5\r\n\r\nmoved");
        let up = Upstream::responding(response);
        let proxy = proxy().upstream(&up).run();
        let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
        assert!(response.head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{}", response.head);
        assert_eq!((response.header("location"), response.text()), (Some(location.as_str()), "moved"));
        assert_eq!((up.accepted(), elsewhere.accepted()), (1, 0), "{status}");
        assert_eq!(proxy.record()["status"].to_string(), status[..3]);
    }
}

#[test]
fn a_redirect_to_a_host_that_is_not_allowed_is_refused() {
    for (location, allowed) in [
        ("/v2/models", true),
        ("http://127.0.0.1:9/v1", true),
        ("https://eu.llm.internal/v1", true),
        ("https://evil.test/v1?x", false),
        ("//evil.test", false),
        ("https://llm.internal.evil.test/", false),
    ] {
        let response =
            format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let up = Upstream::responding(response);
        let allowed_hosts = "[network]\nallowed_hosts = [\"127.0.0.1\", \"*.llm.internal\"]";
        let proxy = proxy().upstream(&up).tables(allowed_hosts).run();
        if allowed {
            let response = proxy.client().post("/v1/chat/completions", CHAT_REQUEST).response();
            assert_eq!((response.status(), response.header("location")), (307, Some(location)));
        } else {
            let (code, message) = refusal(&proxy);
            assert_eq!(code, "upstream_redirect", "{location}");
            assert!(message.contains("evil.test") && message.contains("network.allowed_hosts"), "{message}");
            assert_eq!(proxy.record()["outcome"], "upstream_error");
        }
    }
}

#[test]
fn no_response_leads_a_client_where_clients_disagree() {
    let get = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n";
    let websocket = format!("{get}connection: upgrade\r\nupgrade: websocket\r\n");
    for (request, status, header, is_allowed) in [
        (get, "302 Found", "location: http://127.0.0.1\\.evil.test/", false),
        (get, "302 Found", "location: http://127.0.0.1\\@evil.test/", false),
        (get, "302 Found", "location: http://127.0.0.1@evil.test/", false),
        (get, "302 Found", "location: http://evil.test#@127.0.0.1/", false),
        (get, "302 Found", "location: /\t/evil.test", false),
        (get, "302 Found", "location: ///evil.test", false),
        (get, "302 Found", "location: https:evil.test", false),
        (get, "302 Found", "location: http://[::1].evil.test/", false),
        (get, "302 Found", "location: http://2130706433/", false),
        (get, "302 Found", "location: /v1\r\nlocation: https://evil.test/", false),
        (get, "300 Multiple Choices", "location: https://evil.test/", false),
        (get, "201 Created", "location: https://evil.test/", false),
        (get, "202 Accepted", "location: https://evil.test/", false),
        (get, "200 OK", "refresh: 0; url=https://evil.test/", false),
        (&*websocket, "302 Found", "location: https://evil.test/", false),
        (get, "201 Created", "location: /v1/files/f", true),
        (get, "201 Created", "location: http://127.0.0.1:9/v1/files/f?x=a%5cb", true),
        (get, "200 OK", "content-location: https://evil.test/", true),
        (get, "200 OK", "refresh: 5", true),
    ] {
        let up = Upstream::responding(format!("HTTP/1.1 {status}\r\n{header}\r\ncontent-length: 0\r\n\r\n"));
        let proxy = proxy().upstream(&up).tables("[network]\nallowed_hosts = [\"127.0.0.1\"]").run();
        let response = proxy.client().send(format!("{request}\r\n")).response();
        if is_allowed {
            assert_eq!(response.status().to_string(), status[..3], "{header}");
        } else {
            assert_eq!(
                (response.status(), &response.error()["code"]),
                (502, &"upstream_redirect".into()),
                "{header}"
            );
        }
    }
}

#[test]
fn a_target_that_is_not_trusted_is_named_also_through_a_tunnel() {
    let front = tls_in_front_of(responding().address);
    let tunnels = Tunnels::to(front.address);
    let proxy = proxy()
        .tables(&HIDDEN.replace("http:", "https:"))
        .tables(&format!("proxy = \"http://{}\"", tunnels.address))
        .run();
    let (code, _) = refusal(&proxy);
    assert_eq!(code, "upstream_tls");
    assert!(tunnels.opening().starts_with("CONNECT llm.invalid:8000 "));
}

fn trusting(root: &CertificateDer<'static>) -> Connector {
    let text = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        base64::engine::general_purpose::STANDARD.encode(root)
    );
    let ca = vec![Source::Text { name: "the test's root".into(), text: Arc::new(Secret::new(text)) }];
    let settings = ClientSettings { ca, ..ClientSettings::default() };
    let live = Watch::default().client("test", &settings, &[HTTP_1_1]).unwrap();
    Connector::new(live, ServerName::try_from("localhost").unwrap())
}

/// TLS with the target, end to end, inside of every kind of tunnel: no forward proxy can read it.
#[test]
fn an_https_target_is_spoken_with_inside_every_kind_of_tunnel() {
    let stream = [EVENTS_HEAD.as_bytes(), &chunk(CHAT_STREAM.as_bytes()), LAST_CHUNK.as_bytes()].concat();
    let target = tls_in_front_of(Upstream::responding(stream).address);
    let timeout = Duration::from_secs(20);
    let bearer = (header::AUTHORIZATION, HeaderValue::from_static("Bearer sk-marker"));
    let headers = OutboundHeaders::new(HeaderValue::from_static("localhost"), Vec::new(), vec![bearer]);
    for kind in ["http", "https", "socks5h"] {
        let (host, port) = ("localhost", 443);
        let tunnels = match kind {
            "socks5h" => Tunnels::socks5_to(target.address, None),
            _ => Tunnels::to(target.address),
        };
        let front = (kind == "https").then(|| tls_in_front_of(tunnels.address));
        let protocol = match kind {
            "socks5h" => ProxyProtocol::Socks5(Socks5 { resolve_here: false, credentials: None }),
            _ => ProxyProtocol::Connect(Connect::new(host, port, &[], None)),
        };
        let at = front.as_ref().map_or(tunnels.address, |front| front.address);
        let outbound = ForwardProxyConnector {
            url: format!("{kind}://{at}").into(),
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: SocketAddr::port(&at),
            tls: front.as_ref().map(|front| trusting(&front.certificate)),
            protocol,
        };
        let timeouts = Timeouts {
            connect: timeout,
            first_byte: timeout,
            first_byte_unstreamed: timeout,
            idle: timeout,
            total: None,
        };
        let spec = ConnectSpec {
            name: "up".into(),
            host: host.to_owned(),
            port,
            socket: None,
            tls: Some(trusting(&target.certificate)),
            allowed_hosts: Hosts::default(),
            http: HttpVersion::Auto,
            proxy: Some(outbound),
            timeouts,
            max_connection_age: None,
            winner: Winner::default(),
            observer: None,
        };
        let limits = PoolLimits { idle_timeout: timeout, max_idle: 1 };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        runtime.unwrap().block_on(async {
            let client = UpstreamClient::new(Arc::new(spec), limits, Scratch::default());
            for _ in 0..2 {
                let call = OutboundRequest {
                    method: &Method::POST,
                    target: "/v1/chat/completions".to_owned(),
                    headers: &headers,
                    client: &Headers::default(),
                    upgrade: None,
                    framing: BodyFraming::None,
                    payload: Payload::default(),
                    is_streamed: true,
                    started: Instant::now(),
                    is_new: false,
                };
                let response = client.send(call).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
                let body = response.body.collect().await.unwrap().to_bytes();
                assert_eq!(body, CHAT_STREAM, "{kind}");
            }
        });
        assert!(tunnels.opening().contains("localhost:443"), "{kind}");
        assert_eq!(tunnels.more_openings(), 0, "{kind}: the session inside the tunnel is kept");
        assert!(!tunnels.passed("sk-marker") && !tunnels.passed("POST"), "{kind}: it was sent in the clear");
    }
}
