//! Much work at a time, but not too much.

use tokio::task::JoinSet;

/// See the module. Whoever drops it ends what is under way.
pub struct Crew {
    at_work: JoinSet<()>,
    most: usize,
}

impl Crew {
    /// For so many pieces of work at a time.
    pub fn new(most: usize) -> Self {
        Self {
            at_work: JoinSet::new(),
            most,
        }
    }

    /// Begins a piece of work when there is a place.
    pub async fn add(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        while self.at_work.len() >= self.most {
            self.one().await;
        }
        self.at_work.spawn(work);
    }

    /// Waits until all is done.
    pub async fn done(mut self) {
        while !self.at_work.is_empty() {
            self.one().await;
        }
    }

    async fn one(&mut self) {
        if let Some(Err(error)) = self.at_work.join_next().await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
