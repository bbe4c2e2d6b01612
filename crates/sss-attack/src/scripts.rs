//! Frames that hostile peers send on channels of their own, in order by themselves, and as no host would send them.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use sss_wire::constants::OPEN_COST;
use sss_wire::frame::{
    Ack, Await, Credit, Datagram, EcnCounts, Frame, Init, Priority, Reset, Scope, Stop, Stream, Watch,
};
use sss_wire::{Code, Writer, varint};

use crate::error::{AttackError, random};
use crate::forger::{Channel, ROOM, SESSION};
use crate::pace::{PAUSE, Pace};
use crate::tally::Tally;
use crate::victim::Victim;

/// Packets of one identity, before another one goes on.
const PACKETS: u64 = 1000;
/// Room that a frame may take, with what goes with it.
const FRAME: usize = 80;
/// Credit without end.
const VAST: u64 = 1 << 40;
/// Streams of a chain below the session: the last one is too deep.
const CHAIN: u64 = 2 * FRAMES;
/// Bytes that a stream borrows.
const BORROW: u64 = 1024;
/// Packets from one that announces a datagram to the next.
const APART: u64 = 16;
/// Frames of a packet that is full of them.
const FRAMES: u64 = 16;
/// Channels of one identity that are made at a time.
const AT_ONCE: usize = 4;
/// Updates after which a peer that is still heard has been followed.
const FOLLOWED: u64 = PACKETS / 2;
/// Packets with gaps before one that is sent beyond all that was granted.
const BEFORE: u64 = PACKETS / 2;
/// An offset that is beyond it.
const BEYOND: u64 = 1 << 30;
/// Time for which a peer waits for room for its openings. Then it goes, or goes on without.
const WAIT: Duration = Duration::from_millis(50);

/// Frames that are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Script {
    /// Acknowledgements that lie, in one of six ways for each identity.
    Acks,
    /// Acknowledgements of all numbers up to the highest that came, also of those that the target left out.
    Skips,
    /// One byte at each second place of streams, and every hundredth stream only; of each second identity at last bytes
    /// that nobody granted.
    Gaps,
    /// Streams below streams.
    Trees,
    /// Datagrams of all sizes, announced and never sent whole.
    Datagrams,
    /// An update of keys with each packet.
    Updates,
    /// Requests that are stopped and reset at once, and data that is sent however often it is stopped. Nothing is
    /// acknowledged.
    Stops,
    /// Questions, credit and priorities without end.
    Questions,
    /// Challenges without end.
    Challenges,
    /// Random bytes behind a true type.
    Nonsense,
    /// Streams that are reset as soon as they are open.
    Resets,
    /// Nothing, not even an acknowledgement.
    Silence,
}

/// Circumstances of a packet of a script.
struct Turn<'a> {
    /// Number of the identity.
    peer: u64,
    /// Number of the packet, of this identity.
    n: u64,
    /// One more than the highest number that came from the target.
    expected: u64,
    /// The first name of a stream that is this program's to give.
    first: u64,
    /// The request for a file.
    request: &'a [u8],
    noise: &'a [u8],
}

impl Turn<'_> {
    /// A name that no other place of a packet of this identity has: packets have no more than 1024 places.
    fn name(&self, place: u64) -> u64 {
        self.first + 2 * (self.n * 1024 + place)
    }

    /// STREAM that asks for the file, with as much credit as the target may like.
    fn ask(&self, lsid: u64) -> Frame<'_> {
        let init = Init::substream(SESSION).with_credit(0, BORROW, VAST);
        Frame::Stream(Stream {
            lsid,
            init: Some(init),
            offset: 0,
            fin: true,
            mark: false,
            data: self.request,
        })
    }

    /// The size of the datagram of this packet.
    fn size(&self) -> u64 {
        let sizes = [0, 1, 70_000, 1 << 20, 1 << 30, varint::MAX];
        sizes.get((self.n / APART) as usize % sizes.len()).copied().unwrap_or(0)
    }

    /// A datagram that is announced, or small ones.
    fn datagram(&self, place: u64) -> Frame<'static> {
        if place > 0 || !self.n.is_multiple_of(APART) {
            let data = b"to nobody";
            return Frame::Datagram(Datagram { lsid: SESSION, data });
        }
        let size = self.size();
        data(self.name(0), Init::datagram(SESSION, size, size.min(BORROW)), 0, b"")
    }

    /// A question, or a wish, about the session or about streams that there are not.
    fn question(&self, place: u64) -> Frame<'static> {
        let lsid = if self.peer.is_multiple_of(2) {
            SESSION
        } else {
            self.name(place)
        };
        let (limit, level) = (self.n, self.n as i8);
        match place % 4 {
            0 => Frame::Watch(Watch { lsid }),
            1 => Frame::Await(Await { lsid }),
            2 => Frame::Credit(Credit { lsid, limit }),
            _ => Frame::Priority(Priority {
                lsid,
                serial: limit,
                level,
            }),
        }
    }
}

