//! Network namespaces by name.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, netlink};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::Error;
use crate::system;

/// The folder in which `ip netns` keeps the names.
const FOLDER: &str = "/run/netns";

/// A namespace. It stays when this is dropped; [`remove`] ends it.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes namespaces with these names, with loopback up.
    pub(crate) fn create(names: Vec<String>) -> Result<Vec<Self>, Error> {
        let lines: String = names.iter().map(|name| format!("netns add {name}\n")).collect();
        system::run("ip", &["-batch", "-"], &lines)?;
        let namespaces: Vec<Self> = names.into_iter().map(|name| Self { name }).collect();
        for namespace in &namespaces {
            namespace.prepare()?;
        }
        Ok(namespaces)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Does something in a thread that is in the namespace, and waits for it.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let failed = || Error::system(format!("the namespace {}", self.name));
        let file = File::open(path(&self.name)).map_err(failed())?;
        // A thread never comes back: it ends there.
        let inside = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(io::Error::from)?;
            Ok(work())
        };
        match std::thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(outcome) => outcome.map_err(failed()),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs lines of `ip -batch` in the namespace.
    pub(crate) fn ip(&self, lines: &str) -> Result<(), Error> {
        system::run("ip", &["-n", &self.name, "-batch", "-"], lines).map(drop)
    }

    /// Loads rules of nftables in the namespace.
    pub(crate) fn nft(&self, rules: &str) -> Result<(), Error> {
        system::run("ip", &["netns", "exec", &self.name, "nft", "-f", "-"], rules).map(drop)
    }

    /// A program that is to run in the namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Makes a TUN device: whoever holds what is returned reads what the namespace sends through it.
    pub(crate) fn tun(&self, device: &str) -> Result<OwnedFd, Error> {
        let make = || -> io::Result<OwnedFd> {
            let device = tun_rs::DeviceBuilder::new()
                .name(device)
                .inherit_enable_state()
                .build_sync()?;
            let device = device.as_fd().try_clone_to_owned()?;
            rustix::io::ioctl_fionbio(&device, true)?;
            Ok(device)
        };
        self.enter(make)?
            .map_err(Error::system(format!("a TUN device in {}", self.name)))
    }

    /// Writes settings below `/proc/sys/net`; those that the kernel does not have are left out.
    pub(crate) fn settings(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        let write = || {
            settings.iter().try_for_each(|(name, value)| {
                let path = Path::new("/proc/sys/net").join(name);
                match std::fs::write(&path, value) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(Error::system(path.display().to_string())(error))
                    }
                    _ => Ok(()),
                }
            })
        };
        self.enter(write)?
    }

    /// Makes the namespace forget all connections that it tracks.
    pub(crate) fn forget_connections(&self) -> Result<(), Error> {
        // An IPCTNL_MSG_CT_DELETE without attributes means all (linux/netfilter/nfnetlink_conntrack.h): a header of
        // 16 bytes (length, type, flags NLM_F_REQUEST and NLM_F_ACK), and family, version, id.
        let mut message = Vec::with_capacity(20);
        message.extend(20u32.to_ne_bytes());
        message.extend((1u16 << 8 | 2).to_ne_bytes());
        message.extend(5u16.to_ne_bytes());
        message.extend([0; 12]);
        let send = || -> io::Result<()> {
            let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
            let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
            rustix::net::send(&socket, &message, SendFlags::empty())?;
            let mut answer = [0; 64];
            let (length, _) = rustix::net::recv(&socket, &mut answer, rustix::net::RecvFlags::empty())?;
            let code = answer[..length].get(16..20).and_then(|code| code.try_into().ok());
            match code.map(i32::from_ne_bytes) {
                Some(0) => Ok(()),
                Some(code) => Err(io::Error::from_raw_os_error(-code)),
                None => Err(io::ErrorKind::InvalidData.into()),
            }
        };
        self.enter(send)?
            .map_err(Error::system(format!("the connections of {}", self.name)))
    }

    fn prepare(&self) -> Result<(), Error> {
        self.ip("link set lo up\n")?;
        self.settings(&[
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
            ("ipv4/tcp_no_metrics_save", "1"),
            ("ipv6/conf/all/accept_ra", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/router_solicitations", "0"),
            ("bridge/bridge-nf-call-iptables", "0"),
            ("bridge/bridge-nf-call-ip6tables", "0"),
        ])
    }
}

/// Removes namespaces whose names begin so, with every process that runs in one.
pub(crate) fn remove(prefix: &str) -> Result<(), Error> {
    let names = with_prefix(prefix);
    end_processes(&names);
    let lines: String = names.iter().map(|name| format!("netns del {name}\n")).collect();
    if lines.is_empty() {
        return Ok(());
    }
    system::run("ip", &["-force", "-batch", "-"], &lines).map(drop)
}

/// Names of namespaces that begin so.
pub(crate) fn with_prefix(prefix: &str) -> Vec<String> {
    let folder = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let names = folder.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort_unstable();
    names
}

/// Kills the processes in these namespaces, but for this one: a namespace lives as long as a process is in it.
fn end_processes(names: &[String]) {
    use std::os::linux::fs::MetadataExt;
    let place = |path: PathBuf| std::fs::metadata(path).ok().map(|data| (data.st_dev(), data.st_ino()));
    let ours: Vec<_> = names.iter().filter_map(|name| place(path(name))).collect();
    if ours.is_empty() {
        return;
    }
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(process) = id.and_then(Pid::from_raw).filter(|id| *id != rustix::process::getpid()) else {
            continue;
        };
        if place(entry.path().join("ns/net")).is_some_and(|at| ours.contains(&at)) {
            // It may have ended by itself.
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}
