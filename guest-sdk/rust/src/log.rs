//! Structured log lines in the run's trace.
//!
//! ```
//! use dormouse::log;
//!
//! let (user, seats) = ("u_17", 3);
//! log::info!("booked");
//! log::info!("booked {seats} seats", user = user, by = ["app", "v2"]);
//! log::warn!("only {} left", 40 - seats, user = user);
//! ```
//!
//! Arguments are those of `format!`; `name = value` makes a field of any value that can be serialised. What is printed to stdout and stderr becomes log lines too.

use serde_json::{Map, Value};

use crate::bindings::dormouse::task::telemetry;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Of use while looking for a fault.
    Debug,
    /// Plain output.
    Log,
    /// Worth knowing.
    Info,
    /// Odd, but the task goes on.
    Warn,
    /// A failure.
    Error,
}

/// Names and values of one line.
pub type Fields = Vec<(&'static str, Value)>;

/// Writes a line; the macros of this module are nicer to use. What does not fit the host's limits is cut there.
pub fn record(level: Level, message: &str, fields: Fields) {
    let attributes = if fields.is_empty() {
        String::new()
    } else {
        Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>()).to_string()
    };
    if cfg!(target_family = "wasm") {
        telemetry::log(wit_level(level), message, &attributes, None);
    } else {
        eprintln!("{level:?} {message} {attributes}");
    }
}

fn wit_level(level: Level) -> telemetry::Level {
    match level {
        Level::Debug => telemetry::Level::Debug,
        Level::Log => telemetry::Level::Log,
        Level::Info => telemetry::Level::Info,
        Level::Warn => telemetry::Level::Warn,
        Level::Error => telemetry::Level::Error,
    }
}

/// Sorts what follows the message into arguments of the message and fields, and writes the line.
#[doc(hidden)]
#[macro_export]
macro_rules! __record {
    (@$level:ident $message:literal [$($argument:expr,)*] [$($field:ident = $value:expr,)*] $(,)?) => {
        $crate::log::record(
            $crate::log::Level::$level,
            &::std::format!($message, $($argument),*),
            $crate::__fields!($($field = $value),*),
        )
    };
    (@$level:ident $message:literal [$($arguments:tt)*] [$($fields:tt)*], $field:ident = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__record!(@$level $message [$($arguments)*] [$($fields)* $field = $value,] $(, $($rest)*)?)
    };
    (@$level:ident $message:literal [$($arguments:tt)*] [$($fields:tt)*], $argument:expr $(, $($rest:tt)*)?) => {
        $crate::__record!(@$level $message [$($arguments)* $argument,] [$($fields)*] $(, $($rest)*)?)
    };
    ($level:ident, $message:literal $($rest:tt)*) => {
        $crate::__record!(@$level $message [] [] $($rest)*)
    };
}

/// The fields of a line.
#[doc(hidden)]
#[macro_export]
macro_rules! __fields {
    ($($field:ident = $value:expr),*) => {
        ::std::vec![$((::core::stringify!($field), $crate::__private::serde_json::json!(&$value))),*] as $crate::__private::Fields
    };
}

macro_rules! level_macros {
    ($dollar:tt $($hidden:ident $name:ident $level:ident $about:literal;)*) => {$(
        #[doc = $about]
        #[doc = "\n\nA message as for `format!`, then fields. See the [module](crate::log)."]
        #[macro_export]
        macro_rules! $hidden {
            ($dollar($dollar rest:tt)+) => { $crate::__record!($level, $dollar($dollar rest)+) };
        }
        #[doc(inline)]
        pub use $hidden as $name;
    )*};
}

level_macros! { $
    __log_debug debug Debug "Writes a line of use while looking for a fault.";
    __log_log log Log "Writes a plain line.";
    __log_info info Info "Writes a line worth knowing.";
    __log_warn warn Warn "Writes a line about something odd.";
    __log_error error Error "Writes a line about a failure.";
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn fields_take_any_serialisable_value() {
        let user = "u_17".to_owned();
        let fields = crate::__fields!(user = user, n = 1 + 2, list = [1, 2]);
        assert_eq!(fields, vec![("user", json!("u_17")), ("n", json!(3)), ("list", json!([1, 2]))]);
        assert_eq!(user, "u_17");
    }

    #[test]
    fn all_forms_of_a_line_compile() {
        let n = 3;
        crate::log::info!("plain");
        crate::log::warn!("with {n} captured", name = "field",);
        crate::log::error!("with {} arguments and {:?}", n, "text", n = n, is_twice = n == 2 * 3);
        crate::log::debug!("with {}", n);
        crate::log::log!("with a trailing comma {}", n,);
    }
}
