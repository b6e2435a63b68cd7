//! The world outside of the suite's modules: `spectest`, which their scripts presuppose, and a host that suspends.

use wasmtime::{
    Caller, ExternRef, Func, FuncType, Memory, Result, Rooted, Store, StoreContextMut, StoreLimits, StoreLimitsBuilder, Val,
};

use super::script::Argument;

/// Module name that the scripts import from.
pub const SPECTEST: &str = "spectest";
/// Module name of all that suspends.
pub const OUTSIDE: &str = "outside";
/// What inserted calls call.
pub const INSERTED: &str = "inserted";

/// As the suite describes it, but for the functions, which come from outside and suspend.
pub const SPECTEST_TEXT: &str = r#"(module
  (func (export "print") (import "outside" "print"))
  (func (export "print_i32") (import "outside" "print_i32") (param i32))
  (func (export "print_i64") (import "outside" "print_i64") (param i64))
  (func (export "print_f32") (import "outside" "print_f32") (param f32))
  (func (export "print_f64") (import "outside" "print_f64") (param f64))
  (func (export "print_i32_f32") (import "outside" "print_i32_f32") (param i32 f32))
  (func (export "print_f64_f64") (import "outside" "print_f64_f64") (param f64 f64))
  (global (export "global_i32") i32 (i32.const 666)) (global (export "global_i64") i64 (i64.const 666))
  (global (export "global_f32") f32 (f32.const 666.6)) (global (export "global_f64") f64 (f64.const 666.6))
  (table (export "table") 10 20 funcref) (memory (export "memory") 1 2))"#;

/// A value that can be compared: its type and its bits.
pub type Bits = (u8, u128);

#[derive(Default)]
pub struct Host {
    /// Whether the run can be suspended just now.
    pub may_suspend: bool,
    /// Calls of suspending imports in this run, and at which of them it is suspended next, and then.
    calls: u64,
    next: (u64, u64),
    /// What was printed.
    pub log: Vec<(String, Vec<Bits>)>,
    /// Memories as the glue shows them, and what they held when they were saved.
    pub shown: Vec<Memory>,
    pub image: Vec<Vec<u8>>,
    pub is_loading: bool,
    limits: StoreLimits,
}

/// Instructions of one call; what takes more does not end. Growing a table by all of its index space, as the suite tries to, counts as
/// one for each element.
pub const FUEL: u64 = 5_000_000_000;

impl Host {
    pub fn store(mut self, engine: &wasmtime::Engine) -> Store<Host> {
        self.limits = StoreLimitsBuilder::new().memory_size(256 << 20).table_elements(1 << 20).build();
        let mut store = Store::new(engine, self);
        store.limiter(|host| &mut host.limits);
        store.set_fuel(FUEL).expect("the engine counts fuel");
        store
    }

    /// A new run: the calls at which it is suspended get rarer, since nobody knows how many there will be.
    pub fn begin(&mut self, may_suspend: bool) {
        (self.may_suspend, self.calls, self.next) = (may_suspend, 0, (1, 2));
    }

    fn start(&mut self, name: &str, arguments: &[Val]) -> bool {
        if name != INSERTED {
            self.log.push((name.to_owned(), arguments.iter().map(plain_bits).collect()));
        }
        self.calls += 1;
        let is_suspended = self.may_suspend && self.calls == self.next.0;
        if is_suspended {
            self.next = (self.next.1, self.next.0 + self.next.1);
        }
        is_suspended
    }
}

/// The import as the original calls it.
pub fn whole(store: &mut Store<Host>, name: &str, ty: FuncType) -> Func {
    let name = name.to_owned();
    Func::new(store, ty, move |mut caller, arguments, _| {
        caller.data_mut().start(&name, arguments);
        Ok(())
    })
}

