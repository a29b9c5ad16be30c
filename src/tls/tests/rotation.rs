//! Files that change: complete sets are used, broken ones are not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::*;

const HOST: &str = "llm.internal";

fn settings(folder: &Path) -> ServerSettings {
    let mut settings = server(&self_signed(&[HOST], false));
    settings.identity.certificate = Source::File(folder.join("tls.crt"));
    settings.identity.private_key = Source::File(folder.join("tls.key"));
    settings
}

fn write(folder: &Path, pair: &Pair) {
    for (name, text) in [("tls.crt", &pair.certificate), ("tls.key", &pair.key)] {
        let new = folder.join(format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(&new, folder.join(name)).unwrap();
    }
}

/// The serial number that a new connection sees.
fn serial(live: &Live<ServerTls>) -> String {
    serial_of(&live.load().config)
}

fn serial_of(config: &Arc<ServerConfig>) -> String {
    let anybody = ClientSettings { verification: Verification::None, ..ClientSettings::default() };
    let (client, _) = handshake(&client_config(&anybody), HOST, config).unwrap();
    Facts::of(&client.peer_certificates().unwrap()[0]).unwrap().serial
}

fn counts(watch: &Watch) -> (u64, u64) {
    let reloads = watch.reloads();
    (reloads.done.load(Ordering::Relaxed), reloads.failed.load(Ordering::Relaxed))
}

#[test]
fn a_renamed_file_is_taken_over_and_an_unchanged_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    write(folder.path(), &ours.issue_numbered(1, "one", &[HOST]));
    let mut watch = Watch::default();
    let live = watch.server(&settings(folder.path())).unwrap();
    let before = live.load();
    watch.look(false);
    assert_eq!((serial(&live).as_str(), counts(&watch)), ("01", (0, 0)));
    let two = ours.issue_numbered(2, "two", &[HOST]);
    write(folder.path(), &two);
    watch.look(false);
    assert_eq!((serial(&live).as_str(), counts(&watch)), ("02", (1, 0)));
    write(folder.path(), &two);
    watch.look(false);
    assert_eq!(counts(&watch), (1, 0), "the same again is no change");
    assert_eq!(serial_of(&before.config), "01", "who had the earlier one keeps it");
}

#[test]
fn the_symlink_that_kubernetes_swaps_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ours = Authority::new("ours");
    let version = |number: u8| {
        let data = path.join(format!("..{number}"));
        fs::create_dir(&data).unwrap();
        write(&data, &ours.issue_numbered(number, "k8s", &[HOST]));
        symlink(format!("..{number}"), path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    };
    version(1);
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), path.join(name)).unwrap();
    }
    let mut watch = Watch::default();
    let live = watch.server(&settings(path)).unwrap();
    version(2);
    fs::remove_dir_all(path.join("..1")).unwrap();
    watch.look(false);
    assert_eq!((serial(&live).as_str(), counts(&watch)), ("02", (1, 0)));
}

#[test]
fn a_broken_set_keeps_the_earlier_one_and_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ours = Authority::new("ours");
    let one = ours.issue_numbered(1, "one", &[HOST]);
    write(path, &one);
    let mut watch = Watch::default();
    let live = watch.server(&settings(path)).unwrap();

    let two = ours.issue_numbered(2, "two", &[HOST]);
    fs::write(path.join("tls.crt"), &two.certificate).unwrap();
    watch.look(false);
    assert_eq!((serial(&live).as_str(), counts(&watch)), ("01", (0, 0)), "the key may be on its way");
    fs::write(path.join("tls.key"), &two.key).unwrap();
    watch.look(false);
    assert_eq!((serial(&live).as_str(), counts(&watch)), ("02", (1, 0)));

    fs::write(path.join("tls.crt"), &two.certificate[..two.certificate.len() / 2]).unwrap();
    for _ in 0..5 {
        watch.look(false);
    }
    assert_eq!((serial(&live).as_str(), counts(&watch)), ("02", (1, 1)));
    fs::remove_file(path.join("tls.crt")).unwrap();
    for _ in 0..5 {
        watch.look(false);
    }
    assert_eq!((serial(&live).as_str(), counts(&watch)), ("02", (1, 2)));
    write(path, &two);
    watch.look(false);
    assert_eq!(counts(&watch), (1, 2), "what is in use came back");
    write(path, &ours.issue_numbered(3, "three", &[HOST]));
    watch.look(false);
    assert_eq!((serial(&live).as_str(), counts(&watch)), ("03", (2, 2)));
}

#[test]
fn new_upstream_authority_replaces_the_trust_in_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    fs::write(&ca, one.pem()).unwrap();
    let mut watch = Watch::default();
    let settings = ClientSettings { ca: vec![Source::File(ca.clone())], ..ClientSettings::default() };
    let live = watch.client("upstreams.x.tls", &settings, &[HTTP_1_1]).unwrap();
    let takes = |authority: &Authority| {
        let server = server_config(&server(&authority.issue("server", &[HOST])));
        handshake(&live.load(), HOST, &server).is_ok()
    };
    assert!(takes(&one) && !takes(&two));
    fs::write(&ca, two.pem()).unwrap();
    watch.look(false);
    assert!(!takes(&one) && takes(&two));
}

#[test]
fn only_files_of_configurations_in_use_are_watched() {
    let mut watch = Watch::default();
    watch.server(&server(&self_signed(&[HOST], false))).unwrap();
    assert!(watch.is_empty());

    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    write(folder.path(), &ours.issue_numbered(1, "one", &[HOST]));
    let mut watch = Watch::default();
    let live = watch.server(&settings(folder.path())).unwrap();
    watch.look(false);
    assert!(!watch.is_empty());
    drop(live);
    watch.look(false);
    assert!(watch.is_empty());
}

#[test]
fn replacement_is_used_at_once_and_its_files_are_followed() {
    let [before, after] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let ours = Authority::new("ours");
    write(before.path(), &ours.issue_numbered(1, "one", &[HOST]));
    write(after.path(), &ours.issue_numbered(2, "two", &[HOST]));
    let mut watch = Watch::default();
    let live = watch.server(&settings(before.path())).unwrap();
    let replacement = Watch::prepare("server.tls", &settings(after.path()), &live).unwrap();
    assert_eq!(serial(&live), "01", "not before it is put in place");
    watch.replace(replacement);
    assert_eq!(serial(&live), "02");
    write(before.path(), &ours.issue_numbered(3, "three", &[HOST]));
    watch.look(false);
    assert_eq!((serial(&live).as_str(), counts(&watch)), ("02", (0, 0)));
    write(after.path(), &ours.issue_numbered(4, "four", &[HOST]));
    watch.look(false);
    assert_eq!((serial(&live).as_str(), counts(&watch)), ("04", (1, 0)));
}
