//! How much work one component may cause. Every number is checked before the memory for it is taken.

/// Bounds of one rewrite; a component beyond any of them is refused with the name of the bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the component, or of a core module given alone.
    pub max_component_bytes: usize,
    /// Functions defined by all core modules together.
    pub max_functions: usize,
    /// Locals of one function, parameters included.
    pub max_locals_per_function: usize,
    /// Calls at which one function may be suspended.
    pub max_sites_per_function: usize,
    /// Values of one frame: live locals and operands at one call. WebAssembly itself allows 1,000 parameters.
    pub max_values_per_site: usize,
    /// Words of 64 bits the liveness analysis of one function may use: basic blocks times locals / 64.
    pub max_liveness_words: usize,
    /// Words of 64 bits that the liveness analysis of all functions may look at.
    pub max_liveness_work: usize,
    /// Sum over all functions, whether they may suspend or not, of the square of the ways from calls to handlers of exceptions. So the
    /// compiler's time grows: a billion take it a second and a half.
    pub max_handler_work: usize,
    /// Blocks of one function that may suspend.
    pub max_blocks_per_function: usize,
    /// Values that calls which may suspend, and the blocks around them, hand on or keep, in all functions together.
    pub max_saved_values: usize,
    /// Elements of all segments that fill tables.
    pub max_elements: usize,
    /// Bytes of a core module's type section. Validating takes forty times as much.
    pub max_type_bytes: usize,
    /// A rewritten core module may have this many times the bytes of the original, and [`Limits::free_growth`] more.
    pub max_growth: usize,
    /// Bytes a rewritten core module may gain whatever its size.
    pub free_growth: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_component_bytes: 128 << 20,
            max_functions: 400_000,
            max_locals_per_function: 20_000,
            max_sites_per_function: 100_000,
            max_values_per_site: 900,
            max_liveness_words: 2 << 20,
            max_liveness_work: 256 << 20,
            max_handler_work: 8 << 30,
            max_blocks_per_function: 500_000,
            max_saved_values: 8 << 20,
            max_elements: 1_000_000,
            max_type_bytes: 1 << 20,
            max_growth: 6,
            free_growth: 1 << 20,
        }
    }
}
