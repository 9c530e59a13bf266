//! Random generators that depend on nothing but three named things.
//!
//! Whatever is random in data, masks, dropout and sampling draws from a generator made here, so a step can be repeated, a
//! run resumed and two threads kept apart without saving any generator's state.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// The generator for `purpose` (say `"mlm-mask"`) at position `index` (say a step) of the run with this `seed`.
///
/// Equal arguments give equal streams on every machine; streams of different arguments are unrelated.
pub fn rng(seed: u64, purpose: &str, index: u64) -> Xoshiro256PlusPlus {
    // FNV-1a over the purpose; SplitMix64's finaliser keeps neighbouring seeds and indices apart.
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in purpose.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    for part in [seed, index] {
        state = mix(state ^ mix(part));
    }
    Xoshiro256PlusPlus::seed_from_u64(state)
}

/// A seed for a part of a run, derived from the run's own.
pub fn derive(seed: u64, purpose: &str) -> u64 {
    use rand::RngExt;
    rng(seed, purpose, 0).random::<u64>() >> 1
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn equal_arguments_give_equal_streams_and_others_do_not() {
        let draw = |seed, purpose, index| rng(seed, purpose, index).random::<u64>();
        assert_eq!(draw(1, "mask", 7), draw(1, "mask", 7));
        let others = [draw(1, "mask", 8), draw(2, "mask", 7), draw(7, "mask", 1), draw(1, "order", 7)];
        assert!(others.iter().all(|&other| other != draw(1, "mask", 7)));
    }
}
