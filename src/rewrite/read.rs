//! Component bytes to [`Model`]: validates while reading, and collects everything that cannot be rewritten.
//!
//! Function bodies are not validated here but with their core module, so that no byte of code is looked at twice.

use std::ops::Range;

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentName, ComponentOuterAliasKind, ComponentTypeRef, KnownCustom, Parser,
    Payload, Validator, WasmFeatures, types::Types,
};

use super::{
    Error, Limits, Refusal,
    draft::Draft,
    model::{Model, Nested, Section},
    unsupported,
};

/// Levels of nested components; the components of today's tools have one.
const MOST_NESTING: usize = 16;

/// Levels of instance and component types within each other that a type section may have, by the measure of [`may_nest_too_deeply`].
const MOST_TYPE_NESTING: usize = 250;

/// Instances of components times the bytes of all their types: at each instance the validator may compare all of them. Components of
/// today's tools stay below a fiftieth.
const MOST_INSTANCE_WORK: usize = 8 << 20;

/// What the parser is inside of.
enum Frame {
    Component,
    Module,
}

/// Reads and validates a component.
///
/// # Errors
/// `Malformed` if it is not a valid component, `Refused` with every reason that can be seen without its core modules.
pub fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Model<'a>, Error> {
    if bytes.len() > limits.max_component_bytes {
        let reason = format!("is {} bytes large; at most {} are allowed", bytes.len(), limits.max_component_bytes);
        return Err(Error::Refused(vec![Refusal::of_component(reason)]));
    }
    if !Parser::is_component(bytes) {
        return Err(Error::Malformed(not_a_component(bytes).to_owned()));
    }
    let mut draft = Draft::default();
    match draft.read(bytes, limits) {
        _ if !draft.refusals.0.is_empty() => Err(Error::Refused(draft.refusals.0)),
        Ok(Some(validated)) => Ok(draft.finish(validated)),
        Ok(None) => Err(Error::Malformed("the component has no end".to_owned())),
        Err(error) => Err(Error::Malformed(error.to_string())),
    }
}

/// Why bytes that do not begin as a component does cannot be one.
fn not_a_component(bytes: &[u8]) -> &'static str {
    if Parser::is_core_wasm(bytes) {
        "this is a core WebAssembly module, not a component: build it for a component target such as wasm32-wasip2"
    } else {
        "this is not a WebAssembly component"
    }
}

