//! No output, response or file of the program contains a secret.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use streamgauge::tls::ClientCertificates::Required;
use streamgauge::tls::{HTTP_1_1, HTTP_2};

use crate::harness::Client;
use crate::harness::certificates::Authority;
use crate::harness::tls::{Folder, connect, server_config};
use crate::peers::{Identities, PASSWORD, Peers, USER};
use crate::witness::Witness;

/// A part of every secret of this test.
const MARKER: &str = "marker";

const PASSPHRASE: &str = "pass-marker";
const CLIENT_KEY: &str = "sg-marker";
const ADMIN_TOKEN: &str = "admin-marker-of-16";

/// The configuration, with every kind of secret in it, and connections on which each is used and
/// refused.
fn configuration(folder: &Folder, upstream: SocketAddr, peers: &Peers) -> String {
    let (ca, server, client) = (folder.ca_line("ca"), folder.lines("server"), folder.lines("client"));
    let up = |name: &str, url: &str, more: &str| {
        format!(
            "[[routes]]\npath = \"/{name}\"\nupstream = \"{name}\"\n[upstreams.{name}]\nprovider = \"other\"\nurl = \"{url}\"\n\
             default_model = \"m\"\napi_key = {{ value = \"sk-marker\" }}\nheaders = {{ X-Key = {{ value = \"hd-marker\" }} }}\n{more}\n"
        )
    };
    let direct = format!("https://{upstream}/v1");
    let encrypted = format!("[upstreams.NAME.tls]\n{ca}{client}passphrase = {{ value = {PASSPHRASE:?} }}");
    let data = |name: &str| STANDARD.encode(fs::read(folder.path(name)).unwrap());
    let data = format!(
        "[upstreams.NAME.tls]\n{ca}certificate = {{ data = \"{}\" }}\nprivate_key = {{ data = \"{}\" }}",
        data("data.crt"),
        data("data.key")
    );
    let proxy = |password: &str| {
        format!(
            "[upstreams.NAME.proxy]\nurl = \"http://{}\"\nusername = {USER:?}\npassword = {{ value = {password:?} }}\n\
             headers = {{ X-Proxy-Key = {{ value = \"ph-marker\" }} }}",
            peers.proxies[2]
        )
    };
    let ups = [
        ("h1", &*direct, format!("http = \"1\"\n{encrypted}")),
        ("h2", &direct, format!("http = \"2\"\n{encrypted}")),
        ("data", &direct, data),
        ("unknown", &direct, String::new()),
        ("known", &format!("http://{}/v1", peers.targets[0]), proxy(PASSWORD)),
        ("refused", &direct, proxy("wrong-marker")),
        // Through the proxy in the environment, with wrong credentials.
        ("environment", "https://llm.invalid/v1", String::new()),
    ];
    let ups = ups.map(|(name, url, more)| up(name, url, &more.replace("NAME", name)));
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[server.tls]\n{server}[admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ value = {ADMIN_TOKEN:?} }}\n\
         [ledger]\npath = {:?}\njsonl = \"-\"\n[clients.a]\nkey = {{ value = {CLIENT_KEY:?} }}\n{}",
        folder.path("usage.db"),
        ups.concat()
    )
}

/// The result of each connection.
const WAYS: [(&str, u16); 7] = [
    ("h1", 200),
    ("h2", 200),
    ("data", 200),
    ("unknown", 502),
    ("known", 200),
    ("refused", 502),
    ("environment", 502),
];

