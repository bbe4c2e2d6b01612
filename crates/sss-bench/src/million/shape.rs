//! The shapes of trees, and opening them.

use std::cell::Cell;
use std::rc::Rc;

use sss::Stream;
use tokio::task::JoinSet;

use super::holder::Kind;
use super::session::Session;
use crate::outcome::Outcome;
use crate::tree_shape::{CHAIN, Shape};

/// Streams opened at once, or chains of streams.
const OPENERS: usize = 100;

/// Streams as the task holds them that opened them: moving them into one place would leave memory behind that counts.
pub(super) type Groups = Vec<Vec<Stream>>;

/// A tree of some shape.
pub(super) struct Tree {
    shape: Shape,
    /// The streams on which those hang that count, uppermost first.
    trunk: Vec<Rc<Stream>>,
    held: Groups,
}

impl Session {
    /// Opens what comes before the streams that count.
    pub(super) async fn tree(&self, shape: Shape) -> Outcome<Tree> {
        let length = if shape == Shape::Comb { CHAIN } else { 1 };
        let mut trunk: Vec<Rc<Stream>> = Vec::new();
        while trunk.len() < length {
            let parent = trunk.last().map_or(&self.top, |last| last);
            let next = hang(parent, Kind::Trunk).await?;
            trunk.push(Rc::new(next));
        }
        let held = Vec::new();
        Ok(Tree { shape, trunk, held })
    }
}

/// Opens a child of a stream; it does not wait for the answer.
async fn hang(parent: &Stream, kind: Kind) -> Outcome<Stream> {
    let mut stream = parent.open_substream()?;
    stream.write_all(&[kind.byte()]).await?;
    Ok(stream)
}

impl Tree {
    /// The stream on which requests are measured: the lowest on which streams hang.
    pub(super) fn caller(&self) -> Rc<Stream> {
        Rc::clone(&self.trunk[self.trunk.len() - 1])
    }

    /// The streams that count, and those on which they hang, uppermost first.
    pub(super) fn into_streams(self) -> Outcome<(Groups, Vec<Stream>)> {
        let trunk = self.trunk.into_iter().map(Rc::into_inner).collect::<Option<_>>();
        Ok((self.held, trunk.ok_or("the tasks are gone, and what they shared")?))
    }

    pub(super) fn keep(&mut self, mut streams: Groups) {
        self.held.append(&mut streams);
    }

    /// Opens so many streams, and waits until the other process has answered on each.
    pub(super) async fn open(&self, count: usize) -> Outcome<Groups> {
        let opened = Rc::new(Cell::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..OPENERS {
            let (trunk, opened, shape) = (self.trunk.clone(), Rc::clone(&opened), self.shape);
            tasks.spawn_local(async move {
                let mut kept = Vec::with_capacity(count.div_ceil(OPENERS) + CHAIN);
                while opened.get() < count {
                    let number = opened.get();
                    let levels = match shape {
                        Shape::Chains => CHAIN.min(count - number),
                        Shape::Flat | Shape::Comb => 1,
                    };
                    opened.set(number + levels);
                    chain(&trunk[number % trunk.len()], levels, &mut kept).await?;
                }
                Outcome::Ok(kept)
            });
        }
        let mut groups = Vec::with_capacity(OPENERS);
        while let Some(ended) = tasks.join_next().await {
            groups.push(ended??);
        }
        Ok(groups)
    }
}

/// Opens streams below one another, and waits for an answer on each before the next: many long chains that are opened
/// at once take up the credit of the trunk before the first of them is accepted.
async fn chain(parent: &Stream, levels: usize, kept: &mut Vec<Stream>) -> Outcome<()> {
    for level in 1..=levels {
        let kind = if level == levels { Kind::Leaf } else { Kind::Link };
        let parent = if level == 1 { parent } else { &kept[kept.len() - 1] };
        let mut child = hang(parent, kind).await?;
        child.read_exact(&mut [0]).await?;
        kept.push(child);
    }
    Ok(())
}
