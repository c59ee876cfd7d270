//! The concurrency models that the field knows, and which of two is the simpler one.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way to run many calls of one function.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// One call after the other, in the calling thread.
    Serial,
    /// Coroutines in one event loop in the calling thread.
    Asyncio,
    /// Threads of the calling process.
    Threads,
    /// Subinterpreters, each with a thread and a GIL of its own, in the calling process.
    Interpreters,
    /// Processes.
    Processes,
    /// Processes with several threads each.
    ProcessesThreads,
}

impl Model {
    /// All models, the simplest to live with first: fewer copies, fewer races, less to start.
    ///
    /// The order decides which model a tie is resolved to.
    pub const ALL: [Model; 6] = [
        Model::Serial,
        Model::Asyncio,
        Model::Threads,
        Model::Interpreters,
        Model::Processes,
        Model::ProcessesThreads,
    ];

    /// The model's name, as in `--models` and in every output.
    pub fn name(self) -> &'static str {
        match self {
            Model::Serial => "serial",
            Model::Asyncio => "asyncio",
            Model::Threads => "threads",
            Model::Interpreters => "interpreters",
            Model::Processes => "processes",
            Model::ProcessesThreads => "processes-threads",
        }
    }

    /// The model as a noun in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Model::Serial => "a serial loop",
            Model::ProcessesThreads => "processes x threads",
            other => other.name(),
        }
    }

    /// Whether tasks run in other processes than the caller's.
    pub fn uses_processes(self) -> bool {
        matches!(self, Model::Processes | Model::ProcessesThreads)
    }

    /// Whether tasks and results are pickled on their way.
    pub fn pickles(self) -> bool {
        self.uses_processes() || self == Model::Interpreters
    }
}

impl fmt::Display for Model {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// The name is none of a model's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownModel(String);

impl fmt::Display for UnknownModel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Model::ALL.iter().map(|model| model.name()).collect();
        write!(formatter, "there is no model {:?}; the models are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownModel {}

impl FromStr for Model {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<Model, UnknownModel> {
        let plain = name.trim().to_ascii_lowercase().replace('_', "-");
        Model::ALL
            .into_iter()
            .find(|model| model.name() == plain)
            .ok_or_else(|| UnknownModel(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_model() {
        for model in Model::ALL {
            assert_eq!(model.name().parse(), Ok(model));
        }
        assert_eq!("Processes_Threads".parse(), Ok(Model::ProcessesThreads));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = "fibers".parse::<Model>().unwrap_err().to_string();
        assert!(message.contains("\"fibers\"") && message.contains("processes-threads"));
    }

    #[test]
    fn models_are_ordered_from_simple_to_complicated() {
        assert!(Model::ALL.is_sorted());
    }
}
