//! What writing the functions of one module needs to know of the module and of the program.

use std::collections::{BTreeSet, HashMap};

use wasm_encoder::BlockType;
use wasmparser::ValType;

use super::super::Limits;
use super::budget::Budget;
use super::code::encoded;
use super::exceptions::Exceptions;
use super::frame::SITE_BITS;
use super::graph::MaySuspend;
use super::module::CoreModule;
use super::scan::Dropped;

pub struct Context<'m, 'a> {
    pub module: &'m CoreModule<'a>,
    pub may: &'m MaySuspend,
    pub limits: &'m Limits,
    pub budget: &'m Budget,
    /// Whether anything in the program throws exceptions.
    pub throws: bool,
    /// How exceptions are saved that the module has caught, if they can be.
    pub exceptions: Option<&'m Exceptions>,
    /// First page of each defined function that may suspend.
    pages: Vec<Option<u32>>,
    /// All pages of the module.
    pub page_range: std::ops::Range<u32>,
    /// Type indices of added blocks that return several values, added to the module's types.
    pub result_types: HashMap<Vec<ValType>, u32>,
}

impl<'m, 'a> Context<'m, 'a> {
    /// Numbers the pages of a module's functions, from `first_page` on.
    pub fn new(
        module: &'m CoreModule<'a>,
        may: &'m MaySuspend,
        limits: &'m Limits,
        budget: &'m Budget,
        throws: bool,
        exceptions: Option<&'m Exceptions>,
        first_page: u32,
    ) -> Context<'m, 'a> {
        let mut next_page = first_page;
        let mut result_types = HashMap::new();
        let mut add_type = |results: &[ValType]| {
            if results.len() > 1 && !result_types.contains_key(results) {
                let next = (module.types.len() + result_types.len()) as u32;
                result_types.insert(results.to_vec(), next);
            }
        };
        let mut caught = BTreeSet::new();
        let mut pages = vec![];
        for (index, function) in (module.imported_functions..).zip(&module.functions) {
            if !may.function(index) {
                pages.push(None);
                continue;
            }
            pages.push(Some(next_page));
            next_page = next_page.saturating_add(page_count(function.facts.calls));
            add_type(module.function_type(index).map_or(&[][..], |ty| ty.results()));
            let tags = function.facts.caught.iter();
            caught
                .extend(tags.filter_map(|(tag, with_exception)| Some((*module.tag_types.get(*tag as usize)?, *with_exception))));
        }
        for (ty, with_exception) in caught {
            let exception = if with_exception { &[ValType::EXNREF][..] } else { &[] };
            add_type(&[module.types[ty as usize].params(), exception].concat());
        }
        Context { module, may, limits, budget, throws, exceptions, pages, page_range: first_page..next_page, result_types }
    }

    /// Whether any function of the module may suspend, keeps others from it, or drops what has to be dropped again in a fresh instance.
    pub fn needs_ckpt(&self) -> bool {
        !self.page_range.is_empty() || self.may.keeps_warm() || !self.module.dropped.is_empty()
    }

    /// First page of the `position`th defined function, if it may suspend.
    pub fn page(&self, position: usize) -> Option<u32> {
        self.pages[position]
    }

    /// How many pages the `position`th defined function has.
    pub fn page_count(&self, position: usize) -> usize {
        page_count(self.module.functions[position].facts.calls) as usize
    }

    /// Checks that a value of this type can be saved.
    ///
    /// # Errors
    /// What to call it, if it cannot.
    pub fn check_saved(&self, ty: ValType) -> Result<(), &'static str> {
        match ty {
            ValType::EXNREF if self.exceptions.is_some() => Ok(()),
            ValType::EXNREF => Err("a caught exception (exnref), whose tag may be unknown here or carry a reference,"),
            ValType::Ref(_) => Err("a reference"),
            _ => Ok(()),
        }
    }

    /// The type of an added block: that of the function, or of what a handler takes.
    pub fn block_type(&self, results: &[ValType]) -> BlockType {
        match results {
            [] => BlockType::Empty,
            [result] => BlockType::Result(encoded(*result)),
            several => BlockType::FunctionType(self.result_types[several]),
        }
    }

    /// Index of the global that says whether the stack is being left: imported after all other imports.
    pub fn state(&self) -> u32 {
        self.module.imported_globals
    }

    /// The global that is set when a segment is dropped.
    pub fn flag(&self, segment: Dropped) -> u32 {
        self.global(self.module.flag(segment).expect("every segment that is dropped has a flag"))
    }

    /// Where a global of the original module has gone.
    pub fn global(&self, original: u32) -> u32 {
        original + u32::from(original >= self.module.imported_globals)
    }
}

/// The number of calls is known before the number of sites, and hardly ever needs a second page.
fn page_count(calls: usize) -> u32 {
    calls.div_ceil(1 << SITE_BITS).max(1) as u32
}
