//! Holds the tree to the rules of direction that the crate's documentation draws.

use std::{collections::BTreeMap, fs, path::Path};

/// For each room of `src/`, the rooms it may use. `app` and `cli` see all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("auth", &["model"]),
    ("blobs", &[]),
    ("clock", &["store"]),
    ("config", &["model"]),
    ("postgres", &[]),
    ("shutdown", &[]),
    ("telemetry", &["config"]),
    ("wall_clock", &[]),
    ("model", &[]),
    ("rewrite", &[]),
    ("store", &["model"]),
    ("engine", &["model", "store"]),
    ("realtime", &["model", "store"]),
    ("export", &["model", "store", "config"]),
    ("host", &["model", "wall_clock"]),
    ("runtime", &["model", "host", "rewrite"]),
    ("worker", &["model", "store", "engine", "runtime", "host", "blobs", "config", "auth", "wall_clock"]),
    ("reconcile", &["model", "store", "engine", "blobs", "shutdown", "wall_clock"]),
    ("api", &["model", "store", "engine", "realtime", "auth", "blobs", "config", "rewrite", "wall_clock"]),
];

/// Libraries that stand behind a wall, with the rooms on the inner side.
const WALLS: &[(&str, &[&str])] = &[
    ("sqlx::query", &["store"]),
    ("wasmtime::", &["runtime", "host"]),
    ("wasmtime_wasi::", &["runtime", "host"]),
    ("wasmtime_wasi_http::", &["host"]),
    ("axum::", &["api", "app"]),
];

#[test]
fn the_rooms_of_the_house_use_each_other_in_one_direction_only() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let room = room(&file);
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == room) else { continue };
        for used in text.match_indices("crate::").flat_map(|(at, path)| first_words(&text[at + path.len()..])) {
            if MAY_USE.iter().any(|(name, _)| *name == used) && used != room && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{file}: {room} uses {used}"));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_stay_behind_their_walls() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        for (library, inside) in WALLS {
            if text.contains(library) && !inside.contains(&room(&file).as_str()) {
                wrong.push(format!("{file}: {library} is for {inside:?} only"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stands_in_two_files_only() {
    let allowed = ["runtime/checkpoint/memory.rs", "runtime/component.rs"];
    let found: Vec<String> = sources()
        .into_iter()
        .filter(|(file, text)| code(text).contains("unsafe ") && !allowed.contains(&file.as_str()))
        .map(|(file, _)| file)
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

/// Every file of `src/` by its path in it, without its comments and tests: those may look behind every wall.
fn sources() -> BTreeMap<String, String> {
    fn visit(folder: &Path, into: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                let is_test = name.contains("/tests/") || name.ends_with("/tests.rs") || name.ends_with("testing.rs");
                let text = code(&fs::read_to_string(&path).unwrap());
                let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                into.extend((!is_test).then_some((name, product)));
            }
        }
    }
    let mut files = BTreeMap::new();
    visit(root(), &mut files);
    files
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
}

fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn room(file: &str) -> String {
    file.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// The room that a path leads to, or the rooms of a group of paths.
fn first_words(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else { return first_word(text).into_iter().collect() };
    let mut depth = 0;
    let outermost: String = group
        .chars()
        .take_while(|c| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth >= 0
        })
        .collect();
    let mut depth = 0;
    let paths = outermost.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0 && c == ','
    });
    paths.filter_map(|path| first_word(path.trim_start())).collect()
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}
