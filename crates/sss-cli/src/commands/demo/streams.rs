//! The tree of streams, seen while it lives.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use sss::{Peer, TreeNode};

use crate::output::{Output, size, wrapped};
use crate::screen;
use crate::transfer::tally::Tally;

/// Substreams shown; the others are counted.
const SHOWN: usize = 10;
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks at the tree until all files are found and under way, and keeps the look with the most streams.
pub(crate) async fn watch(peer: &Peer, tally: &Tally) -> Vec<TreeNode> {
    let mut most = Vec::new();
    let mut looks = tokio::time::interval(INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !tally.all_found.load(Ordering::Relaxed) {
        looks.tick().await;
        if peer.stream_count() > most.len() {
            most = peer.tree();
        }
    }
    most
}

/// Prints the tree.
pub(crate) fn show(tree: &[TreeNode], output: Output) {
    let nodes: Vec<Value> = tree.iter().take(SHOWN).map(fact).collect();
    let fact = json!({"event": "tree", "streams": tree.len(), "first": nodes});
    if output.is_json() {
        output.fact("", &fact);
        return;
    }
    output.text(format!("the tree of streams, with {} of them alive:", tree.len()));
    for node in tree.iter().take(SHOWN) {
        output.text(wrapped(&line(node), screen::output_width(), 8));
    }
    if let Some(more) = tree.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        output.text(format!("    ... and {more} more"));
    }
}

fn line(node: &TreeNode) -> String {
    let info = &node.info;
    let indent = "  ".repeat(usize::from(info.depth).saturating_add(1));
    let name = match &info.names {
        Some((service, protocol)) => format!("{service:?} {protocol}"),
        None => "substream".to_owned(),
    };
    let waits = info
        .waits
        .as_ref()
        .map_or_else(String::new, |w| format!(", waits: {w}"));
    format!(
        "{indent}{name}: {} sent, {} received, {}{waits}",
        size(info.sent),
        size(info.received),
        match info.children {
            1 => "1 child".to_owned(),
            many => format!("{many} children"),
        }
    )
}

fn fact(node: &TreeNode) -> Value {
    let info = &node.info;
    json!({
        "depth": info.depth,
        "names": info.names,
        "opened_by_peer": info.is_opened_by_peer,
        "children": info.children,
        "sent": info.sent,
        "received": info.received,
        "waits": info.waits.as_ref().map(ToString::to_string),
    })
}
