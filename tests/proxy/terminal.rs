//! `streamgauge top` on a pseudo terminal that `script` opens: a panic gives the terminal back.
//! `tests/top/run.py` checks everything else.

use std::process::Stdio;

use crate::harness::{Program, free_address};

/// The alternate screen of terminals, on and off.
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

#[test]
fn panic_gives_the_terminal_back_before_its_message() {
    let program = Program::with_admin(&format!("listen = \"{}\"", free_address()), "path = \"\"");
    let _serving = program.serve();
    for (thread, status) in [("screen", 101), ("readings", 1)] {
        let top =
            "exec script -qec \"stty -a; '$0' top --interval 200ms; echo status \\$?; stty -a\" /dev/null";
        let mut command = program.shell(top);
        command
            .env("STREAMGAUGE_FAULT", format!("panic:{thread}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The end of its input would be a key.
        let input = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        drop(input);
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        let (before, rest) = text.split_once(TAKEN).unwrap_or_else(|| panic!("{thread}: {text}"));
        let (_, after) = rest.rsplit_once(GIVEN_BACK).unwrap_or_else(|| panic!("{thread}: {text}"));
        assert!(!after.contains(TAKEN) && after.contains("panicked at"), "{thread}: {text}");
        let (_, modes) =
            after.split_once(&format!("status {status}\n")).unwrap_or_else(|| panic!("{thread}: {text}"));
        assert_eq!(modes.trim(), before.trim(), "{thread}: the modes of the terminal");
    }
}
