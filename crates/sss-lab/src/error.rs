//! Reasons for which there is no lab, or not the one that was asked for.

use std::io;

/// A lab that could not be made or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process may not make network namespaces.
    #[error("network namespaces are made by root alone: run it as root, or with sudo")]
    NotRoot,
    /// A program of the system is missing.
    #[error("`{program}` is not installed: apt-get install {package}")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// The system has no TUN devices, of which the links are made.
    #[error(
        "there are no TUN devices (/dev/net/tun: {0}): modprobe tun, or start the container with \
         --device /dev/net/tun --cap-add NET_ADMIN --cap-add SYS_ADMIN"
    )]
    NoTun(io::Error),
    /// A living lab has this tag.
    #[error("a lab with the tag {0} is up: take another, or end that one")]
    TagTaken(String),
    /// A tag that cannot be part of names of namespaces.
    #[error("{0:?} is no tag: 1 to 20 small letters and digits")]
    BadTag(String),
    /// A description of a site or a link that means nothing.
    #[error("{0}")]
    Description(String),
    /// Nothing in the lab has this name.
    #[error("there is no {0}")]
    Unknown(String),
    /// A change that this lab cannot go through.
    #[error("{0}")]
    Impossible(String),
    /// A program of the system refused.
    #[error("`{command}`: {message}")]
    Command {
        /// The command line, with what it read.
        command: String,
        /// Text of the program, or of the system that could not start it.
        message: String,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    System {
        /// The thing that was tried.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    /// Names what was tried when the system refused.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// Tells whether this machine, and not the caller, is the reason: a test may be skipped for it.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NotRoot | Self::NoProgram { .. } | Self::NoTun(_))
    }
}
