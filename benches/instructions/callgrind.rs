//! Counts instructions with callgrind.

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

/// Runs this program's path of that name under callgrind. Returns the counted instructions.
pub(crate) fn run(path: &str) -> u64 {
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
    total
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
