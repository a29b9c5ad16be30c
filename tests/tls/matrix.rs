//! Every kind of target, reached in every way, in every verification mode, with the right authority
//! and another, under the right name and another: the result of the request, and the client and
//! address that the target saw.
//!
//! One proxy serves all cells: each cell is an upstream of its own.

use std::net::SocketAddr;

use crate::harness::certificates::Authority;
use crate::harness::tls::Folder;
use crate::peers::{Identities, OUT, PASSWORD, Peers, USER};
use crate::witness::two_workers;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    Http,
    Https,
    /// The target requires a client certificate.
    MutualTls,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Direct,
    HttpProxy,
    HttpsProxy,
    /// A forward proxy with credentials.
    KnownProxy,
}

const TARGETS: [Target; 3] = [Target::Http, Target::Https, Target::MutualTls];
const WAYS: [Way; 4] = [Way::Direct, Way::HttpProxy, Way::HttpsProxy, Way::KnownProxy];

/// The verification mode of one side of TLS, and whether its peer satisfies it.
#[derive(Clone, Copy, Debug)]
struct Trust {
    mode: &'static str,
    is_right_ca: bool,
    is_right_name: bool,
}

const RIGHT: Trust = Trust { mode: "full", is_right_ca: true, is_right_name: true };

impl Trust {
    fn all() -> impl Iterator<Item = Self> {
        let modes = ["full", "certificate", "none"].into_iter();
        let modes = modes.flat_map(|mode| [true, false].map(|is_right_ca| (mode, is_right_ca)));
        modes.flat_map(|(mode, is_right_ca)| {
            [true, false].map(|is_right_name| Self { mode, is_right_ca, is_right_name })
        })
    }

    /// The message of a refusal, if there is one.
    fn refusal(self) -> Option<&'static str> {
        match self.mode {
            "none" => None,
            _ if !self.is_right_ca => Some("UnknownIssuer"),
            "full" if !self.is_right_name => Some("not valid for name"),
            _ => None,
        }
    }

    /// Certificates are for `localhost`.
    fn host(self) -> &'static str {
        if self.is_right_name { "localhost" } else { "127.0.0.1" }
    }

    fn lines(self, right_ca: &str) -> String {
        let ca = if self.is_right_ca { right_ca } else { "stranger.crt" };
        format!("verification_mode = {:?}\nca = {{ file = \"FOLDER/{ca}\" }}\n", self.mode)
    }
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    target: Target,
    way: Way,
    /// The trust in the target.
    trust: Trust,
    /// The trust in the forward proxy.
    proxys: Trust,
    http: &'static str,
    /// True if the certificate that [`Target::MutualTls`] requires is presented.
    presents: bool,
    password: Option<&'static str>,
}

/// The client's response.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// 200 and the target's report.
    Seen(String),
    /// 502: the code, and a part of its message.
    Refused(&'static str, &'static str),
    /// The target's own 400: nginx sends it in HTTP, where others end the handshake.
    NoCertificate,
}

impl Cell {
    fn new(target: Target, way: Way) -> Self {
        Self {
            target,
            way,
            trust: RIGHT,
            proxys: RIGHT,
            http: "auto",
            presents: target == Target::MutualTls,
            password: Some(PASSWORD),
        }
    }

    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (target, way) in TARGETS.into_iter().flat_map(|target| WAYS.map(|way| (target, way))) {
            let cell = Self::new(target, way);
            // Without TLS there is nothing to verify; another test checks that such settings are
            // refused.
            if target == Target::Http {
                all.push(cell);
            } else {
                let both = Trust::all().flat_map(|trust| ["1", "2"].map(|http| (trust, http)));
                all.extend(both.map(|(trust, http)| Self { trust, http, ..cell }));
            }
            if way == Way::HttpsProxy {
                all.extend(Trust::all().map(|proxys| Self { proxys, ..cell }));
            }
            if way == Way::KnownProxy {
                all.extend([Some("wrong"), None].map(|password| Self { password, ..cell }));
            }
            if target == Target::MutualTls {
                all.push(Self { presents: false, ..cell });
            }
        }
        all
    }

    /// The outcome of the connection's steps, in their order.
    fn outcome(&self) -> Outcome {
        if self.way == Way::HttpsProxy
            && let Some(words) = self.proxys.refusal()
        {
            return Outcome::Refused("proxy_failed", words);
        }
        if self.way == Way::KnownProxy && self.password != Some(PASSWORD) {
            return Outcome::Refused("proxy_refused", "407");
        }
        if self.target != Target::Http
            && let Some(words) = self.trust.refusal()
        {
            return Outcome::Refused("upstream_tls", words);
        }
        if self.target == Target::MutualTls && !self.presents {
            return Outcome::NoCertificate;
        }
        let from = match self.way {
            Way::Direct => "127.0.0.1",
            Way::HttpProxy => OUT[0],
            Way::HttpsProxy => OUT[1],
            Way::KnownProxy => OUT[2],
        };
        let who = if self.presents { " CN=the-proxy 01" } else { "" };
        Outcome::Seen(format!("{from}{who}"))
    }

    /// The upstream with this connection.
    fn table(&self, number: usize, peers: &Peers) -> String {
        let at = |trust: Trust, address: SocketAddr| format!("{}:{}", trust.host(), address.port());
        let (scheme, address) = match self.target {
            Target::Http => ("http", peers.targets[0]),
            Target::Https => ("https", peers.targets[1]),
            Target::MutualTls => ("https", peers.targets[2]),
        };
        let mut text = format!(
            "[[routes]]\npath = \"/c{number:03}\"\nupstream = \"c{number:03}\"\n[upstreams.c{number:03}]\nprovider = \"other\"\n\
             url = \"{scheme}://{}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\nhttp = {:?}\n",
            at(self.trust, address),
            self.http,
        );
        if self.way == Way::Direct {
            text += "proxy = \"none\"\n";
        }
        if self.target != Target::Http {
            text += &format!("[upstreams.c{number:03}.tls]\n{}", self.trust.lines("ca.crt"));
            if self.presents {
                text += "certificate = { file = \"FOLDER/client.crt\" }\nprivate_key = { file = \"FOLDER/client.key\" }\n";
            }
        }
        let (scheme, address, lines) = match self.way {
            Way::Direct => return text,
            Way::HttpProxy => ("http", peers.proxies[0], String::new()),
            Way::HttpsProxy => ("https", peers.proxies[1], self.proxys.lines("proxy-ca.crt")),
            Way::KnownProxy => {
                let lines =
                    |password| format!("username = {USER:?}\npassword = {{ value = {password:?} }}\n");
                ("http", peers.proxies[2], self.password.map(lines).unwrap_or_default())
            }
        };
        text + &format!(
            "[upstreams.c{number:03}.proxy]\nurl = \"{scheme}://{}\"\n{lines}",
            at(self.proxys, address)
        )
    }
}

