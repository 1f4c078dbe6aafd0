//! A short word in two registers.

use crate::hash::fold;

/// Longest word, in bytes, of the table that one probe answers from.
pub const SHORT: usize = 15;

/// A word of up to [`SHORT`] bytes: its bytes, zeros, and its length in the last byte.
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

/// The bytes that a length keeps, and the length.
const MASKS: [[u64; 3]; SHORT + 1] = {
    let mut masks = [[0; 3]; SHORT + 1];
    let mut len = 1;
    while len <= SHORT {
        let mask = (1u128 << (8 * len)) - 1;
        masks[len] = [mask as u64, (mask >> 64) as u64, (len as u64) << 56];
        len += 1;
    }
    masks
};

impl Key {
    /// The first `len` of these bytes; `len` is at most [`SHORT`].
    #[inline]
    pub fn padded(bytes: &[u8; 16], len: usize) -> Self {
        let (halves, _) = bytes.as_chunks::<8>();
        let [low, high, len] = MASKS[len & SHORT];
        Self {
            low: u64::from_le_bytes(halves[0]) & low,
            high: u64::from_le_bytes(halves[1]) & high | len,
        }
    }

    /// The word `text[start..start + len]`; `None` when it is longer than [`SHORT`].
    #[inline]
    pub fn at(text: &[u8], start: usize, len: usize) -> Option<Self> {
        if len > SHORT {
            return None;
        }
        let behind = &text[start..];
        Some(match behind.first_chunk::<16>() {
            Some(bytes) => Self::padded(bytes, len),
            None => {
                let mut bytes = [0; 16];
                bytes[..len].copy_from_slice(&behind[..len]);
                Self::padded(&bytes, len)
            }
        })
    }

    /// The word whose first 15 bytes these are, with zeros for what is behind it; no word for one
    /// that is longer.
    #[inline(always)]
    pub(crate) fn of(low: u64, high: u64, len: usize) -> Self {
        if len > SHORT {
            return Self::default();
        }
        Self {
            low,
            high: high | (len as u64) << 56,
        }
    }

    /// Length of the word.
    #[inline]
    pub fn len(self) -> usize {
        (self.high >> 56) as usize
    }

    /// Whether it is the key of no word.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_zeros_from_the_end() {
        let text = b"a\0\0bcdefghijklmnopqr";
        let keys: Vec<_> = (0..=SHORT).map(|len| Key::at(text, 0, len)).collect();
        for (len, key) in keys.iter().enumerate() {
            assert_eq!(*key, Key::at(&text[..len], 0, len));
            assert!(!keys[..len].contains(key));
        }
        assert_eq!(Key::at(text, 0, SHORT + 1), None);
    }
}
