//! The part of a configuration that a health probe needs. Mistakes in other keys do not count, and
//! neither do missing secrets or the end of a file that is being written.

use super::kind::listen_address;
use super::layers::Layers;
use super::mistakes::Mistakes;
use super::reader::Reader;
use super::secrets::secret;
use super::{Sources, file};
use crate::support::ListenAddress;
use crate::support::secret::Secret;

/// The listener of the admin server of a process with this configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPort {
    /// `None`: there is no admin server.
    pub address: Option<ListenAddress>,
    /// True if it uses TLS.
    pub has_tls: bool,
}

/// Reads `admin.listen`, and whether a table `[admin.tls]` exists, from the same sources as
/// [`load`](super::load). If a file is not TOML, the lines before the first mistake count.
///
/// # Errors
/// Fails if the file cannot be read, or if `admin.listen` is not an address.
pub fn load_admin_port(sources: &Sources) -> Result<AdminPort, Mistakes> {
    let file = file::find_with(sources.file.as_deref(), &sources.env, &file::CANDIDATES, file::parse_begun)
        .map_err(Mistakes::one)?;
    let (layers, _) = Layers::merge(file, &sources.env, &sources.overrides);
    let reader = Reader::new(&layers, &sources.env);
    let port = reader.read_part(|root| {
        let listen = root.at(&["admin", "listen"]);
        Ok(AdminPort {
            address: listen.map(|entry| (listen_address().or_empty().read)(&entry)).transpose()?.flatten(),
            has_tls: root.at(&["admin", "tls"]).is_some(),
        })
    });
    reader.finish(port, Vec::new()).map(|(port, _)| port)
}

/// Reads `admin.token` from the same sources. `None` if it is missing or cannot be read.
pub fn load_admin_token(sources: &Sources) -> Option<Secret> {
    load_secret(sources, "token")
}

/// Reads `admin.read_token`, which suffices for reading, else `admin.token`. `None` if both are
/// missing or cannot be read.
pub fn load_read_token(sources: &Sources) -> Option<Secret> {
    load_secret(sources, "read_token").or_else(|| load_secret(sources, "token"))
}

/// Reads a secret in `[admin]`.
fn load_secret(sources: &Sources, key: &str) -> Option<Secret> {
    let file =
        file::find_with(sources.file.as_deref(), &sources.env, &file::CANDIDATES, file::parse_begun).ok()?;
    let (layers, _) = Layers::merge(file, &sources.env, &sources.overrides);
    let reader = Reader::new(&layers, &sources.env);
    reader.read_part(|root| root.at(&["admin", key]).map(|entry| (secret().read)(&entry)).transpose()).ok()?
}

/// Reads the file alone.
///
/// # Errors
/// Fails if it cannot be read, or is not TOML.
pub fn check_file(sources: &Sources) -> Result<(), Mistakes> {
    let file = file::find(sources.file.as_deref(), &sources.env, &file::CANDIDATES);
    file.map(drop).map_err(Mistakes::one)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn load(text: &str) -> Result<AdminPort, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streamgauge.toml");
        fs::write(&path, text).unwrap();
        let sources = Sources { file: Some(path), ..Sources::default() };
        load_admin_port(&sources).map_err(|mistakes| mistakes.to_string())
    }

    fn address(text: &str) -> Option<ListenAddress> {
        Some(ListenAddress::Inet(text.parse().unwrap()))
    }

    #[test]
    fn mistakes_outside_of_admin_do_not_count() {
        let text = "[admin]\nlisten = \"127.0.0.1:9191\"\ntoken = { file = \"/no/such/file\" }\nhosts = 5\n\
                    [server]\nlisten = 7\nno_such_key = 1\n[upstreams.openai]\n";
        let port = AdminPort { address: address("127.0.0.1:9191"), has_tls: false };
        assert_eq!(load(text), Ok(port.clone()));
        assert_eq!(
            load(&format!("{text}[admin.tls]\ncertificate = 5\n")),
            Ok(AdminPort { has_tls: true, ..port })
        );
    }

    #[test]
    fn file_that_is_half_written_counts_up_to_its_last_good_line() {
        let text =
            "[admin]\nlisten = \"127.0.0.1:9191\"\n\n[upstreams.openai]\nurl = \"https://example.com\"\n";
        let (begun, good) = ("[admin]\nlisten = ".len(), "[admin]\nlisten = \"127.0.0.1:9191\"".len());
        for end in 0..=text.len() {
            let expected = if end < good { "127.0.0.1:9090" } else { "127.0.0.1:9191" };
            let port = load(&text[..end]).unwrap_or_else(|error| panic!("{end} ({begun}): {error}"));
            assert_eq!(port.address, address(expected), "{end}");
        }
    }

    #[test]
    fn read_token_comes_before_the_token_that_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("streamgauge.toml");
        let both = "[admin]\ntoken = { value = \"all\" }\nread_token = { value = \"read\" }\n";
        for (text, expected) in [
            (both, Some("read")),
            (
                "[admin]\ntoken = { value = \"all\" }\nread_token = { file = \"/no/such/file\" }\n",
                Some("all"),
            ),
            ("[admin]\n", None),
        ] {
            fs::write(&path, text).unwrap();
            let sources = Sources { file: Some(path.clone()), ..Sources::default() };
            assert_eq!(load_read_token(&sources).as_ref().map(Secret::expose), expected, "{text}");
        }
    }

    #[test]
    fn admin_port_may_be_off_or_wrong() {
        assert_eq!(load("[admin]\nlisten = \"\"\n"), Ok(AdminPort { address: None, has_tls: false }));
        let error = load("[admin]\nlisten = \"localhost\"\n").unwrap_err();
        assert!(error.contains("streamgauge.toml:2: admin.listen"), "{error}");
    }
}
