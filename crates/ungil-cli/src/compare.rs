//! `ungil compare`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use ungil_compare::comparison::Comparison;
use ungil_compare::launch::Launch;
use ungil_compare::message::{Items, Target};
use ungil_compare::{Failure, Job, Plan};
use ungil_observe::Machine;
use ungil_report::text::Style;
use ungil_report::{json, log, text};

use crate::arguments::CompareOptions;
use crate::classic;
use crate::exit_code::{self, ExitCode};
use crate::progress::Progress;
use crate::terminal;

/// Seconds for the comparison of one function.
const BUDGET_S: f64 = 60.0;
/// Calls in one run of a function that gets no items.
const TASKS: usize = 8;

/// Runs the command and returns its exit code.
pub fn run(
    options: &CompareOptions,
    launcher: &mut dyn Launch,
    is_interrupted: &mut dyn FnMut() -> bool,
) -> ExitCode {
    let style = terminal::style();
    let prepared = open_json(options).and_then(|file| Ok((file, plans(options)?)));
    let (json_file, plans) = match prepared {
        Ok(prepared) => prepared,
        Err((code, message)) => return complain(&message, code),
    };
    let mut output = Output { style, is_text_on_stdout: !writes_json_to_stdout(options) };
    let mut comparisons = Vec::new();
    let mut code = ExitCode::Success;
    for plan in plans {
        let mut progress = Progress::new(plan.budget_s, output.style, is_interrupted);
        let outcome = ungil_compare::run(&plan, launcher, &mut progress);
        progress.clear();
        match outcome {
            Ok(comparison) => {
                let this = exit_code::of_comparison(&comparison);
                code = worse(code, this);
                if let Err(error) = output.show(&comparison, options.log) {
                    return complain_of_output(&error);
                }
                comparisons.push(comparison);
                if this == ExitCode::Interrupted {
                    break;
                }
            }
            Err(failure) => return complain_of(&failure),
        }
    }
    match write_json(options, json_file, &comparisons) {
        Ok(()) => code,
        Err(error) => complain_of_output(&error),
    }
}

/// The first code that says something stays, but an interruption outweighs it.
fn worse(one: ExitCode, other: ExitCode) -> ExitCode {
    if one == ExitCode::Success || other == ExitCode::Interrupted { other } else { one }
}

/// Why the command cannot begin.
type Refusal = (ExitCode, String);

fn plans(options: &CompareOptions) -> Result<Vec<Plan>, Refusal> {
    let jobs = match &options.target {
        Some(target) => vec![job(target, options)?],
        None => {
            if options.items.is_some() || options.args.is_some() || options.kwargs.is_some() {
                let message = "--items, --args and --kwargs need a function: ungil compare \
                               path.py:function --items ...";
                return Err((ExitCode::Usage, message.to_owned()));
            }
            classic::jobs(&options.engines, &Machine::read())
        }
    };
    let default_s = if options.target.is_some() { BUDGET_S } else { classic::BUDGET_S };
    let budget_s = options.budget.unwrap_or(default_s) / jobs.len() as f64;
    let plan = |job: Job| Plan {
        job: Job { tasks: options.tasks.or(job.tasks), ..job },
        payload: Vec::new(),
        models: (!options.models.is_empty()).then(|| options.models.clone()),
        engines: options.engines.clone(),
        workers: options.workers.as_ref().map(|counts| counts.0.clone()),
        budget_s,
        rounds: options.rounds,
        is_logged: options.log,
        seed: options.seed.unwrap_or_else(seed),
    };
    Ok(jobs.into_iter().map(plan).collect())
}

fn job(target: &str, options: &CompareOptions) -> Result<Job, Refusal> {
    let items = match options.items.as_deref() {
        None => Items::None,
        Some("-") => Items::Lines(standard_input()?),
        Some(text) => Items::Expression(text.to_owned()),
    };
    let tasks = options.tasks.or((items == Items::None).then_some(TASKS));
    Ok(Job {
        target: Target::Named(target.to_owned()),
        items,
        arguments: options.args.clone(),
        keywords: options.kwargs.clone(),
        tasks,
        engines: options.engines.clone(),
    })
}

fn standard_input() -> Result<Vec<String>, Refusal> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| format!("--items -: failed to read standard input: {error}"))
        .map_err(|message| (ExitCode::Items, message))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| (ExitCode::Items, "--items -: standard input is not UTF-8 text".to_owned()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u64::from(since.subsec_nanos()))
}

fn writes_json_to_stdout(options: &CompareOptions) -> bool {
    options.json.as_deref() == Some(Path::new("-"))
}

/// A file to write to. It is opened before the comparison, so that a wrong path is not found out
/// after it, and removed again if it was created for nothing.
struct JsonFile<'a> {
    path: &'a Path,
    file: File,
    is_unused: bool,
}

impl Drop for JsonFile<'_> {
    fn drop(&mut self) {
        if self.is_unused {
            // Whoever removed it first wanted the same.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

fn open_json(options: &CompareOptions) -> Result<Option<JsonFile<'_>>, Refusal> {
    let Some(path) = options.json.as_deref().filter(|path| *path != Path::new("-")) else {
        return Ok(None);
    };
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    let is_unused = created.is_ok();
    let opened = match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(path)
        }
        created => created,
    };
    opened.map(|file| Some(JsonFile { path, file, is_unused })).map_err(|error| {
        (ExitCode::Usage, format!("--json {}: failed to open it: {error}", path.display()))
    })
}

fn write_json(
    options: &CompareOptions,
    file: Option<JsonFile<'_>>,
    comparisons: &[Comparison],
) -> io::Result<()> {
    let text = json::render(comparisons);
    if writes_json_to_stdout(options) {
        return print(&text);
    }
    let Some(mut json) = file else { return Ok(()) };
    json.is_unused = false;
    // A device or a pipe has no length to cut.
    if json.file.metadata()?.is_file() {
        json.file.set_len(0)?;
    }
    json.file.write_all(text.as_bytes())
}

struct Output {
    style: Style,
    is_text_on_stdout: bool,
}

impl Output {
    fn show(&mut self, comparison: &Comparison, is_logged: bool) -> io::Result<()> {
        let mut shown = text::render(comparison, &self.style);
        if is_logged {
            shown = format!("{}\n{shown}", log::render(comparison));
        }
        if self.is_text_on_stdout {
            print(&format!("{}\n\n", shown.trim_end()))
        } else {
            writeln!(io::stderr(), "{}\n", shown.trim_end())
        }
    }
}

/// Writes to standard output; a reader that went away (`| head`) misses nothing it wants.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn complain_of_output(error: &io::Error) -> ExitCode {
    complain(&format!("the result could not be written: {error}"), ExitCode::Unwritten)
}

fn complain(message: &str, code: ExitCode) -> ExitCode {
    let _ = writeln!(io::stderr(), "ungil: {}", text::visible(message));
    code
}

fn complain_of(failure: &Failure) -> ExitCode {
    let code = exit_code::of_failure(failure);
    if code == ExitCode::Interrupted {
        return complain("interrupted before there was anything to report", code);
    }
    if let Some(detail) = &failure.detail {
        let _ = writeln!(io::stderr(), "{}", text::visible(detail));
    }
    complain(&failure.message, code)
}
