//! `sss search`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use sss::{Absence, Eid, FoundBy, Host, LeaseAt, RegistrationState, SearchError, printable};

use crate::cli::{some_seconds, whole};
use crate::connector::{Times, build_with};
use crate::diagnosis::Watch;
use crate::error::{Error, Exit};
use crate::identity;
use crate::interrupt;
use crate::network;
use crate::output::Output;
use crate::server_at::ServerAt;
use crate::servers::{self, ServerArgs, each_once};

/// Pause between looks at registrations, and before a server is asked again that was asked too often.
const PAUSE: Duration = Duration::from_millis(20);
const BUSY: Duration = Duration::from_millis(200);
/// Words under which a host is listed, at most (RCH-2): none is listed under more.
pub(crate) const MOST_WORDS: usize = 16;
/// Hosts listed under one of several words that are looked at, at most.
const MOST: usize = 10_000;
/// Time that the server has to hear that this host is going.
const FAREWELL: Duration = Duration::from_millis(300);

/// Search registration servers for hosts that want to be found by anybody
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss search photos                   hosts that are listed under that word
  sss search photos berlin            under both
  sss search photos -n 20 --after EID the next 20 behind that one

Words are compared as they are written. What a host says of itself is not
verified; its EID is proven when you connect. `sss serve --listed WORDS` is
what lists a host.")]
pub(crate) struct SearchArgs {
    /// Words under which a host is to be listed, all of them; at most 16
    #[arg(value_name = "WORD", required = true, value_parser = word)]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) servers: ServerArgs,
    /// Show at most so many hosts
    #[arg(short = 'n', long, value_name = "N", default_value = "100", value_parser = whole::<u16>(1..=65_535), allow_hyphen_values = true)]
    pub(crate) number: u16,
    /// Show the hosts that come behind this one
    #[arg(long, value_name = "EID")]
    pub(crate) after: Option<Eid>,
    /// The file with this host's identity [default: as `sss id`]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Seconds to try to reach the servers
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = some_seconds, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
}

/// Hosts, what each says of itself, and the servers that list it.
type Hosts = BTreeMap<Eid, (String, Vec<String>)>;

/// Result of a search.
#[derive(Default)]
struct Found {
    hosts: Hosts,
    /// Servers that may list more in a while: they were restarted a short time ago, or their directory is away.
    partial: Vec<String>,
}

/// Hosts that a server lists, and what each says of itself.
#[derive(Default)]
struct Listed {
    hosts: BTreeMap<Eid, String>,
    /// Set if others may be missing.
    is_partial: bool,
}

/// A word, as servers take it.
pub(crate) fn word(text: &str) -> Result<String, String> {
    match text.len() {
        1..=64 if !text.contains(char::is_whitespace) => Ok(text.to_owned()),
        _ => Err("a word has 1 to 64 bytes, and no space".to_owned()),
    }
}

/// Searches.
pub(crate) async fn run(mut args: SearchArgs, output: Output) -> Result<(), Error> {
    args.words = each_once(args.words);
    let words = args.words.len();
    if words > MOST_WORDS {
        let what = format!("{words} words are given, and no host is listed under more than {MOST_WORDS}");
        return Err(Error::new(Exit::Usage, what, "search for some of them"));
    }
    let servers = args.servers.known()?;
    if servers.is_empty() {
        let next = "name one with --server EID@HOST, in SSS_SERVER, or in the file `servers` beside the identity";
        return Err(Error::new(Exit::Usage, "no registration server is known", next));
    }
    let times = Times {
        connect: args.timeout,
        silence: args.timeout,
    };
    network::tell_if_missing(servers.iter().map(|server| &server.place), args.timeout, output);
    let identity = identity::load(args.identity.as_deref(), output)?;
    let host = build_with(identity, None, times, |host| {
        // A host is listed at those servers that its EID chooses.
        let host = host.lease_at(LeaseAt::All);
        servers::register(host, (&servers, &args.servers), FoundBy::Nobody)
    })
    .await?;
    let found = interrupt::or(search(&host, &servers, &args)).await;
    let _ = host.close_within(FAREWELL).await;
    let Found { hosts, partial } = found?;
    for server in partial {
        let text = format!(
            "{server} was restarted a short time ago, or does not hear of other servers' hosts: perhaps some are missing"
        );
        output.machine(&[json!({"event": "note", "text": text})]);
        output.note(text);
    }
    let (number, total) = (usize::from(args.number), hosts.len());
    let mut last = None;
    for (eid, (profile, servers)) in hosts.into_iter().take(number) {
        let text = match profile.is_empty() {
            true => eid.to_string(),
            false => format!("{eid}  {}", printable(&profile)),
        };
        let fact = json!({"event": "listed", "eid": eid.to_string(), "profile": profile, "servers": servers});
        output.fact(text, &fact);
        last = Some(eid);
    }
    output.machine(&[json!({"event": "searched", "listed": total.min(number), "more": total > number})]);
    if let Some(last) = last.filter(|_| total > number) {
        output.note(format!("there are more: --after {last} shows them"));
    }
    if total == 0 {
        output.note(nobody(&args));
    }
    Ok(())
}

