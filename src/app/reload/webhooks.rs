//! Takes over the webhooks of alerts.

use std::sync::{Arc, PoisonError};

use super::Reloader;
use crate::app::upstreams;
use crate::config::Settings;
use crate::sinks::alerts::Webhook;

impl Reloader {
    /// The webhooks of these settings, and those in use where nothing has changed.
    ///
    /// # Errors
    /// Fails if a webhook cannot be reached by TLS.
    pub(in crate::app) fn webhooks(&mut self, settings: &Settings) -> Result<Vec<Arc<Webhook>>, String> {
        let in_use = self.alerts.lock().unwrap_or_else(PoisonError::into_inner).webhooks();
        let mut webhooks = Vec::new();
        for alert in &settings.alerts {
            let known = in_use.iter().find(|known| known.settings == *alert);
            webhooks.push(match known {
                Some(known) => Arc::clone(known),
                None => {
                    let origin = Arc::new(upstreams::webhook(alert, &mut self.watch)?);
                    Arc::new(Webhook { settings: alert.clone(), origin })
                }
            });
        }
        Ok(webhooks)
    }

    /// Tells these webhooks from now on.
    pub(in crate::app) fn tell(&self, webhooks: Vec<Arc<Webhook>>) {
        let mut alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = alerts.replace(webhooks) {
            tracing::error!(%error, "there is no thread for alerts: none is sent");
        }
    }
}
