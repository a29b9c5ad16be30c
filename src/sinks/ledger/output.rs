//! Results in the forms that other programs read, shared by `streamgauge usage` and the admin
//! pages.

use std::io;

pub mod csv;
pub mod json;
pub mod numbers;

/// The written bytes as one text.
fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<String> {
    let mut text = Vec::new();
    write(&mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}
