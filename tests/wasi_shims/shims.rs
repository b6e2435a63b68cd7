//! From WIT to Rust: one registration for each function, written to be read.

use std::{collections::BTreeSet, fmt::Write, path::Path};

use heck::{ToSnakeCase, ToUpperCamelCase};
use wit_parser::{Function, FunctionKind, InterfaceId, Resolve, Type, TypeDefKind, TypeId};

use super::tables::{ASYNC, ASYNC_DROP, LATER, LEFT_OUT, MOVES, OURS, REOPEN, TRAPPABLE};

const HEAD: &str = "\
//! WASI 0.2 over numbers in place of handles: one shim for each function.
//!
//! Written by `tests/wasi_shims`, which also holds it to what wasmtime-wasi-http ships; not to be changed by hand.

use serde::{Deserialize, Serialize};
use wasmtime::{
    StoreContextMut,
    component::{Linker, LinkerInstance, Resource, ResourceType},
};
use wasmtime_wasi::{
    cli::WasiCliView,
    clocks::WasiClocksView,
    filesystem::WasiFilesystemView,
    p2::bindings::{cli, clocks, filesystem, io, random, sockets},
    sockets::WasiSocketsView,
};
use wasmtime_wasi_http::{WasiHttpView, p2::bindings::http};

use super::ids::Reopen;
use crate::host::HostState;

type Store<'a> = StoreContextMut<'a, HostState>;
";

/// The generated file and what it covers.
pub struct Shims {
    pub text: String,
    pub interfaces: usize,
    pub functions: usize,
    pub resources: usize,
}

/// Reads the WIT and writes the shims.
pub fn generate(wit: &Path) -> Shims {
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    resolve.push_dir(wit).unwrap();
    let mut generator = Generator { resolve, text: HEAD.into(), functions: 0, resources: Vec::new(), used: BTreeSet::new() };
    let mut interfaces: Vec<(String, InterfaceId)> = Vec::new();
    for (id, interface) in generator.resolve.interfaces.iter() {
        let is_wanted = interface.name.is_some() && !LEFT_OUT.contains(&generator.interface_name(id).as_str());
        if is_wanted {
            interfaces.push((generator.interface_name(id), id));
        }
    }
    interfaces.sort();
    for (name, id) in &interfaces {
        generator.interface(name, *id);
    }
    generator.registry(&interfaces);
    generator.kinds();
    generator.assert_that_all_tables_are_used();
    Shims {
        interfaces: interfaces.len(),
        functions: generator.functions,
        resources: generator.resources.len(),
        text: generator.text,
    }
}

/// The file so far.
pub struct Generator {
    pub resolve: Resolve,
    text: String,
    functions: usize,
    /// Package, interface and name of each resource.
    resources: Vec<(String, String, String)>,
    /// Lines of the tables that were about something.
    used: BTreeSet<String>,
}

/// A function under its names.
struct Names {
    /// In wasmtime-wasi's bindings: the trait and the method.
    rust: String,
    /// In an erased instance type.
    erased: String,
}

impl Generator {
    pub fn interface_name(&self, id: InterfaceId) -> String {
        let interface = &self.resolve.interfaces[id];
        let package = &self.resolve.packages[interface.package.unwrap()].name;
        format!("{}:{}/{}", package.namespace, package.name, interface.name.as_deref().unwrap())
    }

    fn package(&self, id: InterfaceId) -> String {
        self.resolve.packages[self.resolve.interfaces[id].package.unwrap()].name.name.to_snake_case()
    }

    /// The interface's module among wasmtime-wasi's bindings.
    pub fn module(&self, id: InterfaceId) -> String {
        let name = self.resolve.interfaces[id].name.as_deref().unwrap();
        format!("{}::{}", self.package(id), name.to_snake_case())
    }

    fn interface(&mut self, name: &str, id: InterfaceId) {
        let interface = self.resolve.interfaces[id].clone();
        let function = function_of(name);
        writeln!(self.text, "\nfn {function}(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {{").unwrap();
        if interface.types.values().all(|id| !self.is_resource(*id)) && interface.functions.is_empty() {
            writeln!(self.text, "    let _ = instance;").unwrap();
        }
        for (resource, id_of_type) in &interface.types {
            if self.is_resource(*id_of_type) {
                let path = format!("{}::{}", self.module(id), resource.to_upper_camel_case());
                writeln!(self.text, "    instance.resource(\"{resource}\", ResourceType::host::<{path}>(), |_, _| Ok(()))?;")
                    .unwrap();
                self.resources.push((self.package(id), self.module(id), resource.clone()));
            }
        }
        for function in interface.functions.values() {
            self.function(name, id, function);
        }
        self.text.push_str("    Ok(())\n}\n");
    }

    fn is_resource(&self, id: TypeId) -> bool {
        matches!(self.resolve.types[id].kind, TypeDefKind::Resource)
    }

