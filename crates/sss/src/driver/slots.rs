//! Entries that stand in lists, many lists in one piece of memory: to enter, to leave from anywhere, and to take the
//! first each cost the same however many there are.

/// No slot.
const NONE: u32 = u32::MAX;
/// Slots whose memory is kept when all are empty.
const KEPT: usize = 64;

/// Names an entry for as long as it is there. The default names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ticket {
    index: u32,
    /// Never 0 for an entry, and never used twice.
    serial: u64,
}

impl Ticket {
    /// Returns whether it never named an entry.
    pub(crate) fn is_blank(self) -> bool {
        self.serial == 0
    }
}

/// The ends of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    first: u32,
    last: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
        }
    }
}

impl List {
    pub(crate) fn is_empty(&self) -> bool {
        self.first == NONE
    }
}

/// Memory of entries with a key and a value. Each entry stands in one list, which the caller keeps and finds by the
/// key.
pub(crate) struct Slots<K, V> {
    slots: Vec<Slot<K, V>>,
    /// The first of the empty slots, which are linked by `next`.
    free: u32,
    len: usize,
    serial: u64,
}

struct Slot<K, V> {
    serial: u64,
    prev: u32,
    next: u32,
    entry: Option<(K, V)>,
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: NONE,
            len: 0,
            serial: 0,
        }
    }
}

impl<K: Copy, V> Slots<K, V> {
    /// Returns the number of entries.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts an entry at the end of a list.
    pub(crate) fn push(&mut self, list: &mut List, key: K, value: V) -> Ticket {
        self.serial += 1;
        let slot = Slot {
            serial: self.serial,
            prev: list.last,
            next: NONE,
            entry: Some((key, value)),
        };
        let index = self.place(slot);
        match self.at(list.last) {
            Some(last) => last.next = index,
            None => list.first = index,
        }
        list.last = index;
        self.len += 1;
        Ticket {
            index,
            serial: self.serial,
        }
    }

    /// Puts a slot into memory, and says where it is.
    fn place(&mut self, slot: Slot<K, V>) -> u32 {
        let free = self.free;
        if let Some(empty) = self.at(free) {
            let next = empty.next;
            *empty = slot;
            self.free = next;
            return free;
        }
        self.slots.push(slot);
        u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
    }

    /// The key of an entry, if it is there.
    pub(crate) fn key(&mut self, ticket: Ticket) -> Option<K> {
        self.named(ticket)?.entry.as_ref().map(|(key, _)| *key)
    }

    /// The value of an entry, if it is there.
    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut V> {
        self.named(ticket)?.entry.as_mut().map(|(_, value)| value)
    }

    /// Takes an entry out of the list in which it stands.
    pub(crate) fn remove(&mut self, list: &mut List, ticket: Ticket) -> Option<V> {
        self.named(ticket)?;
        self.take(list, ticket.index)
    }

    /// Takes the first entry of a list.
    pub(crate) fn pop(&mut self, list: &mut List) -> Option<V> {
        self.take(list, list.first)
    }

    fn take(&mut self, list: &mut List, index: u32) -> Option<V> {
        let free = self.free;
        let slot = self.at(index)?;
        let (_, value) = slot.entry.take()?;
        let (prev, next) = (slot.prev, slot.next);
        slot.next = free;
        self.free = index;
        match self.at(prev) {
            Some(prev) => prev.next = next,
            None => list.first = next,
        }
        match self.at(next) {
            Some(next) => next.prev = prev,
            None => list.last = prev,
        }
        self.len -= 1;
        if self.len == 0 && self.slots.len() > KEPT {
            self.slots = Vec::new();
            self.free = NONE;
        }
        Some(value)
    }

    fn at(&mut self, index: u32) -> Option<&mut Slot<K, V>> {
        self.slots.get_mut(index as usize)
    }

    fn named(&mut self, ticket: Ticket) -> Option<&mut Slot<K, V>> {
        let slot = self.at(ticket.index)?;
        (slot.serial == ticket.serial).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(slots: &mut Slots<u8, u32>, list: &mut List) -> Vec<u32> {
        std::iter::from_fn(|| slots.pop(list)).collect()
    }

    #[test]
    fn entries_leave_from_anywhere_and_the_others_keep_their_order() {
        for gone in 0..5_usize {
            let (mut slots, mut list) = (Slots::default(), List::default());
            let tickets: Vec<Ticket> = (0..5).map(|n| slots.push(&mut list, 1, n)).collect();
            assert_eq!(slots.key(tickets[gone]), Some(1));
            assert_eq!(slots.remove(&mut list, tickets[gone]), Some(gone as u32));
            assert_eq!(slots.remove(&mut list, tickets[gone]), None, "it has left");
            slots.push(&mut list, 1, 9);
            assert_eq!(slots.get_mut(tickets[gone]), None, "another one has its slot");
            let mut expected: Vec<u32> = (0..5).filter(|n| *n != gone as u32).collect();
            expected.push(9);
            assert_eq!(all(&mut slots, &mut list), expected);
            assert!(list.is_empty() && slots.len() == 0);
        }
    }

    #[test]
    fn lists_do_not_mix() {
        let (mut slots, mut lists) = (Slots::default(), [List::default(); 3]);
        for n in 0..30 {
            slots.push(&mut lists[n % 3], 0, n as u32);
        }
        for (n, list) in lists.iter_mut().enumerate() {
            let found = all(&mut slots, list);
            assert_eq!(found.len(), 10);
            assert!(found.iter().all(|value| *value as usize % 3 == n));
        }
    }

    #[test]
    fn a_slot_is_used_again() {
        let (mut slots, mut list) = (Slots::default(), List::default());
        let stays = slots.push(&mut list, 0, 0);
        for n in 1..1000 {
            let ticket = slots.push(&mut list, 0, n);
            assert_eq!(slots.remove(&mut list, ticket), Some(n));
            assert_eq!(slots.key(ticket), None);
            assert_eq!(slots.get_mut(ticket), None);
            assert_eq!(slots.remove(&mut list, ticket), None);
        }
        assert_eq!(slots.slots.len(), 2);
        assert_eq!(slots.remove(&mut list, stays), Some(0));
        assert_eq!(slots.key(Ticket::default()), None);
    }

    #[test]
    fn memory_is_given_back_when_all_have_left() {
        let (mut slots, mut list) = (Slots::default(), List::default());
        let tickets: Vec<Ticket> = (0..10_000).map(|n| slots.push(&mut list, 0, n)).collect();
        for ticket in &tickets {
            assert!(slots.remove(&mut list, *ticket).is_some());
        }
        assert_eq!(slots.slots.capacity(), 0);
        let again = slots.push(&mut list, 0, 7);
        assert!(tickets.iter().all(|old| slots.get_mut(*old).is_none()));
        assert_eq!(slots.get_mut(again), Some(&mut 7));
        assert_eq!(slots.get_mut(Ticket::default()), None);
        // No slot of those that are gone is taken for an empty one.
        slots.remove(&mut list, again);
        let tickets: Vec<Ticket> = (0..20_000).map(|n| slots.push(&mut list, 0, n)).collect();
        assert!(
            (0..)
                .zip(&tickets)
                .all(|(n, ticket)| slots.get_mut(*ticket) == Some(&mut { n }))
        );
    }
}
