//! Certificates and keys that change beside the configuration, or with it.

use std::fs;
use std::path::PathBuf;

use streamgauge::config::reload::ReloadOutcome;

use crate::harness::tls::Folder;
use crate::harness::{Proxy, free_address, proxy};

/// A proxy whose upstream gets a client certificate with a key under a passphrase.
struct Encrypted {
    folder: Folder,
    proxy: Proxy,
}

impl Encrypted {
    fn new(server: &str) -> Self {
        let folder = Folder::new();
        folder.write("client", &folder.ca.issue_encrypted("the-proxy", "one"));
        let passphrase = folder.path("passphrase");
        fs::write(&passphrase, "one").unwrap();
        let path = folder.path("streamgauge.toml");
        let passphrase = format!("passphrase = {{ file = {:?} }}", passphrase.display().to_string());
        let lines = folder.lines("client") + &folder.ca_line("ca") + &passphrase;
        let text = proxy().admin().server(server).https(free_address(), &lines).text();
        fs::write(&path, text).unwrap();
        let proxy = proxy().run_from(&path);
        Self { folder, proxy }
    }

    fn passphrase(&self) -> PathBuf {
        self.folder.path("passphrase")
    }

    fn rotate_key(&self, passphrase: &str) {
        self.folder.write("client", &self.folder.ca.issue_encrypted("the-proxy", passphrase));
    }

    /// Sets that were put in use, and those that could not be.
    fn counts(&self) -> (f64, f64) {
        let metric = |name| self.proxy.metric(name);
        (metric("streamgauge_tls_reloads_total"), metric("streamgauge_tls_reloads_failed_total"))
    }
}

#[test]
fn key_that_changes_with_its_passphrase_is_no_error() {
    let rotated = Encrypted::new("");
    let proxy = &rotated.proxy;
    rotated.rotate_key("two");
    assert_eq!(proxy.look(), ReloadOutcome::Unchanged);
    fs::write(rotated.passphrase(), "two").unwrap();
    assert_eq!(proxy.look(), ReloadOutcome::Unchanged);
    assert!(matches!(proxy.look(), ReloadOutcome::Taken { .. }));
    for _ in 0..3 {
        assert_eq!(proxy.look(), ReloadOutcome::Unchanged);
    }
    assert_eq!(rotated.counts().1, 0.0);
    rotated.rotate_key("two");
    proxy.look();
    assert_eq!(rotated.counts(), (1.0, 0.0), "the key is watched under the new passphrase");
    rotated.rotate_key("three");
    proxy.look();
    proxy.look();
    assert_eq!(rotated.counts(), (1.0, 1.0), "the passphrase has not come");
}

#[test]
fn without_watch_only_a_request_reads_certificates_again() {
    let rotated = Encrypted::new("watch = false");
    rotated.rotate_key("one");
    assert_eq!(rotated.proxy.look(), ReloadOutcome::Unchanged);
    assert_eq!(rotated.counts(), (0.0, 0.0));
    assert_eq!(rotated.proxy.reload(), ReloadOutcome::Unchanged);
    assert_eq!(rotated.counts(), (1.0, 0.0));
    rotated.rotate_key("two");
    rotated.proxy.reload();
    assert_eq!(rotated.counts(), (1.0, 1.0), "a request reports a broken set at once");
}
