//! Components whose outer structure is too much: a task component with something around, before or behind it.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, ComponentAliasSection, ComponentExportKind, ComponentExternName, ComponentInstanceSection,
    ComponentTypeSection, ComponentValType, Encode, ExportKind, Function, InstanceSection, InstanceType, ModuleArg,
    PrimitiveValType,
};
use wasm_encoder::{
    CodeSection, ComponentSection, ComponentTypeRef, EntityType, ExportSection, FunctionSection, ImportSection, Module,
    ModuleSection, TypeSection,
};

use super::module::Main;

pub const ALL: &[super::Case] = &[
    ("components nested ten thousand deep", nested_components),
    ("a million types", many_types),
    ("records of records with a million fields", large_types),
    ("instances of a component that takes a large instance", large_instances),
    ("four hundred thousand aliases", many_aliases),
    ("bundles of bundles of functions", many_bundles),
    ("a million empty sections", empty_sections),
    ("a hundred thousand lowered functions", many_lowers),
    ("a thousand waits of the component itself", many_suspending_lowers),
    ("nine hundred core modules that wait", many_modules),
    ("two hundred thousand imports out of two hundred thousand exports", crossing_imports),
    ("four megabytes of nothing known", garbage),
];

const HEADER: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
/// In the task component: the function `block`, the instance `poll`, its type; what the host offers.
const BLOCK: &str = "(core func $lowered-block (canon lower (func $block)))";

fn task() -> Vec<u8> {
    Main::new().component()
}

fn with(section: &impl ComponentSection) -> Vec<u8> {
    let mut bytes = task();
    section.append_to_component(&mut bytes);
    bytes
}

fn nested_components() -> Vec<u8> {
    // From the inside, the lengths first: nothing is copied twice.
    let mut heads = vec![];
    let mut length = HEADER.len();
    for _ in 0..10_000 {
        let mut head = HEADER.to_vec();
        head.push(4);
        length.encode(&mut head);
        length += head.len();
        heads.push(head);
    }
    heads.reverse();
    [heads.concat(), HEADER.to_vec()].concat()
}

fn many_types() -> Vec<u8> {
    let mut types = ComponentTypeSection::new();
    for _ in 0..990_000 {
        types.defined_type().primitive(PrimitiveValType::U8);
    }
    with(&types)
}

fn large_types() -> Vec<u8> {
    let mut types = ComponentTypeSection::new();
    let first = first_type();
    types.defined_type().tuple(std::iter::repeat_n(ComponentValType::Primitive(PrimitiveValType::U8), 10_000));
    types.defined_type().tuple(std::iter::repeat_n(ComponentValType::Type(first), 99));
    for _ in 0..100_000 {
        types.function().params([("a", ComponentValType::Type(first + 1))]).result(Some(ComponentValType::Type(first + 1)));
    }
    with(&types)
}

/// The index of the next type of the task component.
fn first_type() -> u32 {
    count(|payload| match payload {
        wasmparser::Payload::ComponentTypeSection(section) => section.count(),
        wasmparser::Payload::ComponentAliasSection(section) => {
            let is_type = |alias: &wasmparser::ComponentAlias<'_>| {
                matches!(alias, wasmparser::ComponentAlias::InstanceExport { kind: wasmparser::ComponentExternalKind::Type, .. })
            };
            section.clone().into_iter().filter(|alias| alias.as_ref().is_ok_and(is_type)).count() as u32
        }
        _ => 0,
    })
}

