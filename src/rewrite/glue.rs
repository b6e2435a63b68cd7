//! The end of the rewritten component: the last core instance, and the functions the host enters, saves and restores a task through.

use std::convert::Infallible;

use wasm_encoder::{
    Alias, CanonicalOption, ComponentExportKind, ComponentTypeEncoder, ComponentValType, ExportKind, PrimitiveValType,
    reencode::Reencode, reencode::ReencodeComponent,
};

use super::{Error, assemble::Assembler, entry::TaskEntry};

impl Assembler<'_, '_> {
    /// Instantiates the glue and exports its functions.
    ///
    /// # Errors
    /// A fault of the rewriter.
    pub fn add_glue(&mut self, entry: &TaskEntry) -> Result<(), Error> {
        let glue = self.instantiate_glue(entry)?;
        let options = self.options(&entry.options)?;
        let without_post_return: Vec<_> =
            options.iter().copied().filter(|option| !matches!(option, CanonicalOption::PostReturn(_))).collect();

        // Types that have a name only inside the exported instance can be named through it, and through nothing else.
        let instance = self.eraser.component_instance_index(entry.exported_instance);
        let mut named = |name| self.out.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Type, name });
        let (packet, task_error) = (ComponentValType::Type(named("packet")), ComponentValType::Type(named("task-error")));
        let number = ComponentValType::Primitive(PrimitiveValType::U32);
        let text = ComponentValType::Primitive(PrimitiveValType::String);
        let outcome = self.new_type(|ty| ty.defined_type().result(Some(packet), Some(task_error)));
        let run = self.func_type(&[("task", text), ("payload", packet)], Some(number));
        let take = self.func_type(&[], Some(ComponentValType::Type(outcome)));
        let resume = self.func_type(&[], Some(number));
        let act = self.func_type(&[], None);

        self.lift(glue, "run", run, &without_post_return);
        self.lift(glue, "take", take, &options);
        self.lift(glue, "resume", resume, &[]);
        self.lift(glue, "save", act, &[]);
        self.lift(glue, "load", act, &[]);
        Ok(())
    }

    fn instantiate_glue(&mut self, entry: &TaskEntry) -> Result<u32, Error> {
        let instances = self.instances_by_place();
        let mut functions = vec![("pages".to_owned(), self.out.lower(self.host.pages, &[]))];
        let aux = self.visitor(self.ckpt, "aux");
        functions.push(("visit0".to_owned(), aux));
        for (index, memory) in (1..).zip(&self.core.memories) {
            let visitor = self.visitor(instances[memory.module], &memory.export);
            functions.push((format!("visit{index}"), visitor));
        }
        let host = self.out.core_bundle(functions.iter().map(|(name, func)| (name.as_str(), ExportKind::Func, *func)));
        let run = self.eraser.function_index(entry.core_func)?;
        let run = self.out.core_bundle([("run", ExportKind::Func, run)]);

        let mut args = vec![("ckpt".to_owned(), self.ckpt), ("host".to_owned(), host), ("entry".to_owned(), run)];
        args.extend(instances.iter().enumerate().map(|(place, instance)| (format!("m{place}"), *instance)));
        args.extend(self.trampolines.iter().enumerate().map(|(number, instance)| (format!("t{number}"), *instance)));
        let module = self.out.core_module(&self.core.glue);
        Ok(self.out.core_instance(module, args.iter().map(|(name, instance)| (name.as_str(), *instance))))
    }

    /// New indices of the instances of core modules, by their place in the program.
    fn instances_by_place(&self) -> Vec<u32> {
        let places = self.wiring.places.iter().zip(&self.eraser.indices.core_instances);
        places.filter_map(|(place, instance)| place.map(|_| *instance)).collect()
    }

    /// `visit`, reading its list from one particular memory.
    fn visitor(&mut self, instance: u32, memory: &str) -> u32 {
        let memory = self.out.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Memory, name: memory });
        self.out.lower(self.host.visit, &[CanonicalOption::Memory(memory)])
    }

    fn new_type(&mut self, write: impl FnOnce(ComponentTypeEncoder<'_>)) -> u32 {
        let Ok(index) = self.out.ty(|encoder| {
            write(encoder);
            Ok::<_, Infallible>(())
        });
        index
    }

    fn func_type(&mut self, params: &[(&str, ComponentValType)], result: Option<ComponentValType>) -> u32 {
        self.new_type(|ty| {
            ty.function().params(params.iter().copied()).result(result);
        })
    }

    fn lift(&mut self, glue: u32, name: &str, ty: u32, options: &[CanonicalOption]) {
        let core_func = self.out.alias(Alias::CoreInstanceExport { instance: glue, kind: ExportKind::Func, name });
        let func = self.out.lift(core_func, ty, options);
        self.out.export(format!("ckpt-{name}").into(), ComponentExportKind::Func, func, None);
    }
}
