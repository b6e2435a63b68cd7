//! The journal.
/// One effectful call of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Sequence of the checkpoint that the run went on from; 0 if it began from the start.
    pub sequence: u64,
    /// The call's number since then, from 0.
    pub ordinal: u32,
}
