//! What becomes of datagrams, where hosts are, and what a hostile peer says.

use super::*;

/// Times that pass, in milliseconds.
const TIMES: [u64; 8] = [1, 5, 20, 100, 1000, 10_000, 61_000, 1_900_000];

impl World {
    pub(super) fn network(&mut self, instruction: u8, n: usize, program: &mut Program<'_>) {
        match instruction {
            0..=3 => self.settle(1 + usize::from(instruction)),
            4..=7 => {
                if let Some(datagram) = self.pick(program) {
                    self.deliver(datagram);
                }
            }
            8 => drop(self.pick(program)),
            9 => {
                if let Some(datagram) = self.pick(program) {
                    self.deliver(datagram.clone());
                    self.under_way.push(datagram);
                }
            }
            10 => self.mangle(program),
            11..=14 => self.pass(Duration::from_millis(TIMES[program.below(8)])),
            15 => self.under_way.clear(),
            16 => self.relocate(n, program),
            17 => self.nodes[n].host.network_changed(self.now, |_, _| true),
            18 => self.nodes[n].host.network_changed(self.now, |_, _| false),
            19 => self.hint(n, program),
            20 => {
                self.nodes[n].host.probe(self.nodes[1 - n].address.into());
            }
            21 => {
                let from = self.somewhere(program);
                self.receive(n, from, program.bytes());
            }
            // From another address than it was sent from.
            22 => {
                let from = self.somewhere(program);
                if let Some(mut datagram) = self.pick(program) {
                    datagram.from = from;
                    self.deliver(datagram);
                }
            }
            // Back to where it came from.
            23 => {
                if let Some(datagram) = self.pick(program) {
                    let Datagram { from, to, bytes } = datagram;
                    self.deliver(Datagram {
                        from: to,
                        to: from,
                        bytes,
                    });
                }
            }
            // Once more, later.
            24 | 25 => {
                let at = program.below(self.past.len());
                if let Some(datagram) = self.past.get(at).cloned() {
                    self.deliver(datagram);
                }
            }
            26 => self.restart(n, program),
            _ => self.settle(2),
        }
    }

    /// Takes one of the datagrams under way.
    fn pick(&mut self, program: &mut Program<'_>) -> Option<Datagram> {
        let at = program.below(self.under_way.len());
        (at < self.under_way.len()).then(|| self.under_way.remove(at))
    }

    /// Changes, cuts or lengthens a datagram.
    fn mangle(&mut self, program: &mut Program<'_>) {
        let Some(mut datagram) = self.pick(program) else {
            return;
        };
        let at = usize::from(program.byte()) << 8 | usize::from(program.byte());
        match (at >> 14, at & 0x7ff) {
            (0, len) => datagram.bytes.truncate(len),
            (1, more) => datagram.bytes.resize(datagram.bytes.len() + more % 300, 0),
            (_, at) => {
                let at = at % datagram.bytes.len();
                datagram.bytes[at] ^= program.byte();
            }
        }
        self.deliver(datagram);
    }

    /// An address of neither host, as a rule.
    fn somewhere(&mut self, program: &mut Program<'_>) -> SocketAddr {
        SocketAddr::from(([10, 0, program.byte() & 1, program.byte() & 3], 4000))
    }

    /// The host is at another address, and may know it.
    pub(super) fn relocate(&mut self, n: usize, program: &mut Program<'_>) {
        let how = program.byte();
        self.nodes[n].address.set_port(4000 + u16::from(how & 3));
        if how & 4 != 0 {
            self.nodes[n].host.network_changed(self.now, |_, _| true);
        }
    }

    /// The process ends without a word, and another begins.
    fn restart(&mut self, n: usize, program: &mut Program<'_>) {
        let address = self.nodes[n].address;
        self.restarts = self.restarts.wrapping_add(1);
        self.nodes[n] = node(n as u8, program.byte(), self.restarts);
        self.nodes[n].address = address;
    }

    fn hint(&mut self, n: usize, program: &mut Program<'_>) {
        let eid = self.nodes[1 - n].host.eid();
        let hints = [self.nodes[1 - n].address, self.somewhere(program)].map(Route::udp);
        self.nodes[n].host.add_hints(self.now, &eid, &hints);
    }

    /// A host says what the input says, as if it were its own: the peer opens the packet, and believes that it is.
    pub(super) fn hostile(&mut self, instruction: u8, n: usize, program: &mut Program<'_>) {
        self.is_honest = false;
        if instruction == 3 {
            // In the next INITIATE or ACCEPT of any of them.
            let keep = usize::from(program.byte());
            sss_proto::hostile::set_packet_zero(keep, program.bytes());
            return;
        }
        let Some(peer) = self.peer(n) else { return };
        let plaintext = program.bytes();
        if let Some((route, bytes)) = self.nodes[n].host.forge(self.now, peer, plaintext)
            && let Some(to) = route.address()
        {
            let from = self.nodes[n].address;
            self.deliver(Datagram { from, to, bytes });
            self.poll(1 - n);
        }
    }
}
