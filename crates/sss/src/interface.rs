//! Interfaces of this machine, of which addresses of one link name one.

use std::net::ToSocketAddrs;

use thiserror::Error;

/// Interface that an address of one link names, as `[fe80::1%eth9]:4433` does, and that this machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no interface {name} on this machine{}", there_are(known))]
#[non_exhaustive]
pub struct NoInterface {
    /// Name or number of the interface, as it was written.
    pub name: String,
    /// Names of the interfaces that are there, and have an address. Empty if the system does not tell.
    pub known: Vec<String>,
}

impl NoInterface {
    /// Checks that an interface is there, which is named or numbered. Asks the system, and sends nothing.
    ///
    /// # Errors
    /// If it is not.
    pub fn check(name: &str) -> Result<(), Self> {
        let with_addresses = if_addrs::get_if_addrs().unwrap_or_default();
        let is_there = match name.parse::<u32>() {
            // The system takes any number.
            Ok(number) => {
                with_addresses.is_empty() || with_addresses.iter().any(|interface| interface.index == Some(number))
            }
            // It knows those without an address, too.
            Err(_) => (format!("fe80::1%{name}").as_str(), 1).to_socket_addrs().is_ok(),
        };
        if is_there {
            return Ok(());
        }
        let mut known: Vec<String> = with_addresses.into_iter().map(|interface| interface.name).collect();
        known.sort_unstable();
        known.dedup();
        Err(Self {
            name: name.to_owned(),
            known,
        })
    }
}

fn there_are(known: &[String]) -> String {
    match known {
        [] => String::new(),
        [one] => format!(": there is {one}"),
        more => format!(": there are {}", more.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_told_with_those_that_are() {
        let known = if_addrs::get_if_addrs().unwrap();
        for interface in &known {
            assert_eq!(NoInterface::check(&interface.name), Ok(()));
            let number = interface.index.unwrap().to_string();
            assert_eq!(NoInterface::check(&number), Ok(()));
        }
        for missing in ["no-such", "4000000000"] {
            let error = NoInterface::check(missing).unwrap_err();
            let said = error.to_string();
            assert!(
                said.starts_with(&format!("there is no interface {missing} on this machine: there ")),
                "{said}"
            );
            assert!(known.iter().all(|one| error.known.contains(&one.name)), "{said}");
        }
    }
}
