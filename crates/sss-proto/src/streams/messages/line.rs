//! Datagrams in line (STR-81): those of one stream and level that wait behind another one, which is a node of the tree
//! and has the turns of all.

use std::collections::VecDeque;

use bytes::Bytes;
use sss_wire::constants::DATAGRAM_LIFETIME;

use crate::time::Instant;

/// An empty line keeps room for so many.
const KEPT: usize = 64;

/// A datagram that waits in line.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) data: Bytes,
    pub(crate) id: u64,
    /// It is given up then.
    pub(crate) deadline: Instant,
    pub(crate) is_tracked: bool,
}

/// Those of one level.
#[derive(Debug)]
struct Line {
    level: i8,
    /// The slot of the one that is sent first. Nobody waits where there is none.
    head: Option<u32>,
    behind: VecDeque<Waiting>,
    /// Bytes of those behind it.
    bytes: u64,
}

/// The lines of a stream: one for each level at which there is somebody, and one that is empty, or none.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Waiting {
    /// A plain datagram, by its name and whether its fate is asked for (STR-35).
    pub(crate) fn new(now: Instant, (id, is_tracked): (u64, bool), data: Bytes) -> Self {
        Self {
            data,
            id,
            deadline: now + DATAGRAM_LIFETIME,
            is_tracked,
        }
    }
}

impl Line {
    fn is_of(&self, level: i8) -> bool {
        self.level == level && self.head.is_some()
    }
}

impl Lines {
    /// Bytes of those that wait behind others.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|line| line.bytes).sum()
    }

    /// Returns whether there is a line to whose end one of this level can go.
    pub(crate) fn has(&self, level: i8) -> bool {
        self.0.iter().any(|line| line.is_of(level))
    }

    /// The datagram of this slot is the first of its level, unless there is a line.
    pub(crate) fn begin(&mut self, index: u32, level: i8) {
        if self.has(level) {
            return;
        }
        match self.0.iter_mut().find(|line| line.head.is_none()) {
            Some(line) => (line.level, line.head) = (level, Some(index)),
            None => self.0.push(Line {
                level,
                head: Some(index),
                behind: VecDeque::new(),
                bytes: 0,
            }),
        }
    }

    /// Puts one at the end of the line of its level, if there is one.
    pub(crate) fn push(&mut self, level: i8, waiting: Waiting) {
        if let Some(line) = self.0.iter_mut().find(|line| line.is_of(level)) {
            line.bytes += waiting.data.len() as u64;
            line.behind.push_back(waiting);
        }
    }

    /// Takes the next to come in the place of the first of a line, which has this slot. The line ends if there is none.
    pub(crate) fn advance(&mut self, index: u32) -> Option<Waiting> {
        let at = self.of(index)?;
        let line = self.0.get_mut(at)?;
        let next = line.behind.pop_front();
        match &next {
            Some(next) => line.bytes -= next.data.len() as u64,
            None => self.end(at),
        }
        next
    }

    /// The first of a line has another slot from now on.
    pub(crate) fn hand_on(&mut self, from: u32, to: u32) {
        if let Some(line) = self.0.iter_mut().find(|line| line.head == Some(from)) {
            line.head = Some(to);
        }
    }

    fn of(&self, index: u32) -> Option<usize> {
        self.0.iter().position(|line| line.head == Some(index))
    }

    /// Nobody is left in a line. The last one that there is stays, if it takes little memory.
    fn end(&mut self, at: usize) {
        match self.0.as_mut_slice() {
            [line] if line.behind.capacity() <= KEPT => line.head = None,
            _ => drop(self.0.swap_remove(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: u64) -> Waiting {
        Waiting {
            data: Bytes::from_static(b"four"),
            id,
            deadline: Instant::default(),
            is_tracked: false,
        }
    }

    fn id(waiting: Option<Waiting>) -> Option<u64> {
        waiting.map(|waiting| waiting.id)
    }

    // spec: STR-81
    #[test]
    fn those_behind_come_in_their_order_and_the_line_ends_with_the_last() {
        let mut lines = Lines::default();
        assert!(!lines.has(3));
        lines.push(3, waiting(0));
        lines.begin(7, 3);
        lines.begin(9, 3);
        assert!(lines.has(3) && !lines.has(0));
        lines.push(3, waiting(1));
        lines.push(3, waiting(2));
        lines.push(0, waiting(9));
        assert_eq!(lines.bytes(), 8);
        assert_eq!(id(lines.advance(9)), None, "it is in no line");
        assert_eq!(id(lines.advance(7)), Some(1));
        assert_eq!((lines.has(3), lines.bytes()), (true, 4));
        lines.hand_on(7, 8);
        assert_eq!(id(lines.advance(7)), None);
        assert_eq!(id(lines.advance(8)), Some(2));
        assert_eq!((lines.has(3), lines.bytes()), (true, 0));
        assert_eq!(id(lines.advance(8)), None);
        assert!(!lines.has(3));
    }

    // spec: STR-81
    #[test]
    fn there_is_a_line_for_each_level_and_room_is_kept_for_one() {
        let mut lines = Lines::default();
        let levels = [-128, 0, 5, 127];
        for (index, level) in (0..).zip(levels) {
            lines.begin(index, level);
            lines.push(level, waiting(u64::from(index)));
        }
        for index in [2, 0, 3, 1] {
            assert_eq!(id(lines.advance(index)), Some(u64::from(index)));
            assert_eq!(id(lines.advance(index)), None);
        }
        assert!(levels.iter().all(|level| !lines.has(*level)));
        assert_eq!(lines.0.len(), 1);
        lines.begin(4, -1);
        assert_eq!((lines.0.len(), lines.has(-1)), (1, true), "it is used again");
    }

    // spec: STR-81
    #[test]
    fn a_line_that_was_long_gives_its_memory_back() {
        let mut lines = Lines::default();
        lines.begin(1, 0);
        (0..1000).for_each(|n| lines.push(0, waiting(n)));
        while lines.advance(1).is_some() {}
        assert!(lines.0.is_empty());
    }
}
