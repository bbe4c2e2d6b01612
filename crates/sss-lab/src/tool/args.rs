//! The words of the command line.

use clap::{Args, Parser, Subcommand};
use sss_lab::{Builder, Error, Lab, Link, Public, Site};

const HELP: &str = "\
Two hosts behind a home router and a symmetric NAT, 25 ms apart; in another terminal something runs in them:
  sss-lab up --a prc --b sym --delay 25ms --tag try
  ip netns exec lab-try-a ping 198.18.0.1            (the server; `up` prints all addresses)
  sss-lab change reboot a                            a's router forgets its mappings
  sss-lab change link loss=5% ab.delay=80ms          while packets are on their way

The same, with a command for each host, and gone when both have ended:
  sss-lab run --a prc --b sym --delay 25ms -- sh -c 'ping -c 3 $LAB_SERVER'

Only a link between two hosts:
  sss-lab link rate=20M delay=25ms queue=125000 loss=1% -- sh -c 'ping -c 3 $LAB_PEER'

`sss-lab kinds` lists kinds of routers and settings of links. It needs root, iproute2, nftables and TUN devices.
Everything is inside namespaces of its own: nothing of this machine's network is touched, and nothing gets out.

Exit status: 0 when all went well, 1 if not, or if `check` finds something wrong; of `run`, that of the first command
that failed; 2 for a wrong command line.";

