//! The host that a target means, and whether we trust it.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use sss::{Eid, Host, ProbeError};
use tokio::task::JoinSet;

use crate::cli::ConnectArgs;
use crate::error::{Error, Exit, NO_NETWORK, was_answered};
use crate::known_hosts::{KnownHosts, Standing};
use crate::network;
use crate::output::Output;
use crate::place::Place;
use crate::target::Target;
use crate::transfer::io_pool;

/// Time to wait for a peer before asking who is at its address: whoever watches the path reads the answer (NEG-27).
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// The same, if servers are looking for it: they have answered by then, or never will.
pub(crate) const PATIENCE_WITH_SERVERS: Duration = Duration::from_secs(5);
/// Part of the time that is left for reaching the peer in which whoever is asked for its name may answer.
const ASKING: f64 = 0.75;

/// Knowledge of hosts, and how to get more.
pub(crate) struct Trust {
    known: KnownHosts,
    /// Set if the command line says that an unknown host is to be trusted.
    at_once: bool,
    timeout: Duration,
    output: Output,
}

/// The host that a target means.
pub(crate) struct Identified {
    pub(crate) eid: Eid,
    /// Place of a known host that it is taken for, without having been asked.
    taken_at: Option<Place>,
    /// Place at which it is to be remembered when it has proved who it is, and whether people are told.
    news: Option<(Place, bool)>,
}

impl Identified {
    /// A host of which nothing is to be remembered.
    pub(crate) fn known(eid: Eid) -> Self {
        Self {
            eid,
            taken_at: None,
            news: None,
        }
    }
}

impl Trust {
    /// As the command line says.
    ///
    /// # Errors
    /// If there is no place for the file of known hosts.
    pub(crate) fn new(args: &ConnectArgs, output: Output) -> Result<Self, Error> {
        Ok(Self {
            known: KnownHosts::new(args.trust.known_hosts.clone())?,
            at_once: args.trust.at_once,
            timeout: args.timeout,
            output,
        })
    }

    /// Finds whom the target means. Without an EID: who answers there, if it is known or trusted now.
    ///
    /// # Errors
    /// If nobody answers, or whoever does is not trusted.
    pub(crate) async fn identify(&self, host: &Host, target: &Target) -> Result<Identified, Error> {
        if let (Some(eid), Some(place)) = (target.eid, target.name_to_judge()) {
            return self.judged(&place, eid).await;
        }
        match (target.eid, &target.places[..]) {
            (None, [place, ..]) => self.find_out(host, place).await,
            (Some(eid), _) => Ok(Identified::known(eid)),
            // `@` was replaced before.
            (None, []) => Err(Error::new(Exit::Usage, "the target is nowhere", "give it as EID@HOST")),
        }
    }

    async fn find_out(&self, host: &Host, place: &Place) -> Result<Identified, Error> {
        // Who asks for a name tells everybody on the way which one he gets.
        if let Some(eid) = self.known.at(place)? {
            return Ok(Identified {
                taken_at: Some(place.clone()),
                ..Identified::known(eid)
            });
        }
        let eid = self.who_is_at(host, place).await?;
        self.judged(place, eid).await
    }

    /// Judges whether who was found at a place is trusted.
    async fn judged(&self, place: &Place, eid: Eid) -> Result<Identified, Error> {
        let identified = |news: Option<bool>| Identified {
            eid,
            taken_at: None,
            news: news.map(|is_told| (place.clone(), is_told)),
        };
        match self.known.judge(place, eid)? {
            Standing::Known => Ok(identified(None)),
            Standing::Moved => Ok(identified(Some(false))),
            Standing::Changed { was } => Err(self.changed(place, was, eid)),
            Standing::Swapped { was } => {
                let note = format!("{place} was {was}; now it is {eid}, which is known at another port of that host");
                self.ask_about(place, eid, &[was], note).await?;
                Ok(identified(Some(true)))
            }
            Standing::New { others } => {
                let mut note = format!("{place} is {eid}, which is not known yet");
                for other in &others {
                    note.push_str(&format!("\nknown at another port of that host: {other}"));
                }
                self.ask_about(place, eid, &others, note).await?;
                Ok(identified(Some(true)))
            }
        }
    }

    /// Asks all addresses of a place who is there; the first answer counts.
    async fn who_is_at(&self, host: &Host, place: &Place) -> Result<Eid, Error> {
        let looking = tokio::time::timeout(self.timeout, place.resolve()).await;
        let looked_up = looking.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        let addresses = looked_up.map_err(|error| {
            let (what, next) = place.unresolved(&error.to_string());
            Error::new(Exit::Unreachable, what, next)
        })?;
        let mut probes = JoinSet::new();
        for address in addresses {
            let (host, limit) = (host.clone(), self.timeout);
            probes.spawn(async move { (address, host.probe(address, limit).await) });
        }
        let mut failed = None;
        while let Some(answer) = probes.join_next().await {
            match answer {
                Ok((_, Ok(eid))) => return Ok(eid),
                Ok((address, Err(error))) => failed = Some(no_answer(&error, address)),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(Exit::Unreachable, "nobody was asked", "run the same command again")))
    }

    /// Asks the person at the terminal, unless the command line has answered.
    async fn ask_about(&self, place: &Place, eid: Eid, others: &[Eid], note: String) -> Result<(), Error> {
        let others: Vec<_> = others.iter().map(ToString::to_string).collect();
        let fact = json!({
            "event": "unknown_host",
            "address": place.to_string(),
            "eid": eid.to_string(),
            "others": others,
        });
        if self.output.is_json() {
            self.output.fact("", &fact);
        } else {
            self.output.note(note);
        }
        if self.at_once || ask().await {
            return Ok(());
        }
        let what = format!("the host at {place} is not trusted");
        let next =
            "compare the EID with what `sss serve` printed there; if it is the same, give --trust, or give EID@HOST";
        Err(Error::new(Exit::Refused, what, next))
    }

