use std::io::Read;

use super::*;

#[test]
fn piece_is_whole_lines_of_at_most_pipe_buf() {
    let long = [vec![b'x'; PIPE_BUF], b"\nrest\n".to_vec()].concat();
    for (lines, expected) in [
        (&b"a\nb\n"[..], &b"a\nb\n"[..]),
        (&long, &long[..=PIPE_BUF]),
        (&long[2..], &long[2..=PIPE_BUF]),
        (&[b"a\n", &long[..]].concat(), b"a\n"),
    ] {
        assert_eq!(piece(lines).len(), expected.len());
    }
}

#[test]
fn half_line_from_before_is_ended_at_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    for (before, after) in [("half", "half\nwhole\n"), ("one\n", "one\nwhole\n"), ("", "whole\n")] {
        fs::write(&path, before).unwrap();
        LineFile::open(&path).unwrap().append(b"whole\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), after);
    }
}

#[test]
fn renamed_and_deleted_files_have_a_successor() {
    let folder = tempfile::tempdir().unwrap();
    let [path, old] = ["lines", "lines.1"].map(|name| folder.path().join(name));
    let mut lines = LineFile::open(&path).unwrap();
    lines.append(b"1\n").unwrap();
    fs::rename(&path, &old).unwrap();
    lines.append(b"2\n").unwrap();
    fs::remove_file(&path).unwrap();
    lines.append(b"3\n").unwrap();
    let read = |path| fs::read_to_string(path).unwrap();
    assert_eq!((read(&old), read(&path)), ("1\n".to_owned(), "3\n".to_owned()));
}

#[test]
fn request_to_reopen_creates_the_file_without_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    let lines = LineFile::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    lines.reopener().reopen();
    assert!(path.exists());
}

#[test]
fn renamed_file_is_written_on_while_its_path_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let [path, old] = ["lines", "lines.1"].map(|name| folder.path().join(name));
    let mut lines = LineFile::open(&path).unwrap();
    fs::rename(&path, &old).unwrap();
    fs::create_dir(&path).unwrap();
    lines.append(b"1\n").unwrap();
    assert_eq!(fs::read_to_string(&old).unwrap(), "1\n");
    fs::remove_file(&old).unwrap();
    lines.append(b"2\n").expect_err("a deleted file is no place for records");
    fs::remove_dir(&path).unwrap();
    lines.append(b"3\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
}

#[test]
fn fifo_without_a_reader_is_an_error_until_one_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut lines = LineFile::open(&path).expect("a start does not wait for a reader");
    let Unwritten { error, .. } = lines.append(b"1\n").unwrap_err();
    assert!(error.to_string().contains("has no reader"), "{error}");
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut reader = OpenOptions::new().read(true).custom_flags(nonblocking).open(&path).unwrap();
    lines.append(b"2\n").unwrap();
    let mut read = [0; 8];
    let count = reader.read(&mut read).unwrap();
    assert_eq!(&read[..count], b"2\n");
    drop(reader);
    lines.append(b"3\n").expect_err("the reader has left");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn fifo_with_an_idle_reader_gets_whole_lines_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut reader = OpenOptions::new().read(true).custom_flags(nonblocking).open(&path).unwrap();
    let mut lines = LineFile::open(&path).unwrap();
    // Lines of 1,000 bytes: neither a piece nor the pipe is a multiple of them.
    let batch = [vec![b'x'; 999], vec![b'\n']].concat().repeat(200);
    let first = lines.append(&batch).unwrap_err();
    assert_eq!(first.error.kind(), io::ErrorKind::TimedOut);
    let start = Instant::now();
    let second = lines.append(&batch).unwrap_err();
    assert!(start.elapsed() < PIPE_PATIENCE / 2, "a stuck reader is waited for once");
    let mut read = Vec::new();
    // Ends with an error: the pipe is empty, and has a writer.
    let _ = reader.read_to_end(&mut read);
    assert!(
        read.len() > 4096 && read.split(|&byte| byte == b'\n').all(|line| [0, 999].contains(&line.len()))
    );
    assert_eq!(read.iter().filter(|&&byte| byte == b'\n').count() * 1000, first.whole + second.whole);
    lines.append(b"after\n").unwrap();
}
