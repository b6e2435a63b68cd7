//! What a guest may take from the machine: linear memory by preset, and bounds on everything it can make the host allocate.

use wasmtime::ResourceLimiter;

use crate::model::machine::Machine;

/// Bytes of strings and lists that one call into the host may carry, for `Store::set_hostcall_fuel`; a guest that passes more
/// traps. Above the largest batch (16 MiB), so that one which is larger by a little is told.
pub const HOSTCALL_FUEL: usize = 24 << 20;
/// Handles a guest may hold at a time; wasmtime's own count does not see them any more.
pub const MAX_HANDLES: usize = 4096;
/// Host objects behind the handles: some handles have two (a timer and its pollable).
pub const MAX_RESOURCES: usize = 4 * MAX_HANDLES;
/// Files and directories that a guest may have open at a time: each has a file descriptor.
pub const MAX_OPEN_FILES: usize = 128;
/// Directory listings that a guest may be reading at a time: each is whole in memory.
pub const MAX_LISTINGS: usize = 16;
/// Bytes of the path by which an open file is found again. One with a longer path keeps its run in memory.
pub const MAX_LOCATION_BYTES: usize = 4096;
/// Random bytes in one call.
pub const MAX_RANDOM_BYTES: u64 = 1 << 20;
/// Elements of all tables together. Real guests have some tens of thousands.
const MAX_TABLE_ELEMENTS: usize = 1 << 20;
/// Memories, tables and core instances of one component. Real ones have a handful; a memory takes four gigabytes of addresses,
/// of which there are not enough for many guests with thousands.
const MAX_MEMORIES: usize = 64;
const MAX_TABLES: usize = 1000;
const MAX_INSTANCES: usize = 1000;
/// Bytes of memory beyond the preset that the checkpoint module may use for saved frames: as deep as wasm stacks get.
const CALL_STACK_BYTES: u64 = 64 << 20;

/// On whose account memory grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// The guest's own: the preset is the limit.
    Guest,
    /// A stack is being unwound; only the checkpoint's memory grows, and what it takes is not taken from the guest.
    Saving,
    /// A snapshot is being loaded: the guest's memories and the checkpoint's grow to what they were.
    Loading,
}

/// Holds an instance's memories, all together, to its machine preset.
#[derive(Debug)]
pub struct MemoryLimiter {
    guest_bytes: u64,
    used: u64,
    table_elements: usize,
    account: Account,
    denied: bool,
}

impl MemoryLimiter {
    /// Room for a guest on `machine`.
    pub fn new(machine: Machine) -> MemoryLimiter {
        MemoryLimiter {
            guest_bytes: machine.linear_memory_bytes(),
            used: 0,
            table_elements: 0,
            account: Account::Guest,
            denied: false,
        }
    }

    /// Whether a growth was refused because of the preset: a trap or abort that follows is the guest running out of memory.
    pub fn denied(&self) -> bool {
        self.denied
    }

    pub(super) fn charge(&mut self, account: Account) {
        self.account = account;
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let grown = desired.saturating_sub(current) as u64;
        let allowed = match self.account {
            Account::Guest => self.guest_bytes,
            Account::Saving | Account::Loading => self.guest_bytes.saturating_add(CALL_STACK_BYTES),
        };
        if self.used.saturating_add(grown) > allowed {
            self.denied = true;
            return Ok(false);
        }
        if self.account == Account::Saving {
            self.guest_bytes += grown;
        }
        self.used += grown;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let all = self.table_elements.saturating_add(desired.saturating_sub(current));
        if maximum.is_some_and(|maximum| desired > maximum) || all > MAX_TABLE_ELEMENTS {
            return Ok(false);
        }
        self.table_elements = all;
        Ok(true)
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn all_memories_together_stay_within_the_preset() {
        let mut limiter = MemoryLimiter::new(Machine::Micro);
        assert!(limiter.memory_growing(0, 200 * MIB, None).unwrap());
        assert!(!limiter.memory_growing(0, 57 * MIB, None).unwrap());
        assert!(limiter.denied());
        assert!(limiter.memory_growing(0, 56 * MIB, None).unwrap());
    }

    #[test]
    fn all_tables_together_are_bounded() {
        let mut limiter = MemoryLimiter::new(Machine::Micro);
        assert!(limiter.table_growing(0, MAX_TABLE_ELEMENTS - 10, None).unwrap());
        assert!(!limiter.table_growing(0, 11, None).unwrap());
        assert!(limiter.table_growing(0, 10, None).unwrap());
    }

    #[test]
    fn a_module_that_reaches_its_own_maximum_is_not_out_of_the_presets_memory() {
        let mut limiter = MemoryLimiter::new(Machine::Micro);
        assert!(!limiter.memory_growing(0, 2 * MIB, Some(MIB)).unwrap());
        assert!(!limiter.denied());
    }

    #[test]
    fn a_guest_that_filled_its_preset_can_still_be_suspended() {
        let mut limiter = MemoryLimiter::new(Machine::Micro);
        assert!(limiter.memory_growing(0, 256 * MIB, None).unwrap());
        limiter.charge(Account::Saving);
        assert!(limiter.memory_growing(0, 8 * MIB, None).unwrap());
        limiter.charge(Account::Guest);
        assert!(!limiter.memory_growing(0, 1, None).unwrap());
    }
}
