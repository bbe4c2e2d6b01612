//! State of a host's port mapping, for the host, and for the task that keeps it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, watch};

/// Protocol in which a router is asked to let a port in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MappingProtocol {
    /// Port Control Protocol (RFC 6887).
    Pcp,
    /// NAT Port Mapping Protocol (RFC 6886).
    NatPmp,
    /// UPnP Internet Gateway Device.
    Upnp,
}

impl MappingProtocol {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        }
    }
}

/// Reason why a router has mapped no port in one of the protocols.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MappingError {
    /// It does not answer, or does not speak the protocol.
    #[error("no answer")]
    Silent,
    /// It does not want to.
    #[error("refused: {0}")]
    Refused(String),
    /// Its answer cannot be understood, is too long, or does not come to an end.
    #[error("its answer is of no use: {0}")]
    Useless(String),
    /// It names another machine, which is not asked.
    #[error("it points to another machine, {0}")]
    Elsewhere(String),
}

/// Port that a router has promised to let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappedPort {
    /// Protocol in which it was asked.
    pub protocol: MappingProtocol,
    /// Address of this host in its network.
    pub inside: SocketAddr,
    /// Address of the router outside, as it says. Its servers tell whether others reach it:
    /// [`RegistrationState::Registered`](crate::RegistrationState::Registered).
    pub outside: SocketAddr,
    /// The outer port that it was asked for.
    pub asked: u16,
    /// Time for which it has promised that. `None`: until it is given back, since the router knows no end.
    pub lifetime: Option<Duration>,
}

/// Outcome of asking a router for a port, as of the latest time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappingReport {
    /// Set if no answer has come yet, and none was given up.
    pub is_asking: bool,
    /// The router that was asked: that of the way to everybody else. `None` if there is none.
    pub router: Option<IpAddr>,
    /// The port that it lets in.
    pub port: Option<MappedPort>,
    /// Failures in the protocols that came before, or in all.
    pub failures: Vec<(MappingProtocol, MappingError)>,
}

/// State that a host shares with the task that keeps its mapping.
pub(crate) struct Desk {
    report: Mutex<MappingReport>,
    /// The network of this machine has changed.
    changed: Notify,
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    Closing,
    Ended,
}

impl Desk {
    fn new() -> Self {
        let report = MappingReport {
            is_asking: true,
            ..MappingReport::default()
        };
        Self {
            report: Mutex::new(report),
            changed: Notify::new(),
            stage: watch::Sender::new(Stage::Open),
        }
    }

    pub(crate) fn report(&self) -> MappingReport {
        self.lock().clone()
    }

    pub(super) fn set_report(&self, report: MappingReport) {
        *self.lock() = report;
    }

    /// The network of this machine has changed.
    pub(crate) fn note_change(&self) {
        self.changed.notify_one();
    }

    /// Waits until the network of this machine has changed. Cancel safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The host goes: the port is to be given back.
    pub(crate) fn close(&self) {
        self.reach(Stage::Closing);
    }

    /// The task has come to its end.
    pub(super) fn end(&self) {
        self.reach(Stage::Ended);
    }

    /// Waits until the host goes.
    pub(super) async fn closing(&self) {
        self.at(Stage::Closing).await;
    }

    /// Waits until the port was given back, or that was given up.
    pub(crate) async fn ended(&self) {
        self.at(Stage::Ended).await;
    }

    fn reach(&self, stage: Stage) {
        self.stage.send_if_modified(|present| {
            let is_new = *present < stage;
            *present = stage.max(*present);
            is_new
        });
    }

    async fn at(&self, stage: Stage) {
        // The sender lives as long as this does.
        let _ = self.stage.subscribe().wait_for(|present| *present >= stage).await;
    }

    fn lock(&self) -> MutexGuard<'_, MappingReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host's end of a desk: when it is dropped, the host is gone.
pub(crate) struct HostsDesk(Arc<Desk>);

impl HostsDesk {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Desk::new()))
    }

    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.0
    }
}

impl Drop for HostsDesk {
    fn drop(&mut self) {
        self.0.close();
    }
}
