//! Everything specific to APIs of language models: dialects of providers, routes by model, edits of
//! bodies, usage, estimates, prices. Pure: no socket, no clock, no runtime.

pub mod estimate;
pub mod price;
pub mod provider;
pub mod rewrite;
pub mod route;
pub mod usage;
