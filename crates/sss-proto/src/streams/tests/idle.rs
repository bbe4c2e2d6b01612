//! What an idle stream costs.

use super::*;
use crate::streams::node::Node;

/// Bytes of memory for streams that have nothing to send, to read or to acknowledge.
fn idle_memory(streams: &Streams) -> usize {
    let mut bytes = streams.table.memory() + streams.attachment.memory();
    for index in 1..streams.table.slots() {
        let node = &streams.table[index];
        assert!(node.send.buf.is_none() && node.recv.buf.is_none() && node.rare.is_none());
        assert!(node.account.is_none());
        bytes += usize::from(node.names.is_none());
    }
    bytes
}

#[test]
fn an_idle_stream_costs_its_node_and_an_entry_in_the_map() {
    const COUNT: usize = 100_000;
    let mut pair = Pair::new();
    for _ in 0..COUNT / 100 {
        for _ in 0..100 {
            let key = pair.a.open_top_level("svc", "v1").unwrap();
            pair.a.write_all(key, b"x");
        }
        pair.run();
        while let Some(key) = pair.b.accept_any() {
            assert_eq!(pair.b.read_all(key).0, b"x");
        }
        pair.run();
    }
    for end in [&pair.a, &pair.b] {
        assert_eq!(end.len(), COUNT);
        let each = idle_memory(end) / COUNT;
        println!(
            "{each} bytes per idle stream, of which {} are the node",
            size_of::<Option<Node>>()
        );
        assert!(size_of::<Option<Node>>() <= 160);
        assert!(each <= 200, "{each} bytes");
        assert!(!end.wants());
    }
}
