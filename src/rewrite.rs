//! What the proxy changes on the way through: headers, and the smallest possible edit of a JSON
//! body or of a form.
//!
//! Everything that has no reason to change stays byte for byte, and in its order. Nothing here
//! parses a body into a tree or writes one out again.

pub mod body;
pub mod form;
pub mod headers;
pub mod names;
pub mod upgrade;
