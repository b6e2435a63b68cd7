//! Why a component cannot be made suspendable, precise enough to find the line of source that causes it.

use std::fmt;

use serde::Serialize;

/// One reason; an upload is answered with all that were found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refusal {
    /// The core module, by its name or its position; `None`: the component itself.
    pub module: Option<String>,
    /// The function, by the name section or its index.
    pub function: Option<String>,
    /// What is not supported.
    pub reason: String,
}

impl Refusal {
    /// A reason that concerns a module as a whole.
    pub fn of_module(module: &str, reason: impl Into<String>) -> Refusal {
        Refusal { module: Some(module.to_owned()), function: None, reason: reason.into() }
    }

    /// A reason found in one function.
    pub fn of_function(module: &str, function: impl Into<String>, reason: impl Into<String>) -> Refusal {
        Refusal { module: Some(module.to_owned()), function: Some(function.into()), reason: reason.into() }
    }

    /// A reason that concerns the component as a whole.
    pub fn of_component(reason: impl Into<String>) -> Refusal {
        Refusal { module: None, function: None, reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.module, &self.function) {
            (Some(module), Some(function)) => write!(f, "module {module}, function {function}: {}", self.reason),
            (Some(module), None) => write!(f, "module {module}: {}", self.reason),
            (None, _) => f.write_str(&self.reason),
        }
    }
}
