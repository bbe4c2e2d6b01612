//! Counters of a host's socket.

/// Counters of a host's socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketStats {
    /// System calls that received something.
    pub receive_calls: u64,
    /// Receiving calls that failed.
    pub receive_errors: u64,
    /// Batches of negotiations that were dropped because too many waited, in a flood also those that were admitted; and
    /// datagrams for another shard that could not be handed over.
    pub receive_dropped: u64,
    /// Datagrams that came to this shard, were for another one, and were handed over: those that the kernel could not
    /// tell apart ([`HostBuilder::build_sharded`](crate::HostBuilder::build_sharded)).
    pub handed_over: u64,
    /// Number of times that a flood of HELLOs was given a socket and a thread of its own.
    pub greeters: u64,
    /// Sending system calls.
    pub send_calls: u64,
    /// Sends that had to wait for the socket's buffer.
    pub send_blocked: u64,
    /// Sends refused because a datagram was larger than the network interface takes: the search for the path MTU.
    pub send_too_large: u64,
    /// Sends that failed otherwise, such as for want of a route, or because the source is no address of this machine
    /// any more.
    pub send_errors: u64,
    /// Those of them that this machine does not permit (`EPERM`, `EACCES`), as a firewall of its own does.
    pub send_denied: u64,
    /// Changes of this machine's addresses, or of its way out, that were noticed.
    pub network_changes: u64,
    /// Number of times that the socket was bound anew, because this machine had lost the address that it was bound to.
    pub rebinds: u64,
}

impl SocketStats {
    /// Adds what another thread, or another shard, has done.
    pub(crate) fn add(&mut self, other: &Self) {
        self.receive_calls += other.receive_calls;
        self.receive_errors += other.receive_errors;
        self.receive_dropped += other.receive_dropped;
        self.handed_over += other.handed_over;
        self.send_calls += other.send_calls;
        self.send_blocked += other.send_blocked;
        self.send_errors += other.send_errors;
        self.send_denied += other.send_denied;
        self.send_too_large += other.send_too_large;
        self.greeters += other.greeters;
        self.network_changes += other.network_changes;
        self.rebinds += other.rebinds;
    }
}
