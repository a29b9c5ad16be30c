//! Nothing that the program prints has a secret in it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use streamgauge::tls::ClientCertificates::Required;
use streamgauge::tls::HTTP_1_1;

use crate::support::*;

const PASSPHRASE: &str = "pass-marker";
const API_KEY: &str = "sk-marker";
const CLIENT_KEY: &str = "sg-marker";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_talkative_log_shows_no_key_and_no_passphrase() {
    let folder = Folder::new();
    folder.write("client", &folder.ca.issue_encrypted("the-proxy", PASSPHRASE));
    let upstream = Upstream::run(&folder, &folder.ca.issue("up", &["127.0.0.1"]), Some(Required)).await;
    // The second upstream is refused: errors are printed too.
    let (ca, server, client) = (folder.ca_line("ca"), folder.lines("server"), folder.lines("client"));
    let passphrase = format!("passphrase = {{ value = {PASSPHRASE:?} }}\n");
    let table = |name: &str, tls: &str| {
        format!(
            "[upstreams.{name}]\nprovider = \"other\"\nurl = \"https://{}/v1\"\ndefault_model = \"m\"\n\
             api_key = {{ value = {API_KEY:?} }}\n[upstreams.{name}.tls]\n{tls}",
            upstream.address
        )
    };
    let good = table("good", &format!("{ca}{client}{passphrase}"));
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[server.tls]\n{server}[admin]\nlisten = \"\"\n[ledger]\npath = \"\"\n\
         [clients.a]\nkey = {{ value = {CLIENT_KEY:?} }}\n{good}{}\
         [[routes]]\npath = \"/bad\"\nupstream = \"bad\"\n[[routes]]\nupstream = \"good\"\n",
        table("bad", "")
    );
    let config = folder.path("streamgauge.toml");
    fs::write(&config, &text).unwrap();
    let program = env!("CARGO_BIN_EXE_streamgauge");
    let mut process = Command::new(program)
        .args(["serve", "--log", "trace", "--config"])
        .arg(&config)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(process.stderr.take().unwrap());
    let mut printed = String::new();
    let address: SocketAddr = loop {
        let start = printed.len();
        assert!(stderr.read_line(&mut printed).unwrap() > 0, "it ended: {printed}");
        if let Some((_, rest)) = printed[start..].split_once("listening address=") {
            break rest.split_whitespace().next().unwrap().parse().unwrap();
        }
    };
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        rest
    });
    let settings = folder.client(None);
    for (path, status) in [("/v1/models", 200), ("/bad/v1/models", 502)] {
        let mut stream = connect(&settings, address, &[HTTP_1_1]).await.unwrap();
        let answer = get_path(&mut stream, path, &format!("authorization: Bearer {CLIENT_KEY}\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        printed += &answer;
    }
    let stopped = Command::new("kill").arg(process.id().to_string()).status().unwrap();
    assert!(stopped.success() && process.wait().unwrap().success());
    printed += &rest.join().unwrap();

    let wrong = text.replace(PASSPHRASE, "wrong-pass-marker");
    fs::write(&config, wrong).unwrap();
    let check = Command::new(program).args(["check", "--config"]).arg(&config).env_clear().output().unwrap();
    assert_eq!(check.status.code(), Some(2));
    printed += &String::from_utf8_lossy(&check.stderr);
    assert!(
        printed.contains("does not open the private key") && printed.contains("UnknownIssuer"),
        "{printed}"
    );

    for name in ["server.key", "client.key"] {
        for line in
            fs::read_to_string(folder.path(name)).unwrap().lines().filter(|line| !line.starts_with('-'))
        {
            assert!(!printed.contains(line), "a line of {name} is printed");
        }
    }
    assert!(!printed.contains("marker"), "{printed}");
}
