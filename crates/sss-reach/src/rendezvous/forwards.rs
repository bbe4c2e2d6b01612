//! Packets on their way through the relay that this host is (RCH-17): rewritten in place, and sent on in batches.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use sss_proto::{Batch, Instant, MAX_TRANSMIT, Transmit, TransmitBuf};
use sss_wire::reach::{RELAY, RELAY_HEADER, relay_handle, relay_header};

use crate::path::Path;
use crate::server::{Registrar, Run, Unrelayed};

/// Bytes and batches that wait to be sent on, at most: what is beyond is dropped, as by a network.
const MAX_WAITING: (usize, usize) = (4 << 20, 4096);

/// Packets that were taken, and are to be sent on.
#[derive(Default)]
pub(super) struct Forwards {
    queue: VecDeque<Forward>,
    /// Bytes in the queue.
    waiting: usize,
}

/// Datagrams for one host, of the same length but for the last.
struct Forward {
    transmit: Transmit,
    datagrams: Bytes,
}

/// Part of a batch, and where it goes.
struct Part {
    to: Path,
    range: Range<usize>,
}

impl Forwards {
    /// Takes what is to be sent on out of a batch. Returns whether something is left for the host.
    pub(super) fn take(&mut self, now: Instant, registrar: &mut Registrar, batch: &mut Batch<'_>) -> bool {
        let stride = batch.stride.max(1);
        let is_relayed = |datagram: &[u8]| datagram.first() == Some(&RELAY);
        let from = Path {
            link: batch.link,
            local: None,
        };
        if !batch.data.chunks(stride).any(is_relayed) {
            return true;
        }
        let (mut parts, mut left) = (Vec::<Part>::new(), BytesMut::new());
        let mut end = 0;
        while let Some((range, handle)) = next_run(batch.data, end, stride) {
            end = range.end;
            let Some(datagrams) = batch.data.get_mut(range.clone()) else {
                break;
            };
            let run = Run {
                packets: range.len().div_ceil(stride),
                bytes: range.len(),
            };
            match handle.map(|handle| registrar.relay(now, (from, handle), run)) {
                Some(Ok(_)) if !self.has_room() => {}
                Some(Ok((to, handle))) => {
                    rewrite(datagrams, stride, handle);
                    match parts.last_mut() {
                        Some(last) if (last.to, last.range.end) == (to, range.start) => last.range.end = range.end,
                        _ => parts.push(Part { to, range }),
                    }
                }
                // It may be of a relay that this host uses itself.
                None | Some(Err(Unrelayed::UnknownHandle)) => left.extend_from_slice(datagrams),
                Some(Err(_)) => {}
            }
        }
        self.put(parts, batch);
        match left.is_empty() {
            true => batch.data.clear(),
            false => *batch.data = left,
        }
        !batch.data.is_empty()
    }

    fn has_room(&self) -> bool {
        self.waiting < MAX_WAITING.0 && self.queue.len() < MAX_WAITING.1
    }

    /// Puts the parts of a batch into the queue, without a copy.
    fn put(&mut self, parts: Vec<Part>, batch: &mut Batch<'_>) {
        if parts.is_empty() {
            return;
        }
        let whole = std::mem::take(batch.data).freeze();
        for Part { to, range } in parts {
            self.waiting += range.len();
            self.queue.push_back(Forward {
                transmit: Transmit {
                    link: to.link,
                    local: to.local,
                    ecn: batch.ecn,
                    segment: batch.stride.min(range.len()),
                },
                datagrams: whole.slice(range),
            });
        }
        *batch.lent = Some(whole);
    }

    /// The next datagrams: as many as one send may hold, also those of several batches.
    pub(super) fn poll(&mut self, buf: &mut TransmitBuf) -> Option<Transmit> {
        let transmit = self.queue.front()?.transmit;
        buf.clear();
        let whole = buf.max_segments().min(MAX_TRANSMIT / transmit.segment.max(1)) * transmit.segment;
        while let Some(next) = self.queue.front_mut().filter(|next| next.transmit == transmit) {
            let room = whole.saturating_sub(buf.filled().len());
            let part = next.datagrams.split_to(room.min(next.datagrams.len()));
            if part.is_empty() {
                break;
            }
            self.waiting = self.waiting.saturating_sub(part.len());
            buf.append(&part);
            if next.datagrams.is_empty() {
                self.queue.pop_front();
            }
            // A shorter one is the last.
            if part.len() % transmit.segment != 0 {
                break;
            }
        }
        Some(transmit)
    }
}

/// Gives datagrams the handle that they go on with.
fn rewrite(datagrams: &mut [u8], stride: usize, handle: u32) {
    for datagram in datagrams.chunks_mut(stride) {
        if let Some(header) = datagram.get_mut(..RELAY_HEADER) {
            header.copy_from_slice(&relay_header(handle));
        }
    }
}

/// The datagrams from `start` on that have the same handle, or none. `None` at the end.
fn next_run(data: &[u8], start: usize, stride: usize) -> Option<(Range<usize>, Option<u32>)> {
    let rest = data.get(start..).filter(|rest| !rest.is_empty())?;
    let mut handles = rest
        .chunks(stride)
        .map(|datagram| (relay_handle(datagram).ok(), datagram.len()));
    let (first, len) = handles.next()?;
    let more: usize = handles
        .take_while(|(handle, _)| *handle == first)
        .map(|(_, len)| len)
        .sum();
    Some((start..start + len + more, first))
}