/// STREAM with INIT and data.
fn data<'a>(lsid: u64, init: Init<'a>, offset: u64, data: &'a [u8]) -> Frame<'a> {
    Frame::Stream(Stream {
        lsid,
        init: Some(init),
        offset,
        fin: false,
        mark: false,
        data,
    })
}

impl Script {
    /// Bytes that a packet's openings are charged.
    fn cost(self, turn: &Turn<'_>) -> u64 {
        match self {
            Self::Acks | Self::Skips if turn.n == 0 => OPEN_COST + BORROW,
            // A stream has as many frames as half of its bytes.
            Self::Gaps if (turn.n * FRAMES).is_multiple_of(BORROW / 2) => OPEN_COST + BORROW,
            Self::Trees if turn.n % 3 < 2 => FRAMES * OPEN_COST,
            Self::Datagrams if turn.n.is_multiple_of(APART) => OPEN_COST + BORROW,
            Self::Resets => FRAMES / 2 * OPEN_COST,
            Self::Stops if turn.peer % 4 < 2 => OPEN_COST + BORROW,
            Self::Stops => 4 * (OPEN_COST + BORROW),
            _ => 0,
        }
    }

    /// Returns whether the packet of this number can be left out: nothing that follows stands on it.
    fn may_skip(self, n: u64) -> bool {
        !matches!(self, Self::Trees) || n % 3 == 1
    }

    /// Writes a packet.
    fn write(self, turn: &Turn<'_>, w: &mut Writer<'_>) {
        match self {
            Self::Acks | Self::Skips if turn.n == 0 => turn.ask(turn.name(0)).encode(w),
            Self::Acks => lie(turn, w),
            Self::Skips => {
                Ack::write(w, std::iter::once(0..=turn.expected.saturating_sub(1)), 0, None, FRAME);
            }
            Self::Gaps => fill(w, |i| {
                // The 512 bytes that it may have of a stream; then the next, and all streams in between are missing.
                let at = turn.n * FRAMES + i;
                let lsid = turn.first + 200 * (at / (BORROW / 2));
                let init = Init::substream(SESSION).with_credit(0, BORROW, 0);
                let is_beyond = turn.peer.is_multiple_of(2) && turn.n >= BEFORE;
                let from = if is_beyond { BEYOND } else { 1 };
                data(lsid, init, from + 2 * at % BORROW, b"x")
            }),
            Self::Trees => chain(turn, w),
            Self::Datagrams => fill(w, |i| turn.datagram(i)),
            Self::Updates => Frame::Ping.encode(w),
            Self::Stops => stop(turn, w),
            Self::Questions => fill(w, |i| turn.question(i)),
            Self::Challenges => fill(w, |i| Frame::PathChallenge((turn.n * 1024 + i).to_be_bytes())),
            Self::Resets => (0..FRAMES / 2).for_each(|i| open_and_reset(turn.name(i), w)),
            Self::Silence => {}
            Self::Nonsense => {
                let kind = u8::try_from(turn.n % 0x40).unwrap_or(0);
                w.u8(kind);
                let at = turn.n as usize * 31 % (turn.noise.len() / 2);
                let len = 1 + turn.n as usize % 500;
                w.bytes(turn.noise.get(at..at + len).unwrap_or(b"nonsense"));
            }
        }
    }
}

/// Fills a packet with at most [`FRAMES`] frames.
fn fill<'a>(w: &mut Writer<'_>, frame: impl Fn(u64) -> Frame<'a>) {
    for i in 0..FRAMES {
        if w.remaining() > FRAME {
            frame(i).encode(w);
        }
    }
}

