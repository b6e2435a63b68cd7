//! The world outside: what the programs import, the same for the original and the rewritten program.
//!
//! Imports come from `h`. Names that begin with `s` suspend, `p` too and write their result through a return pointer, `n` never do.
//! Of those that suspend, [`FOR_TIMERS`] can be kept from it.

use dormouse::rewrite::core::Suspends;
use wasmtime::{
    AsContextMut, Error, ExternType, Func, FuncType, Memory, Result, Store, StoreLimits, StoreLimitsBuilder, Val, ValType,
};

pub fn is_suspending(module: &str, name: &str) -> bool {
    module == "h" && (name.starts_with('s') || name.starts_with('p'))
}

/// Imports that stay in memory below functions that move data through streams.
const FOR_TIMERS: [&str; 3] = ["s1", "s3", "p0"];

pub fn suspends(name: &str) -> Suspends {
    if FOR_TIMERS.contains(&name) { Suspends::ForTimers } else { Suspends::Always }
}

pub fn has_return_pointer(name: &str) -> bool {
    name.starts_with('p')
}

/// A value without identity, to be compared: NaNs by their bits, references not at all.
pub type Bits = (u8, u128);

pub struct Host {
    /// Every nth call of a suspending import suspends; 0: none.
    pub every: u64,
    calls: u64,
    pub log: Vec<String>,
    /// What `finish` will return.
    answer: Vec<Bits>,
    /// Where return pointers lead.
    pub memory: Option<Memory>,
    /// Memories as shown by the glue, and what they held when they were saved.
    pub shown: Vec<Memory>,
    pub image: Vec<Vec<u8>>,
    pub is_loading: bool,
    limits: StoreLimits,
}

impl Host {
    pub fn new(every: u64) -> Host {
        let limits = StoreLimitsBuilder::new().memory_size(8 << 20).build();
        Host {
            every,
            calls: 0,
            log: vec![],
            answer: vec![],
            memory: None,
            shown: vec![],
            image: vec![],
            is_loading: false,
            limits,
        }
    }

    pub fn store(self, engine: &wasmtime::Engine) -> Store<Host> {
        let mut store = Store::new(engine, self);
        store.limiter(|host| &mut host.limits);
        store.set_fuel(u64::MAX).expect("the engine counts fuel");
        store
    }

    /// Records a call and decides on its answer; returns whether it suspends.
    fn start(&mut self, name: &str, arguments: &[Val], results: &[ValType]) -> bool {
        self.calls += u64::from(is_suspending("h", name));
        let call = format!("{name}{:?}", arguments.iter().map(bits).collect::<Vec<_>>());
        let seed = hash(call.as_bytes()) ^ self.calls;
        self.log.push(call);
        self.answer = (0..).zip(results).map(|(index, ty)| bits(&value(ty, seed ^ index << 7))).collect();
        is_suspending("h", name) && self.every > 0 && self.calls.is_multiple_of(self.every)
    }
}

/// The import as the original program calls it, and `plain` of a trampoline: start and finish in one.
pub fn whole(store: &mut Store<Host>, name: &str, ty: FuncType) -> Func {
    let name = name.to_owned();
    let answer_types = answer_types(&name, &ty);
    Func::new(store, ty, move |mut caller, arguments, results| {
        let logged = arguments.len() - usize::from(has_return_pointer(&name));
        caller.data_mut().start(&name, &arguments[..logged], &answer_types);
        answer(&mut caller, &arguments[logged..], results)
    })
}

/// `start` of a trampoline.
pub fn start(store: &mut Store<Host>, name: &str, original: &FuncType, ty: FuncType) -> Func {
    let name = name.to_owned();
    let answer_types = answer_types(&name, original);
    Func::new(store, ty, move |mut caller, arguments, results| {
        let is_suspended = caller.data_mut().start(&name, arguments, &answer_types);
        results[0] = Val::I32(i32::from(is_suspended));
        Ok(())
    })
}

