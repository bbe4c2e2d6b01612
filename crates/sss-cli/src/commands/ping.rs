//! `sss ping`, and the service that it asks: `ping`, `echo/1`, which sends back what a substream says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use sss::{ChannelInfo, LinkStatus, Server, Stream};
use sss_files::Status;

use crate::caller::place_of;
use crate::cli::{ConnectArgs, note_path, seconds, target, whole};
use crate::connector::{Connection, Connector};
use crate::error::{Error, Exit};
use crate::interrupt;
use crate::output::{Output, count, milliseconds, size};
use crate::target::Target;
use crate::transfer::exchange::TransferError;
use crate::transfer::limits::guests::{Guests, Place, Who};
use crate::transfer::limits::shares::{Cost, Holding, Owner, Shares};
use crate::transfer::tries::until_there_is_room;

/// Measure round trips to a host
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss ping EID@192.0.2.7 -c 100 -i 0.01
  sss ping nas.example             asks who is there, and whether to trust it
  sss ping 192.0.2.7:4433 --trust  says yes")]
pub(crate) struct PingArgs {
    /// The host: a name or an address, with :PORT if it is not 7757, and EID@ before it if it is not known; or an EID
    /// alone, if a server finds it
    #[arg(value_name = "HOST", value_parser = target())]
    pub(crate) target: Target,
    /// Number of round trips, each on a substream of its own
    #[arg(short, long, value_name = "N", default_value = "5", value_parser = whole::<u32>(1..=10_000_000), allow_hyphen_values = true)]
    pub(crate) count: u32,
    /// Time from the beginning of one to the beginning of the next, in seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) interval: Duration,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// The service name.
pub(crate) const SERVICE: &str = "ping";
/// The protocol name.
pub(crate) const PROTOCOL: &str = "echo/1";
/// Longest text that is sent back, in bytes.
const MAX_ECHO: usize = 64 << 10;

/// Sessions and pings that are answered at once: of all peers, and of one. More pings wait (ECH-4).
const SESSIONS: (u64, u64) = (4096, 16);
const PINGS: (u64, u64) = (4096, 64);
/// Time that a ping may take, so that a peer that is gone does not keep its place; and while others wait.
const LONGEST: Duration = Duration::from_secs(60);
const TURN: Duration = Duration::from_secs(1);
/// Time between two looks whether others wait.
const LOOK: Duration = Duration::from_millis(250);

/// Answers pings until the host is closed.
pub(crate) async fn serve(server: Server) {
    answer_sessions(server, Shares::new(PINGS.0, PINGS.1)).await;
}

async fn answer_sessions(server: Server, pings: Shares) {
    let sessions = Arc::new(Guests::new(SESSIONS.0, SESSIONS.1));
    while let Ok((mut session, eid)) = server.accept().await {
        let (sessions, pings) = (sessions.clone(), pings.clone());
        tokio::spawn(async move {
            let (who, link) = (Who::of(eid, &session.peer()), session.peer().link());
            let Some(place) = sessions
                .place(who, Arc::new(move || link.status() != LinkStatus::Up))
                .await
            else {
                return session.reset_tree_with(Status::Busy as u32, "too many sessions: try again later");
            };
            place.let_in();
            let answering = answer_all(&mut session, who.owner(), (&place, &pings));
            tokio::select! {
                () = answering => return,
                () = place.sent_away() => {}
            }
            session.reset_tree_with(Status::Busy as u32, "others need the room: try again later");
        });
    }
}

/// Answers the pings of a session until it ends.
async fn answer_all(session: &mut Stream, owner: Owner, (place, pings): (&Place, &Shares)) {
    while let Ok(Some(substream)) = session.accept_substream().await {
        let held = (pings.get(owner, 1).await, place.work());
        let pings = pings.clone();
        tokio::spawn(async move {
            answer(substream, owner, &pings).await;
            drop(held);
        });
    }
}

/// Answers a ping, or ends it if it takes too long.
async fn answer(mut stream: Stream, owner: Owner, pings: &Shares) {
    tokio::select! {
        () = echo(&mut stream) => return,
        () = until_its_turn_is_over(owner, pings) => {}
    }
    stream.reset_tree_with(Status::Busy as u32, "it took too long, and others wait: try again");
}

/// Ends when a ping has taken its time, or a turn and somebody waits who has nothing, or much less.
async fn until_its_turn_is_over(owner: Owner, pings: &Shares) {
    let held = Holding {
        owner,
        count: 1,
        is_over: true,
        cost: Cost::Ghost,
    };
    let begun = Instant::now();
    tokio::time::sleep(TURN).await;
    while begun.elapsed() < LONGEST && pings.who_gives_way(&[held]).is_empty() {
        tokio::time::sleep(LOOK).await;
    }
}

async fn echo(stream: &mut Stream) {
    let Ok(said) = stream.read_to_end(MAX_ECHO).await else {
        return;
    };
    if stream.write_chunk(said).await.is_ok() && stream.finish().is_ok() {
        // A peer that is gone needs no end.
        let _ = stream.drained().await;
    }
}

/// One round trip on a substream that was just opened for it.
///
/// # Errors
/// If the channel is lost, the peer has no such service, or sends back something else.
pub(crate) async fn call(mut stream: Stream, text: &[u8]) -> Result<Duration, TransferError> {
    let begun = Instant::now();
    stream.write_all(text).await?;
    stream.finish()?;
    let answer = match stream.read_to_end(MAX_ECHO).await {
        Ok(answer) => answer,
        Err(sss::ReadToEndError::Read(error)) => return Err(error.into()),
        Err(error) => return Err(TransferError::Protocol(error.to_string())),
    };
    if answer != text {
        return Err(TransferError::Protocol("the echo is not what was said".to_owned()));
    }
    Ok(begun.elapsed())
}

/// Measures round trips.
pub(crate) async fn run(args: PingArgs, output: Output) -> Result<(), Error> {
    note_path(&args.target, output);
    let connector = Connector::new(args.connect, output)?;
    let connection = connector.connect(&args.target, SERVICE, PROTOCOL).await?;
    let session = connection.session;
    let (eid, address) = (connection.eid, connection.address);
    let mut times = Vec::new();
    let work = async {
        let start = json!({"event": "ping", "eid": eid.to_string(), "address": address});
        output.prose(format!("ping {eid} at {address}: one substream per round trip"), &start);
        let mut ticks = tokio::time::interval(args.interval.max(Duration::from_micros(1)));
        // Whoever was suspended does not make up for it.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        for number in 1..=args.count {
            tokio::select! {
                _ = ticks.tick() => {}
                // The next one tells why, and need not be waited for.
                () = session.ended() => {}
            }
            if output.is_closed() {
                return Ok(());
            }
            let time = until_there_is_room(|| async {
                let session = session.current().await?;
                match call(session.substream().await?, &u64::from(number).to_be_bytes()).await {
                    Err(error) => Err(session.explain(error).await),
                    time => {
                        session.heard();
                        time
                    }
                }
            });
            let time = time.await.map_err(failed)?;
            let ms = milliseconds(time);
            output.fact(
                format!("{number:>5}  {ms:.3} ms"),
                &json!({"event": "round_trip", "number": number, "ms": ms}),
            );
            times.push(time);
        }
        tell(&mut times, output);
        if let Some(info) = session.peer().await.info() {
            link_facts(&info, output);
        }
        Ok(())
    };
    let result = Connection::run(connection.host, work).await;
    if interrupt::is_requested() {
        tell(&mut times, output);
    }
    result
}