    fn function(&mut self, interface: &str, id: InterfaceId, function: &Function) {
        self.functions += 1;
        let full = format!("{interface}.{}", function.name);
        let names = self.names(id, function);
        let is_async = ASYNC.contains(&full.as_str());
        if is_async {
            self.used.insert(format!("async {full}"));
        }
        let places = tuple((0..function.params.len()).map(|place| format!("a{place}")).collect());
        let types = tuple(function.params.iter().map(|param| self.plain(&param.ty)).collect());
        let (wrap, open, close) =
            if is_async { ("func_wrap_async", " Box::new(async move {", "}) ") } else { ("func_wrap", "", "") };
        let _ =
            writeln!(self.text, "    instance.{wrap}(\"{}\", |mut store: Store<'_>, {places}: {types}| {{{open}", names.erased);
        let body = self.body(&full, id, function, &names.rust, is_async);
        for line in body.lines() {
            let _ = writeln!(self.text, "        {line}");
        }
        let _ = writeln!(self.text, "    {close}}})?;");
    }

    fn names(&self, id: InterfaceId, function: &Function) -> Names {
        let module = self.module(id);
        let method =
            |resource: TypeId, method: &str| format!("{module}::Host{}::{}", self.kind(resource), method.to_snake_case());
        let erased = |letter: &str, name: &str| {
            let name = name.split_once(']').map_or(name, |(_, name)| name);
            format!("{letter}-{}", name.replace('.', "-x-"))
        };
        match function.kind {
            FunctionKind::Freestanding => {
                Names { rust: format!("{module}::Host::{}", function.name.to_snake_case()), erased: function.name.clone() }
            }
            FunctionKind::Method(resource) => {
                Names { rust: method(resource, function.item_name()), erased: erased("m", &function.name) }
            }
            FunctionKind::Static(resource) => {
                Names { rust: method(resource, function.item_name()), erased: erased("s", &function.name) }
            }
            FunctionKind::Constructor(resource) => Names { rust: method(resource, "new"), erased: erased("c", &function.name) },
            _ => panic!("{} is an async function", function.name),
        }
    }

    /// The statements of a shim: handles in, the call, errors, places, handles out.
    fn body(&mut self, full: &str, id: InterfaceId, function: &Function, rust: &str, is_async: bool) -> String {
        let mut body = String::from("let state = store.data_mut();\n");
        let moves = MOVES.iter().find(|(name, _)| *name == full).map_or(&[][..], |(_, moves)| {
            self.used.insert(format!("moves {full}"));
            moves
        });
        if moves.iter().any(|(_, by)| *by == "length") {
            body.push_str("let length = a1.len() as u64;\n");
        }
        let gives_handles = function.result.as_ref().filter(|result| self.has_handle(result));
        if gives_handles.is_some_and(|result| self.to_plain("value", result).contains("reopen")) {
            let _ = writeln!(body, "let reopen = {};", self.reopen(full, function));
        }
        for (place, param) in function.params.iter().enumerate().filter(|(_, param)| self.has_handle(&param.ty)) {
            let _ = writeln!(body, "let h{place} = {};", self.to_handles(&format!("a{place}"), &param.ty));
        }
        // The number keeps its name: a moved stream is found by it after the call.
        let argument = |(place, param): (usize, &wit_parser::Param)| {
            format!(", {}{place}", if self.has_handle(&param.ty) { 'h' } else { 'a' })
        };
        let arguments: String = function.params.iter().enumerate().map(argument).collect();
        let ours = OURS.iter().find(|(name, _)| *name == full);
        if ours.is_some() {
            self.used.insert(format!("ours {full}"));
        }
        let (rust, callee) = ours.map_or((rust, view(&self.package(id))), |(_, path)| (*path, "state"));
        let wait = if is_async { ".await" } else { "" };
        match function.result.as_ref().and_then(|result| self.trappable(result)) {
            None if function.result.is_none() => {
                let _ = writeln!(body, "{rust}({callee}{arguments}){wait}?;");
            }
            None => {
                let _ = writeln!(body, "let value = {rust}({callee}{arguments}){wait}?;");
            }
            Some(convert) => {
                let _ = writeln!(body, "let value = {rust}({callee}{arguments}){wait};");
                let _ = writeln!(body, "let value = match value {{");
                let _ = writeln!(body, "    Ok(value) => Ok(value),");
                let _ = writeln!(body, "    Err(error) => Err({convert}, error)?),");
                let _ = writeln!(body, "}};");
            }
        }
        if !moves.is_empty() {
            let name = if moves.iter().any(|(_, by)| by.contains("value")) { "value" } else { "()" };
            let _ = writeln!(body, "if let Ok({name}) = &value {{");
            for (handle, by) in moves {
                let _ = writeln!(body, "    state.ids.advance({handle}, {by});");
            }
            body.push_str("}\n");
        }
        if let Some(result) = gives_handles {
            let _ = writeln!(body, "let value = {};", self.to_plain("value", result));
        }
        body.push_str(if function.result.is_some() { "Ok((value,))" } else { "Ok(())" });
        body
    }

