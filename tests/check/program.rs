//! The program, a directory for its configuration, and TLS with chosen certificates.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use streamgauge::tls::{ClientCertificates, HTTP_1_1};
use tempfile::TempDir;

use crate::harness::certificates::{Authority, Pair};
use crate::harness::tls::server_config;
use crate::harness::{CHAT_BODY, Upstream, sized, tls_front};

/// The secrets of the configurations here. None of them may appear in the program's output.
pub const SECRETS: [&str; 3] = ["sk-marker-1", "xh-marker-2", "pw-marker-3"];

/// A directory with a configuration.
pub struct Folder {
    folder: TempDir,
    pub ca: Authority,
    variables: Vec<(String, String)>,
}

/// The result of a run.
pub struct Ended {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Folder {
    pub fn new() -> Self {
        let folder =
            Self { folder: tempfile::tempdir().unwrap(), ca: Authority::new("ours"), variables: Vec::new() };
        folder.write("ca.crt", &folder.ca.pem());
        folder.put("client", &folder.ca.issue_numbered(0x5e, "the-proxy", &[]));
        folder
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a certificate and its key into files.
    pub fn put(&self, name: &str, pair: &Pair) {
        self.write(&format!("{name}.crt"), &pair.certificate);
        self.write(&format!("{name}.key"), &pair.key);
    }

    pub fn folder_has(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    /// Adds a variable to the environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs `streamgauge check --live` with further arguments and this configuration.
    pub fn check(&self, configuration: &str, arguments: &[&str]) -> Ended {
        self.run(configuration, &[&["check", "--live"], arguments].concat())
    }

    pub fn run(&self, configuration: &str, arguments: &[&str]) -> Ended {
        self.write("streamgauge.toml", configuration);
        let ended = Command::new(env!("CARGO_BIN_EXE_streamgauge"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ended =
            Ended { status: ended.status.code().unwrap(), out: text(ended.stdout), err: text(ended.stderr) };
        for secret in SECRETS {
            assert!(!ended.out.contains(secret) && !ended.err.contains(secret), "{secret}: {}", ended.all());
        }
        ended
    }
}

impl Ended {
    pub fn all(&self) -> String {
        format!("status {}\n{}\n{}", self.status, self.out, self.err)
    }

    /// The text of a line about the last upstream, with its continuation lines joined.
    pub fn line(&self, name: &str) -> String {
        let start = format!("\n  {name:<12}");
        let at = self.out.rfind(&start).unwrap_or_else(|| panic!("no {name:?} in\n{}", self.all()));
        let rest = &self.out[at + start.len()..];
        let mut lines = rest.lines();
        let mut text = lines.next().unwrap_or_default().to_owned();
        for line in lines.take_while(|line| line.starts_with("              ")) {
            text += " ";
            text += line.trim_start();
        }
        text
    }

    pub fn has(&self, name: &str) -> bool {
        self.out.contains(&format!("\n  {name:<12}"))
    }
}

/// An upstream with that URL, a key, a default model and further lines.
pub fn up(url: &str, more: &str) -> String {
    format!(
        "[upstreams.up]\nprovider = \"other\"\nurl = \"{url}\"\napi_key = {{ value = \"sk-marker-1\" }}\n\
         headers = {{ X-Gateway = {{ value = \"xh-marker-2\" }} }}\ndefault_model = \"gpt-asked\"\n{more}\n"
    )
}

/// Responds to every request with a chat completion.
pub fn responding() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()))
}

/// TLS with the certificate in front of a plain server. `asks` makes it request client certificates
/// of the directory's authority.
pub fn tls(folder: &Folder, pair: &Pair, asks: Option<ClientCertificates>, server: SocketAddr) -> SocketAddr {
    let clients = asks.map(|asks| (folder.ca.pem(), asks));
    tls_front(server_config(pair, clients, &[HTTP_1_1]), server)
}
