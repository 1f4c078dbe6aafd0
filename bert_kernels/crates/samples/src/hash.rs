//! SplitMix64 by a counter, as `raybert.samples.counter_hash`.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// 64 random bits of a key and a counter.
pub(crate) fn draw(key: u64, counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(GOLDEN).wrapping_add(key);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A whole number below a limit, itself below 2³², from the upper half of a draw.
pub(crate) fn below(bits: u64, limit: u64) -> u64 {
    ((bits >> 32) * limit) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_splitmix64() {
        // The first outputs of the reference generator seeded with 1234567.
        let drawn: Vec<u64> = (1..=3).map(|counter| draw(1_234_567, counter)).collect();
        let reference = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(drawn, reference);
    }

    #[test]
    fn numbers_stay_below_their_limit() {
        assert_eq!(below(u64::MAX, 7), 6);
        assert_eq!(below(0, 7), 0);
        assert_eq!(below(u64::MAX, 0), 0);
        assert_eq!(
            below(u64::MAX, u64::from(u32::MAX)),
            u64::from(u32::MAX) - 1
        );
    }
}
