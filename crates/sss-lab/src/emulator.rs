//! The link between namespaces: a thread that carries packets from one TUN device to another.

mod bottleneck;
mod ip;
pub(crate) mod network;

use std::io::{PipeReader, PipeWriter, Write};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::network::{Nanos, Network};
use crate::error::Error;
use crate::system;

/// Packets taken from a device before the others have their turn.
const AT_ONCE: usize = 64;

/// Longest IP packet.
const LONGEST: usize = 65_535;

/// Work for the thread.
type Job = Box<dyn FnOnce(&mut Network) + Send>;

/// Priority among all threads of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// As every other.
    Usual,
    /// Before all that are usual.
    Realtime,
}

/// The thread. It ends, and the devices with it, when this is dropped.
#[derive(Debug)]
pub(crate) struct Emulator {
    jobs: Option<Sender<Job>>,
    bell: PipeWriter,
    thread: Option<JoinHandle<()>>,
}

impl Emulator {
    /// Carries packets between these devices, in the order of the network's ports.
    pub(crate) fn start(devices: Vec<OwnedFd>, network: Network) -> Result<Self, Error> {
        let (jobs, inbox) = mpsc::channel();
        let failed = |source| Error::system("the emulator of links")(source);
        let (ear, bell) = std::io::pipe().map_err(failed)?;
        rustix::io::ioctl_fionbio(&ear, true).map_err(|e| failed(e.into()))?;
        let carrier = Carrier {
            devices,
            network,
            inbox,
            ear,
            begun: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("sss-lab link".into())
            .spawn(move || carrier.run());
        Ok(Self {
            jobs: Some(jobs),
            bell,
            thread: Some(thread.map_err(failed)?),
        })
    }

    /// Does something with the network between two packets, and returns when it is done.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Network) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = mpsc::channel();
        let job: Job = Box::new(move |network| {
            // Whoever asked may have gone.
            let _ = answer.send(work(network));
        });
        let gone = || Error::Impossible("the emulator of links has ended: a device is gone".into());
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(job).map_err(|_| gone())?;
        (&self.bell).write_all(&[1]).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())
    }
}

impl Emulator {
    /// Says how soon the thread is to run when it has something to do.
    pub(crate) fn set_urgency(&self, urgency: Urgency) -> Result<(), Error> {
        match urgency {
            Urgency::Usual => Ok(()),
            Urgency::Realtime => {
                let thread = self.with(|_| rustix::thread::gettid())?;
                let thread = thread.as_raw_nonzero().to_string();
                system::run("chrt", &["--fifo", "--pid", "20", &thread], "").map(drop)
            }
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.jobs = None;
        // It fails only if the thread has ended by itself.
        let _ = self.bell.write_all(&[1]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The state of the thread.
struct Carrier {
    devices: Vec<OwnedFd>,
    network: Network,
    inbox: Receiver<Job>,
    ear: PipeReader,
    begun: Instant,
}

impl Carrier {
    fn run(mut self) {
        // Timers of a usual thread are up to 50 us late. Without this, links are just less exact.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut buffer = vec![0; LONGEST];
        loop {
            self.deliver(self.now());
            let Some(ready) = self.wait() else {
                return;
            };
            for port in ready {
                self.take(port, &mut buffer);
            }
            loop {
                match self.inbox.try_recv() {
                    Ok(job) => job(&mut self.network),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    fn now(&self) -> Nanos {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Hands over what has arrived.
    fn deliver(&mut self, now: Nanos) {
        let devices = &self.devices;
        self.network.advance(now, |port, packet| {
            // A device that is down, or whose queue is full, loses it: so would a network.
            let _ = rustix::io::write(&devices[port], packet);
        });
    }

    /// Waits for packets, jobs or the next step; the ports with packets, or `None` if a device is gone.
    fn wait(&self) -> Option<Vec<usize>> {
        let sources = self.devices.iter().map(AsFd::as_fd).chain([self.ear.as_fd()]);
        let mut sources: Vec<PollFd<'_>> = sources.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let wait = self.network.next().map(|at| at.saturating_sub(self.now()));
        let wait = wait.map(|wait| {
            let wait = Duration::from_nanos(wait);
            Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: wait.subsec_nanos().into(),
            }
        });
        match poll(&mut sources, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
        let gone = PollFlags::NVAL | PollFlags::ERR;
        if sources.iter().any(|source| source.revents().intersects(gone)) {
            return None;
        }
        let ready = |port: &usize| sources[*port].revents().contains(PollFlags::IN);
        let ports = (0..self.devices.len()).filter(ready).collect();
        if sources.last().is_some_and(|ear| !ear.revents().is_empty()) {
            let mut rings = [0; 64];
            while rustix::io::read(&self.ear, &mut rings).is_ok_and(|read| read == rings.len()) {}
        }
        Some(ports)
    }

    /// Takes the packets that a device has.
    fn take(&mut self, port: usize, buffer: &mut [u8]) {
        for _ in 0..AT_ONCE {
            let Ok(length) = rustix::io::read(&self.devices[port], &mut *buffer) else {
                return;
            };
            let now = self.now();
            self.deliver(now);
            self.network.receive(now, port, buffer[..length].to_vec());
        }
    }
}