/// `start` of its trampoline.
pub fn start(store: &mut Store<Host>, name: &str, ty: FuncType) -> Func {
    let name = name.to_owned();
    Func::new(store, ty, move |mut caller, arguments, results| {
        results[0] = Val::I32(caller.data_mut().start(&name, arguments).into());
        Ok(())
    })
}

/// `finish` of its trampoline: none of these functions has a result.
pub fn finish(store: &mut Store<Host>, ty: FuncType) -> Func {
    Func::new(store, ty, |_, _, _| Ok(()))
}

/// `pages` of the glue.
pub fn pages(store: &mut Store<Host>) -> Func {
    Func::wrap(store, |caller: Caller<'_, Host>, index: u32| caller.data().image[index as usize].len().div_ceil(65_536) as u32)
}

/// `visit<number>` of the glue: reads a memory, or in load mode overwrites it.
pub fn visit(store: &mut Store<Host>, number: usize) -> Func {
    Func::wrap(store, move |mut caller: Caller<'_, Host>, _: u32, pointer: u32, length: u32| -> Result<()> {
        let memory = caller.data().shown[number];
        if caller.data().is_loading {
            let image = std::mem::take(&mut caller.data_mut().image[number]);
            memory.write(&mut caller, pointer as usize, &image)?;
        } else {
            let bytes = memory.data(&caller)[pointer as usize..][..length as usize].to_vec();
            let image = &mut caller.data_mut().image;
            image.resize(number + 1, vec![]);
            image[number] = bytes;
        }
        Ok(())
    })
}

pub fn extern_bits(id: u32) -> Bits {
    (6, id.into())
}

fn plain_bits(value: &Val) -> Bits {
    match value {
        Val::I32(value) => (0, value.cast_unsigned().into()),
        Val::I64(value) => (1, value.cast_unsigned().into()),
        Val::F32(bits) => (2, (*bits).into()),
        Val::F64(bits) => (3, (*bits).into()),
        Val::V128(value) => (4, value.as_u128()),
        Val::FuncRef(None) | Val::ExternRef(None) => (5, 0),
        _ => (7, 0),
    }
}

pub fn bits(store: &StoreContextMut<'_, Host>, value: &Val) -> Bits {
    match value {
        Val::ExternRef(Some(reference)) => {
            let data = reference.data(store).ok().flatten().and_then(|data| data.downcast_ref::<u32>());
            data.map_or((7, 1), |id| extern_bits(*id))
        }
        other => plain_bits(other),
    }
}

/// The values that a kind of a result area is read as.
pub fn from_area(ty: &wasmtime::ValType, bytes: [u8; 16]) -> Bits {
    let bits = u128::from_le_bytes(bytes);
    let (low, long) = (u128::from(bits as u32), u128::from(bits as u64));
    match ty {
        wasmtime::ValType::I32 => (0, low),
        wasmtime::ValType::I64 => (1, long),
        wasmtime::ValType::F32 => (2, low),
        wasmtime::ValType::F64 => (3, long),
        _ => (4, bits),
    }
}

/// `None` if the argument is not one for this parameter.
pub fn value(store: &mut Store<Host>, argument: &Argument, ty: &wasmtime::ValType) -> Option<Val> {
    Some(match (argument, ty) {
        (Argument::Plain((0, bits)), _) => Val::I32(*bits as i32),
        (Argument::Plain((1, bits)), _) => Val::I64(*bits as i64),
        (Argument::Plain((2, bits)), _) => Val::F32(*bits as u32),
        (Argument::Plain((3, bits)), _) => Val::F64(*bits as u64),
        (Argument::Plain((_, bits)), _) => Val::V128((*bits).into()),
        (Argument::Null, wasmtime::ValType::Ref(ty)) => Val::null_ref(ty.heap_type()),
        (Argument::Extern(id), _) => {
            let reference: Rooted<ExternRef> = ExternRef::new(store, *id).ok()?;
            Val::ExternRef(Some(reference))
        }
        _ => return None,
    })
}
