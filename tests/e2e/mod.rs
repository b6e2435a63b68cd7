//! The product as a user has it: the binary, HTTP, and SIGKILL.

mod bad_input;
mod bloat;
mod boundaries;
mod children;
mod clocks;
mod command_line;
mod crash;
mod described;
mod ends;
mod full_disk;
mod hostile;
mod http;
mod limits;
mod load;
mod npm_client;
mod packets;
mod react_hooks;
mod realtime;
mod retention;
mod schedules;
mod scratch;
mod several;
mod snapshots;
mod stories;
mod storm;
mod traces;
mod twins;
mod upgrade;
mod variables;

/// Every file in a folder and those in it.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .collect()
}