/// Writes the one or the other half of a chain of streams below each other, or what resets it.
fn chain(turn: &Turn<'_>, w: &mut Writer<'_>) {
    let (head, half) = (turn.first + 2 * CHAIN * (turn.n / 3), turn.n % 3);
    if half == 2 {
        let (scope, code) = (Scope::Tree, Code::app(7));
        return Frame::Reset(Reset {
            lsid: head,
            scope,
            code,
            final_size: 0,
            reason: "",
        })
        .encode(w);
    }
    fill(w, |i| {
        let level = half * FRAMES + i;
        let lsid = head + 2 * level;
        let parent = if level == 0 { SESSION } else { lsid - 2 };
        // All of it is charged to the session.
        data(lsid, Init::substream(parent).with_credit(level as u8, 0, 0), 0, b"")
    });
}

/// Writes a stream, and its end.
fn open_and_reset(lsid: u64, w: &mut Writer<'_>) {
    data(lsid, Init::substream(SESSION), 0, b"").encode(w);
    let (code, scope) = (Code::app(7), Scope::Tree);
    Frame::Reset(Reset {
        lsid,
        scope,
        code,
        final_size: 0,
        reason: "",
    })
    .encode(w);
}

/// Writes an acknowledgement that is not true.
fn lie(turn: &Turn<'_>, w: &mut Writer<'_>) {
    let last = turn.expected.saturating_sub(1);
    let ack = |w: &mut Writer<'_>, range: RangeInclusive<u64>, delay| {
        Ack::write(w, std::iter::once(range), delay, None, FRAME);
    };
    match turn.peer % 6 {
        // Numbers that are still to come.
        0 => ack(w, 0..=last + turn.n % 64, 0),
        // All at once, also what was left out.
        1 => ack(w, 0..=last, 0),
        // Each second number, in as many ranges as there may be.
        2 => {
            let each = (0..64).map_while(|i| last.checked_sub(2 * i).map(|n| n..=n));
            Ack::write(w, each, 0, None, ROOM);
        }
        // The first packet, again and again.
        3 => (0..100).for_each(|_| ack(w, 0..=0, 0)),
        // Times that cannot be.
        4 => ack(w, last..=last, if turn.n.is_multiple_of(2) { varint::MAX } else { 0 }),
        // Marks that nobody sent, and fewer than before.
        _ => {
            let many = varint::MAX - turn.n;
            let ecn = EcnCounts {
                ect0: many,
                ect1: turn.n,
                ce: many,
            };
            Ack::write(w, std::iter::once(last..=last), 0, Some(ecn), FRAME);
        }
    }
}

/// Writes what is stopped at once, or what goes on although it was stopped.
fn stop(turn: &Turn<'_>, w: &mut Writer<'_>) {
    let (code, reason) = (Code::app(7), "");
    if turn.peer % 4 < 2 {
        let lsid = turn.name(0);
        turn.ask(lsid).encode(w);
        Frame::Stop(Stop { lsid, code, reason }).encode(w);
        let final_size = turn.request.len() as u64;
        Frame::Reset(Reset {
            lsid,
            scope: Scope::Tree,
            code,
            final_size,
            reason,
        })
        .encode(w);
        return;
    }
    // No request begins so: the server drops the stream, and stops it.
    let init = Init::substream(SESSION).with_credit(0, BORROW, 0);
    fill(w, |i| {
        data(turn.name(i % 4), init, i / 4 * 8, b"\xff\xff\xff\xff\xff\xff\xff\xff")
    });
}

/// Follows a script for so long, with one identity after the other.
pub(crate) fn run(script: Script, victim: &Victim, time: Duration, tally: &Tally) -> Result<(), AttackError> {
    let (begun, means) = (Instant::now(), Means::new(victim.request()?, victim.rate)?);
    for peer in 0.. {
        if begun.elapsed() >= time {
            break;
        }
        let Some(channel) = Channel::new(random()?, victim, tally)? else {
            continue;
        };
        let mut follower = Follower::new(script, channel, (peer, Side::Initiator), &means);
        while begun.elapsed() < time && follower.has_more() {
            follower.channel.read();
            follower.step(&means);
            std::thread::sleep(PAUSE);
        }
        if matches!(script, Script::Updates) && follower.channel.is_heard_behind(FOLLOWED) {
            tally.made();
        }
    }
    Ok(())
}

