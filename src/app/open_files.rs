//! Raises the limit on open files, and makes room for them in the kernel's table.

use std::fs::File;
use std::io;

/// The number of files for which the table has room from the start, which takes 128 KB of the
/// kernel's memory.
const ROOM: u64 = 16 * 1024;

/// Raises the soft limit on open files to the hard one, and returns the limit then.
pub(crate) fn raise_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit on open files could not be raised");
        1024
    })
}

/// Makes room for `files` open files, which must be below the limit.
///
/// The kernel doubles its table of a process's files when that is full. If the process has several
/// threads, the one that opens the file waits until no other thread can be reading the old
/// table (`synchronize_rcu` in Linux' `fs/file.c`): 10 to 25 ms were measured, at the 64th, 128th,
/// 256th file and so on, during which a worker and all its streams pause. A table never shrinks.
pub(crate) fn make_room(files: u64) {
    if let Err(error) = open_as(files.min(ROOM).saturating_sub(1)) {
        tracing::debug!(%error, "the kernel's table of open files could not be enlarged; streams may pause briefly as more files are opened");
    }
}

/// Opens a file under this number, or the next free one, and closes it.
fn open_as(number: u64) -> io::Result<()> {
    let file = File::open("/dev/null")?;
    let number = i32::try_from(number).map_err(io::Error::other)?;
    rustix::io::fcntl_dupfd_cloexec(&file, number)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_before_files_are_opened() {
        let room = raise_limit().min(5000);
        make_room(room);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<u64>().unwrap() >= room, "{size}");
    }
}
