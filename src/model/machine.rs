//! Machine presets: how much memory and CPU a run may use.

use serde::{Deserialize, Serialize};

/// A preset by name. Source: facts A23.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// 0.25 vCPU, 0.25 GB.
    Micro,
    /// 0.5 vCPU, 0.5 GB. What a task gets that names none.
    #[default]
    #[serde(rename = "small-1x")]
    Small1x,
    /// 1 vCPU, 1 GB.
    #[serde(rename = "small-2x")]
    Small2x,
    /// 1 vCPU, 2 GB.
    #[serde(rename = "medium-1x")]
    Medium1x,
    /// 2 vCPU, 4 GB.
    #[serde(rename = "medium-2x")]
    Medium2x,
    /// 4 vCPU, 8 GB.
    #[serde(rename = "large-1x")]
    Large1x,
    /// 8 vCPU, 16 GB.
    #[serde(rename = "large-2x")]
    Large2x,
}

const MIB: u64 = 1 << 20;
/// What 32-bit linear memory can address, less the one page that makes its length fit 32 bits.
const ADDRESSABLE: u64 = (1 << 32) - (1 << 16);

impl Machine {
    /// Every preset, smallest first.
    pub const ALL: [Machine; 7] =
        [Self::Micro, Self::Small1x, Self::Small2x, Self::Medium1x, Self::Medium2x, Self::Large1x, Self::Large2x];

    /// The preset's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Micro => "micro",
            Self::Small1x => "small-1x",
            Self::Small2x => "small-2x",
            Self::Medium1x => "medium-1x",
            Self::Medium2x => "medium-2x",
            Self::Large1x => "large-1x",
            Self::Large2x => "large-2x",
        }
    }

    /// The preset with this name.
    pub fn parse(text: &str) -> Option<Machine> {
        Self::ALL.into_iter().find(|machine| machine.as_str() == text)
    }

    /// vCPU.
    pub const fn cpu(self) -> f64 {
        match self {
            Self::Micro => 0.25,
            Self::Small1x => 0.5,
            Self::Small2x | Self::Medium1x => 1.0,
            Self::Medium2x => 2.0,
            Self::Large1x => 4.0,
            Self::Large2x => 8.0,
        }
    }

    /// Bytes of memory the preset is sold with.
    pub const fn memory_bytes(self) -> u64 {
        match self {
            Self::Micro => 256 * MIB,
            Self::Small1x => 512 * MIB,
            Self::Small2x => 1024 * MIB,
            Self::Medium1x => 2048 * MIB,
            Self::Medium2x => 4096 * MIB,
            Self::Large1x => 8192 * MIB,
            Self::Large2x => 16384 * MIB,
        }
    }

    /// Bytes of linear memory a run may have: a preset of 4 GiB and above is capped at what wasm32 can address.
    pub const fn linear_memory_bytes(self) -> u64 {
        let bytes = self.memory_bytes();
        if bytes > ADDRESSABLE { ADDRESSABLE } else { bytes }
    }
}
