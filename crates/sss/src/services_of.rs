//! Asking a host what it offers.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use sss_wire::constants::MAX_SERVICE_LIST;
use sss_wire::services::{self, ServiceList};

use crate::connect::Connect;
use crate::error::{ConnectError, ReadToEndError, ServicesError};
use crate::hint::Hint;

/// Time that the whole may take, if nothing else was said.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A question about the services of a host; see [`crate::Host::services_of`].
///
/// Cancel safe: a cancelled question leaves nothing behind.
#[must_use = "nothing is asked until this is awaited"]
pub struct ServicesOf {
    connect: Connect,
    timeout: Duration,
}

impl ServicesOf {
    /// `connect`: towards [`services::SERVICE`].
    pub(crate) fn new(connect: Connect) -> Self {
        Self {
            connect,
            timeout: TIMEOUT,
        }
    }

    /// Adds a place where the host may be: see [`Connect::hint`].
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        self.connect = self.connect.hint(hint);
        self
    }

    /// As [`Self::hint`], for several.
    pub fn hints(mut self, hints: impl IntoIterator<Item = impl Into<Hint>>) -> Self {
        self.connect = self.connect.hints(hints);
        self
    }

    /// Sets how long to wait for the answer, a channel included that has to be made first; 30 s unless it is set. For a
    /// channel, no longer is waited than the host's connect timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> Result<ServiceList, ServicesError> {
        let after = self.timeout;
        let steps = self.connect.steps_of_driver();
        let before = steps();
        match tokio::time::timeout(after, ask(self.connect)).await {
            Ok(answer) => answer,
            Err(_) if steps() == before => Err(ConnectError::NotDriven { after }.into()),
            Err(_) => Err(ServicesError::NoAnswer { after }),
        }
    }
}

async fn ask(connect: Connect) -> Result<ServiceList, ServicesError> {
    let mut stream = connect.await?;
    // If the host has refused it, reading says so.
    let _ = stream.finish();
    match stream.read_to_end(MAX_SERVICE_LIST).await {
        Ok(bytes) => ServiceList::decode(&bytes).map_err(|error| ServicesError::Malformed(error.0)),
        Err(ReadToEndError::TooLong { .. }) => Err(ServicesError::Malformed("the list is too long")),
        Err(ReadToEndError::Read(error)) => Err(error.into()),
    }
}

/// A stream to the service that every host answers itself.
pub(crate) const NAMES: (&str, &str) = (services::SERVICE, services::PROTOCOL);

impl IntoFuture for ServicesOf {
    type Output = Result<ServiceList, ServicesError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for ServicesOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServicesOf")
            .field("connect", &self.connect)
            .field("timeout", &self.timeout)
            .finish()
    }
}