/// Tells how long the round trips took, unless there was none, and forgets them.
fn tell(times: &mut Vec<Duration>, output: Output) {
    if times.is_empty() {
        return;
    }
    let spread = Spread::of(times);
    output.prose(
        format!("{}: {}", count(times.len() as u64, "round trip"), spread.text()),
        &spread.json("round_trips"),
    );
    times.clear();
}

fn failed(error: TransferError) -> Error {
    match error {
        TransferError::NoService(what) => Error::new(
            Exit::Refused,
            format!("the host is there, and is who it should be, but does not answer pings: {what}"),
            "start it with `sss serve`, or ask for a service that it has",
        ),
        other => other.into(),
    }
}

/// Distribution of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) min: Duration,
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Spread {
    /// Of these times, which are sorted by it.
    pub(crate) fn of(times: &mut [Duration]) -> Self {
        times.sort_unstable();
        // The smallest time that at least this share of all do not exceed.
        let rank = |percent: usize| {
            let at = times.len().saturating_mul(percent).div_ceil(100).saturating_sub(1);
            times.get(at).copied().unwrap_or_default()
        };
        Self {
            min: rank(0),
            median: rank(50),
            p99: rank(99),
            max: rank(100),
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let [min, median, p99, max] = [self.min, self.median, self.p99, self.max].map(milliseconds);
        format!("min {min:.3}, median {median:.3}, p99 {p99:.3}, max {max:.3} ms")
    }

    /// For machines.
    pub(crate) fn json(&self, event: &str) -> Value {
        json!({
            "event": event,
            "min_ms": milliseconds(self.min),
            "median_ms": milliseconds(self.median),
            "p99_ms": milliseconds(self.p99),
            "max_ms": milliseconds(self.max),
        })
    }
}

/// Bytes sent from which on it is told how fast they were.
const LEAST_FOR_A_RATE: u64 = 1 << 20;

/// Tells what is known of the channel.
pub(crate) fn link_facts(info: &ChannelInfo, output: Output) {
    let lost = 100.0 * info.packets_lost as f64 / (info.packets_sent.max(1)) as f64;
    let text = format!(
        "link to {} ({}): {:?} with {}, {} congestion control, RTT {} ms at least, path MTU {} bytes ({})\n\
         this host received {}, and sent {} in {} ({lost:.2} % of them lost){}{}",
        place_of(info.route),
        info.route.class(),
        info.suite,
        match info.post_quantum {
            true => "X25519 and ML-KEM-768",
            false => "X25519 alone",
        },
        info.congestion,
        info.min_rtt
            .map_or_else(|| "?".to_owned(), |rtt| format!("{:.3}", milliseconds(rtt))),
        info.mtu,
        info.mtu_state,
        size(info.bytes_received),
        size(info.bytes_sent),
        count(info.packets_sent, "packet"),
        // Of little, no rate can be told.
        if info.bytes_sent < LEAST_FOR_A_RATE {
            String::new()
        } else {
            format!(", at its best {}/s", size(info.peak_bandwidth))
        },
        match info.mtu_probes_lost {
            0 => String::new(),
            probes => format!(
                "; not among them {} of the path's size that did not arrive",
                count(probes, "probe")
            ),
        },
    );
    let fact = json!({
        "event": "link",
        "remote": info.route.to_string(),
        "route": info.route.class().name(),
        "suite": format!("{:?}", info.suite),
        "post_quantum": info.post_quantum,
        "congestion": info.congestion,
        "smoothed_rtt_ms": milliseconds(info.rtt),
        "min_rtt_ms": info.min_rtt.map(milliseconds),
        "mtu": info.mtu,
        "mtu_state": format!("{:?}", info.mtu_state),
        "window": info.window,
        "bandwidth": info.bandwidth,
        "peak_bandwidth": info.peak_bandwidth,
        "packets_sent": info.packets_sent,
        "packets_received": info.packets_received,
        "packets_lost": info.packets_lost,
        "mtu_probes_lost": info.mtu_probes_lost,
        "bytes_sent": info.bytes_sent,
        "bytes_received": info.bytes_received,
    });
    output.prose(text, &fact);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_ranks() {
        let mut times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let spread = Spread::of(&mut times);
        let ms = |n| Duration::from_millis(n);
        let expected = Spread {
            min: ms(1),
            median: ms(100),
            p99: ms(198),
            max: ms(200),
        };
        assert_eq!(spread, expected);
        assert_eq!(Spread::of(&mut [ms(7)]).p99, ms(7));
    }

    // spec: ECH-4
    #[tokio::test]
    async fn pings_that_stand_give_way_to_those_that_wait() {
        let host = || sss::Host::builder().bind("127.0.0.1:0").build();
        let server = host().await.unwrap();
        let pings = Shares::without_reserve(2, 2);
        tokio::spawn(answer_sessions(
            server.listen(SERVICE, PROTOCOL).unwrap(),
            pings.clone(),
        ));
        let session = async || {
            let client = host().await.unwrap();
            let connecting = client.connect(server.eid(), SERVICE, PROTOCOL);
            (connecting.hint(server.local_addr()).await.unwrap(), client)
        };
        // Each gets one of the two, and waits for another.
        let (greedy, too) = (session().await, session().await);
        let mut unfinished = Vec::new();
        for (session, _) in [&greedy, &greedy, &too, &too] {
            let mut stream = session.open_substream().unwrap();
            stream.write_all(b"never ends").await.unwrap();
            unfinished.push(stream);
        }
        let (honest, _host) = session().await;
        let full = async {
            while !pings.is_full() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONGEST / 4, full).await.unwrap();
        // That their own wait is no reason.
        tokio::time::sleep(TURN + 2 * LOOK).await;
        assert!(pings.is_full());
        let asking = call(honest.open_substream().unwrap(), b"short");
        tokio::time::timeout(LONGEST / 2, asking).await.unwrap().unwrap();
        let mut ends = tokio::task::JoinSet::new();
        for mut stream in unfinished {
            ends.spawn(async move { stream.read_chunk(1).await });
        }
        let ended = tokio::time::timeout(LONGEST / 4, ends.join_next()).await.unwrap();
        let ended = ended.unwrap().unwrap();
        let Err(sss::ReadError::Reset { code, .. }) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(code.as_app(), Some(Status::Busy as u32));
    }

    // spec: ECH-2
    #[tokio::test]
    async fn what_is_said_comes_back_and_too_much_does_not() {
        let host = || sss::Host::builder().bind("127.0.0.1:0").build();
        let (server, client) = (host().await.unwrap(), host().await.unwrap());
        tokio::spawn(serve(server.listen(SERVICE, PROTOCOL).unwrap()));
        let connecting = client.connect(server.eid(), SERVICE, PROTOCOL);
        let session = connecting.hint(server.local_addr()).await.unwrap();
        for len in [0, 1, MAX_ECHO] {
            call(session.open_substream().unwrap(), &vec![7; len]).await.unwrap();
        }
        let mut stream = session.open_substream().unwrap();
        // It may be stopped before all of it is written.
        let _ = stream.write_all(&vec![7; MAX_ECHO + 1]).await;
        let answer = stream.read_chunk(1).await;
        let Err(sss::ReadError::Reset { code, .. }) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(code, sss::Code::DROPPED);
        call(session.open_substream().unwrap(), b"others go on").await.unwrap();
    }
}