fn identities() -> Identities {
    let (folder, proxys) = (Folder::new(), Authority::new("the proxy's"));
    for (name, authority) in [("proxy-ca.crt", &proxys), ("stranger.crt", &Authority::new("stranger"))] {
        std::fs::write(folder.path(name), authority.pem()).unwrap();
    }
    let target = folder.ca.issue("up", &["localhost"]);
    Identities { target, proxy: proxys.issue("proxy", &["localhost"]), folder }
}

fn outcome(response: &str) -> Outcome {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {response:?}"));
    if head.starts_with("HTTP/1.1 200 ") {
        return Outcome::Seen(body.trim().to_owned());
    }
    if head.starts_with("HTTP/1.1 400 ") && body.contains("No required SSL certificate was sent") {
        return Outcome::NoCertificate;
    }
    let has = |part: &&str| body.contains(*part);
    let code = |code: &&str| body.contains(&format!("\"code\":\"{code}\""));
    let codes = ["proxy_failed", "proxy_refused", "upstream_tls", "upstream_protocol"];
    let words = ["UnknownIssuer", "not valid for name", "407", "CertificateRequired"];
    match (head, codes.into_iter().find(code), words.into_iter().find(has)) {
        (_, Some("upstream_tls"), Some("CertificateRequired")) => Outcome::NoCertificate,
        (head, Some(code), Some(words)) if head.starts_with("HTTP/1.1 502 ") => Outcome::Refused(code, words),
        _ => panic!("{response}"),
    }
}

fn assert_every_cell(who: &Identities, peers: &Peers) {
    let cells = Cell::all();
    let tables: String = cells.iter().enumerate().map(|(number, cell)| cell.table(number, peers)).collect();
    let tables = tables.replace("FOLDER", who.folder.path("").to_str().unwrap().trim_end_matches('/'));
    let proxy = two_workers().tables(&tables).run();
    let mut wrong = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let found = outcome(&proxy.client().last_get(&format!("/c{number:03}/v1/models"), ""));
        if found != cell.outcome() {
            wrong.push(format!("{cell:?}: {found:?} instead of {:?}", cell.outcome()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cells:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
    assert!(cells.len() > 200, "there are {} cells", cells.len());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn every_cell_is_as_it_should_be_with_nginx_and_squid() {
    let who = identities();
    assert_every_cell(&who, &Peers::programs(&who));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn every_cell_is_as_it_should_be_with_peers_in_this_process() {
    let who = identities();
    assert_every_cell(&who, &Peers::in_process(&who));
}

#[test]
fn settings_of_tls_are_refused_where_there_is_no_tls() {
    let up = "[upstreams.up]\nprovider = \"other\"\nurl = \"http://llm.internal/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n";
    for (lines, key) in [
        ("[upstreams.up.tls]\nverification_mode = \"none\"", "upstreams.up.tls"),
        (
            "[upstreams.up.proxy]\nurl = \"http://proxy\"\nverification_mode = \"full\"",
            "upstreams.up.proxy.verification_mode",
        ),
        (
            "[upstreams.up.proxy]\nurl = \"socks5://proxy\"\nverification_mode = \"full\"",
            "upstreams.up.proxy.verification_mode",
        ),
    ] {
        let mistakes = streamgauge::config::from_text(&format!("{up}{lines}")).expect_err(key).to_string();
        assert!(mistakes.contains(key), "{key}: {mistakes}");
    }
}
