//! Rules of nftables that make a router what it is.
//!
//! The interface to the outside is `wan`, that to the hosts `lan`. A line break ends a rule, unless `\\` is before it.

use std::net::Ipv4Addr;

use crate::site::{Firewall, Ipv6, Kind};

/// Only answers get in, to the router and to hosts; and what a rule of NAT sends to a host.
const STATEFUL: &str = r#"
chain input { type filter hook input priority 0;
  iifname "wan" ct state established,related accept; iifname "wan" drop; }
chain forward { type filter hook forward priority 0;
  iifname "wan" ct state established,related accept; iifname "wan" ct status dnat accept; iifname "wan" drop; }
"#;

/// The same in IPv6, where finding neighbours goes through the firewall too.
const STATEFUL_SIX: &str = r#"
chain input { type filter hook input priority 0;
  icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
  iifname "wan" ct state established,related accept; iifname "wan" drop; }
chain forward { type filter hook forward priority 0;
  iifname "wan" ct state established,related accept; iifname "wan" drop; }
"#;

/// A table of which host has which port outside, filled when a packet has left for the first time.
const CONE: &str = r#"
map inside { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 120s; }
chain note { type filter hook postrouting priority 110;
  ct direction original oifname "wan" meta l4proto udp \
  add @inside { udp sport : ct original ip saddr . ct original proto-src }; }
"#;

const TO_INSIDE: &str = "dnat ip addr . port to udp dport map @inside;";

/// Addresses that a host has sent to, by its port outside.
const SEEN: &str = r#"
set seen { type inet_service . ipv4_addr; flags dynamic,timeout; timeout 120s; }
chain note_seen { type filter hook postrouting priority 111;
  oifname "wan" meta l4proto udp \
  add @seen { udp sport . ip daddr }; }
"#;

/// The port outside that the first packet of a host's port was given, for all that follow.
const KEPT: &str = r#"
map outside { typeof ip saddr . udp sport : udp sport; flags dynamic,timeout; timeout 300s; }
chain note_outside { type filter hook postrouting priority 110;
  ct direction original oifname "wan" meta l4proto udp \
  add @outside { ct original ip saddr . ct original proto-src : udp sport }; }
"#;

/// Rules of a router: its NAT, its firewall, IPv6. Loaded again, they forget all mappings.
pub(crate) fn router(kind: Kind, wan: Option<Ipv4Addr>, first_host: Option<Ipv4Addr>) -> String {
    let masquerade = source_nat("oifname \"wan\" masquerade;");
    let from_outside =
        |rule: &str| format!("chain before {{ type nat hook prerouting priority -100; iifname \"wan\" {rule} }}\n");
    let body = match (kind, wan, first_host) {
        (Kind::Open | Kind::NoIpv4, ..) => String::new(),
        (Kind::Prc, ..) => format!("{STATEFUL}{masquerade}"),
        (Kind::PrcAccept, ..) => masquerade,
        (Kind::FullCone, ..) => {
            let inside = from_outside(&format!("meta l4proto udp {TO_INSIDE}"));
            format!("{STATEFUL}{CONE}{masquerade}{inside}")
        }
        (Kind::Restricted, ..) => {
            let inside = from_outside(&format!("udp dport . ip saddr @seen {TO_INSIDE}"));
            format!("{STATEFUL}{CONE}{SEEN}{masquerade}{inside}")
        }
        (Kind::EimRandom, Some(wan), _) => {
            let known = format!("oifname \"wan\" meta l4proto udp snat to {wan} : ip saddr . udp sport map @outside;");
            let chain = source_nat(&format!("{known} oifname \"wan\" masquerade fully-random;"));
            format!("{STATEFUL}{KEPT}{chain}")
        }
        (Kind::EimRandom, None, _) => STATEFUL.to_owned(),
        (Kind::Symmetric, ..) => {
            format!("{STATEFUL}{}", source_nat("oifname \"wan\" masquerade fully-random;"))
        }
        (Kind::Dmz, _, host) => {
            let inside = host.map(|host| from_outside(&format!("meta l4proto udp dnat to {host};")));
            format!("{STATEFUL}{masquerade}{}", inside.unwrap_or_default())
        }
    };
    format!("{}{}", forget("ip", "lab_nat"), table("ip", "lab_nat", &body))
}

/// Rules for the site's IPv6.
pub(crate) fn ipv6(ipv6: Ipv6) -> String {
    let body = match ipv6 {
        Ipv6::None | Ipv6::Open => "",
        Ipv6::Stateful => STATEFUL_SIX,
        // Neighbours are found, and then there is silence.
        Ipv6::Broken => "chain forward { type filter hook forward priority 0; drop; }\n",
    };
    format!("{}{}", forget("ip6", "lab_six"), table("ip6", "lab_six", body))
}

/// Rules of a firewall besides.
pub(crate) fn firewall(firewall: Firewall) -> String {
    let rules = match firewall {
        Firewall::None => String::new(),
        Firewall::UdpDropped => "meta l4proto udp drop;".into(),
        Firewall::UdpRejected => {
            "iifname \"lan\" meta l4proto udp reject with icmpx admin-prohibited; meta l4proto udp drop;".into()
        }
        Firewall::Udp443 => "udp dport { 443, 53 } accept; meta l4proto udp ct state established accept; \
                             meta l4proto udp drop;"
            .into(),
        Firewall::Tcp443 => "ct state established,related accept; iifname \"lan\" tcp dport 443 accept; drop;".into(),
        Firewall::Longer(bytes) => format!("meta length > {bytes} drop;"),
    };
    let chain = format!("chain forward {{ type filter hook forward priority -10; {rules} }}\n");
    format!(
        "{}{}",
        forget("inet", "lab_firewall"),
        table("inet", "lab_firewall", &chain)
    )
}

fn source_nat(rules: &str) -> String {
    format!("chain after {{ type nat hook postrouting priority 100; {rules} }}\n")
}

fn table(family: &str, name: &str, body: &str) -> String {
    format!("table {family} {name} {{\n{body}}}\n")
}

/// Removes a table that may be there.
fn forget(family: &str, name: &str) -> String {
    format!("table {family} {name} {{ }}\ndelete table {family} {name}\n")
}
