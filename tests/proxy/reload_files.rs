//! Changes of the files of a configuration: in steps, by symlink, and with gaps.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, Mode, mkfifoat};
use streamgauge::config::reload::ReloadOutcome;

use crate::harness::{CHAT_BODY, CHAT_REQUEST, Proxy, Upstream, proxy, sized};
use crate::reload::settle;

const TAKEN: ReloadOutcome = ReloadOutcome::Taken { needs_restart: Vec::new(), late_workers: 0 };

fn up() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()))
}

/// A configuration whose requests are routed by `path`.
fn text(up: &Upstream, path: &str) -> String {
    proxy().admin().upstream(up).tables(&format!("[[routes]]\npath = \"{path}\"\nupstream = \"up\"")).text()
}

fn serves(proxy: &Proxy, path: &str) -> bool {
    proxy.client().post(&format!("{path}/v1/chat/completions"), CHAT_REQUEST).response().status() == 200
}

fn refused(proxy: &Proxy) -> f64 {
    proxy.metric("streamgauge_config_reloads_total{result=\"refused\"}")
}

#[test]
fn file_that_is_written_in_steps_is_read_when_it_is_whole() {
    let (up, folder) = (up(), tempfile::tempdir().unwrap());
    let path = folder.path().join("streamgauge.toml");
    fs::write(&path, text(&up, "/old")).unwrap();
    let proxy = proxy().run_from(&path);
    let whole = text(&up, "/new");
    for end in 0..=whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        assert_eq!(proxy.look(), ReloadOutcome::Unchanged, "{end}");
    }
    assert!(serves(&proxy, "/old") && !serves(&proxy, "/new"));
    assert_eq!(refused(&proxy), 0.0);
    assert_eq!(proxy.look(), TAKEN);
    assert!(serves(&proxy, "/new") && !serves(&proxy, "/old"));
    assert_eq!(settle(&proxy), ReloadOutcome::Unchanged);
}

#[test]
fn file_half_written_at_any_byte_never_stops_the_proxy() {
    let (up, folder) = (up(), tempfile::tempdir().unwrap());
    let path = folder.path().join("streamgauge.toml");
    fs::write(&path, text(&up, "/old")).unwrap();
    let proxy = proxy().run_from(&path);
    let whole = text(&up, "/new");
    let tables = whole.find("[[routes]]").unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        match proxy.reload() {
            ReloadOutcome::Refused(mistakes) => assert!(!mistakes.is_empty()),
            // Only optional tables and lines are missing.
            ReloadOutcome::Taken { .. } => assert!(end >= tables - 120, "{}", &whole[..end]),
            ReloadOutcome::Unchanged => panic!("a reload judges"),
        }
        let is_taken = serves(&proxy, "/old")
            || serves(&proxy, "")
            || serves(&proxy, "/new")
            || serves(&proxy, "/n")
            || serves(&proxy, "/ne");
        assert!(is_taken, "{}", &whole[..end]);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(proxy.reload(), TAKEN);
    assert!(serves(&proxy, "/new"));
}

