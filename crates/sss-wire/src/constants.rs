//! The constants of docs/spec/overview.md.

use std::time::Duration;

/// Version of the protocol.
pub const VERSION: u32 = 1;
/// Bytes of UDP payload that every path must carry.
pub const BASE_DATAGRAM: u16 = 1232;
/// Largest UDP payload probed for, in bytes.
pub const MAX_DATAGRAM: u16 = 65507;
/// Longest channel id, in bytes.
pub const MAX_CHANNEL_ID: usize = 20;
/// Bytes that a new stream borrows until it is accepted, at most, unless the peer's SETTINGS allow more.
pub const STREAM_BORROW: u64 = 65536;
/// Largest `stream_borrow` that a host may announce.
pub const MAX_BORROW: u64 = 1 << 24;
/// Bytes of its own data that the peer may send of a stream that an application holds, whatever the budgets.
pub const STREAM_WINDOW: u64 = 4096;
/// Bytes charged for a stream that is not accepted, beside what it borrows.
pub const OPEN_COST: u64 = 512;
/// Bytes that openings may be charged to a stream that an application holds, whatever the budgets.
pub const OPEN_ROOM: u64 = 2 * (OPEN_COST + STREAM_WINDOW);
/// Smallest `root_credit` that a host may announce. Before its SETTINGS have arrived, this is taken for granted.
pub const MIN_ROOT_CREDIT: u64 = 65536;
/// Bytes of a datagram stream that are charged to its parent, at most.
pub const DATAGRAM_BORROW: u64 = 32768;
/// Deadline of a best-effort datagram that has none.
pub const DATAGRAM_LIFETIME: Duration = Duration::from_secs(5);
/// Largest limit to the size of datagrams that a host may announce.
pub const MAX_MESSAGE: u64 = 1 << 26;
/// Levels of the stream tree below the root.
pub const MAX_DEPTH: u8 = 32;
/// Longest service or protocol name, in bytes.
pub const MAX_NAME: u8 = 255;
/// Longest description of a service or protocol, in bytes.
pub const MAX_DESCRIPTION: usize = 1024;
/// Longest list of a host's services, in bytes.
pub const MAX_SERVICE_LIST: usize = 65536;
/// Longest reason text in CLOSE, RESET and STOP, in bytes.
pub const MAX_REASON: usize = 256;
/// Most ranges in one acknowledgement.
pub const MAX_ACK_RANGES: usize = 64;
/// Most gaps in the set of LSIDs that a peer has opened.
pub const MAX_OPEN_GAPS: usize = 65536;
/// Questions whether streams were read to their ends that a host may have open at a time.
pub const MAX_WATCHES: usize = 65536;
/// Sequence numbers behind the highest that are still accepted.
pub const REPLAY_WINDOW: u64 = 16384;
/// Longest silence while a stream is open, by default.
pub const KEEPALIVE: Duration = Duration::from_secs(15);
/// Ack-eliciting packets that are a flow: when it breaks off, the peer is asked.
pub const MIN_FLOW: u32 = 16;
/// Shortest silence for which a flow has broken off.
pub const MIN_SILENCE: Duration = Duration::from_millis(200);
/// Silence after which a channel ends, by default.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time after which an attempt is given up.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(60);
/// Life of a cookie key; then one more period as the previous key.
pub const COOKIE_KEY_LIFE: Duration = Duration::from_secs(60);
/// Age at which a channel is replaced by a new one.
pub const RENEW: Duration = Duration::from_secs(30 * 60);
/// Time for which streams wait for a channel, by default.
pub const LINGER: Duration = Duration::from_secs(5 * 60);
/// Time for which a channel may be stalled before another is attempted.
pub const STALL_GRACE: Duration = Duration::from_secs(1);
/// Most open channels of one tree.
pub const MAX_CHANNELS: usize = 4;
