//! `adu-export man`

use std::io::{self, Write as _};

use clap::CommandFactory;
use clap_mangen::Man;

use super::{Cli, ExitCode};

/// Prints the manual page, with a section for every subcommand.
///
/// # Errors
/// If standard output cannot be written.
pub fn run(out: &mut dyn io::Write) -> io::Result<ExitCode> {
    let mut page = Vec::new();
    let mut cli = Cli::command();
    // Subcommands get their full names only here.
    cli.build();
    Man::new(cli.clone()).render(&mut page)?;
    for command in cli.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = command.get_bin_name().unwrap_or(command.get_name()).to_uppercase();
        writeln!(page, ".SH {name}")?;
        let man = Man::new(command.clone());
        man.render_description_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    out.write_all(&page)?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_describes_every_subcommand() {
        let mut out = Vec::new();
        run(&mut out).expect("writes");
        let page = String::from_utf8(out).expect("UTF-8");
        assert!(page.contains(".TH"), "{page}");
        for command in Cli::command().get_subcommands() {
            assert!(
                page.contains(&format!(".SH ADU-EXPORT {}", command.get_name().to_uppercase())),
                "{page}"
            );
        }
    }
}