    fn reopen(&mut self, full: &str, function: &Function) -> &'static str {
        match REOPEN.iter().find(|(name, _)| *name == full) {
            Some((_, reopen)) => {
                self.used.insert(format!("reopen {full}"));
                reopen
            }
            None if function.name.ends_with(".subscribe") => "Reopen::Child(a0)",
            None => "Reopen::Never",
        }
    }

    /// The beginning of the call that converts a result's error, if that may hide a trap.
    fn trappable(&self, result: &Type) -> Option<String> {
        let Type::Id(id) = self.resolved(result) else { return None };
        let TypeDefKind::Result(result) = &self.resolve.types[id].kind else { return None };
        let Type::Id(error) = self.resolved(result.err.as_ref()?) else { return None };
        let name = self.resolve.types[error].name.as_deref()?;
        let owner = self.owner(error);
        let (.., convert) =
            TRAPPABLE.iter().find(|(interface, ty, _)| *interface == self.interface_name(owner) && *ty == name)?;
        Some(format!("{}::Host::{convert}({}", self.module(owner), view(&self.package(owner))))
    }

    /// Finds the interface under any version and registers it under the imported name.
    fn registry(&mut self, interfaces: &[(String, InterfaceId)]) {
        self.text.push_str(
            "\n/// Registers an interface of WASI under the exact name it is imported by. False: it is not one of WASI 0.2.\n",
        );
        self.text.push_str("pub(super) fn link(linker: &mut Linker<HostState>, import: &str) -> wasmtime::Result<bool> {\n");
        self.text.push_str("    let link = match import.split('@').next().unwrap_or(import) {\n");
        for (name, _) in interfaces {
            let _ = writeln!(self.text, "        \"{name}\" => {},", function_of(name));
        }
        self.text
            .push_str("        _ => return Ok(false),\n    };\n    link(&mut linker.instance(import)?)?;\n    Ok(true)\n}\n");
    }

    /// What handles can be, and how each is dropped.
    fn kinds(&mut self) {
        let mut resources = self.resources.clone();
        resources.sort_by_key(|(package, ..)| LATER.iter().position(|later| later == package));
        let camel = |name: &str| name.to_upper_camel_case();
        let text = &mut self.text;
        text.push_str(
            "\n/// What a handle is.\n#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]\npub enum Kind {\n",
        );
        for (package, _, name) in &resources {
            let _ = writeln!(text, "    /// `{name}` of `wasi:{package}`.\n    {},", camel(name));
        }
        text.push_str(
            "}\n\nimpl Kind {\n    /// Its name in WIT.\n    pub const fn name(self) -> &'static str {\n        match self {\n",
        );
        for (_, _, name) in &resources {
            let _ = writeln!(text, "            Self::{} => \"{name}\",", camel(name));
        }
        text.push_str("        }\n    }\n}\n\n/// Drops what is behind a handle.\n");
        text.push_str(
            "pub(super) async fn delete(state: &mut HostState, kind: Kind, place: u32) -> wasmtime::Result<()> {\n    match kind {\n",
        );
        for (package, module, name) in &resources {
            let wait = if ASYNC_DROP.contains(&name.as_str()) { ".await" } else { "" };
            let view = view(package);
            let kind = camel(name);
            let _ = writeln!(text, "        Kind::{kind} => {module}::Host{kind}::drop({view}, Resource::new_own(place)){wait},");
        }
        text.push_str("    }\n}\n");
    }

    fn assert_that_all_tables_are_used(&self) {
        let asynchronous = ASYNC.iter().map(|name| format!("async {name}"));
        let reopened = REOPEN.iter().map(|(name, _)| format!("reopen {name}"));
        let moved = MOVES.iter().map(|(name, _)| format!("moves {name}"));
        let ours = OURS.iter().map(|(name, _)| format!("ours {name}"));
        let unused: Vec<String> =
            asynchronous.chain(reopened).chain(moved).chain(ours).filter(|line| !self.used.contains(line)).collect();
        assert!(unused.is_empty(), "lines of the tables that match no function: {unused:?}");
        for name in ASYNC_DROP {
            assert!(self.resources.iter().any(|(_, _, resource)| resource == name), "no resource is called {name}");
        }
    }
}

/// A tuple of one needs its comma.
fn tuple(parts: Vec<String>) -> String {
    if let [one] = &parts[..] { format!("({one},)") } else { format!("({})", parts.join(", ")) }
}

/// The function that registers an interface.
fn function_of(interface: &str) -> String {
    let name = interface.trim_start_matches("wasi:").to_snake_case();
    format!("link_{}", name.replace(['/', ':'], "_"))
}

/// What implements a package's traits.
fn view(package: &str) -> &'static str {
    match package {
        "io" => "&mut state.table",
        "random" => "state.wasi.random()",
        "cli" => "&mut state.cli()",
        "clocks" => "&mut state.clocks()",
        "filesystem" => "&mut state.filesystem()",
        "sockets" => "&mut state.sockets()",
        "http" => "&mut state.http()",
        other => panic!("nothing implements wasi:{other}"),
    }
}
