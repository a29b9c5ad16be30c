//! The memory that clients may cause the process to hold.

use std::fs;
use std::path::Path;

use crate::config::MemoryLimit;

/// The part of a control group's limit that clients may cause, in percent.
const PERCENT: usize = 80;

/// The least that is left to the process itself: some 20 MB, and 30 MB for the tables of estimates.
const OWN: usize = 48 << 20;

/// The least for clients, however small the group's limit is.
const LEAST: usize = 16 << 20;

/// The folder of the control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// The limit in bytes. `None`: there is none.
pub(super) fn of(configured: MemoryLimit) -> Option<usize> {
    match configured {
        MemoryLimit::Bytes(bytes) => Some(bytes),
        MemoryLimit::None => None,
        MemoryLimit::OfSystem => {
            let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            let limit = for_clients(group_limit(Path::new(GROUPS), &groups)?);
            tracing::debug!(bytes = limit, "server.max_memory follows the limit of the control group");
            Some(limit)
        }
    }
}

fn for_clients(limit: usize) -> usize {
    (limit / 100 * PERCENT).min(limit.saturating_sub(OWN)).max(LEAST)
}

/// The smallest limit of the process's control group and of those above it, which `groups` names in
/// the form of `/proc/self/cgroup`; in version 2 (`0::/path`) and version 1 (`4:memory:/path`).
///
/// A container that sees only its own group has that at `root`, whatever path the kernel names.
fn group_limit(root: &Path, groups: &str) -> Option<usize> {
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let path = root.join(path.trim_start_matches('/'));
        let above = path.ancestors().take_while(|folder| folder.starts_with(&root));
        above.filter_map(|folder| limit_in(&folder.join(file))).collect()
    });
    limits.min()
}

/// Larger numbers mean no limit: version 1 has the largest multiple of the page size.
const LARGEST: usize = 1 << 60;

/// The limit in a file. `None`: no file, or no limit (`max`).
fn limit_in(file: &Path) -> Option<usize> {
    let limit = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    Some(limit).filter(|&limit| limit < LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    #[test]
    fn limit_is_the_smallest_of_the_groups_above() {
        let root = tree(&[
            ("memory.max", "max\n"),
            ("a/memory.max", "1000\n"),
            ("a/b/memory.max", "3000\n"),
            ("c/memory.max", "max\n"),
        ]);
        for (groups, limit) in
            [("0::/a/b\n", Some(1000)), ("0::/a", Some(1000)), ("0::/c", None), ("0::/", None), ("", None)]
        {
            assert_eq!(group_limit(root.path(), groups), limit, "{groups:?}");
        }
    }

    #[test]
    fn version_1_has_a_tree_for_memory() {
        let root = tree(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/docker/x/memory.limit_in_bytes", "5000\n"),
        ]);
        let groups = |path: &str| format!("5:cpu,cpuacct:/docker/x\n4:memory:{path}\n0::/docker/x\n");
        assert_eq!(group_limit(root.path(), &groups("/docker/x")), Some(5000));
        assert_eq!(group_limit(root.path(), &groups("/docker")), None);
    }

    #[test]
    fn container_that_sees_only_its_group_has_its_limit() {
        let root = tree(&[("memory.max", "7000")]);
        assert_eq!(group_limit(root.path(), "0::/kubepods/pod1/container"), Some(7000));
    }

    #[test]
    fn process_keeps_its_own_part_of_the_limit() {
        let mib = |mib: usize| mib << 20;
        for (limit, clients) in [(1000, 800), (128, 80), (80, 32), (64, 16), (8, 16)] {
            let found = for_clients(mib(limit));
            assert!(found.abs_diff(mib(clients)) < 100, "{limit}: {found}");
        }
    }

    #[test]
    fn configured_limit_wins() {
        assert_eq!(of(MemoryLimit::Bytes(5)), Some(5));
        assert_eq!(of(MemoryLimit::None), None);
    }
}