impl<'a> Draft<'a> {
    /// Every feature is switched on: what cannot be supported is refused with a reason that names it, here or with its core module, and
    /// nothing else passes the validation of the result.
    fn read(&mut self, bytes: &'a [u8], limits: &Limits) -> wasmparser::Result<Option<Types>> {
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let mut frames = vec![];
        let mut types = None;
        let (mut type_bytes, mut instances) = (0_usize, 0_usize);
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            if let Payload::ComponentTypeSection(section) = &payload
                && may_nest_too_deeply(within(bytes, section.range()))
            {
                self.refusals.component(format!("nests types more than {MOST_TYPE_NESTING} levels deep"));
                break;
            }
            if let Payload::TypeSection(section) = &payload
                && section.range().len() > limits.max_type_bytes
            {
                let limit = limits.max_type_bytes;
                self.refusals.component(format!("has a core module whose types take more than {limit} bytes"));
                break;
            }
            match &payload {
                Payload::ComponentTypeSection(section) => type_bytes += section.range().len(),
                Payload::ComponentInstanceSection(section) => instances += section.count() as usize,
                _ => {}
            }
            if instances.saturating_mul(type_bytes) > MOST_INSTANCE_WORK {
                self.refusals.component(format!("has {instances} instances of components, and {type_bytes} bytes of types"));
                break;
            }
            if let wasmparser::ValidPayload::End(end) = validator.payload(&payload)? {
                types = Some(end);
            }
            match &payload {
                Payload::End(_) => drop(frames.pop()),
                Payload::ModuleSection { unchecked_range, .. } => {
                    self.module(&frames, within(bytes, unchecked_range.clone()));
                    frames.push(Frame::Module);
                }
                Payload::ComponentSection { unchecked_range, .. } => {
                    self.component(&frames, within(bytes, unchecked_range.clone()));
                    frames.push(Frame::Component);
                }
                _ => match frames.last() {
                    None => self.top_level(&payload)?,
                    Some(Frame::Component) => self.nested(frames.len(), &payload)?,
                    Some(Frame::Module) => {}
                },
            }
            if frames.len() > MOST_NESTING {
                self.refusals.component(format!("nests components more than {MOST_NESTING} levels deep"));
                break;
            }
        }
        Ok(types)
    }

    fn module(&mut self, frames: &[Frame], bytes: &'a [u8]) {
        if !frames.is_empty() {
            return self.refusals.component("has a nested component that contains a core module");
        }
        self.sections.push(Section::Module(self.modules.len()));
        self.modules.push(bytes);
    }

    fn component(&mut self, frames: &[Frame], bytes: &'a [u8]) {
        if frames.is_empty() {
            self.sections.push(Section::Component(bytes));
            self.components.push(Some(Nested::default()));
        }
    }

    fn top_level(&mut self, payload: &Payload<'a>) -> wasmparser::Result<()> {
        match payload {
            Payload::ComponentTypeSection(section) => {
                for ty in section.clone().into_iter_with_offsets() {
                    let (offset, ty) = ty?;
                    self.unsupported(unsupported::in_type(&ty));
                    self.types.push(Some(offset));
                }
                self.sections.push(Section::Types(section.clone()));
            }
            Payload::CoreTypeSection(section) => self.sections.push(Section::CoreTypes(section.clone())),
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let import = import?;
                    self.import(import.name.name, import.ty);
                }
                self.sections.push(Section::Imports(section.clone()));
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.alias(alias?);
                }
                self.sections.push(Section::Aliases(section.clone()));
            }
            Payload::ComponentCanonicalSection(section) => {
                for canonical in section.clone() {
                    self.canonical(canonical?);
                }
                self.sections.push(Section::Canonicals(section.clone()));
            }
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    self.core_instance(instance?);
                }
                self.sections.push(Section::CoreInstances(section.clone()));
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    self.instance(instance?);
                }
                self.sections.push(Section::Instances(section.clone()));
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    self.export(export?);
                }
                self.sections.push(Section::Exports(section.clone()));
            }
            Payload::ComponentStartSection { .. } => self.refusals.component("has a component start function"),
            Payload::CustomSection(section) => {
                if let KnownCustom::ComponentName(names) = section.as_known() {
                    self.names(names);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Inside of a nested component, `depth` levels down: only types and functions that are passed through.
    fn nested(&mut self, depth: usize, payload: &Payload<'a>) -> wasmparser::Result<()> {
        match payload {
            Payload::ComponentTypeSection(section) => {
                for ty in section.clone() {
                    self.unsupported(unsupported::in_type(&ty?));
                }
            }
            Payload::ComponentCanonicalSection(_) | Payload::InstanceSection(_) => {
                self.refusals.component("has a nested component that lifts or lowers functions");
            }
            Payload::ComponentStartSection { .. } => self.refusals.component("has a component start function"),
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let import = import?;
                    match import.ty {
                        ComponentTypeRef::Module(_) | ComponentTypeRef::Component(_) => {
                            self.refusals.component("has a nested component that imports a core module or a component");
                        }
                        ComponentTypeRef::Func(_) => self.nested_func(depth, Some(import.name.name)),
                        _ => {}
                    }
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    match alias? {
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Func, .. } => self.nested_func(depth, None),
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. }
                        | ComponentAlias::CoreInstanceExport { .. }
                        | ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => {
                            self.refusals.component("has a nested component that refers to a core module");
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Func {
                        self.nested_export(depth, export.name.name, export.index);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn nested_func(&mut self, depth: usize, import: Option<&'a str>) {
        if let Some(Some(nested)) = self.components.last_mut()
            && depth == 1
        {
            nested.funcs.push(import);
        }
    }

    fn nested_export(&mut self, depth: usize, name: &'a str, func: u32) {
        if let Some(Some(nested)) = self.components.last_mut()
            && depth == 1
        {
            nested.exports.insert(name, func);
            let same = nested.funcs.get(func as usize).copied().flatten();
            nested.funcs.push(same);
        }
    }

    /// Names in custom sections are a help for people: whatever is wrong with them is passed over.
    fn names(&mut self, names: wasmparser::ComponentNameSectionReader<'a>) {
        for names in names.into_iter().map_while(Result::ok) {
            if let ComponentName::CoreModules(names) = names {
                self.module_names.extend(names.into_iter().map_while(Result::ok).map(|naming| (naming.index, naming.name)));
            }
        }
    }
}

/// A range of the component; nothing if the parser has yet to find out that the component ends before it.
fn within(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}

/// Whether a type section could have more levels than the stack of the parser, which reads nested types by recursion, can take. Each level
/// but the first is a declaration (byte 1) of a component or instance type (bytes 0x41 and 0x42), so counting such pairs is safe; in the
/// types of real components they are rare.
fn may_nest_too_deeply(section: &[u8]) -> bool {
    let levels = section.windows(2).filter(|pair| matches!(pair, [1, 0x41 | 0x42])).count();
    levels > MOST_TYPE_NESTING
}
