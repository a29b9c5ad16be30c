//! Files of other programs as configuration: price lists, and the configurations of other gateways.
//!
//! The module converts text into text and values. It opens no file, and nothing that serves
//! requests uses it.
//!
//! | module | what it is |
//! |---|---|
//! | [`litellm`] | a configuration of LiteLLM's proxy as ours |
//! | [`litellm_keys`] | LiteLLM's virtual keys as clients |
//! | `price_list` | LiteLLM's published prices as `[[prices]]` |
//! | `price_update` | the changes that a newer list makes to known prices |
//! | `services` | services by their hosts and by LiteLLM's names |
//! | `toml_text` | values and keys as TOML |
//! | `yaml` | YAML as a tree whose values know their lines |

#[cfg(feature = "import")]
pub mod litellm;
#[cfg(feature = "import")]
pub mod litellm_keys;
mod price_list;
mod price_update;
mod services;
#[cfg(feature = "import")]
mod toml_text;
#[cfg(feature = "import")]
mod yaml;

pub use price_list::{ListedModel, PriceList, PriceStep, base_of_tuned, without_date};
pub use price_update::{PriceChange, PriceUpdate, prices_text};
pub use services::{KnownService, PriceSource};
