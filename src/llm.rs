//! Everything specific to APIs of language models: dialects of providers, routes by model, edits of
//! bodies, usage, estimates, prices. Pure: no socket, no clock, no runtime.
//!
//! # Order
//!
//! A module uses those of the lines below its own. `tests/layering.rs` reads this table.
//!
//! | line | modules | what they are |
//! |---|---|---|
//! | 1 | `estimate`, `price`, `rewrite` | what follows from usage and routes |
//! | 2 | `model_list`, `provider`, `route`, `usage` | lists of models, dialects, routing by model, usage of responses |

pub mod estimate;
pub mod model_list;
pub mod price;
pub mod provider;
pub mod rewrite;
pub mod route;
pub mod usage;
