//! The commands of this workspace: `cargo xtask --help` is the manual.

#![expect(
    clippy::print_stdout,
    reason = "a command line program talks to its user"
)]

mod bench;
mod cargo;
mod ci;
mod demo;
mod docs;
mod dynalite;
mod flags;
mod lint;
mod provision;
mod server;
mod servers;
mod slim;
mod test;
mod workspace;

use std::process::ExitCode;

use flags::Command;

/// The outcome of a command; the error is one line for the user.
type Result<T = (), E = String> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match flags::parse(lexopt::Parser::from_env()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result {
    match command {
        Command::Help => flags::help(),
        Command::Demo {
            storages,
            has_outage,
            arguments,
        } => demo::run(&storages, has_outage, &arguments),
        Command::Test => test::everything(),
        Command::Integration(backend) => test::integration(backend),
        Command::Drills => test::drills(),
        Command::Lint => lint::run(),
        Command::Bench { arguments } => bench::run(&arguments),
        Command::Slim => slim::run(),
        Command::Servers => servers::run(),
        Command::Docs => docs::run(),
        Command::Ci => ci::run(),
    }
}
