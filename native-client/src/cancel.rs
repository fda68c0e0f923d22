//! Giving something up that is under way.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};

/// By which transfers are given up that it was handed to. Clones are one and the same.
///
/// ```
/// # tokio_test(async {
/// let token = jay_client::CancelToken::new();
/// let other = token.clone();
/// other.cancel();
/// assert!(token.is_cancelled());
/// token.cancelled().await;
/// # });
/// # fn tokio_test(test: impl std::future::Future) {
/// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CancelToken(Arc<watch::Sender<bool>>);

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl CancelToken {
    /// A token that nobody has used yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Gives up whatever has it, now or later.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether that has happened.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for it.
    pub async fn cancelled(&self) {
        // The sender is here as long as anybody waits.
        let _ = self
            .0
            .subscribe()
            .wait_for(|is_cancelled| *is_cancelled)
            .await;
    }
}

/// Does some work unless it is given up before.
pub(crate) async fn unless_cancelled<T>(
    token: Option<&CancelToken>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(token) = token else {
        return work.await;
    };
    tokio::select! {
        biased;
        () = token.cancelled() => Err(Error::new(
            ErrorKind::Cancelled,
            "It was given up by who asked for it.",
        )),
        done = work => done,
    }
}