/// The program with an environment that names a proxy and its password, and no other variable.
fn program(arguments: &[&str], config: &Path, peers: &Peers) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamgauge"));
    let outbound = format!("http://{USER}:env-marker@{}", peers.proxies[2]);
    command.args(arguments).arg("--config").arg(config).env_clear().env("HTTPS_PROXY", outbound);
    command
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// Asserts that the text contains none of the secrets, in any of the forms in which they are sent.
fn assert_clean(what: &str, text: &str, folder: &Folder) {
    let basic = |password: &str| STANDARD.encode(format!("{USER}:{password}"));
    let mut secrets = vec![MARKER.to_owned(), STANDARD.encode(CLIENT_KEY)];
    secrets.extend([PASSWORD, "wrong-marker", "env-marker"].map(basic));
    for name in ["server.key", "client.key", "data.key"] {
        let key = fs::read_to_string(folder.path(name)).unwrap();
        secrets.push(STANDARD.encode(&key)[..40].to_owned());
        secrets.extend(key.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
    }
    for secret in secrets {
        let found = text.lines().find(|line| line.contains(&secret));
        assert!(found.is_none(), "{secret:?} in {what}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn most_verbose_log_responses_and_ledger_show_no_secret() {
    let folder = Folder::new();
    folder.write("client", &folder.ca.issue_encrypted("the-proxy", PASSPHRASE));
    folder.write("data", &folder.ca.issue("the-proxy", &[]));
    let target = folder.ca.issue("up", &["127.0.0.1"]);
    let clients = fs::read_to_string(folder.path("ca.crt")).unwrap();
    let upstream = Witness::start(server_config(&target, Some((clients, Required)), &[HTTP_2, HTTP_1_1]));
    let who = Identities { proxy: Authority::new("proxy").issue("proxy", &["localhost"]), target, folder };
    let peers = Peers::in_process(&who);
    let folder = &who.folder;
    let config = folder.path("streamgauge.toml");
    fs::write(&config, configuration(folder, upstream.address, &peers)).unwrap();

    let mut process = program(&["serve", "--log", "trace"], &config, &peers)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(process.stderr.take().unwrap());
    let mut stdout = process.stdout.take().unwrap();
    let mut printed = String::new();
    let mut addresses = BTreeMap::new();
    while addresses.len() < 2 {
        let start = printed.len();
        assert!(stderr.read_line(&mut printed).unwrap() > 0, "it ended: {printed}");
        for place in ["listening address=", "admin pages address="] {
            if let Some((_, rest)) = printed[start..].split_once(place) {
                let address: SocketAddr = rest.split_whitespace().next().unwrap().parse().unwrap();
                addresses.insert(place, address);
            }
        }
    }
    let errors = std::thread::spawn(move || {
        let mut rest = Vec::new();
        stderr.read_to_end(&mut rest).unwrap();
        String::from_utf8_lossy(&rest).into_owned()
    });
    let records = std::thread::spawn(move || {
        let mut all = String::new();
        stdout.read_to_string(&mut all).unwrap();
        all
    });

    let address = addresses["listening address="];
    let settings = folder.client(None);
    let key = format!("Bearer {CLIENT_KEY}");
    let stream = connect(&settings, address, &[HTTP_2]).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut responses = String::new();
    for (name, status) in WAYS {
        let path = format!("/{name}/v1/models");
        let mut client = Client::over_tls(&settings, address, &[HTTP_1_1]).unwrap();
        let response = client.last_get(&path, &format!("authorization: {key}\r\n"));
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {response}");
        responses += &response;
        let request = Request::get(format!("https://127.0.0.1{path}")).header("authorization", &key);
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        responses += &format!("{:?}", response.headers());
        responses += &String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes());
    }
    // Unknown keys are reported as such, and not repeated.
    let mut client = Client::over_tls(&settings, address, &[HTTP_1_1]).unwrap();
    responses += &client.last_get("/v1/models", "authorization: Bearer sg-other-marker\r\n");
    for path in ["/", "/metrics", "/healthz", "/readyz", "/usage", "/config"] {
        for token in [ADMIN_TOKEN, "another-marker-of-16"] {
            let mut client = Client::connect(addresses["admin pages address="]);
            responses += &client.last_get(path, &format!("authorization: Bearer {token}\r\n"));
        }
    }
    assert!(
        responses.contains("401") && responses.contains("407") && responses.contains("streamgauge_requests")
    );
    let stopped = Command::new("kill").arg(process.id().to_string()).status().unwrap();
    assert!(stopped.success() && process.wait().unwrap().success());
    printed += &errors.join().unwrap();
    assert!(printed.contains("UnknownIssuer") && printed.contains(" TRACE "), "it is the most talkative");
    let records = records.join().unwrap();
    assert_eq!(records.lines().count(), 2 * WAYS.len() + 1);
    assert_clean("the responses", &responses, folder);
    assert_clean("the log", &printed, folder);
    assert_clean("the records", &records, folder);
    for file in fs::read_dir(folder.path("")).unwrap().map(|file| file.unwrap()) {
        if file.file_name().to_string_lossy().starts_with("usage.db") {
            let ledger = fs::read(file.path()).unwrap();
            assert_clean("the ledger", &String::from_utf8_lossy(&ledger), folder);
        }
    }
}

#[test]
fn messages_about_mistakes_show_no_secret() {
    let folder = Folder::new();
    folder.write("client", &folder.ca.issue_encrypted("the-proxy", PASSPHRASE));
    folder.write("data", &folder.ca.issue("the-proxy", &[]));
    let pair = folder.ca.issue("up", &["localhost"]);
    let who = Identities { proxy: pair.clone(), target: pair, folder };
    let (peers, folder) = (Peers::in_process(&who), &who.folder);
    let whole = configuration(folder, peers.targets[1], &peers);
    let config = folder.path("streamgauge.toml");
    let key = STANDARD.encode(fs::read(folder.path("data.key")).unwrap());
    for (from, to, said) in [
        ("", "", ""),
        (PASSPHRASE, "wrong-pass-marker", "does not open the private key"),
        ("{ value = \"sk-marker\" }", "\"sk-marker\"", "api_key"),
        ("{ value = \"sk-marker\" }", "{ value = \"sk-marker\\n\" }", "api_key"),
        ("{ value = \"sg-marker\" }", "\"sg-marker\"", "clients.a.key"),
        ("{ value = \"hd-marker\" }", "{ value = \"hd-marker\\n\" }", "headers"),
        ("username = \"me\"", "", "username"),
        ("username = \"me\"", "username = \"m:e\"", "username"),
        ("url = \"http://127.0.0.1:", "url = \"http://me:url-marker@127.0.0.1:", "url"),
        (&*key, &key[..key.len() - 80], "private_key"),
        (&*key, "bWFya2VyIGJ1dCBubyBQRU0=", "private_key"),
    ] {
        let text = whole.replace(from, to);
        assert!(from.is_empty() || text != whole, "{from} is not there");
        fs::write(&config, if from.is_empty() { &whole } else { &text }).unwrap();
        let output = program(&["check"], &config, &peers).env("RUST_LOG", "trace").output().unwrap();
        let expected = if from.is_empty() { 0 } else { 2 };
        let shown = self::text(&output);
        assert_eq!(output.status.code(), Some(expected), "{to}: {shown}");
        assert!(shown.contains(said), "{said:?}: {shown}");
        assert_clean(to, &shown, folder);
    }
}
