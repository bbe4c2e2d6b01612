//! Rows of the table of what is compared: a transport, its settings, and what the two processes run for it.

use std::fmt;

use tokio::runtime::{Builder, Runtime};

use crate::control::{ServerLine, Work, say};
use crate::outcome::Outcome;
use crate::setup::{Settings, Setup, Workload};
use crate::stats::Quantiles;
use crate::transport::Transport;
use crate::{serve, workloads};

/// Name of the library that the others are compared with.
pub(crate) const OWN: &str = "libsss";

/// A program that measures.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Name on its command line.
    pub name: &'static str,
    /// Table of what it compares, in the order of reports.
    pub backends: &'static [Backend],
    /// Text of the `Cargo.lock` that it was built with.
    pub lock: &'static str,
}

/// A transport with its settings.
#[derive(Clone, Copy)]
pub struct Backend {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) settings: Settings,
    /// Part of a run that names no backends.
    pub(crate) usual: bool,
    /// Does as much as libsss, so that it may be the best of those that do.
    pub(crate) is_peer: bool,
    pub(crate) library: &'static str,
    pub(crate) packages: &'static [&'static str],
    excludes: fn(Workload, Settings) -> Option<&'static str>,
    server: fn(&Setup, Work) -> Outcome<()>,
    client: fn(&Setup) -> Outcome<Quantiles>,
}

impl Backend {
    /// A transport with these settings, by a name on the command line and in reports; `about` tells what it is in a
    /// few words.
    #[must_use]
    pub const fn of<T: Transport>(name: &'static str, settings: Settings, about: &'static str) -> Self {
        Self {
            name,
            about,
            settings,
            usual: true,
            is_peer: true,
            library: T::LIBRARY,
            packages: T::PACKAGES,
            excludes: T::excludes,
            server: serve::<T>,
            client: measure::<T>,
        }
    }

    /// The same, left out of a run that names no backends.
    #[must_use]
    pub const fn of_choice(self) -> Self {
        Self { usual: false, ..self }
    }

    /// The same as a yardstick: it does less than the others, so that it is no peer, and never the best of them.
    #[must_use]
    pub const fn as_yardstick(self) -> Self {
        Self { is_peer: false, ..self }
    }

    /// Returns whether this is the library that the others are compared with.
    pub(crate) fn is_own(&self) -> bool {
        self.library == OWN
    }

    /// Tells why there is no result of a workload, if there is none.
    pub(crate) fn excludes(&self, workload: Workload) -> Option<&'static str> {
        (self.excludes)(workload, self.settings)
    }

    /// Serves until the process ends.
    pub(crate) fn serve(&self, setup: &Setup, work: Work) -> Outcome<()> {
        (self.server)(setup, work)
    }

    /// Runs the client's side of a workload.
    pub(crate) fn measure(&self, setup: &Setup) -> Outcome<Quantiles> {
        (self.client)(setup)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

fn serve<T: Transport>(setup: &Setup, work: Work) -> Outcome<()> {
    runtime(setup.settings)?.block_on(async {
        let (listener, address) = T::listen(setup).await?;
        say(&ServerLine::Ready(address))?;
        serve::run(listener, setup, work).await
    })
}

fn measure<T: Transport>(setup: &Setup) -> Outcome<Quantiles> {
    let address = setup
        .address
        .as_ref()
        .ok_or("the client was not told where the server is")?;
    runtime(setup.settings)?.block_on(async {
        let dialer = T::dialer(setup, address).await?;
        workloads::run(dialer, setup).await
    })
}

fn runtime(settings: Settings) -> Outcome<Runtime> {
    let mut builder = match settings {
        Settings::Default => Builder::new_multi_thread(),
        Settings::Tuned => Builder::new_current_thread(),
    };
    Ok(builder.enable_all().build()?)
}
