//! Attacks that could not be tried.

/// Reason why an attack could not be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttackError {
    /// A socket or a thread could not be made.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The own host could not be made.
    #[error("{0}")]
    Host(#[from] sss::BuildError),
    /// Nobody answers at the target's address, or not as the host that has the target's EID.
    #[error("there is nothing to attack: {0}")]
    NotThere(#[source] sss::ConnectError),
    /// A registration server does not register hosts of this program.
    #[error("there is nothing to attack: {0} registers nobody")]
    NotRegistered(std::net::SocketAddr),
    /// An address would be named to clients that may be another's.
    #[error(transparent)]
    Target(#[from] crate::target::TargetError),
    /// The path is none.
    #[error("{0}")]
    Path(#[from] sss_files::PathError),
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], AttackError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}
