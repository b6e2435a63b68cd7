//! The part of a rewritten component that runs need before they are suspended for the first time.
//!
//! A resume version is about as large as its function, and needed only where a suspended run goes on. So a component is compiled twice:
//! once without resume versions, when it is deployed and as quickly as can be, and once whole, for runs that go on. Indices of functions,
//! tables and memories are the same in both, so that a snapshot of the one fits the other.

use wasm_encoder::{
    BranchHint, BranchHints, CodeSection, Component, ComponentSectionId, Function, Module, RawSection, SectionId,
};
use wasmparser::{
    BinaryReader, BranchHintSectionReader, Chunk, CodeSectionReader, ElementItems, ElementKind, ExternalKind,
    ImportSectionReader, KnownCustom, Parser, Payload, TypeRef,
};

use super::core::RESUME_TABLE;

/// A rewritten component whose resume versions trap.
///
/// # Errors
/// If the bytes cannot be read, which is not so of what the rewriter wrote.
pub fn beginning(rewritten: &[u8]) -> wasmparser::Result<Vec<u8>> {
    let mut component = Component::new();
    let mut parser = Parser::new(0);
    let mut rest = rewritten;
    loop {
        let Chunk::Parsed { payload, consumed } = parser.parse(rest, true)? else { unreachable!("nothing follows") };
        rest = &rest[consumed..];
        match payload {
            Payload::End(_) => return Ok(component.finish()),
            Payload::ModuleSection { unchecked_range, .. } => {
                rest = &rest[unchecked_range.len()..];
                let module = without_resume_versions(&rewritten[unchecked_range])?;
                component.section(&RawSection { id: ComponentSectionId::CoreModule as u8, data: &module });
            }
            Payload::ComponentSection { unchecked_range, .. } => {
                rest = &rest[unchecked_range.len()..];
                component.section(&RawSection { id: ComponentSectionId::Component as u8, data: &rewritten[unchecked_range] });
            }
            other => {
                if let Some((id, range)) = other.as_section() {
                    component.section(&RawSection { id, data: &rewritten[range] });
                }
            }
        }
    }
}

/// Resume versions are the last functions of a module, and its resume table names all of them.
fn without_resume_versions(module: &[u8]) -> wasmparser::Result<Vec<u8>> {
    let Some(first) = first_resume_version(module)? else { return Ok(module.to_vec()) };
    let mut next = 0;
    let mut output = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                next = count_functions(section.clone())?;
                output.section(&RawSection { id: SectionId::Import as u8, data: &module[section.range()] });
            }
            Payload::CodeSectionStart { range, .. } => {
                let mut code = CodeSection::new();
                for body in CodeSectionReader::new(BinaryReader::new(&module[range.clone()], range.start))? {
                    if next < first {
                        code.raw(body?.as_bytes());
                    } else {
                        let mut never = Function::new([]);
                        never.instructions().unreachable().end();
                        code.function(&never);
                    }
                    next += 1;
                }
                output.section(&code);
            }
            Payload::CodeSectionEntry(_) => {}
            other => {
                if let Payload::CustomSection(section) = &other
                    && let KnownCustom::BranchHints(functions) = section.as_known()
                {
                    output.section(&hints_before(first, functions)?);
                } else if let Some((id, range)) = other.as_section() {
                    output.section(&RawSection { id, data: &module[range] });
                }
            }
        }
    }
    Ok(output.finish())
}

/// The hints for the functions that are kept.
fn hints_before(first: u32, functions: BranchHintSectionReader<'_>) -> wasmparser::Result<BranchHints> {
    let mut kept = BranchHints::new();
    for function in functions {
        let function = function?;
        if function.func < first {
            let hints: Vec<_> = function.hints.into_iter().collect::<wasmparser::Result<_>>()?;
            let encode = |hint: &wasmparser::BranchHint| BranchHint {
                branch_func_offset: hint.func_offset,
                branch_hint_value: u32::from(hint.taken),
            };
            kept.function_hints(function.func, hints.iter().map(encode));
        }
    }
    Ok(kept)
}

/// The lowest index in the resume table of a module, if it has one.
fn first_resume_version(module: &[u8]) -> wasmparser::Result<Option<u32>> {
    let (mut table, mut first) = (None, None);
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.name == RESUME_TABLE && export.kind == ExternalKind::Table {
                        table = Some(export.index);
                    }
                }
            }
            Payload::ElementSection(elements) => {
                for element in elements {
                    let element = element?;
                    if let ElementKind::Active { table_index, .. } = element.kind
                        && Some(table_index.unwrap_or(0)) == table
                        && let ElementItems::Functions(functions) = element.items
                    {
                        for function in functions {
                            let function = function?;
                            first = Some(first.map_or(function, |first: u32| first.min(function)));
                        }
                    }
                }
                return Ok(first);
            }
            _ => {}
        }
    }
    Ok(first)
}

fn count_functions(imports: ImportSectionReader<'_>) -> wasmparser::Result<u32> {
    let mut count = 0;
    for import in imports.into_imports() {
        count += u32::from(matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
    }
    Ok(count)
}
