//! `sss completions` and `sss man`: what a package ships beside the program, made from the same description of the
//! command line as `--help`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::{Error, Exit};
use crate::output::note_printed;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss completions bash > /usr/share/bash-completion/completions/sss
  sss completions zsh > /usr/share/zsh/site-functions/_sss
  sss completions fish > /usr/share/fish/vendor_completions.d/sss.fish
  source <(sss completions bash)              for this shell only")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Print the manual page, or write all of them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss man get | man -l -             reads a page
  sss man --dir /usr/share/man/man1  writes sss.1, sss-get.1 and so on")]
pub(crate) struct ManArgs {
    /// The command whose page is printed [default: that of sss]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    pub(crate) of: Option<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Prints the script.
pub(crate) fn completions(args: &CompletionsArgs, program: &Command) -> Result<(), Error> {
    // Some of the generators know nothing of hidden commands.
    let shown = program.get_subcommands().filter(|command| !command.is_hide_set());
    let mut program = Command::new("sss")
        .version(env!("CARGO_PKG_VERSION"))
        .args(program.get_arguments().cloned())
        .subcommands(shown.cloned());
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "sss", &mut script);
    print(&script);
    Ok(())
}

/// Prints a page, or writes all.
pub(crate) fn man(args: &ManArgs, program: Command) -> Result<(), Error> {
    if let Some(dir) = &args.dir {
        return write_all(dir, program);
    }
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let page = match &args.of {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name).filter(|c| !c.is_hide_set());
            let found = found.ok_or_else(|| {
                let what = format!("there is no command {name:?}");
                Error::new(Exit::Usage, what, "`sss --help` lists the commands")
            });
            found?.clone()
        }
    };
    let mut text = Vec::new();
    let rendered = Man::new(page).render(&mut text);
    rendered.map_err(|error| Error::new(Exit::Failed, error.to_string(), "report this as a defect"))?;
    print(&text);
    Ok(())
}

fn write_all(dir: &Path, program: Command) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(|error| Error::local(dir, "make the directory", &error))?;
    clap_mangen::generate_to(program, dir).map_err(|error| Error::local(dir, "write to", &error))
}

/// Prints it as it is: it is made of nothing but the description of the program.
fn print(text: &[u8]) {
    let mut out = std::io::stdout().lock();
    note_printed(out.write_all(text).and_then(|()| out.flush()));
}
