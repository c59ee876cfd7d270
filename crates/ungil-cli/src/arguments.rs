//! What can be written on the command line, and what it means.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ungil_compare::Model;

use crate::exit_code;

/// More workers than this are a typing error rather than an experiment.
const WORKERS_LIMIT: usize = 4096;
/// Each task is an object of the host's, so that more of them would only fill the memory.
const COUNT_LIMIT: usize = 10_000_000;
/// Seconds; a year is as good as for ever.
const BUDGET_LIMIT_S: f64 = 31_536_000.0;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "ungil",
    version,
    about = "Threads, processes, both, or asyncio? ungil measures your function and says which.",
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a function under every concurrency model and say which fits, and why
    Compare(CompareOptions),
}

/// How text becomes values, for `--help`.
const VALUES_HELP: &str = "\
How text becomes values:
  --items 'range(64)'      a Python expression; names are looked up in the function's module
  --items urls.txt         a file, one item a line: a Python literal (3, 'a b', [1, 2]) or else
                           the line's text itself; blank lines are skipped
  --items -                standard input, read like a file
  --args '[128, \"fast\"]'   a Python list or tuple, passed after the item
  --kwargs '{\"depth\": 3}'  a Python dict
Every task is one call: function(item, *args, **kwargs), or function(*args, **kwargs) without
--items.";

/// Options of `ungil compare`.
#[derive(Debug, Clone, Args)]
#[command(after_help = format!("{VALUES_HELP}\n\n{}", exit_code::HELP))]
pub struct CompareOptions {
    /// path.py:function or package.module:function; without it, the two classic tasks
    ///
    /// The classic tasks are a countdown, which computes, and a sleep, which waits.
    pub target: Option<String>,

    /// One call for each: a Python expression, a file, or - for standard input
    #[arg(long, value_name = "EXPRESSION|FILE|-", allow_hyphen_values = true)]
    pub items: Option<String>,

    /// Positional arguments after the item, as a Python list
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub args: Option<String>,

    /// Keyword arguments, as a Python dict
    #[arg(long, value_name = "DICT", allow_hyphen_values = true)]
    pub kwargs: Option<String>,

    /// Calls in one run [default: one an item, or 8 without items]
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    pub tasks: Option<usize>,

    /// Workers of each model; several, as in 1,2,4,8, are a sweep
    ///
    /// By default one for each usable CPU, and up to 32 for work that waits. A sweep of work that
    /// waits goes on past the largest count until more workers gain nothing.
    #[arg(long, value_name = "N,...", value_parser = parse_workers, allow_hyphen_values = true)]
    pub workers: Option<Counts>,

    /// Models to run, of serial, asyncio, threads, interpreters, processes, processes-threads
    ///
    /// By default all that apply. Serial is always run: the others are compared with it.
    #[arg(long, value_name = "MODEL,...", value_delimiter = ',', value_parser = parse_model)]
    pub models: Vec<Model>,

    /// Whose executors, of ungil, stdlib (concurrent.futures), multiprocessing (its Pool)
    ///
    /// Several are run side by side. Or module:attribute for an engine of your own.
    #[arg(long, value_name = "ENGINE,...", value_delimiter = ',', default_value = "ungil")]
    pub engines: Vec<String>,

    /// Seconds that all of it may take [default: 60; 20 for the two classic tasks together]
    #[arg(long, value_name = "SECONDS", value_parser = parse_budget, allow_hyphen_values = true)]
    pub budget: Option<f64>,

    /// Measured rounds, and fresh starts, at most [default: as many as it takes, up to 40 and 8]
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    pub rounds: Option<usize>,

    /// Write the result as JSON, - for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Print one line a task: pid, process, thread, model, start, finish
    #[arg(long)]
    pub log: bool,

    /// Seed of the random order of the rounds
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Worker counts, each once, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts(pub Vec<usize>);

fn parse_count(text: &str) -> Result<usize, String> {
    match text.trim().parse::<usize>() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(count) if count > COUNT_LIMIT => Err(format!("{COUNT_LIMIT} is the limit")),
        Ok(count) => Ok(count),
        Err(_) => Err("it must be a whole number, such as 8".to_owned()),
    }
}

fn parse_workers(text: &str) -> Result<Counts, String> {
    let mut counts = Vec::new();
    for part in text.split(',') {
        match part.trim().parse::<usize>() {
            Ok(0) => return Err("a model needs at least 1 worker".to_owned()),
            Ok(count) if count > WORKERS_LIMIT => {
                return Err(format!("{count} workers are more than {WORKERS_LIMIT}, the limit"));
            }
            Ok(count) => counts.push(count),
            Err(_) => {
                return Err(format!(
                    "{:?} is no number of workers: write one, such as 4, or several, such as \
                     1,2,4,8",
                    part.trim()
                ));
            }
        }
    }
    counts.sort_unstable();
    counts.dedup();
    Ok(Counts(counts))
}

fn parse_model(text: &str) -> Result<Model, String> {
    text.parse::<Model>().map_err(|error| error.to_string())
}

fn parse_budget(text: &str) -> Result<f64, String> {
    match text.trim().trim_end_matches('s').parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= BUDGET_LIMIT_S => Ok(seconds),
        _ => Err("it must be a positive number of seconds, such as 60".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<CompareOptions, clap::Error> {
        let arguments = Arguments::try_parse_from(["ungil", "compare"].iter().chain(arguments))?;
        let Command::Compare(options) = arguments.command;
        Ok(options)
    }

    #[test]
    fn worker_counts_are_sorted_and_each_kept_once() {
        let options = parse(&["--workers", "8, 2,2,1"]).unwrap();
        assert_eq!(options.workers, Some(Counts(vec![1, 2, 8])));
    }

    #[test]
    fn impossible_numbers_are_refused_with_a_reason() {
        for (arguments, reason) in [
            (["--workers", "0"], "at least 1 worker"),
            (["--workers", "many"], "\"many\" is no number of workers"),
            (["--workers", "-3"], "\"-3\" is no number of workers"),
            (["--workers", "9999999"], "the limit"),
            (["--tasks", "0"], "at least 1"),
            (["--tasks", "1.5"], "whole number"),
            (["--tasks", "1000000000000"], "the limit"),
            (["--budget", "0"], "positive number of seconds"),
            (["--budget", "nan"], "positive number of seconds"),
            (["--budget", "-1"], "positive number of seconds"),
            (["--models", "fibers"], "there is no model \"fibers\""),
        ] {
            let error = parse(&arguments).unwrap_err().to_string();
            assert!(error.contains(reason), "{arguments:?} gave {error}");
        }
    }

    #[test]
    fn every_option_of_the_reference_is_understood() {
        let options = parse(&[
            "tasks.py:resize",
            "--items",
            "-",
            "--args",
            "[-1]",
            "--kwargs",
            "{}",
            "--models",
            "threads,processes-threads",
            "--engines",
            "ungil,stdlib",
            "--budget",
            "5s",
            "--json",
            "out.json",
            "--log",
        ])
        .unwrap();
        assert_eq!(options.items.as_deref(), Some("-"));
        assert_eq!(options.models, [Model::Threads, Model::ProcessesThreads]);
        assert_eq!(options.engines.len(), 2);
        assert_eq!(options.budget, Some(5.0));
    }

    #[test]
    fn the_executors_are_our_own_unless_others_are_asked_for() {
        assert_eq!(parse(&[]).unwrap().engines, ["ungil"]);
        assert_eq!(parse(&["--engines", "stdlib"]).unwrap().engines, ["stdlib"]);
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
