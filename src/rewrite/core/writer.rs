//! What writing the fast and the resume version of a function have in common: copying operators, and the locals that hold operands.
//!
//! An operand that a site has to save lives in a *slot*, a local for its position and type. What a block or a branch passes on travels in
//! *registers* of its own: were it in slots, an untaken `br_if` would overwrite them.

use std::collections::HashMap;

use wasmparser::ValType;

use super::body::{Body, Op, Site, Variable};
use super::code::{Code, Symbol};
use super::context::Context;
use super::frame::{Helper, SITE_BITS};

/// As WebAssembly implementations have agreed, with some room for declarations of locals and longer indices.
const MAX_FUNCTION_BYTES: u32 = 7_000_000;

pub struct Writer<'w, 'a> {
    pub context: &'w Context<'w, 'a>,
    pub body: &'w Body<'a>,
    pub code: Code,
    /// First page of the function's descriptors.
    page: u32,
    /// Operators before this one are written.
    written: usize,
    added_locals: Vec<ValType>,
    slots: HashMap<(u32, ValType), u32>,
    registers: HashMap<(u32, ValType), u32>,
}

impl<'w, 'a> Writer<'w, 'a> {
    pub fn new(context: &'w Context<'w, 'a>, body: &'w Body<'a>, page: u32) -> Writer<'w, 'a> {
        Writer {
            context,
            body,
            code: Code::default(),
            page,
            written: 0,
            added_locals: vec![],
            slots: HashMap::new(),
            registers: HashMap::new(),
        }
    }

    /// Declares the locals: those of the original function from `first` on, and the added ones.
    pub fn finish(mut self, first: usize) -> Code {
        let original = self.body.locals[first..].iter().copied();
        self.code.declare_locals(original.chain(self.added_locals.iter().copied()));
        self.code
    }

    /// # Errors
    /// If the code so far is larger than a function may be.
    pub fn check_size(&self) -> Result<(), String> {
        if self.code.len() <= MAX_FUNCTION_BYTES {
            return Ok(());
        }
        Err(format!("is larger than the limit of {MAX_FUNCTION_BYTES} bytes once it can be suspended"))
    }

    pub fn add_local(&mut self, ty: ValType) -> u32 {
        self.added_locals.push(ty);
        (self.body.locals.len() + self.added_locals.len() - 1) as u32
    }

    pub fn get(&mut self, local: u32) {
        self.code.sink().local_get(local);
    }

    pub fn set(&mut self, local: u32) {
        self.code.sink().local_set(local);
    }

    fn slot(&mut self, position: u32, ty: ValType) -> u32 {
        if let Some(local) = self.slots.get(&(position, ty)) {
            return *local;
        }
        let local = self.add_local(ty);
        self.slots.insert((position, ty), local);
        local
    }

    fn register(&mut self, index: u32, ty: ValType) -> u32 {
        if let Some(local) = self.registers.get(&(index, ty)) {
            return *local;
        }
        let local = self.add_local(ty);
        self.registers.insert((index, ty), local);
        local
    }

    /// The local that holds a variable.
    pub fn variable(&mut self, variable: Variable, ty: ValType) -> u32 {
        match variable {
            Variable::Local(local) => local,
            Variable::Operand(position) => self.slot(position, ty),
        }
    }

    /// Takes values off the stack into registers.
    pub fn set_registers(&mut self, types: &[ValType]) {
        for (index, ty) in (0..types.len() as u32).zip(types).rev() {
            let register = self.register(index, *ty);
            self.set(register);
        }
    }

    pub fn get_registers(&mut self, types: &[ValType]) {
        for (index, ty) in (0..).zip(types) {
            self.get_register(index, *ty);
        }
    }

    pub fn get_register(&mut self, index: u32, ty: ValType) {
        let register = self.register(index, ty);
        self.get(register);
    }

    /// Takes the operands from position `base` up off the stack into their slots.
    pub fn set_slots(&mut self, base: usize, types: &[ValType]) {
        for (position, ty) in (base as u32..(base + types.len()) as u32).zip(types).rev() {
            let slot = self.slot(position, *ty);
            self.set(slot);
        }
    }

    pub fn get_slots(&mut self, base: usize, types: &[ValType]) {
        for (position, ty) in (base as u32..).zip(types) {
            let slot = self.slot(position, *ty);
            self.get(slot);
        }
    }

    /// The function's descriptors begin here.
    pub fn descriptor(&self, site: usize) -> i32 {
        ((self.page << SITE_BITS) + site as u32).cast_signed()
    }

    /// Copies operators up to, not including, the one at `at`.
    pub fn copy_until(&mut self, at: usize) {
        if self.written < at {
            self.code.raw(self.body.operators(self.written, at));
        }
        self.written = at;
    }

    /// Copies up to the operator at `at`, which the caller replaces.
    pub fn replace(&mut self, at: usize) {
        self.copy_until(at);
        self.written = at + 1;
    }

    /// Leaves out everything up to, not including, the operator at `at`.
    pub fn skip_until(&mut self, at: usize) {
        self.written = at;
    }

    /// Rewrites an operator that names a function or a global, or drops a segment; any other is left to be copied.
    pub fn relocate(&mut self, at: usize) {
        match self.body.ops[at] {
            Op::Call(function) => {
                self.replace(at);
                self.code.call(Symbol::Function(function));
            }
            Op::RefFunc(function) => {
                self.replace(at);
                self.code.ref_func(Symbol::Function(function));
            }
            Op::GlobalGet(global) => {
                self.replace(at);
                self.code.sink().global_get(self.context.global(global));
            }
            Op::GlobalSet(global) => {
                self.replace(at);
                self.code.sink().global_set(self.context.global(global));
            }
            Op::Drop(segment) => {
                self.copy_until(at + 1);
                self.code.set_flag(self.context.flag(segment));
            }
            _ => {}
        }
    }

    /// The call of a site.
    pub fn call(&mut self, site: &Site) {
        match site.function {
            Some(function) => self.code.call(Symbol::Function(function)),
            None => self.code.raw(self.body.operators(site.at, site.at + 1)),
        }
    }

    /// After the call of a site: if the callee was left, push a frame and leave through the label `exit` levels out.
    pub fn check(&mut self, number: usize, exit: u32) {
        let site = &self.body.sites[number];
        self.code.sink().global_get(self.context.state());
        self.code.mark_unlikely();
        self.code.sink().if_(wasm_encoder::BlockType::Empty);
        let descriptor = self.descriptor(number);
        self.code.sink().i32_const(descriptor);
        for (variable, kind) in &site.variables {
            let local = self.variable(*variable, kind.val_type());
            self.get(local);
        }
        self.code.call_helper(Helper::Save(site.signature));
        for variable in &site.exceptions {
            let local = self.variable(*variable, ValType::EXNREF);
            self.get(local);
            self.code.call(Symbol::KeepException);
        }
        self.code.sink().br(exit + 1).end();
    }
}
