//! ACK and ACK_ECN.

use std::ops::RangeInclusive;

use crate::constants::MAX_ACK_RANGES;
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint::{self, total};
use crate::writer::Writer;

/// ACK or ACK_ECN: which packets were received (FRM-3, CHN-5).
///
/// Its ranges were checked when it was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The highest number acknowledged.
    pub largest: u64,
    /// Time for which the acknowledgement of `largest` was held back, in us.
    pub delay_us: u64,
    /// Counts of marked packets, if it is ACK_ECN.
    pub ecn: Option<EcnCounts>,
    /// Count of numbers below `largest` in the first range.
    first: u64,
    /// Number of ranges after the first, below [`MAX_ACK_RANGES`].
    count: u8,
    /// The pairs of gap and length of the ranges after the first.
    pairs: &'a [u8],
}

/// Counts of packets that arrived with each mark, since the channel was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EcnCounts {
    /// Marked ECT(0).
    pub ect0: u64,
    /// Marked ECT(1).
    pub ect1: u64,
    /// Marked CE: congestion was met.
    pub ce: u64,
}

impl EcnCounts {
    #[inline]
    fn encoded_len(self) -> usize {
        total([self.ect0, self.ect1, self.ce].map(varint::len))
    }

    #[inline]
    fn encode(self, w: &mut Writer<'_>) {
        w.varint(self.ect0);
        w.varint(self.ect1);
        w.varint(self.ce);
    }

    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            ect0: reader.varint()?,
            ect1: reader.varint()?,
            ce: reader.varint()?,
        })
    }
}

impl<'a> Ack<'a> {
    /// The type of ACK.
    pub const TYPE: u8 = 0x02;
    /// The type of ACK_ECN.
    pub const TYPE_ECN: u8 = 0x03;

    /// Reads the fields of a frame of type `kind`, and checks all ranges (FRM-3).
    ///
    /// # Errors
    /// If the frame is truncated, has too many ranges, or a range below number 0.
    pub fn decode(kind: u8, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let largest = reader.varint()?;
        let delay_us = reader.varint()?;
        let count = reader.varint()?;
        if count >= MAX_ACK_RANGES as u64 {
            return Err(Malformed("an acknowledgement names too many ranges"));
        }
        let first = reader.varint()?;
        let mut low = largest.checked_sub(first).ok_or(BELOW_ZERO)?;
        let before = reader.clone();
        for _ in 0..count {
            (_, low) = read_range(reader, low)?;
        }
        let len = before.remaining().saturating_sub(reader.remaining());
        let pairs = { before }.bytes(len)?;
        let ecn = match kind {
            Self::TYPE_ECN => Some(EcnCounts::decode(reader)?),
            _ => None,
        };
        Ok(Self {
            largest,
            delay_us,
            ecn,
            first,
            count: count as u8,
            pairs,
        })
    }

    /// The ranges acknowledged, the highest first. Between two of them is at least one number that is not.
    #[inline]
    pub fn ranges(&self) -> AckRanges<'a> {
        let low = self.largest.checked_sub(self.first);
        AckRanges {
            next: low.map(|low| (self.largest, low)),
            pairs: Reader::new(self.pairs),
        }
    }

    /// Writes the frame as it was received.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(type_of(self.ecn));
        w.varint(self.largest);
        w.varint(self.delay_us);
        w.varint(u64::from(self.count));
        w.varint(self.first);
        w.bytes(self.pairs);
        if let Some(ecn) = self.ecn {
            ecn.encode(w);
        }
    }

    /// Bytes that [`Self::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        let ecn = self.ecn.map_or(0, EcnCounts::encoded_len);
        let head = head_len(self.largest, self.delay_us, self.first);
        total([head, self.pairs.len(), ecn])
    }

    /// Writes an acknowledgement of as many of `ranges` as fit into `max_len` bytes and into the space that is
    /// left, at most [`MAX_ACK_RANGES`]. Returns how many it names; with 0, nothing was written.
    ///
    /// `ranges` are the highest first, each at least one number away from the next.
    pub fn write(
        w: &mut Writer<'_>,
        ranges: impl Iterator<Item = RangeInclusive<u64>>,
        delay_us: u64,
        ecn: Option<EcnCounts>,
        max_len: usize,
    ) -> usize {
        let mut ranges = ranges;
        let Some((mut low, largest)) = ranges.next().map(RangeInclusive::into_inner) else {
            return 0;
        };
        let first = largest.saturating_sub(low);
        let fixed = total([
            head_len(largest, delay_us, first),
            ecn.map_or(0, EcnCounts::encoded_len),
        ]);
        let Some(mut room) = max_len.min(w.remaining()).checked_sub(fixed) else {
            return 0;
        };
        w.u8(type_of(ecn));
        w.varint(largest);
        w.varint(delay_us);
        let count = w.skip(1);
        w.varint(first);
        let mut more = 0_u8;
        for (next_low, high) in ranges
            .take(MAX_ACK_RANGES.saturating_sub(1))
            .map(RangeInclusive::into_inner)
        {
            let gap = low.checked_sub(2).and_then(|end| end.checked_sub(high));
            debug_assert!(gap.is_some(), "range up to {high} touches the one from {low}");
            let Some(gap) = gap else { break };
            let length = high.saturating_sub(next_low);
            let Some(left) = room.checked_sub(total([varint::len(gap), varint::len(length)])) else {
                break;
            };
            w.varint(gap);
            w.varint(length);
            (low, room, more) = (next_low, left, more.saturating_add(1));
        }
        // `more` is below 64: a varint of one byte.
        count.fill(more);
        if let Some(ecn) = ecn {
            ecn.encode(w);
        }
        usize::from(more).saturating_add(1)
    }
}

const BELOW_ZERO: Malformed = Malformed("an acknowledgement reaches below number 0");

fn type_of(ecn: Option<EcnCounts>) -> u8 {
    if ecn.is_some() { Ack::TYPE_ECN } else { Ack::TYPE }
}

/// The length of an acknowledgement with its first range, without ECN counts.
fn head_len(largest: u64, delay_us: u64, first: u64) -> usize {
    total([2, varint::len(largest), varint::len(delay_us), varint::len(first)])
}

/// Reads a range below `low`: its highest and its lowest number.
#[inline]
fn read_range(reader: &mut Reader<'_>, low: u64) -> Result<(u64, u64), Malformed> {
    let gap = reader.varint()?;
    let length = reader.varint()?;
    let high = low.checked_sub(gap.saturating_add(2)).ok_or(BELOW_ZERO)?;
    let low = high.checked_sub(length).ok_or(BELOW_ZERO)?;
    Ok((high, low))
}

/// The ranges of an [`Ack`], the highest first.
#[derive(Clone, Debug)]
pub struct AckRanges<'a> {
    /// Highest and lowest number of the next range.
    next: Option<(u64, u64)>,
    pairs: Reader<'a>,
}

impl Iterator for AckRanges<'_> {
    type Item = RangeInclusive<u64>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (high, low) = self.next?;
        self.next = match self.pairs.is_empty() {
            true => None,
            false => read_range(&mut self.pairs, low).ok(),
        };
        Some(low..=high)
    }
}
