//! The admin pages over TLS, opened by a client's certificate or by the token.

use std::net::SocketAddr;
use std::process::Command;

use streamgauge::config;
use streamgauge::tls::HTTP_1_1;

use crate::harness::Client;
use crate::harness::certificates::Authority;
use crate::harness::proxy::{Proxy, proxy};
use crate::harness::tls::Folder;

const TOKEN: &str = "0123456789abcdef-token";

/// `lines` belong to `[admin.tls]` after its certificate, `token` to `[admin]`.
fn pages(folder: &Folder, token: &str, lines: &str) -> (Proxy, SocketAddr) {
    let admin = format!(
        "listen = \"0.0.0.0:0\"\nhosts = [\"proxy\"]\n{token}\n[admin.tls]\n{}{lines}",
        folder.lines("server")
    );
    let builder = proxy().admin_lines(&admin).tables("[upstreams.openai]\napi_key = { value = \"sk-1\" }");
    let loaded = config::from_text(&builder.text()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.warnings, [""; 0]);
    let proxy = builder.run();
    let address = ([127, 0, 0, 1], proxy.admin().port()).into();
    (proxy, address)
}

#[test]
fn a_clients_certificate_opens_the_pages_and_probes_need_none() {
    let folder = Folder::new();
    let asks = folder.ca_line("client_ca") + "client_certificates = \"optional\"";
    let (_proxy, address) = pages(&folder, "", &asks);
    let ours = folder.client(Some(&folder.ca.issue("operator", &[])));
    for (who, settings, path, status) in [
        ("an operator", &ours, "/usage", 404),
        ("an operator", &ours, "/", 200),
        ("a stranger", &folder.client(None), "/", 403),
        ("a stranger", &folder.client(None), "/config", 403),
        ("a stranger", &folder.client(None), "/readyz", 200),
    ] {
        let mut client = Client::over_tls(settings, address, &[HTTP_1_1]).unwrap();
        let response = client.last_get(path, "");
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{who} at {path}: {response}");
    }
}

#[test]
fn certificate_of_an_authenticating_proxy_is_not_its_users() {
    let folder = Folder::new();
    let users = "user_header = \"x-forwarded-user\"\ntrusted_proxies = [\"127.0.0.1\"]";
    let (_proxy, address) = pages(&folder, users, &folder.ca_line("client_ca"));
    let ours = folder.client(Some(&folder.ca.issue("proxy", &[])));
    for (headers, status) in [("", 403), ("x-forwarded-user: ada\r\n", 200)] {
        let mut client = Client::over_tls(&ours, address, &[HTTP_1_1]).unwrap();
        let response = client.last_get("/", headers);
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {response}");
    }
}

#[test]
fn another_authoritys_certificate_opens_nothing() {
    let folder = Folder::new();
    let (_proxy, address) = pages(&folder, "", &folder.ca_line("client_ca"));
    let theirs = Authority::new("another").issue("operator", &[]);
    for settings in [folder.client(Some(&theirs)), folder.client(None)] {
        let response = match Client::over_tls(&settings, address, &[HTTP_1_1]) {
            Ok(mut client) => client.last_get("/", ""),
            Err(_) => String::new(),
        };
        assert!(!response.contains("HTTP/1.1"), "{response}");
    }
}

#[test]
fn a_login_through_tls_gives_a_cookie_for_tls_alone() {
    let folder = Folder::new();
    let (_proxy, address) = pages(&folder, &format!("token = {{ value = {TOKEN:?} }}"), "");
    let settings = folder.client(None);
    let mut client = Client::over_tls(&settings, address, &[HTTP_1_1]).unwrap();
    let response = client.last_get("/usage", &format!("authorization: Bearer {TOKEN}\r\n"));
    assert!(response.starts_with("HTTP/1.1 404 ") && response.contains("no_ledger"), "{response}");
    let mut client = Client::over_tls(&settings, address, &[HTTP_1_1]).unwrap();
    let form = format!("token={TOKEN}");
    let request = format!(
        "POST /login HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: https://127.0.0.1\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let response = client.send(request).head();
    assert!(response.starts_with("HTTP/1.1 303 ") && response.contains("; Secure\r\n"), "{response}");
}

#[test]
fn health_asks_an_admin_port_that_speaks_tls() {
    let folder = Folder::new();
    let (_proxy, address) = pages(&folder, &format!("token = {{ value = {TOKEN:?} }}"), "");
    let config = format!("[admin]\nlisten = \"{address}\"\n[admin.tls]\n{}", folder.lines("server"));
    let file = folder.path("health.toml");
    std::fs::write(&file, config).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_streamgauge")).args(["health", "--ready", "-c"]).arg(&file).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.starts_with(b"ready\n"), "{output:?}");
}
