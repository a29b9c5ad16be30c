//! Rights on the admin port: the read token, and users that an authenticating proxy names.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use streamgauge::config::reload::ReloadOutcome;

use crate::harness::{CHAT_BODY, Client, Program, Proxy, Response, Upstream, proxy, sized};

const TOKEN: &str = "0123456789abcdef-marker";

const READ_TOKEN: &str = "fedcba9876543210-marker";

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An address of loopback that is not trusted.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

fn up() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()))
}

/// A proxy with these lines of `[admin]`, whose configuration is in a file, so that it can be read
/// again.
fn run(admin: &str, up: &Upstream) -> (Program, Proxy) {
    let program = Program::unconfigured();
    program.configure(&proxy().admin_lines(admin).upstream(up).text());
    let proxy = proxy().run_from(&program.path("streamgauge.toml"));
    (program, proxy)
}

fn tokens() -> String {
    format!(
        "listen = \"127.0.0.1:0\"\ntoken = {{ value = {TOKEN:?} }}\nread_token = {{ value = {READ_TOKEN:?} }}"
    )
}

fn ask(source: IpAddr, admin: SocketAddr, line: &str, headers: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: {admin}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    Client::connect_from(source, admin).send(request).response()
}

fn code(response: &Response) -> String {
    response.error()["code"].as_str().unwrap().to_owned()
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

#[test]
fn read_token_reads_every_page_and_changes_nothing() {
    let up = up();
    let (_program, proxy) = run(&tokens(), &up);
    let admin = proxy.admin();
    let ask = |line: &str, headers: &str| ask(LOCAL, admin, line, headers, "");
    for path in ["/", "/metrics", "/members", "/running", "/limits", "/config", "/config/status"] {
        let line = format!("GET {path}");
        assert_eq!(ask(&line, &bearer(READ_TOKEN)).status(), 200, "{path}");
        assert_eq!(ask(&line, "").status(), 401, "{path}");
    }
    let refused = ask("POST /config/reload", &bearer(READ_TOKEN));
    assert_eq!((refused.status(), code(&refused)), (403, "read_only".to_owned()));
    assert_eq!(ask("POST /config/reload", &bearer(TOKEN)).status(), 200);
    assert_eq!(ask("POST /config/reload", &bearer("wrong")).status(), 401);
}

#[test]
fn login_with_the_read_token_only_reads() {
    let up = up();
    let (_program, proxy) = run(&tokens(), &up);
    let admin = proxy.admin();
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    for (token, status) in [(READ_TOKEN, 403), (TOKEN, 200)] {
        let response = ask(LOCAL, admin, "POST /login", form, &format!("token={token}"));
        let cookie = response.header("set-cookie").unwrap().split(';').next().unwrap();
        let cookie = format!("cookie: {cookie}\r\nsec-fetch-site: same-origin\r\n");
        assert_eq!(ask(LOCAL, admin, "GET /", &cookie, "").status(), 200);
        assert_eq!(ask(LOCAL, admin, "POST /config/reload", &cookie, "").status(), status);
        assert_eq!(ask(LOCAL, admin, "POST /logout", &cookie, "").status(), 303);
        assert_eq!(ask(LOCAL, admin, "GET /", &cookie, "").status(), 401);
    }
}

fn users(access: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\nuser_header = \"X-Forwarded-User\"\nuser_access = \"{access}\"\n\
         trusted_proxies = [\"127.0.0.1\"]"
    )
}

#[test]
fn user_header_opens_pages_from_the_trusted_proxy_only() {
    let up = up();
    let (_program, proxy) = run(&users("read"), &up);
    let admin = proxy.admin();
    let ada = "x-forwarded-user: ada\r\n";
    assert_eq!(ask(LOCAL, admin, "GET /", ada, "").status(), 200);
    for (source, headers) in [
        (OTHER, ada),
        (LOCAL, ""),
        (LOCAL, "x-forwarded-user:\r\n"),
        (LOCAL, "x-forwarded-user: eve\r\nx-forwarded-user: ada\r\n"),
        (LOCAL, "x-forwarded-email: ada\r\n"),
    ] {
        let refused = ask(source, admin, "GET /usage", headers, "");
        assert_eq!((refused.status(), code(&refused)), (403, "user_missing".to_owned()), "{headers}");
    }
    let page = "sec-fetch-site: same-origin\r\n";
    let refused = ask(LOCAL, admin, "POST /config/reload", &format!("{ada}{page}"), "");
    assert_eq!((refused.status(), code(&refused)), (403, "read_only".to_owned()));
    for probe in ["GET /healthz", "GET /readyz"] {
        assert_eq!(ask(OTHER, admin, probe, "", "").status(), 200);
    }
}

#[test]
fn user_who_may_change_does_it_from_the_pages_only() {
    let up = up();
    let (_program, proxy) = run(&users("change"), &up);
    let reload = |headers: &str| {
        let headers = format!("x-forwarded-user: ada\r\n{headers}");
        ask(LOCAL, proxy.admin(), "POST /config/reload", &headers, "").status()
    };
    assert_eq!(reload("sec-fetch-site: same-origin\r\n"), 200);
    assert_eq!(reload(&format!("origin: http://{}\r\n", proxy.admin())), 200);
    for headers in ["", "sec-fetch-site: cross-site\r\n", "origin: https://evil.example\r\n"] {
        assert_eq!(reload(headers), 403, "{headers}");
    }
}

#[test]
fn reload_changes_the_rights_on_the_admin_port() {
    let up = up();
    let (program, proxy) = run(&tokens(), &up);
    let text = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    let status = |token: &str| ask(LOCAL, proxy.admin(), "GET /usage", &bearer(token), "").status();
    assert_ne!(status(READ_TOKEN), 401);
    program.configure(&text.replace(READ_TOKEN, "another-token-0123"));
    assert!(matches!(proxy.reload(), ReloadOutcome::Taken { .. }));
    assert_eq!(status(READ_TOKEN), 401);
    assert_ne!(status("another-token-0123"), 401);
}
