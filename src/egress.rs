//! Which forward proxy, if any, reaches a host, and where redirects lead.
//!
//! Pure functions. Hosts are compared as they are written and names are never resolved: a network
//! (CIDR) contains only hosts that are written as addresses. An upstream has one host, so its
//! forward proxy is decided once, at start.

mod address;
mod basic;
mod hosts;
mod redirect;
mod variables;

pub use address::{ProxyAddress, Scheme, UserInfo};
pub use basic::basic;
pub use hosts::{Hosts, Pattern};
pub use redirect::{redirects_to, refreshes_to};
pub use variables::{ProxyVariable, bypass_variable, proxy_variable};