#[test]
fn symlink_that_kubernetes_swaps_is_followed() {
    let (up, folder) = (up(), tempfile::tempdir().unwrap());
    let version = |number: u8, path: &str| {
        let data = folder.path().join(format!("..{number}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("streamgauge.toml"), text(&up, path)).unwrap();
        symlink(format!("..{number}"), folder.path().join("..data_tmp")).unwrap();
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    version(1, "/one");
    let path = folder.path().join("streamgauge.toml");
    symlink("..data/streamgauge.toml", &path).unwrap();
    let proxy = proxy().run_from(&path);
    assert_eq!(settle(&proxy), ReloadOutcome::Unchanged);
    version(2, "/two");
    fs::remove_dir_all(folder.path().join("..1")).unwrap();
    assert_eq!(settle(&proxy), TAKEN);
    assert!(serves(&proxy, "/two") && !serves(&proxy, "/one"));
}

#[test]
fn missing_file_is_reported_once_and_taken_when_it_is_back() {
    let (up, folder) = (up(), tempfile::tempdir().unwrap());
    let path = folder.path().join("streamgauge.toml");
    fs::write(&path, text(&up, "/one")).unwrap();
    let proxy = proxy().run_from(&path);
    fs::remove_file(&path).unwrap();
    assert!(matches!(settle(&proxy), ReloadOutcome::Refused(reason) if reason.contains("there is no file")));
    for _ in 0..3 {
        assert!(matches!(proxy.look(), ReloadOutcome::Refused(_)));
    }
    assert_eq!(refused(&proxy), 1.0);
    assert!(serves(&proxy, "/one"));
    fs::write(&path, text(&up, "/two")).unwrap();
    assert_eq!(settle(&proxy), TAKEN);
    assert!(serves(&proxy, "/two"));
}

#[test]
fn secret_replaced_by_a_fifo_is_refused_without_waiting() {
    let (up, folder) = (up(), tempfile::tempdir().unwrap());
    let (path, key) = (folder.path().join("streamgauge.toml"), folder.path().join("key"));
    let client = "[clients.a]\nkey = { file = \"key\" }\n";
    fs::write(&path, format!("{}\n{client}", text(&up, "/one"))).unwrap();
    fs::write(&key, "sg-a-key-in-a-file").unwrap();
    let proxy = proxy().run_from(&path);
    fs::remove_file(&key).unwrap();
    mkfifoat(CWD, &key, Mode::RUSR | Mode::WUSR).unwrap();
    assert!(
        matches!(settle(&proxy), ReloadOutcome::Refused(reason) if reason.contains("not a regular file"))
    );
    fs::remove_file(&key).unwrap();
    fs::write(&key, "sg-a-key-of-another-day").unwrap();
    assert_eq!(settle(&proxy), TAKEN);
}

#[test]
fn secret_of_a_pipe_stays_after_a_reload() {
    let (up, folder) = (up(), tempfile::tempdir().unwrap());
    let path = folder.path().join("streamgauge.toml");
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"sg-a-key-in-a-pipe\n").unwrap();
    drop(writer);
    let client = format!("[clients.a]\nkey = {{ file = \"/dev/fd/{}\" }}\n", reader.as_raw_fd());
    fs::write(&path, format!("{}\n{client}", text(&up, "/one"))).unwrap();
    let proxy = proxy().run_from(&path);
    for route in ["/two", "/three"] {
        fs::write(&path, format!("{}\n{client}", text(&up, route))).unwrap();
        assert_eq!(proxy.reload(), TAKEN);
    }
}

#[test]
fn files_beyond_their_bounds_are_refused() {
    let (up, folder) = (up(), tempfile::tempdir().unwrap());
    let (path, key) = (folder.path().join("streamgauge.toml"), folder.path().join("key"));
    let good = format!("{}\n[clients.a]\nkey = {{ file = \"key\" }}\n", text(&up, "/one"));
    fs::write(&path, &good).unwrap();
    fs::write(&key, "sg-a-key-in-a-file").unwrap();
    let proxy = proxy().run_from(&path);
    // A sparse file.
    fs::File::options().write(true).open(&key).unwrap().set_len(700 << 20).unwrap();
    assert!(matches!(settle(&proxy), ReloadOutcome::Refused(reason) if reason.contains("more than 64 KiB")));
    fs::write(&key, "sg-a-key-in-a-file").unwrap();
    fs::write(&path, format!("{good}#{}", "x".repeat(4 << 20))).unwrap();
    assert!(matches!(settle(&proxy), ReloadOutcome::Refused(reason) if reason.contains("more than 4 MiB")));
    fs::write(&path, good.replace("/one", "/two")).unwrap();
    assert_eq!(settle(&proxy), TAKEN);
}

#[test]
fn refused_file_is_taken_when_a_file_it_names_appears() {
    let (up, folder) = (up(), tempfile::tempdir().unwrap());
    let path = folder.path().join("streamgauge.toml");
    fs::write(&path, text(&up, "/one")).unwrap();
    let proxy = proxy().run_from(&path);
    fs::write(&path, format!("{}\n[clients.a]\nkey = {{ file = \"late\" }}\n", text(&up, "/two"))).unwrap();
    assert!(matches!(settle(&proxy), ReloadOutcome::Refused(reason) if reason.contains("late")));
    fs::write(folder.path().join("late"), "sg-a-late-key-123").unwrap();
    assert_eq!(proxy.look(), TAKEN);
    assert_eq!(proxy.metric("streamgauge_config_last_reload_successful"), 1.0);
}

#[test]
fn without_watch_only_a_request_reads_the_file_again() {
    let (up, folder) = (up(), tempfile::tempdir().unwrap());
    let path = folder.path().join("streamgauge.toml");
    let unwatched = |route| text(&up, route).replacen("[server]", "[server]\nwatch = false", 1);
    fs::write(&path, unwatched("/one")).unwrap();
    let proxy = proxy().run_from(&path);
    fs::write(&path, unwatched("/two")).unwrap();
    assert_eq!(settle(&proxy), ReloadOutcome::Unchanged);
    assert_eq!(proxy.reload(), TAKEN);
    assert!(serves(&proxy, "/two"));
}
