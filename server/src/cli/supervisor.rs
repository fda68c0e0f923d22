//! What systemd is told of the process (`Type=notify`), where it asks: sd_notify(3). Elsewhere nothing happens.

use sd_notify::NotifyState;

use crate::admin::Health;

/// The start is over. From now on the watchdog is fed while the server is alive.
pub fn ready(health: &Health) {
    tell(&[NotifyState::Ready]);
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return;
    };
    let health = health.clone();
    tokio::spawn(async move {
        // Twice in the time that systemd waits. A store that has stopped writing needs a restart, which comes so.
        while health.is_well() {
            tell(&[NotifyState::Watchdog]);
            tokio::time::sleep(patience / 2).await;
        }
        tracing::error!(
            "the watchdog is not fed any more: the store has stopped writing until it is restarted"
        );
    });
}

/// The process is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
