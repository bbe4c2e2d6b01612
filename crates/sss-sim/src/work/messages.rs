//! The workload of datagrams.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use sss_proto::{DatagramOptions, Event, Interest, ListenerId, StreamId};

use super::{CLIENT, SERVER, SERVICE, Work};
use crate::world::{Apps, HostIndex, World};

const TOTAL: usize = 20_000;
/// One of so many is long.
const LONG_EVERY: usize = 40;
const LONG_SIZE: usize = 16 << 10;
const SMALL_SIZE: usize = 200;
/// Virtual time after the last one, in which all that is going to arrive has arrived.
const REST: Duration = Duration::from_secs(1);

/// Datagrams as fast as they are taken: most fit a packet and are sent once; the long ones are reliable, and are
/// tracked.
pub(super) struct Messages {
    stream: StreamId,
    listener: ListenerId,
    small: Bytes,
    long: Bytes,
    sent: usize,
    /// Long datagrams of which it is not yet known what became of them.
    unsettled: usize,
    has_rested: bool,
    bytes: u64,
    failure: Option<String>,
}

impl Messages {
    pub(super) fn start(world: &mut World) -> Result<Self, String> {
        let listener = world.call(SERVER, |h, _| h.listen(SERVICE.0, SERVICE.1));
        let listener = listener.map_err(|e| e.to_string())?;
        let stream = world.connect(CLIENT, SERVER, SERVICE);
        let mut messages = Self {
            stream,
            listener,
            small: Bytes::from_static(&[0x5a; SMALL_SIZE]),
            long: Bytes::from_static(&[0xa5; LONG_SIZE]),
            sent: 0,
            unsettled: 0,
            has_rested: false,
            bytes: 0,
            failure: None,
        };
        messages.accept(world);
        messages.send(world);
        Ok(messages)
    }

    fn fail(&mut self, what: impl ToString) {
        self.failure.get_or_insert(what.to_string());
    }

    fn accept(&mut self, world: &mut World) {
        let listener = self.listener;
        while let Some((stream, _)) = world.call(SERVER, |h, _| h.accept(listener)) {
            self.receive(world, stream);
        }
    }

    fn receive(&mut self, world: &mut World, stream: StreamId) {
        loop {
            match world.call(SERVER, |h, now| h.stream(stream).poll_recv_datagram(now)) {
                Poll::Ready(Ok(Some(data))) => self.bytes += data.len() as u64,
                Poll::Ready(Ok(None)) | Poll::Pending => return,
                Poll::Ready(Err(error)) => return self.fail(error),
            }
        }
    }

    /// Sends until there is no room, or all were sent.
    fn send(&mut self, world: &mut World) {
        let one_packet = DatagramOptions::default();
        let tracked = DatagramOptions::default().with(|o| {
            o.reliable = true;
            o.tracked = true;
        });
        let stream = self.stream;
        while self.sent < TOTAL {
            let is_long = self.sent.is_multiple_of(LONG_EVERY);
            let (data, options) = if is_long {
                (self.long.clone(), &tracked)
            } else {
                (self.small.clone(), &one_packet)
            };
            match world.call(CLIENT, |h, now| h.stream(stream).send_datagram(now, &data, options)) {
                Ok(Some(_)) => self.unsettled += usize::from(is_long),
                Ok(None) => return,
                Err(error) => return self.fail(error),
            }
            self.sent += 1;
            if self.sent == TOTAL {
                world.set_timer(CLIENT, REST, 0);
            }
        }
    }
}

impl Apps for Messages {
    fn on_event(&mut self, world: &mut World, _: HostIndex, event: Event) {
        match event {
            Event::Acceptable(_) => self.accept(world),
            Event::Ready(stream, Interest::RecvDatagram) => self.receive(world, stream),
            Event::Ready(_, Interest::SendDatagram) => self.send(world),
            Event::DatagramSettled(..) => self.unsettled -= 1,
            Event::Disconnected(_, _, reason) => self.fail(reason),
            _ => {}
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {
        self.has_rested = true;
    }
}

impl Work for Messages {
    fn is_over(&self) -> bool {
        self.has_rested && self.unsettled == 0
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}
