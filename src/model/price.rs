//! What runs cost: CPU time on a machine, and a fixed price for each run. Source: facts M1, M2.

use super::machine::Machine;

/// Bytes of a GB as machines are sold.
const GB: f64 = (1_u64 << 30) as f64;
/// Digits after the point of an amount: a millionth of a cent.
const DIGITS: f64 = 1e6;

/// An operator's price table; all 0 unless told otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Prices {
    /// Cents for a second of CPU time, for each vCPU that the machine has.
    pub per_vcpu_second: f64,
    /// Cents for a second of CPU time, for each GB of memory that the machine has.
    pub per_gb_second: f64,
    /// Cents for a run that has begun.
    pub per_run: f64,
}

impl Prices {
    /// Cents for a millisecond of CPU time on this machine.
    pub fn per_ms(&self, machine: Machine) -> f64 {
        let gigabytes = machine.memory_bytes() as f64 / GB;
        (machine.cpu() * self.per_vcpu_second + gigabytes * self.per_gb_second) / 1000.0
    }

    /// Cents for so much CPU time, each part on its machine.
    pub fn compute(&self, used: &[MachineTime]) -> f64 {
        rounded(used.iter().map(|used| used.cpu_ms as f64 * self.per_ms(used.machine)).sum())
    }

    /// Cents for one run, whatever it uses. One that never begins costs nothing.
    pub fn base(&self, has_begun: bool) -> f64 {
        if has_begun { rounded(self.per_run) } else { 0.0 }
    }
}

/// CPU time that was used on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineTime {
    /// The preset.
    pub machine: Machine,
    /// Milliseconds of CPU time.
    pub cpu_ms: u64,
}

/// Without the noise that sums of binary fractions have in their last digits.
fn rounded(cents: f64) -> f64 {
    (cents * DIGITS).round() / DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_millisecond_is_priced_by_its_machine() {
        let prices = Prices { per_vcpu_second: 2.0, per_gb_second: 0.5, per_run: 0.01 };
        assert_eq!(prices.per_ms(Machine::Micro), 0.000_625);
        assert_eq!(prices.per_ms(Machine::Large1x), 0.012);
        let used =
            [MachineTime { machine: Machine::Micro, cpu_ms: 1000 }, MachineTime { machine: Machine::Large1x, cpu_ms: 250 }];
        assert_eq!(prices.compute(&used), 0.625 + 3.0);
        assert_eq!(prices.compute(&[]), 0.0);
        assert_eq!((prices.base(false), prices.base(true)), (0.0, 0.01));
    }

    #[test]
    fn without_prices_everything_is_free() {
        let used = [MachineTime { machine: Machine::Large2x, cpu_ms: u64::MAX }];
        assert_eq!((Prices::default().compute(&used), Prices::default().base(true)), (0.0, 0.0));
    }
}
