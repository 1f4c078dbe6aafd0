//! A short word in two registers.

use crate::hash::fold;

/// Longest word, in bytes, of the table that one probe answers from.
pub const SHORT: usize = 15;

/// A word of up to [`SHORT`] bytes: its bytes, zeros, and its length in the last byte. For a longer
/// one, this length is 0.
#[derive(Clone, Copy, Debug, Default, Eq)]
pub struct Key {
    low: u64,
    high: u64,
}

impl PartialEq for Key {
    /// Of both halves at once: a branch after the first one would be mispredicted in every second
    /// line of a table.
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        (self.low ^ other.low) | (self.high ^ other.high) == 0
    }
}

/// The bytes that a length keeps, and the length; nothing of what is longer than [`SHORT`].
const MASKS: [[u64; 4]; SHORT + 2] = {
    let mut masks = [[0; 4]; SHORT + 2];
    let mut len = 1;
    while len <= SHORT {
        let mask = (1u128 << (8 * len)) - 1;
        masks[len] = [mask as u64, (mask >> 64) as u64, (len as u64) << 56, 0];
        len += 1;
    }
    masks
};

impl Key {
    /// In a table, where no word is; equal to the key of none.
    pub(super) const VACANT: Self = Self {
        low: 0,
        high: u64::MAX,
    };

    /// The first `len` of these bytes; the key of no word when that is more than [`SHORT`].
    #[inline(always)]
    pub fn padded(bytes: u128, len: usize) -> Self {
        let [low, high, len, _] = MASKS[len.min(SHORT + 1)];
        Self {
            low: bytes as u64 & low,
            high: (bytes >> 64) as u64 & high | len,
        }
    }

    /// The word `text[start..start + len]`; the key of no word when it is longer than [`SHORT`].
    #[inline(always)]
    pub fn at(text: &[u8], start: usize, len: usize) -> Self {
        Self::padded(sixteen(text, start), len)
    }

    /// The key of a word that is longer than [`SHORT`]: its hash, which is not zero.
    #[inline]
    pub(super) fn long(hash: u64) -> Self {
        Self { low: hash, high: 0 }
    }

    /// The hash of a longer word, if the key has it.
    #[inline]
    pub(super) fn long_hash(self) -> Option<u64> {
        (self.is_empty() && self.low != 0).then_some(self.low)
    }

    /// Length of a short word; 0 for others.
    #[inline]
    pub fn len(self) -> usize {
        (self.high >> 56) as usize
    }

    /// Whether it is the key of no short word.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(super) fn hash(self) -> u64 {
        const SALT: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93];
        fold(self.low ^ SALT[0], self.high ^ SALT[1])
    }
}

/// Sixteen bytes from `start` on, and zeros behind the text.
#[inline(always)]
fn sixteen(text: &[u8], start: usize) -> u128 {
    match text.get(start..start + 16) {
        Some(bytes) => u128::from_le_bytes(bytes.try_into().unwrap_or_default()),
        None => last(text, start),
    }
}

/// [`sixteen`] at the end of a text.
#[inline]
fn last(text: &[u8], start: usize) -> u128 {
    let left = text.len().saturating_sub(start);
    if left == 0 {
        return 0;
    }
    if let Some(bytes) = text.last_chunk::<16>() {
        return u128::from_le_bytes(*bytes) >> (8 * (16 - left));
    }
    let mut bytes = [0; 16];
    bytes[..left].copy_from_slice(&text[start..]);
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_zeros_from_the_end() {
        let text = b"a\0\0bcdefghijklmnopqr";
        let keys: Vec<_> = (0..=SHORT).map(|len| Key::at(text, 0, len)).collect();
        for (len, key) in keys.iter().enumerate() {
            assert_eq!(*key, Key::at(&text[..len], 0, len));
            assert!(!keys[..len].contains(key) && *key != Key::VACANT);
        }
        assert_eq!(Key::at(text, 0, SHORT + 1), Key::default());
    }

    #[test]
    fn a_key_is_the_same_wherever_the_text_ends() {
        let text = b"0123456789abcdefghijklmnopqrstuvwxyz";
        for start in 0..text.len() {
            for end in start + 1..text.len() {
                let key = Key::at(text, start, end - start);
                for text in [&text[..end], &text[start..end]] {
                    assert_eq!(key, Key::at(text, text.len() - (end - start), end - start));
                }
            }
        }
    }
}
