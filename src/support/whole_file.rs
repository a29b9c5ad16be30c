//! Reads whole files, with a bound.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Reads a regular file. Never waits for another process: a FIFO is opened without blocking, and
/// refused.
///
/// # Errors
/// Fails if the file cannot be read, is not regular, or has more than `max` bytes (`FileTooLarge`).
pub fn read_regular(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    read(&file, max)
}

/// Reads a file of any kind, and returns whether it is regular. Waits for the writers of a pipe.
///
/// # Errors
/// Fails if the file cannot be read, or has more than `max` bytes (`FileTooLarge`).
pub fn read_any(path: &Path, max: usize) -> io::Result<(Vec<u8>, bool)> {
    let file = File::open(path)?;
    Ok((read(&file, max)?, file.metadata()?.is_file()))
}

fn read(file: &File, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() <= max {
        return Ok(bytes);
    }
    let size = if max < 1 << 20 { format!("{} KiB", max >> 10) } else { format!("{} MiB", max >> 20) };
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {size}")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn fifo_without_a_writer_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        let error = read_regular(&path, 10).unwrap_err();
        assert_eq!(error.to_string(), "it is not a regular file");
        read_regular(folder.path(), 10).unwrap_err();
    }

    #[test]
    fn file_beyond_the_bound_is_refused_without_being_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, [b'a'; 2048]).unwrap();
        assert_eq!(read_regular(&path, 2048).unwrap().len(), 2048);
        assert_eq!(read_any(&path, 2048).unwrap().0.len(), 2048);
        for error in [read_regular(&path, 2047).unwrap_err(), read_any(&path, 2047).unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            assert_eq!(error.to_string(), "it has more than 1 KiB");
        }
        // An endless file.
        assert_eq!(
            read_any(Path::new("/dev/zero"), 1 << 20).unwrap_err().to_string(),
            "it has more than 1 MiB"
        );
    }
}
