//! Requests that are done once, however often they are sent.

use crate::{Engine, Error, ObjectInfo, ObjectKey, Once, Result, SessionId};

impl Engine {
    /// Begins a session of such requests, for whichever caller names it first.
    pub fn open_session(&self) -> SessionId {
        self.service.open_session()
    }

    /// What a request has written when it was sent before; `None` when it is to be done.
    ///
    /// # Errors
    /// Why it was refused then; [`crate::ErrorKind::OutcomeUnknown`] when its session is too old.
    pub fn written_before(&self, once: &Once, key: &ObjectKey) -> Result<Option<ObjectInfo>> {
        self.service.written_before(once, key)
    }

    /// Whether a request that tells nothing was done when it was sent before.
    ///
    /// # Errors
    /// As [`Engine::written_before`].
    pub fn done_before(&self, once: &Once) -> Result<bool> {
        Ok(self.service.answered(once)?.is_some())
    }

    /// Keeps `error` as the answer of a request that may have been sent before: no other attempt of it is done after this.
    ///
    /// # Errors
    /// Always one: `error`, or the refusal that was told before; [`crate::ErrorKind::OperationAborted`] when another attempt
    /// was done meanwhile, so that whoever asks again is told what came of it.
    pub async fn refuse_once(&self, once: &Once, error: Error) -> Result<()> {
        self.service.refuse_once(once, error).await
    }
}
