//! The description is part of the contract: other clients' types are made from it.

use std::{collections::BTreeMap, fs, path::Path};

use crate::api::description;

#[test]
fn the_description_is_the_reviewed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/snapshots/openapi.json");
    let current = description().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &current).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(reviewed == current, "{} is not current; review what UPDATE_SNAPSHOTS=1 writes", path.display());
}

#[test]
fn no_two_bodies_are_described_under_one_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api")).unwrap() {
        let path = file.unwrap().path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let derived = text.split("#[derive(").skip(1).filter_map(|rest| rest.split_once(")]"));
        for (_, item) in derived.filter(|(traits, _)| traits.contains("ToSchema")) {
            let mut words = item.split(|c: char| !c.is_alphanumeric()).skip_while(|word| !["struct", "enum"].contains(word));
            let name = words.nth(1).expect("what derives is named");
            places.entry(name.to_owned()).or_default().push(path.display().to_string());
        }
    }
    assert!(places.len() > 40, "{places:?}");
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "the description has room for one of each: {places:#?}");
}
