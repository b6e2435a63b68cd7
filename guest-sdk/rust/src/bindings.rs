//! The WIT package `dormouse:task` as Rust sees it. Nothing of it is public: the other modules give it a shape that is
//! pleasant to use and that can stay when the package grows.

#![allow(missing_docs, unsafe_code, clippy::all)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "task",
    pub_export_macro: true,
    export_macro_name: "export_bundle",
    additional_derives: [PartialEq],
});