/// Words for a search that has found no host.
fn nobody(args: &SearchArgs) -> String {
    let words: Vec<String> = args.words.iter().map(|word| format!("{word:?}")).collect();
    let more = if args.after.is_some() { " behind that one" } else { "" };
    format!("no host{more} is listed under {}", words.join(" and "))
}

async fn search(host: &Host, servers: &[ServerAt], args: &SearchArgs) -> Result<Found, Error> {
    let until = Instant::now() + args.timeout;
    let watch = Watch::new(host, servers, args.timeout);
    let registered = tokio::select! {
        registered = registered(host, until) => registered,
        diagnosis = watch.others() => return Err(diagnosis.error()),
    };
    let mut found = Found::default();
    let mut failure = None;
    for server in servers.iter().filter(|server| registered.contains(&server.eid)) {
        match hosts(host, server.eid, args, until).await {
            Ok(listed) => {
                found
                    .partial
                    .extend(listed.is_partial.then(|| server.place.to_string()));
                for (eid, profile) in listed.hosts {
                    let (_, at) = found.hosts.entry(eid).or_insert_with(|| (profile, Vec::new()));
                    at.push(server.to_string());
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if found.hosts.is_empty() => {
            let next = "run the same command again, or use another server";
            Err(Error::new(Exit::Unreachable, error.to_string(), next))
        }
        _ if registered.is_empty() => Err(watch.result().await.error()),
        _ => Ok(found),
    }
}

/// The servers with which the host is registered, when all have answered, or have failed, or the time is over.
async fn registered(host: &Host, until: Instant) -> Vec<Eid> {
    loop {
        let all = host.registrations();
        let is_pending =
            |state: &RegistrationState| matches!(state, RegistrationState::Resolving | RegistrationState::Asking);
        if Instant::now() >= until || !all.iter().any(|one| is_pending(&one.state)) {
            let registered = all
                .iter()
                .filter(|one| matches!(one.state, RegistrationState::Registered { .. }));
            return registered.map(|one| one.server).collect();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hosts that a server lists under all words: one more than are wanted tells that there are more.
async fn hosts(host: &Host, server: Eid, args: &SearchArgs, until: Instant) -> Result<Listed, SearchError> {
    let wanted = match args.words.len() {
        1 => usize::from(args.number) + 1,
        _ => MOST,
    };
    let mut common: Option<Listed> = None;
    for word in &args.words {
        let mut listed = listed(host, (server, word), (args.after, wanted), until).await?;
        if let Some(before) = common {
            listed.hosts.retain(|eid, _| before.hosts.contains_key(eid));
            listed.is_partial |= before.is_partial;
        }
        common = Some(listed);
    }
    Ok(common.unwrap_or_default())
}

/// Hosts that a server lists under a word, page by page.
async fn listed(
    host: &Host,
    (server, word): (Eid, &str),
    (mut after, wanted): (Option<Eid>, usize),
    until: Instant,
) -> Result<Listed, SearchError> {
    let mut all = Listed::default();
    loop {
        match host.search(server, word, after).await {
            Ok(page) => {
                all.is_partial |= page.is_partial;
                let hosts = page.hosts.into_iter();
                all.hosts.extend(hosts.map(|host| (host.eid, host.profile)));
                after = page.next.filter(|next| Some(*next) > after);
                if after.is_none() || all.hosts.len() >= wanted {
                    return Ok(all);
                }
            }
            Err(SearchError::Refused(Absence::TooMany)) if Instant::now() + BUSY < until => {
                tokio::time::sleep(BUSY).await;
            }
            Err(error) => return Err(error),
        }
    }
}
