//! The `#[dormouse::task]` attribute. Everything it can refuse it refuses at compile time, at the word that is wrong.
//!
//! A task becomes two items of the same name: the function as written (so that it can be called and tested as any
//! other), and an empty enum that implements `dormouse::Task`. They live in different namespaces, so one `use` and one
//! name in `dormouse::bundle!` mean both.

mod duration;
mod expand;
mod options;

use proc_macro::TokenStream;
use syn::{ItemFn, parse_macro_input};

/// Makes a function a task. Documented in `dormouse-sdk`, where it is re-exported.
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(attribute as options::Options);
    let function = parse_macro_input!(item as ItemFn);
    expand::task(&options, &function).unwrap_or_else(syn::Error::into_compile_error).into()
}