/// Means of those that follow scripts.
pub(crate) struct Means {
    request: Vec<u8>,
    noise: Vec<u8>,
    rate: u32,
}

impl Means {
    /// Means with a request for a file, and so many packets a second for each identity.
    pub(crate) fn new(request: Vec<u8>, rate: u32) -> Result<Self, AttackError> {
        let noise = (0..64).map(|_| random::<32>()).collect::<Result<Vec<_>, _>>()?.concat();
        Ok(Self { request, noise, rate })
    }
}

/// Side of a channel on which a script is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// That of a peer, which makes room for the next one when it gets no further.
    Initiator,
    /// That of a server, which skips what there is no room for.
    Responder,
}

impl Side {
    /// The first name of a stream that is its to give (STR-2).
    fn first(self) -> u64 {
        match self {
            Self::Initiator => SESSION + 2,
            Self::Responder => 2,
        }
    }
}

/// One identity that follows a script, until it has said enough or is heard no more.
pub(crate) struct Follower {
    script: Script,
    pub(crate) channel: Channel,
    pace: Pace,
    side: Side,
    peer: u64,
    n: u64,
    /// Bytes that its openings were charged.
    charged: u64,
    /// Moment since which it waits for room for more.
    waits: Instant,
}

impl Follower {
    /// The identity of a number.
    pub(crate) fn new(script: Script, channel: Channel, (peer, side): (u64, Side), means: &Means) -> Self {
        Self {
            script,
            channel,
            pace: Pace::new(means.rate),
            side,
            peer,
            n: 0,
            charged: 0,
            waits: Instant::now(),
        }
    }

    /// Returns whether there is anything left to say, and somebody to hear it.
    pub(crate) fn has_more(&self) -> bool {
        self.n < PACKETS && !self.channel.is_over() && self.waits.elapsed() <= 2 * WAIT
    }

    /// Sends what is due.
    pub(crate) fn step(&mut self, means: &Means) {
        let mut space = [0; ROOM];
        for _ in 0..self.pace.burst() {
            let turn = Turn {
                peer: self.peer,
                n: self.n,
                expected: self.channel.expected(),
                first: self.side.first(),
                request: &means.request,
                noise: &means.noise,
            };
            let cost = self.script.cost(&turn);
            if cost > 0 && self.charged + cost > self.channel.open_credit() {
                // Each second identity keeps to the rules: of a server's clients the first, of peers the second.
                let keeps = self.peer.is_multiple_of(2) == (self.side == Side::Responder);
                let skips = self.side == Side::Responder && self.script.may_skip(self.n);
                if self.waits.elapsed() < WAIT || (keeps && !skips) {
                    break;
                }
                if keeps {
                    (self.n, self.waits) = (self.n + 1, Instant::now());
                    continue;
                }
            }
            (self.charged, self.waits) = (self.charged + cost, Instant::now());
            let mut w = Writer::new(&mut space);
            self.script.write(&turn, &mut w);
            let len = w.position();
            self.channel.send(space.get(..len).unwrap_or_default());
            if matches!(self.script, Script::Updates) {
                self.channel.update_keys();
            }
            self.n += 1;
        }
        let says_nothing = matches!(self.script, Script::Acks | Script::Skips | Script::Silence);
        // Two of four acknowledge what comes.
        if matches!(self.peer % 4, 0 | 3) && !says_nothing {
            let mut w = Writer::new(&mut space);
            self.channel.acknowledge(&mut w);
            let len = w.position();
            self.channel.send(space.get(..len).unwrap_or_default());
        }
    }
}

/// Makes channels of one identity without end, several at a time, and keeps them.
pub(crate) fn idle(victim: &Victim, time: Duration, tally: &Tally) -> Result<(), AttackError> {
    let (begun, key) = (Instant::now(), random()?);
    let make = || {
        let mut kept = Vec::new();
        while begun.elapsed() < time {
            kept.extend(Channel::new(key, victim, tally)?);
            kept.iter_mut().for_each(Channel::read);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let making: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(make)).collect();
        // A thread that has panicked has said so.
        making
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })
}