    fn changed(&self, place: &Place, was: Eid, found: Eid) -> Error {
        let what = format!(
            "the host at {place} is not the one it was: it was {was}, it is {found}. \
             Either it has a new identity, or this is another host that pretends to be it"
        );
        let next = format!(
            "ask who runs it; if the new EID is right, remove the lines of {place} and of the old EID from {}, \
             or give EID@HOST",
            self.known.file()
        );
        Error::new(Exit::Refused, what, next)
    }

    /// Remembers a host that is new at its place, now that it has proved who it is.
    ///
    /// # Errors
    /// If the file cannot be written.
    fn remember(&self, found: &Identified) -> Result<(), Error> {
        if let Some((place, is_told)) = &found.news {
            self.known.remember(place, found.eid)?;
            if *is_told {
                self.output.note(format!("remembered in {}", self.known.file()));
            }
        }
        Ok(())
    }

    /// Asks a host for something, and remembers it when it has answered. If other hosts are found at its places, it is
    /// told that they are not the one; or, where the file of known hosts says who is there, it is judged who is now.
    ///
    /// # Errors
    /// Those of the answer; if it is somebody else, or not trusted.
    pub(crate) async fn ask_host<T, F: Future<Output = Result<T, Error>>>(
        &self,
        host: &Host,
        (mut who, places, patience): (Identified, &[Place], Duration),
        ask: impl Fn(Eid) -> F,
    ) -> Result<(Eid, T), Error> {
        loop {
            let (address, found) = tokio::select! {
                answer = ask(who.eid) => {
                    let answer = answer?;
                    self.remember(&who)?;
                    return Ok((who.eid, answer));
                }
                somebody_else = self.somebody_else(host, who.eid, (places, patience)) => somebody_else,
            };
            let Some(place) = &who.taken_at else {
                let what = format!("the host at {address} is {found}, not {}", who.eid);
                let next =
                    "check address and EID: `sss serve` prints both; a host that got a new identity prints the new one";
                return Err(Error::new(Exit::Refused, what, next));
            };
            who = self.judged(place, found).await?;
        }
    }

    /// A peer that is asked for by a wrong EID cannot know that it is meant, and is silent. So after a while we ask who
    /// is there. Ends only if somebody is, and everybody else has had the time to answer.
    async fn somebody_else(
        &self,
        host: &Host,
        expected: Eid,
        (places, patience): (&[Place], Duration),
    ) -> (SocketAddr, Eid) {
        tokio::time::sleep(patience).await;
        // Whoever has answered HELLO has the key, and who watches would read the EID in an answer (NEG-27).
        if host
            .explain(&expected)
            .attempt
            .is_some_and(|attempt| was_answered(&attempt))
        {
            return std::future::pending().await;
        }
        let mut probes = JoinSet::new();
        for place in places {
            // What cannot be looked up is told by the attempt to connect.
            for address in place.resolve().await.unwrap_or_default() {
                let (host, limit) = (host.clone(), self.timeout.saturating_sub(patience).mul_f64(ASKING));
                probes.spawn(async move { (address, host.probe(address, limit).await) });
            }
        }
        let mut found = None;
        while let Some(answer) = probes.join_next().await {
            match answer {
                Ok((_, Ok(eid))) if eid == expected => return std::future::pending().await,
                Ok((address, Ok(eid))) => found = Some((address, eid)),
                _ => {}
            }
        }
        match found {
            Some(found) => found,
            None => std::future::pending().await,
        }
    }
}

fn no_answer(error: &ProbeError, address: SocketAddr) -> Error {
    if !network::has_route(address) {
        let what = format!("this machine has no network that leads to {address}");
        return Error::new(Exit::Unreachable, what, NO_NETWORK);
    }
    let next =
        "check that `sss serve` runs there, that host and port are those it printed, and that UDP is not blocked";
    Error::new(Exit::Unreachable, error.to_string(), next)
}

/// Asks the person at the terminal, if there is one.
async fn ask() -> bool {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    io_pool::run(|| {
        let _ = write!(std::io::stderr(), "Trust it, and remember it? [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_meant_and_slow_is_nobody_else() {
        let host = async || {
            let builder = Host::builder().bind("127.0.0.1:0").answer_probes(true);
            builder.build().await.unwrap()
        };
        let (meant, other, ours) = (host().await, host().await, host().await);
        let _services = [&meant, &other].map(|host| host.listen("test", "1").unwrap());
        let dir = tempfile::tempdir().unwrap();
        let trust = Trust {
            known: KnownHosts::new(Some(dir.path().join("known"))).unwrap(),
            at_once: false,
            timeout: Duration::from_secs(30),
            output: Output::new(false),
        };
        let [at_meant, at_other] = [&meant, &other].map(|host| Place::Address(host.local_addr()));
        let both = [at_other.clone(), at_meant];
        let (address, found) = trust.somebody_else(&ours, meant.eid(), (&[at_other], PATIENCE)).await;
        assert_eq!((address, found), (other.local_addr(), other.eid()));
        let found = trust.somebody_else(&ours, meant.eid(), (&both, PATIENCE));
        let waited = tokio::time::timeout(Duration::from_secs(4), found).await;
        assert!(waited.is_err(), "{waited:?}");
    }
}