/// `finish` of a trampoline.
pub fn finish(store: &mut Store<Host>, ty: FuncType) -> Func {
    Func::new(store, ty, |mut caller, arguments, results| answer(&mut caller, arguments, results))
}

fn answer_types(name: &str, ty: &FuncType) -> Vec<ValType> {
    if has_return_pointer(name) { vec![ValType::I64] } else { ty.results().collect() }
}

/// Returns the answer, or writes it where the return pointer leads.
fn answer(caller: &mut wasmtime::Caller<'_, Host>, pointer: &[Val], results: &mut [Val]) -> Result<()> {
    let answer = std::mem::take(&mut caller.data_mut().answer);
    if let [Val::I32(pointer)] = pointer {
        let Some(memory) = caller.data().memory else { return Ok(()) };
        let room = memory.data_size(&mut *caller).saturating_sub(8);
        if room > 0 {
            let at = pointer.cast_unsigned() as usize % room;
            memory.write(caller.as_context_mut(), at, &(answer[0].1 as u64).to_le_bytes())?;
        }
        return Ok(());
    }
    for (result, bits) in results.iter_mut().zip(answer) {
        *result = unbits(bits);
    }
    Ok(())
}

/// `pages` of the glue.
pub fn pages(store: &mut Store<Host>) -> Func {
    Func::wrap(store, |caller: wasmtime::Caller<'_, Host>, index: u32| -> u32 {
        caller.data().image[index as usize].len().div_ceil(65_536) as u32
    })
}

/// `visit<k>` of the glue: reads, or in load mode overwrites, a memory in place.
pub fn visit(store: &mut Store<Host>, number: usize) -> Func {
    Func::wrap(store, move |mut caller: wasmtime::Caller<'_, Host>, index: u32, pointer: u32, length: u32| -> Result<()> {
        if (index as usize, pointer) != (number, 0) {
            return Err(Error::msg(format!("visit{number} is called for memory {index} at {pointer}")));
        }
        let memory = caller.data().shown[number];
        let host = caller.data_mut();
        if !host.is_loading {
            host.image.resize(number + 1, vec![]);
            let bytes = memory.data(&caller)[..length as usize].to_vec();
            caller.data_mut().image[number] = bytes;
            return Ok(());
        }
        let image = std::mem::take(&mut host.image[number]);
        memory.write(&mut caller, 0, &image)?;
        if number == 0 {
            // Whatever lies above the stack must not matter.
            memory.data_mut(&mut caller)[image.len()..].fill(0xa5);
        }
        Ok(())
    })
}

pub fn is_function(ty: &ExternType) -> bool {
    matches!(ty, ExternType::Func(_))
}

pub fn bits(value: &Val) -> Bits {
    match value {
        Val::I32(value) => (0, value.cast_unsigned().into()),
        Val::I64(value) => (1, value.cast_unsigned().into()),
        Val::F32(bits) => (2, (*bits).into()),
        Val::F64(bits) => (3, (*bits).into()),
        Val::V128(value) => (4, value.as_u128()),
        _ => (5, 0),
    }
}

pub fn unbits((kind, bits): Bits) -> Val {
    match kind {
        0 => Val::I32(bits as i32),
        1 => Val::I64(bits as i64),
        2 => Val::F32(bits as u32),
        3 => Val::F64(bits as u64),
        _ => Val::V128(bits.into()),
    }
}

/// Some value of a type; small numbers are likely, since they decide branches and loops.
pub fn value(ty: &ValType, seed: u64) -> Val {
    let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    match ty {
        ValType::I32 if random & 8 == 0 => Val::I32((random & 3) as i32),
        ValType::I32 => Val::I32(random as i32),
        ValType::I64 => Val::I64(random.cast_signed()),
        ValType::F32 => Val::F32(((random % 1000) as f32 / 8.0).to_bits()),
        ValType::F64 => Val::F64(((random % 100_000) as f64 / 16.0).to_bits()),
        ValType::V128 => Val::V128((u128::from(random) << 64 | u128::from(random)).into()),
        ValType::Ref(ty) => Val::null_ref(ty.heap_type()),
    }
}

pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
