//! The command line: arguments, commands, exit codes, terminal.
//!
//! - [`arguments`]: what can be written, and what it means.
//! - [`compare`]: `ungil compare`.
//! - [`classic`]: the two classic tasks that it runs without a function.
//! - [`progress`]: what is seen while it runs.
//! - [`terminal`]: width, colours and characters of what is written to.
//! - [`exit_code`]: every exit code, named.

pub mod arguments;
pub mod classic;
pub mod compare;
pub mod exit_code;
pub mod progress;
pub mod terminal;

use clap::Parser;
use ungil_compare::launch::Launch;

use crate::arguments::{Arguments, Command};
use crate::exit_code::ExitCode;

/// Runs the command that `arguments` (without the program's name) ask for.
///
/// Returns the exit code. `is_interrupted` is asked often, and ends the command once it says so.
pub fn run(
    arguments: &[String],
    launcher: &mut dyn Launch,
    is_interrupted: &mut dyn FnMut() -> bool,
) -> u8 {
    let program = std::iter::once("ungil").chain(arguments.iter().map(String::as_str));
    let code = match Arguments::try_parse_from(program) {
        Ok(arguments) => match arguments.command {
            Command::Compare(options) => compare::run(&options, launcher, is_interrupted),
        },
        Err(error) => {
            // Whoever closed the stream no longer reads what is printed.
            let _ = error.print();
            if error.use_stderr() { ExitCode::Usage } else { ExitCode::Success }
        }
    };
    code as u8
}
