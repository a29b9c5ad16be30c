//! The messages about upstreams that do not work: the cause, and the key to change.

use std::net::TcpListener;

use rcgen::{KeyPair, date_time_ymd};
use streamgauge::tls::ClientCertificates::Required;

use crate::harness::certificates::{Authority, leaf, self_signed};
use crate::harness::{CHAT_BODY, EVENTS_HEAD, Upstream, chunk, sized, upstream};
use crate::program::{Ended, Folder, responding, tls, up};

/// Asserts that the check failed with a message that contains these parts.
fn failed(ended: &Ended, error: &str, change: &str) {
    assert_eq!(ended.status, 1, "{}", ended.all());
    assert!(ended.out.contains("up: FAILED"), "{}", ended.all());
    assert!(ended.line("error").contains(error), "{error:?} in {}", ended.all());
    assert!(ended.line("change").contains(change), "{change:?} in {}", ended.all());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn response_of_another_kind_names_the_key() {
    let folder = Folder::new();
    let json = |status: &str, body: &str| sized(status, "application/json", body.as_bytes());
    let error =
        |status: &str, message: &str| json(status, &format!("{{\"error\":{{\"message\":\"{message}\"}}}}"));
    for (response, what, change) in [
        (
            error("401 Unauthorized", "Incorrect key: sk-marker-1."),
            "Incorrect key: ***.",
            "upstreams.up.api_key: it does not accept",
        ),
        (error("403 Forbidden", "no\\u001b[2J"), "no\u{fffd}[2J", "upstreams.up.api_key: the key may not"),
        (
            error("404 Not Found", "no model gpt-asked"),
            "no model gpt-asked",
            "upstreams.up.url (its path) or the model: check upstreams.up.default_model",
        ),
        (error("429 Too Many Requests", "quota"), "quota", "at its limit"),
        (error("400 Bad Request", "max_tokens"), "max_tokens", "try --model and --body"),
        (
            error("500 Internal Server Error", "oops xh-marker-2"),
            "oops ***",
            "the service responds and is broken",
        ),
        (error("200 OK", "in a good response"), "in a good response", "upstreams.up.url"),
        (
            json("404 Not Found", "{\"detail\":\"Not Found\"}"),
            "{\"detail\":\"Not Found\"}",
            "upstreams.up.url (its path)",
        ),
        (
            sized("200 OK", "text/html", b"<html>a page"),
            "with text/html instead of JSON: <html>a page",
            "its path usually ends with /v1",
        ),
        (sized("200 OK", "application/json", b"{\"id\":"), "instead of JSON", "upstreams.up.url"),
        (
            sized("502 Bad Gateway", "text/html", b"<h1>\nBad</h1>"),
            "<h1> Bad</h1>",
            "the service responds and is broken",
        ),
        (
            sized("503 Service Unavailable", "text/plain", b""),
            "it sent 503 without a message",
            "the service responds",
        ),
        (
            sized("400 Bad Request", "text/html", b"The plain HTTP request was sent to HTTPS port"),
            "plain HTTP",
            "upstreams.up.url: write https:// there",
        ),
        (
            b"HTTP/1.1 301 Moved Permanently\r\nlocation: https://elsewhere/v1\r\ncontent-length: 0\r\n\r\n"
                .to_vec(),
            "it redirects to https://elsewhere/v1",
            "upstreams.up.url: redirects are never followed",
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            "does not begin with",
            "upstreams.up.url: the server at 127.0.0.1 port",
        ),
    ] {
        let service = Upstream::responding(response);
        let ended = folder.check(&up(&format!("http://{}/v1", service.address), ""), &[]);
        failed(&ended, what, change);
    }
}

#[test]
fn a_way_that_does_not_lead_there_names_the_key() {
    let folder = Folder::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = folder.check(&up(&format!("http://{nobody}/v1"), ""), &[]);
    failed(&ended, "connection refused", "upstreams.up.url: nothing listens at 127.0.0.1 port");
    assert!(ended.line("way").ends_with("(127.0.0.1), without success"), "{}", ended.all());
    assert!(!ended.has("response"), "there was none: {}", ended.all());
    let ended = folder.check(&up("http://name.invalid/v1", ""), &[]);
    failed(&ended, "lookup", "upstreams.up.url: the name name.invalid cannot be resolved");
    assert!(ended.line("way").ends_with("port 80, which was not found"), "{}", ended.all());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn missing_or_incomplete_response_names_the_key() {
    let folder = Folder::new();
    let silent = upstream(|connection| while connection.request().is_some() {});
    let limits = |limits: &str| format!("[upstreams.up.timeouts]\n{limits}");
    let url = |service: &Upstream| format!("http://{}/v1", service.address);
    let ended = folder.check(&up(&url(&silent), &limits("first_byte = \"100ms\"")), &[]);
    failed(&ended, "sent no response within 100ms", "upstreams.up.timeouts.first_byte: raise it");
    let ended = folder.check(&up(&url(&silent), &limits("total = \"100ms\"")), &[]);
    failed(&ended, "longer than 100ms", "upstreams.up.timeouts.total: raise it");

    let closing = upstream(|connection| drop(connection.request()));
    let ended = folder.check(&up(&url(&closing), ""), &[]);
    failed(&ended, "closed the connection without a response", "does it need https://?");
    let breaking = upstream(|connection| {
        connection.request();
        connection.send(&sized("200 OK", "application/json", CHAT_BODY.as_bytes())[..120]);
    });
    failed(&folder.check(&up(&url(&breaking), ""), &[]), "", "upstreams.up.url");
    let breaking = upstream(|connection| {
        connection.request();
        connection.send([EVENTS_HEAD.as_bytes(), &chunk(b"data: {}\n\n")].concat());
    });
    let ended = folder.check(&up(&url(&breaking), ""), &[]);
    failed(&ended, "closed the connection inside its response", "upstreams.up.url");
    let pausing = upstream(|connection| {
        connection.request();
        connection.send([EVENTS_HEAD.as_bytes(), &chunk(b"data: {}\n\n")].concat());
        connection.wait_for_close();
    });
    let ended = folder.check(&up(&url(&pausing), &limits("idle = \"100ms\"")), &[]);
    failed(&ended, "sent nothing inside its response", "upstreams.up.timeouts.idle: raise it");
}

#[test]
fn refused_certificate_is_shown_with_the_key_that_changes_it() {
    let folder = Folder::new();
    let service = responding();
    let here = &["127.0.0.1"];
    let mut early = leaf("early", here);
    (early.not_before, early.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1));
    for (pair, subject, error, change) in [
        (
            Authority::new("stranger").issue("foreign", here),
            "CN=foreign, issued by CN=stranger",
            "UnknownIssuer",
            "upstreams.up.tls.ca: CN=stranger is not one of the authorities there",
        ),
        (self_signed(here, false), "CN=self, issued by CN=self", "", "upstreams.up.tls.ca: "),
        (
            self_signed(here, true),
            "CN=self, issued by CN=self",
            "CaUsedAsEndEntity",
            "add that certificate there",
        ),
        (
            folder.ca.issue("elsewhere", &["elsewhere.example"]),
            "CN=elsewhere",
            "not valid for name",
            "upstreams.up.url: write the host that its certificate is for; or upstreams.up.tls.verification_mode = \"certificate\"",
        ),
        (
            folder.ca.issue_expired("old", here),
            "until 2020-01-01",
            "expired",
            "its certificate expired on 2020-01-01",
        ),
        (
            folder.ca.sign(early, &KeyPair::generate().unwrap()),
            "CN=early",
            "not valid yet",
            "not valid before 2090-01-01",
        ),
    ] {
        let address = tls(&folder, &pair, None, service.address);
        let own = "[upstreams.up.tls]\nca = { file = \"ca.crt\" }";
        let ended = folder.check(&up(&format!("https://{address}/v1"), own), &[]);
        failed(&ended, error, change);
        assert_eq!(ended.line("TLS"), "no session");
        assert!(ended.line("certificate").contains(subject), "{subject:?} in {}", ended.all());
    }
    let address = tls(&folder, &folder.ca.issue("service", here), None, service.address);
    let ended = folder.check(&up(&format!("https://{address}/v1"), ""), &[]);
    failed(&ended, "UnknownIssuer", "upstreams.up.tls.ca: CN=ours is not one of the system's authorities");
}

#[test]
fn missing_or_refused_client_certificate_names_the_key() {
    let folder = Folder::new();
    let service = responding();
    let address = tls(&folder, &folder.ca.issue("service", &["127.0.0.1"]), Some(Required), service.address);
    let check = |own: &str| {
        let own = format!("[upstreams.up.tls]\nca = {{ file = \"ca.crt\" }}\n{own}");
        folder.check(&up(&format!("https://{address}/v1"), &own), &[])
    };
    let ended = check("");
    failed(
        &ended,
        "CertificateRequired",
        "upstreams.up.tls.certificate and upstreams.up.tls.private_key: it requires",
    );
    assert_eq!(ended.line("client cert"), "it requested one, and none is configured");
    folder.put("client", &Authority::new("stranger").issue_numbered(7, "unknown", &[]));
    let ended = check("certificate = { file = \"client.crt\" }\nprivate_key = { file = \"client.key\" }");
    failed(
        &ended,
        "",
        "upstreams.up.tls.certificate: it does not accept the certificate of CN=unknown (serial 07, issued by CN=stranger)",
    );
    assert!(ended.line("client cert").starts_with("presented CN=unknown, serial 07"), "{}", ended.all());

    // nginx completes the handshake and responds with 400.
    let html = b"<title>400 No required SSL certificate was sent</title>";
    let nginx = Upstream::responding(sized("400 Bad Request", "text/html", html));
    let asks = Some(streamgauge::tls::ClientCertificates::Optional);
    let address = tls(&folder, &folder.ca.issue("service", &["127.0.0.1"]), asks, nginx.address);
    let own = "[upstreams.up.tls]\nca = { file = \"ca.crt\" }";
    let ended = folder.check(&up(&format!("https://{address}/v1"), own), &[]);
    failed(
        &ended,
        "No required SSL certificate",
        "upstreams.up.tls.certificate and upstreams.up.tls.private_key",
    );
}

#[test]
fn the_wrong_scheme_or_http_version_names_the_key() {
    let folder = Folder::new();
    let service = responding();
    let ended = folder.check(&up(&format!("https://{}/v1", service.address), ""), &[]);
    failed(
        &ended,
        "No TLS session",
        "upstreams.up.url: the server there does not speak TLS; does it need http://?",
    );
    let address = tls(&folder, &folder.ca.issue("service", &["127.0.0.1"]), None, service.address);
    let own = "http = \"2\"\n[upstreams.up.tls]\nca = { file = \"ca.crt\" }";
    let ended = folder.check(&up(&format!("https://{address}/v1"), own), &[]);
    failed(&ended, "does not speak HTTP/2", "upstreams.up.http: write \"1\", or \"auto\"");
}

#[test]
fn azure_without_any_model_is_told_to_name_one() {
    let folder = Folder::new();
    let service = responding();
    let azure = format!(
        "[upstreams.up]\nprovider = \"azure\"\nurl = \"http://{}\"\napi_version = \"2024-10-21\"\napi_key = {{ value = \"sk-marker-1\" }}",
        service.address
    );
    let ended = folder.check(&azure, &[]);
    failed(
        &ended,
        "chooses the deployment by the model",
        "upstreams.up.default_model: name a model there, or with --model",
    );
    assert!(!ended.has("way") && service.accepted() == 0, "{}", ended.all());
    assert_eq!(folder.check(&azure, &["--model", "gpt-4o"]).status, 0);
}

#[test]
fn identity_without_a_token_names_the_reason() {
    let body = br#"{"error":"invalid_client","error_description":"AADSTS7000215: sk-marker-1 is invalid"}"#;
    let authority = Upstream::responding(sized("401 Unauthorized", "application/json", body));
    let tables = format!(
        "[upstreams.up]\nprovider = \"azure\"\nurl = \"http://127.0.0.1:1\"\ndefault_model = \"m\"\n\
         timeouts.connect = \"2s\"\n[upstreams.up.entra]\ntenant = \"t\"\nclient = \"c\"\n\
         secret = {{ value = \"sk-marker-1\" }}\nauthority = \"http://{}\"\n",
        authority.address
    );
    let ended = Folder::new().check(&tables, &[]);
    let reason = format!(
        "upstreams.up.entra: {} refuses (401 Unauthorized): invalid_client: AADSTS7000215: *** is invalid",
        authority.address
    );
    failed(&ended, "There is no token for the upstream", &reason);
}
