//! The way out: straight to a service, or through a proxy, and through which one.
//!
//! Values in, values out. Hosts are compared as they are written, names are never resolved: a
//! network (CIDR) takes only hosts that are written as addresses. An upstream has one host, so its
//! way is decided once, at start. What may not live here is the connection itself, and how proxies
//! are written in the configuration.

mod address;
mod basic;
mod hosts;
mod redirect;
mod variables;

pub use address::{ProxyAddress, Scheme, UserInfo};
pub use basic::basic;
pub use hosts::{Hosts, Pattern};
pub use redirect::{redirects_to, refreshes_to};
pub use variables::{Chosen, chosen, spared};
