//! Threat 37: waits that were begun before a fork, at a moment at which another thread had locked the hosts. It is not
//! in the copy, and neither is whoever would end the waits.

use std::process::exit;

use fork::{Fork, fork};
use futures_util::StreamExt as _;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::*;

/// Returns whether `waits` ends at once in a copy of the process that is made while both hosts are locked.
fn ends_in_copy(world: [&Host; 2], wait: &mut Boxed<'_>) -> bool {
    let (locked, is_locked) = mpsc::channel();
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            world[0].shared().tend(|_| {
                world[1].shared().tend(|_| {
                    locked.send(()).unwrap();
                    is_done.recv().unwrap_err();
                });
            });
        });
        is_locked.recv().unwrap();
        let child = match fork().unwrap() {
            Fork::Child => {
                let cx = &mut Context::from_waker(Waker::noop());
                let is_ready = wait.as_mut().poll(cx).is_ready();
                exit(i32::from(!is_ready));
            }
            Fork::Parent(pid) => Pid::from_raw(pid).unwrap(),
        };
        drop(done);
        let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
        status.exit_status() == Some(0)
    })
}

/// Waits of kinds that [`ON_STREAM`] has not.
const OTHERS_ON_STREAM: [Kind; 3] = [
    ("link", |s| {
        let mut link = s.peer().link();
        boxed(async move { link.changed().await })
    }),
    ("link as a stream", |s| {
        let mut link = s.peer().link();
        boxed(async move { link.next().await })
    }),
    ("receipt", |s| {
        boxed(async {
            let receipt = s.send_datagram(vec![1; 9]).reliable().tracked().await;
            receipt.unwrap().await
        })
    }),
];

#[test]
fn threat_37_what_was_awaited_of_a_host_that_was_locked_at_a_fork_ends_in_the_child() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut world = runtime.block_on(async {
        let mut world = world().await;
        fill(&mut world.ours).await;
        world
    });
    let _entered = runtime.enter();
    for (name, wait) in ON_STREAM.into_iter().chain(OTHERS_ON_STREAM) {
        let mut wait = wait(&mut world.ours);
        poll_once(&mut wait, Waker::noop());
        assert!(ends_in_copy([&world.client, &world.host], &mut wait), "{name}");
        poll_once(&mut wait, Waker::noop());
    }
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (name, mut wait) in others(&world, &silent) {
        poll_once(&mut wait, Waker::noop());
        assert!(ends_in_copy([&world.client, &world.host], &mut wait), "{name}");
        poll_once(&mut wait, Waker::noop());
    }
}
