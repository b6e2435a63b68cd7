//! What a component may import, which of it suspends, and what its functions are called once handles are plain numbers.

/// Every function of this interface may suspend.
const WAIT: &str = "dormouse:task/wait";
/// [`POLLS`] of this interface may suspend.
const POLL: &str = "wasi:io/poll";
/// Blocking functions of [`POLL`]. Everything else in WASI that blocks is waited for with the instance in memory.
const POLLS: [&str; 2] = ["poll", "[method]pollable.block"];

/// Functions of this interface are [`SUBSCRIPTIONS`].
const CLOCK: &str = "wasi:clocks/monotonic-clock";
/// What makes the pollables of timers. A poll suspends the run only if all that it waits for are timers.
const SUBSCRIPTIONS: [&str; 2] = ["subscribe-instant", "subscribe-duration"];

/// Interfaces of WASI, by package, that the host offers in any 0.2 version.
const WASI: [&str; 7] = ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:http", "wasi:io", "wasi:random", "wasi:sockets"];
/// What a server of HTTP exports, which no host can offer as an import.
const SERVER: &str = "wasi:http/incoming-handler";

/// The interface a component must export.
pub const TASKS: &str = "dormouse:task/tasks";

/// Prefix of every name the rewriter adds.
pub const RESERVED: &str = "ckpt";

/// Why the host cannot offer an import of this name; `None`: it can.
pub fn refusal(name: &str) -> Option<String> {
    let offered = package_and_version(name).is_some_and(|(package, version)| match package {
        "dormouse:task" => version.starts_with("0.1."),
        _ => WASI.contains(&package) && version.starts_with("0.2.") && !is_version_of(name, SERVER),
    });
    if offered {
        return None;
    }
    Some(format!("imports `{name}`, which this host does not offer"))
}

/// Whether a name is `interface` in some version.
pub fn is_version_of(name: &str, interface: &str) -> bool {
    name.strip_prefix(interface).is_some_and(|rest| rest.starts_with('@'))
}

/// Whether calling `function` of the imported instance `interface` may suspend the run.
pub fn suspends(interface: &str, function: &str) -> bool {
    is_version_of(interface, WAIT) || is_version_of(interface, POLL) && POLLS.contains(&function)
}

/// Whether `function` of the imported instance `interface` makes a timer.
pub fn makes_timers(interface: &str, function: &str) -> bool {
    is_version_of(interface, CLOCK) && SUBSCRIPTIONS.contains(&function)
}

/// Whether the suspending functions of an interface suspend for timers only.
pub fn waits_for_timers(interface: &str) -> bool {
    is_version_of(interface, POLL)
}

/// Whether an interface may have suspending functions at all.
pub fn has_suspending_functions(interface: &str) -> bool {
    is_version_of(interface, WAIT) || is_version_of(interface, POLL)
}

/// The name of a function once resources are plain numbers: an ordinary function may not be called `[method]a.b`. `None`: it keeps its name.
pub fn plain_name(name: &str) -> Option<String> {
    const PREFIXES: [(&str, &str); 3] = [("[method]", "m-"), ("[static]", "s-"), ("[constructor]", "c-")];
    let (rest, prefix) = PREFIXES.iter().find_map(|(old, new)| Some((name.strip_prefix(old)?, new)))?;
    Some(format!("{prefix}{}", rest.replace('.', "-x-")))
}

/// Name of the function that begins the call of a suspending one: the same parameters, 1 if the run is to be suspended.
pub fn start_of(plain: &str) -> String {
    format!("{plain}-start")
}

/// Name of the function that ends the call of a suspending one: no parameters, the original result.
pub fn finish_of(plain: &str) -> String {
    format!("{plain}-finish")
}

fn package_and_version(name: &str) -> Option<(&str, &str)> {
    let (path, version) = name.split_once('@')?;
    let (package, _) = path.split_once('/')?;
    Some((package, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_resources_get_names_that_plain_functions_may_have() {
        assert_eq!(plain_name("[method]output-stream.check-write").as_deref(), Some("m-output-stream-x-check-write"));
        assert_eq!(plain_name("[static]fields.from-list").as_deref(), Some("s-fields-x-from-list"));
        assert_eq!(plain_name("[constructor]fields").as_deref(), Some("c-fields"));
        assert_eq!(plain_name("now"), None);
    }

    #[test]
    fn only_waits_and_polls_suspend() {
        assert!(suspends("dormouse:task/wait@0.1.0", "for-duration"));
        assert!(suspends("wasi:io/poll@0.2.11", "poll"));
        assert!(suspends("wasi:io/poll@0.2.0", "[method]pollable.block"));
        assert!(!suspends("wasi:io/poll@0.2.0", "[method]pollable.ready"));
        assert!(!suspends("wasi:io/streams@0.2.0", "[method]input-stream.blocking-read"));
        assert!(!suspends("dormouse:task/waitpoints@0.1.0", "poll"));
    }

    #[test]
    fn timers_come_from_the_monotonic_clock() {
        assert!(makes_timers("wasi:clocks/monotonic-clock@0.2.6", "subscribe-duration"));
        assert!(!makes_timers("wasi:clocks/monotonic-clock@0.2.6", "now"));
        assert!(waits_for_timers("wasi:io/poll@0.2.6"));
        assert!(!waits_for_timers("dormouse:task/wait@0.1.0"));
    }

    #[test]
    fn an_import_must_be_one_the_host_offers() {
        for offered in [
            "wasi:cli/environment@0.2.6",
            "wasi:sockets/tcp@0.2.0",
            "wasi:http/types@0.2.10",
            "wasi:http/outgoing-handler@0.2.0",
            "dormouse:task/trigger@0.1.0",
        ] {
            assert_eq!(refusal(offered), None, "{offered}");
        }
        for unknown in [
            "wasi:cli/environment@0.3.0",
            "wasi:cli/environment",
            "wasi:http/incoming-handler@0.2.0",
            "wasi:http/client@0.3.0",
            "dormouse:task/wait@1.0.0",
            "acme:db/query@0.1.0",
            "f",
        ] {
            assert_eq!(refusal(unknown), Some(format!("imports `{unknown}`, which this host does not offer")));
        }
    }
}
