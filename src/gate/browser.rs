//! The browser's information about a request: the host to which it was sent, and the page that sent
//! it.
//!
//! A proxy on this machine holds keys and accepts JSON under any content type, so a web page could
//! spend them: by a request whose response it cannot read, or by giving its own name this machine's
//! address (DNS rebinding) and reading the responses too. A page can forge neither the `Host` nor
//! the `Origin` nor the `Sec-Fetch-Site` that its browser sends, so these three decide. Programs
//! send a `Host` of their choice, and neither of the others. Pages of listed origins may also read the
//! responses ([`Sharing`]).
//!
//! Pure: `config` parses the lists, `proxy` and `admin` call it.

mod admission;
mod hosts;
mod origins;
mod sharing;

pub use admission::{Admission, Credential, Refusal};
pub use hosts::OwnHosts;
pub use origins::{Origin, Origins};
pub use sharing::Sharing;
