//! A host of a lab in which a part of this program runs.

use sss_lab::Node;
use tokio::runtime::Runtime;

use super::running::Failure;

/// A runtime whose threads are in the namespace of a host.
pub(super) struct Place(Option<Runtime>);

impl Place {
    pub(super) fn of(node: &Node) -> Result<Self, Failure> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = node.enter(|| builder.worker_threads(1).enable_all().build())?;
        Ok(Self(Some(runtime?)))
    }

    pub(super) fn spawn(&self, work: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(async {
                if let Err(error) = work.await {
                    eprintln!("{error}");
                }
            });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
