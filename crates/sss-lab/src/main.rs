//! `sss-lab`: NATs, firewalls and slow links on one machine, to try things in.

#[cfg(target_os = "linux")]
mod tool;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    tool::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("sss-lab: labs are made of network namespaces, which only Linux has: run it in a virtual machine");
    std::process::ExitCode::FAILURE
}
