//! The changes to requests and responses: headers, and the smallest possible edit of a JSON body or
//! a form.
//!
//! All other bytes stay as they are, in their order. No body is parsed into a tree and serialized
//! again.

pub mod body;
pub mod form;
pub mod headers;
pub mod names;
pub mod upgrade;