/// Makes networks to try things in: NATs, firewalls and slow links, on this machine.
#[derive(Debug, Parser)]
#[command(name = "sss-lab", version, after_help = HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a lab, print names and addresses, and hold it until interrupted.
    Up(UpArgs),
    /// Make a lab, run a command in each host, and end with them.
    Run(RunArgs),
    /// Make two hosts with a link between them.
    Link(WireArgs),
    /// Change a lab that is up.
    Change(ChangeArgs),
    /// List kinds of routers, what may stand behind them, and settings of links.
    Kinds,
    /// Measure what kinds and firewalls really do, and compare.
    Check {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List the tags of labs that are up.
    List,
    /// Remove what labs have left behind that were killed. Making a lab does so too.
    Sweep,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,
    /// Print names and addresses as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,
    /// Run it in this node alone (a, b, a2, server); may be given more than once.
    #[arg(long, value_name = "NODE")]
    pub(crate) on: Vec<String>,
    /// The command. It finds in its environment LAB_SIDE, LAB_ADDRESS, LAB_OUTSIDE, LAB_PEER, LAB_SERVER, LAB_SERVER_2
    /// and LAB_TAG.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

/// The command line of a lab with sites.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lab")]
pub(crate) struct LabArgs {
    /// Site a: a kind of router, and what may stand behind it (`sss-lab kinds`).
    #[arg(long, value_name = "SITE", default_value = "prc")]
    a: Site,
    /// Site b.
    #[arg(long, value_name = "SITE", default_value = "prc")]
    b: Site,
    /// Another site, as c=prc,hosts=2; may be given more than once.
    #[arg(long, value_name = "NAME=SITE", value_parser = named_site)]
    site: Vec<(String, Site)>,
    /// Servers in the public network.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    servers: usize,
    /// Have 45.45.45.0/24 outside, for programs that refuse reserved addresses; else 198.18.0.0/15.
    #[arg(long)]
    ordinary: bool,
    /// Letters and digits of which names of namespaces are made; random unless given.
    #[arg(long)]
    tag: Option<String>,
    /// Longest IP packet outside.
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    mtu: u16,
    /// Let links come before everything else that runs on this machine: exact also when no core is free.
    #[arg(long)]
    realtime: bool,
    #[command(flatten)]
    link: LinkArgs,
}

/// Settings of links by their names.
#[derive(Debug, Args)]
#[command(next_help_heading = "Links")]
struct LinkArgs {
    /// One way between the hosts, as 25ms.
    #[arg(long, value_name = "TIME")]
    delay: Option<String>,
    /// a's one-way delay to the servers less that of the others, as 60ms or -60ms.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    skew: Option<String>,
    /// One way between the nearer hosts and the servers; as --delay unless given.
    #[arg(long, value_name = "TIME")]
    server_delay: Option<String>,
    /// Bits in a second that each site sends and receives, as 20M.
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// Bytes that wait at most.
    #[arg(long, value_name = "BYTES")]
    queue: Option<String>,
    /// Share of packets that are lost, as 1%.
    #[arg(long, value_name = "SHARE")]
    loss: Option<String>,
    /// Time up to which is added to the delay.
    #[arg(long, value_name = "TIME")]
    jitter: Option<String>,
    /// Any other setting, as reorder=1%,10ms or ba.loss=5%; may be given more than once.
    #[arg(long = "set", value_name = "SETTING")]
    others: Vec<String>,
}

/// The command line of a lab that is one link.
#[derive(Debug, Args)]
pub(crate) struct WireArgs {
    /// Settings, as rate=20M delay=25ms ba.loss=1% (`sss-lab kinds` lists them).
    #[arg(value_name = "SETTING")]
    settings: Vec<String>,
    /// Letters and digits of which names of namespaces are made; random unless given.
    #[arg(long)]
    tag: Option<String>,
    /// Longest IP packet.
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    mtu: u16,
    /// Let the link come before everything else that runs on this machine: exact also when no core is free.
    #[arg(long)]
    realtime: bool,
    /// Print names and addresses as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// A command to run in both hosts; without, the link is held until interrupted.
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Changes:
  link SETTING...       settings of links, as loss=5% ab.delay=80ms, or blackout=on
  reboot SITE           its routers forget all mappings, and keep their addresses
  renumber SITE         it gets another address outside
  move HOST SITE        the host leaves its network, and enters that of the site
  firewall SITE RULE    none, no-udp, reject-udp, udp443, tcp443, max1300
  show                  names and addresses as JSON, and what the links have carried")]
pub(crate) struct ChangeArgs {
    /// The lab's tag; not needed if only one is up.
    #[arg(long, value_name = "TAG")]
    pub(crate) lab: Option<String>,
    /// The change.
    #[arg(required = true, value_name = "CHANGE")]
    pub(crate) change: Vec<String>,
}

fn named_site(text: &str) -> Result<(String, Site), String> {
    let (name, site) = text.split_once('=').ok_or("a name, = and a kind: c=prc")?;
    let site = site.parse().map_err(|error: Error| error.to_string())?;
    Ok((name.to_owned(), site))
}

impl LabArgs {
    pub(crate) fn builder(self) -> Result<Builder, Error> {
        let lab = Lab::builder().site("a", self.a).site("b", self.b);
        let lab = self
            .site
            .into_iter()
            .fold(lab, |lab, (name, site)| lab.site(&name, site));
        let lab = if self.ordinary {
            lab.public(Public::Ordinary)
        } else {
            lab
        };
        let lab = lab.servers(self.servers).mtu(self.mtu).link(self.link.link()?);
        Ok(finished(lab, self.tag, self.realtime))
    }
}

impl LinkArgs {
    fn link(self) -> Result<Link, Error> {
        let named = [
            ("delay", self.delay),
            ("skew", self.skew),
            ("server-delay", self.server_delay),
            ("rate", self.rate),
            ("queue", self.queue),
            ("loss", self.loss),
            ("jitter", self.jitter),
        ];
        let named = named
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        Link::parse(named.chain(self.others))
    }
}

impl WireArgs {
    pub(crate) fn builder(&self) -> Result<Builder, Error> {
        let lab = Lab::wire().link(Link::parse(&self.settings)?).mtu(self.mtu);
        Ok(finished(lab, self.tag.clone(), self.realtime))
    }
}

fn finished(lab: Builder, tag: Option<String>, is_realtime: bool) -> Builder {
    let lab = if is_realtime { lab.realtime() } else { lab };
    match tag {
        Some(tag) => lab.tag(&tag),
        None => lab,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn examples_of_the_help_are_understood() {
        let lines = HELP.lines().filter_map(|line| line.strip_prefix("  sss-lab "));
        let mut number = 0;
        for line in lines {
            let line = line.split("   ").next().unwrap();
            let parsed = Cli::try_parse_from(["sss-lab"].into_iter().chain(line.split_whitespace()));
            let cli = parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
            match cli.command {
                Command::Up(up) => drop(up.lab.builder().unwrap()),
                Command::Run(run) => drop(run.lab.builder().unwrap()),
                Command::Link(link) => drop(link.builder().unwrap()),
                _ => {}
            }
            number += 1;
        }
        assert_eq!(number, 5);
    }
}
