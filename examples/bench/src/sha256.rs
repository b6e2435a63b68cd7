//! SHA-256 as FIPS 180-4 writes it, so that the benchmark measures this compiler's loops and no hand-tuned library's.

const K: [u32; 64] = constants(3);
const START: [u32; 8] = first(constants(2));

/// The first 32 bits of the fraction of the square (2) or cube (3) root of the first 64 primes.
const fn constants(root: u32) -> [u32; 64] {
    let mut table = [0; 64];
    let (mut at, mut candidate) = (0, 2_u128);
    while at < 64 {
        if is_prime(candidate) {
            table[at] = fraction(candidate, root);
            at += 1;
        }
        candidate += 1;
    }
    table
}

const fn is_prime(number: u128) -> bool {
    let mut divisor = 2;
    while divisor * divisor <= number {
        if number.is_multiple_of(divisor) {
            return false;
        }
        divisor += 1;
    }
    true
}

/// floor(2^32 · number^(1/root)), without its whole part: the largest x with x^root ≤ number · 2^(32·root).
const fn fraction(number: u128, root: u32) -> u32 {
    let (mut low, mut high) = (0_u128, 1 << 37);
    while low + 1 < high {
        let middle = (low + high) / 2;
        if middle.pow(root) <= number << (32 * root) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low as u32
}

const fn first(table: [u32; 64]) -> [u32; 8] {
    let mut start = [0; 8];
    let mut at = 0;
    while at < 8 {
        start[at] = table[at];
        at += 1;
    }
    start
}

/// A digest in the making.
pub struct Sha256 {
    state: [u32; 8],
    block: Vec<u8>,
    length: u64,
}

impl Sha256 {
    pub fn new() -> Sha256 {
        Sha256 { state: START, block: Vec::with_capacity(64), length: 0 }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        for byte in bytes {
            self.block.push(*byte);
            if self.block.len() == 64 {
                compress(&mut self.state, &self.block);
                self.block.clear();
            }
        }
    }

    /// 64 hex digits.
    pub fn finish(mut self) -> String {
        let bits = self.length * 8;
        self.update(&[0x80]);
        while self.block.len() != 56 {
            self.update(&[0]);
        }
        self.update(&bits.to_be_bytes());
        self.state.iter().map(|word| format!("{word:08x}")).collect()
    }
}

fn compress(state: &mut [u32; 8], block: &[u8]) {
    let mut w = [0_u32; 64];
    for (word, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for t in 16..64 {
        let small0 = w[t - 15].rotate_right(7) ^ w[t - 15].rotate_right(18) ^ w[t - 15] >> 3;
        let small1 = w[t - 2].rotate_right(17) ^ w[t - 2].rotate_right(19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16].wrapping_add(small0).wrapping_add(w[t - 7]).wrapping_add(small1);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for t in 0..64 {
        let big1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let first = h.wrapping_add(big1).wrapping_add(choice).wrapping_add(K[t]).wrapping_add(w[t]);
        let big0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        (h, g, f, e) = (g, f, e, d.wrapping_add(first));
        (d, c, b, a) = (c, b, a, first.wrapping_add(big0).wrapping_add(majority));
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::Sha256;

    #[test]
    fn digests_are_those_of_the_standard() {
        let mut digest = Sha256::new();
        digest.update(b"abc");
        assert_eq!(digest.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
