//! Counts instructions with callgrind.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs};

/// The counted part: `work`, on this thread.
#[inline(never)]
pub(crate) fn counted(work: &mut dyn FnMut()) {
    work();
    // Without it the call could be a jump, whose end callgrind would not see.
    std::hint::black_box(());
}

/// The C library's functions that allocate.
const ALLOCATORS: [&str; 6] = ["malloc", "calloc", "realloc", "aligned_alloc", "memalign", "posix_memalign"];

/// A run's counts.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) instructions: u64,
    pub(crate) allocations: u64,
}

/// Runs this program's path of that name under callgrind.
pub(crate) fn run(path: &str) -> Counts {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{path}.callgrind"));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--toggle-collect=*instructions*counted*"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(env::current_exe().unwrap()).args(["--path", path]);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{path}: {status}\n{stdout}{stderr}");
    let profile = fs::read_to_string(&out).unwrap();
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.unwrap_or_else(|| panic!("{} has no totals", out.display())).parse().unwrap();
    assert_ne!(
        total, 0,
        "{path}: no function to count in was found; was this built with --profile instructions?"
    );
    Counts { instructions: total, allocations: allocations(&profile) }
}

/// Sums the calls of the functions that allocate. A profile names a function once, as `(id) name`,
/// and by its `(id)` from then on.
fn allocations(profile: &str) -> u64 {
    let (mut names, mut is_allocator, mut sum) = (HashMap::new(), false, 0);
    for line in profile.lines() {
        let (function, is_callee) = match (line.strip_prefix("fn="), line.strip_prefix("cfn=")) {
            (Some(function), _) => (function, false),
            (_, Some(function)) => (function, true),
            (None, None) => {
                if let Some(calls) = line.strip_prefix("calls=").filter(|_| is_allocator) {
                    sum += calls.split_once(' ').unwrap().0.parse::<u64>().unwrap();
                }
                continue;
            }
        };
        let (id, name) = function.split_once(' ').map_or((function, None), |(id, name)| (id, Some(name)));
        names.extend(name.map(|name| (id, name)));
        if is_callee {
            is_allocator = names.get(id).is_some_and(|name| ALLOCATORS.contains(name));
        }
    }
    sum
}

/// Installs valgrind if it is missing.
pub(crate) fn install() {
    if Command::new("valgrind").arg("--version").output().is_ok() {
        return;
    }
    eprintln!("installing valgrind");
    const INSTALL: &str = "export DEBIAN_FRONTEND=noninteractive; root() { if [ \"$(id -u)\" = 0 ]; then \"$@\"; else sudo -n \"$@\"; fi; }; \
         root apt-get update -qq && root apt-get install -qq -y --no-install-recommends valgrind";
    let status = Command::new("sh").args(["-c", INSTALL]).status().unwrap();
    assert!(status.success(), "valgrind could not be installed: {status}");
}

/// The machine's properties that affect counts, besides the code.
pub(crate) fn machine() -> String {
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let rustc = said(&env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()), "--version");
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let avx2 = if cpu.split_whitespace().any(|flag| flag == "avx2") { " with avx2" } else { "" };
    let [libc, valgrind] = [said("getconf", "GNU_LIBC_VERSION"), said("valgrind", "--version")];
    format!("{rustc}, {libc}, {valgrind}, {}{avx2}", env::consts::ARCH)
}
