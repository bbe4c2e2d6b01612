//! Searching for hosts that are listed at a registration server (RCH-4).

use sss_proto::{Absence, ReadError};
use sss_wire::reach::bodies::Status;
use sss_wire::reach::records::{Entries, MAX_RECORD, MAX_WORD, Request, Search};
use sss_wire::services::SERVICE;
use sss_wire::{Eid, reach};
use thiserror::Error;

use crate::error::{ConnectError, RecordError};
use crate::host::Host;

/// Some of the hosts that are listed under a word, in the order of their EIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchPage {
    /// The hosts.
    pub hosts: Vec<ListedHost>,
    /// Host behind which the next page begins, as `after` of [`Host::search`]; `None` at the end.
    pub next: Option<Eid>,
    /// Set if the server may not know all.
    pub is_partial: bool,
}

/// A host that wants to be found by anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedHost {
    /// Its name.
    pub eid: Eid,
    /// Text that it has about itself, unverified: at most 1024 bytes, with any characters.
    pub profile: String,
}

/// Reason why nothing can be searched.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The word is empty, or too long.
    #[error("a word to search for has 1 to 64 bytes, and no space")]
    Word,
    /// The server is not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// This host is not registered with the server (yet): see [`Host::registrations`].
    #[error("this host is not registered with that server")]
    NotRegistered,
    /// The server does not answer this question now, or not to this host.
    #[error(transparent)]
    Refused(Absence),
    /// The stream has ended without an answer.
    #[error("the server has not answered: {0}")]
    Lost(ReadError),
    /// The answer cannot be understood.
    #[error("the server's answer cannot be understood")]
    Malformed,
}

impl Host {
    /// Searches a registration server for hosts that are listed under a word, written as they have written it
    /// ([`FoundBy::Anybody`](crate::FoundBy::Anybody)). This host has to be registered there itself: with more than
    /// two servers, see [`HostBuilder::lease_at`](crate::HostBuilder::lease_at). A host is listed at those that its EID
    /// chooses, so that all are to be searched. What comes is a page, which begins behind `after`, or at the beginning.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// If the server is not reached, or does not answer; it answers ten questions of a host in a second.
    pub async fn search(&self, server: Eid, word: &str, after: Option<Eid>) -> Result<SearchPage, SearchError> {
        if word.is_empty() || word.len() > MAX_WORD || word.contains(' ') {
            return Err(SearchError::Word);
        }
        let request = Request::Search(Search {
            word: word.to_owned(),
            after,
            count: u8::MAX,
        });
        let registrations = self.registrations();
        let registration = registrations.into_iter().find(|other| other.server == server);
        let registration = registration.ok_or(SearchError::NotRegistered)?;
        let connect = self.connect(server, SERVICE, reach::PROTOCOL);
        let mut stream = connect.hints(registration.addresses).await?;
        stream.set_record_limit(MAX_RECORD);
        // If it cannot be written, reading says why.
        let _ = stream.write_record(&request.encode()).await;
        let _ = stream.finish();
        let answer = match stream.read_record().await {
            Ok(answer) => answer.ok_or(SearchError::Malformed)?,
            Err(RecordError::Read(error)) => return Err(SearchError::Lost(error)),
            Err(_) => return Err(SearchError::Malformed),
        };
        match Entries::decode(&answer) {
            Ok(Ok(entries)) => Ok(page(entries)),
            Ok(Err(unfound)) => Err(match unfound.status {
                Status::NoLease => SearchError::NotRegistered,
                Status::TooMany => SearchError::Refused(Absence::TooMany),
                Status::NotAllowed => SearchError::Refused(Absence::NotAllowed),
                _ => SearchError::Malformed,
            }),
            Err(_) => Err(SearchError::Malformed),
        }
    }
}

fn page(entries: Entries) -> SearchPage {
    let hosts = entries.entries.into_iter();
    SearchPage {
        hosts: hosts.map(|(eid, profile)| ListedHost { eid, profile }).collect(),
        next: entries.next,
        is_partial: entries.is_partial,
    }
}