/// How many items of a kind the task component has at its top level.
fn count(of: impl Fn(&wasmparser::Payload<'_>) -> u32) -> u32 {
    let (mut depth, mut total) = (0, 0);
    let bytes = task();
    for payload in wasmparser::Parser::new(0).parse_all(&bytes) {
        let payload = payload.expect("it is well-formed");
        match payload {
            wasmparser::Payload::ModuleSection { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth -= 1,
            _ if depth == 0 => total += of(&payload),
            _ => {}
        }
    }
    total
}

fn core_instances() -> u32 {
    count(|payload| if let wasmparser::Payload::InstanceSection(section) = payload { section.count() } else { 0 })
}

fn core_modules() -> u32 {
    4
}

fn large_instances() -> Vec<u8> {
    let mut large = InstanceType::new();
    for index in 0..20_000 {
        let name = format!("f{index}");
        large.ty().function().params([("a", ComponentValType::Primitive(PrimitiveValType::U8))]).result(None);
        large.export(ComponentExternName::from(name.as_str()), ComponentTypeRef::Func(index));
    }
    let mut inner = wasm_encoder::ComponentBuilder::default();
    let ty = inner.type_instance(None, &large);
    let instance = inner.import("x", ComponentTypeRef::Instance(ty));
    inner.export("y", ComponentExportKind::Instance, instance, None);
    let inner = inner.finish();

    let mut bytes = task();
    let mut types = ComponentTypeSection::new();
    let first = first_type();
    types.instance(&large);
    types.append_to_component(&mut bytes);
    let mut imports = wasm_encoder::ComponentImportSection::new();
    imports.import("wasi:cli/large@0.2.0", ComponentTypeRef::Instance(first));
    imports.append_to_component(&mut bytes);
    bytes.push(4);
    inner.encode(&mut bytes);
    let mut instances = ComponentInstanceSection::new();
    // Three are imported, one is exported, with a second index.
    for _ in 0..900 {
        instances.instantiate(0, [("x", ComponentExportKind::Instance, 5)]);
    }
    instances.append_to_component(&mut bytes);
    bytes
}

fn many_aliases() -> Vec<u8> {
    let mut aliases = ComponentAliasSection::new();
    for _ in 0..400_000 {
        aliases.alias(Alias::CoreInstanceExport { instance: 0, kind: ExportKind::Memory, name: "memory" });
    }
    with(&aliases)
}

fn many_bundles() -> Vec<u8> {
    let mut instances = InstanceSection::new();
    let names: Vec<String> = (0..10_000).map(|index| format!("{index:x}")).collect();
    for _ in 0..150 {
        instances.export_items(names.iter().map(|name| (name.as_str(), ExportKind::Memory, 0)));
    }
    with(&instances)
}

fn empty_sections() -> Vec<u8> {
    let mut bytes = task();
    for _ in 0..1_000_000 {
        bytes.extend([0, 1, 0]);
    }
    bytes
}

fn many_lowers() -> Vec<u8> {
    let mut lowers = CanonicalFunctionSection::new();
    for _ in 0..100_000 {
        // `ready`, which never suspends.
        lowers.lower(3, []);
    }
    with(&lowers)
}

fn many_suspending_lowers() -> Vec<u8> {
    let again = BLOCK.replace("$lowered-block", "");
    super::module::around_with(&Main::new().bytes(), |text| text.replace(BLOCK, &format!("{BLOCK}{}", again.repeat(255 - 5))))
}

/// Each has a resume table of its own, and all of them are the glue's.
fn many_modules() -> Vec<u8> {
    let mut module = Main::new();
    module.function(&[], |code| {
        code.i32_const(1).call(super::module::WAIT);
    });
    let mut bytes = task();
    let mut instances = InstanceSection::new();
    let mut bundles = InstanceSection::new();
    bundles.export_items([("block", ExportKind::Func, lowered_block())]);
    let bundle = core_instances();
    for index in 0..900 {
        ModuleSection(&raw(&module.bytes())).append_to_component(&mut bytes);
        instances.instantiate(core_modules() + index, [("h", ModuleArg::Instance(bundle))]);
    }
    bundles.append_to_component(&mut bytes);
    instances.append_to_component(&mut bytes);
    bytes
}

/// The task component `task` with empty core modules behind it, and an instance of each.
pub fn beside_modules(mut task: Vec<u8>, count: u32) -> Vec<u8> {
    let mut instances = InstanceSection::new();
    for index in 0..count {
        ModuleSection(&Module::new()).append_to_component(&mut task);
        instances.instantiate(core_modules() + index, [] as [(&str, ModuleArg); 0]);
    }
    instances.append_to_component(&mut task);
    task
}

/// The core function that `block` is lowered to, after two aliases of the shim and one of each other.
fn lowered_block() -> u32 {
    6
}

fn raw(bytes: &[u8]) -> Module {
    let mut module = Module::new();
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        if let Some((id, range)) = payload.expect("it is well-formed").as_section() {
            module.section(&wasm_encoder::RawSection { id, data: &bytes[range] });
        }
    }
    module
}

fn crossing_imports() -> Vec<u8> {
    const COUNT: u32 = 200_000;
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let (mut functions, mut exports, mut code, mut imports) =
        (FunctionSection::new(), ExportSection::new(), CodeSection::new(), ImportSection::new());
    functions.function(0);
    let mut body = Function::new([]);
    body.instructions().end();
    code.function(&body);
    for index in 0..COUNT {
        let name = format!("{index:x}");
        exports.export(&name, ExportKind::Func, 0);
        imports.import("x", &name, EntityType::Function(0));
    }
    let (mut exporting, mut importing) = (Module::new(), Module::new());
    exporting.section(&types).section(&functions).section(&exports).section(&code);
    importing.section(&types).section(&imports);
    let mut bytes = task();
    ModuleSection(&exporting).append_to_component(&mut bytes);
    ModuleSection(&importing).append_to_component(&mut bytes);
    let mut instances = InstanceSection::new();
    instances.instantiate(core_modules(), [] as [(&str, ModuleArg); 0]);
    instances.instantiate(core_modules() + 1, [("x", ModuleArg::Instance(core_instances()))]);
    instances.append_to_component(&mut bytes);
    bytes
}

fn garbage() -> Vec<u8> {
    let mut random = 88_172_645_463_325_252_u64;
    let mut bytes = HEADER.to_vec();
    bytes.extend((0..4 << 20).map(|_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as u8
    }));
    bytes
}
