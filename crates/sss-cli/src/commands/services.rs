//! `sss services`: what a host offers.

use clap::Args;
use serde_json::json;
use sss::{ServiceInfo, ServiceList};
use sss_files::printable;

use crate::cli::{ConnectArgs, note_path, target};
use crate::connector::{Connection, Connector};
use crate::error::Error;
use crate::output::{Output, count, wrapped};
use crate::screen;
use crate::target::Target;

/// Show what services a host offers, and which protocols they speak
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss services EID@nas.example
  sss services 192.0.2.7 --trust     trust who is there, and remember
  sss services EID@192.0.2.7 --json  one object per service

Any host that speaks SSS answers, to everybody whom it lets connect. It may have
services that it does not list.")]
pub(crate) struct ServicesArgs {
    /// The host: a name or an address, with :PORT if it is not 7757, and EID@ before it if it is not known; or an EID
    /// alone, if a server finds it
    #[arg(value_name = "HOST", value_parser = target())]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Asks a host and shows what it says.
pub(crate) async fn run(args: ServicesArgs, output: Output) -> Result<(), Error> {
    note_path(&args.target, output);
    let connector = Connector::new(args.connect, output)?;
    let offered = connector.services(&args.target).await?;
    Connection::run(offered.host, async {
        for service in &offered.list.services {
            output.fact(
                text(service, width(&offered.list), screen::output_width()),
                &fact(service),
            );
        }
        let (listed, total) = (offered.list.services.len(), offered.list.total);
        if listed == 0 {
            output.text("no services are listed");
        }
        if !offered.list.is_complete() {
            output.note(format!(
                "the host has {}; only {listed} fit into its answer",
                count(total, "service")
            ));
        }
        if output.is_json() {
            let end = json!({"event": "services", "eid": offered.eid.to_string(), "listed": listed, "total": total});
            output.fact("", &end);
        }
        Ok(())
    })
    .await
}

/// Columns that the names take, protocols being shown two to the right.
fn width(list: &ServiceList) -> usize {
    let protocols = list.services.iter().flat_map(|s| &s.protocols);
    let protocols = protocols.map(|p| shown(&p.name).chars().count().saturating_add(2));
    let services = list.services.iter().map(|s| shown(&s.name).chars().count());
    services.chain(protocols).max().unwrap_or(0)
}

fn text(service: &ServiceInfo, width: usize, columns: Option<usize>) -> String {
    let line = |name: String, description: &str| {
        let line = format!("{name:width$}  {}", shown(description));
        wrapped(line.trim_end(), columns, width.saturating_add(2))
    };
    let mut lines = vec![line(shown(&service.name), &service.description)];
    let protocols = service.protocols.iter();
    lines.extend(protocols.map(|p| line(format!("  {}", shown(&p.name)), &p.description)));
    lines.join("\n")
}

/// Text of a peer, without what would surprise a terminal.
fn shown(text: &str) -> String {
    printable(text.as_bytes())
}

fn fact(service: &ServiceInfo) -> serde_json::Value {
    let protocol = |p: &sss::ProtocolInfo| json!({"name": p.name, "description": p.description});
    json!({
        "event": "service",
        "name": service.name,
        "description": service.description,
        "protocols": service.protocols.iter().map(protocol).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use sss::ProtocolInfo;

    use super::*;

    #[test]
    fn names_are_in_columns_and_control_characters_are_shown() {
        let protocols = vec![ProtocolInfo::new("sync/1", "Transfer"), ProtocolInfo::new("1", "")];
        let service = ServiceInfo::new("files", "Files\x1b[2J\nfake", protocols);
        let list = ServiceList::new(vec![service.clone()], 1);
        assert_eq!(width(&list), 8);
        let expected = "files     Files\\u{1b}[2J\\nfake\n  sync/1  Transfer\n  1";
        assert_eq!(text(&service, 8, None), expected);
    }
}
