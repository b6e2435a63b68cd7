//! Makes every function of a module call an import that suspends.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, EntityType, ImportSection, Instruction, Module, SectionId, TypeSection};
use wasmparser::{FunctionBody, Parser, Payload, TypeRef};

use super::host::{INSERTED, OUTSIDE};

/// Where calls are inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Density {
    /// At the start of every function, and before every third instruction.
    Everywhere,
    /// At the start of every function.
    Starts,
    /// Nowhere: the module stays as it is.
    Nowhere,
}

impl Density {
    pub const ALL: [Density; 3] = [Density::Everywhere, Density::Starts, Density::Nowhere];
}

/// The module with calls; `None` if it has no functions.
pub fn calls(module: &[u8], density: Density) -> Option<Vec<u8>> {
    if density == Density::Nowhere {
        return Some(module.to_vec());
    }
    let mut inserter = Inserter { density, imported: 0, ty: 0, has_imports: false };
    let mut has_code = false;
    for payload in Parser::new(0).parse_all(module) {
        match payload.ok()? {
            Payload::ImportSection(section) => {
                inserter.has_imports = true;
                for import in section.into_imports() {
                    inserter.imported += u32::from(matches!(import.ok()?.ty, TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionStart { count, .. } => has_code = count > 0,
            _ => {}
        }
    }
    let mut output = Module::new();
    inserter.parse_core_module(&mut output, Parser::new(0), module).ok()?;
    has_code.then(|| output.finish())
}

struct Inserter {
    density: Density,
    /// Functions that the module imports: the index of the new import.
    imported: u32,
    /// Index of the new import's type.
    ty: u32,
    has_imports: bool,
}

impl Inserter {
    fn import(&self, imports: &mut ImportSection) {
        imports.import(OUTSIDE, INSERTED, EntityType::Function(self.ty));
    }
}

impl Reencode for Inserter {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error<Infallible>> {
        Ok(index + u32::from(index >= self.imported))
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_type_section(self, types, section)?;
        self.ty = types.len();
        types.ty().function([], []);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_import_section(self, imports, section)?;
        self.import(imports);
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        after: Option<SectionId>,
        _before: Option<SectionId>,
    ) -> Result<(), Error<Infallible>> {
        if after == Some(SectionId::Type) && !self.has_imports {
            let mut imports = ImportSection::new();
            self.import(&mut imports);
            module.section(&imports);
        }
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Result<(), Error<Infallible>> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let mut operators = body.get_operators_reader()?;
        for number in 0.. {
            if operators.eof() {
                break;
            }
            if number == 0 || self.density == Density::Everywhere && number % 3 == 0 {
                function.instruction(&Instruction::Call(self.imported));
            }
            function.instruction(&self.parse_instruction(&mut operators)?);
        }
        code.function(&function);
        Ok(())
    }
}
