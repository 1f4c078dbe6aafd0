//! From ids back to text.

use std::borrow::Cow;

use crate::pretokenize::byte_level::char_to_byte;

/// How tokens become text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Decoder {
    /// Tokens joined by blanks.
    #[default]
    Blanks,
    /// Pieces joined to words.
    WordPiece {
        /// Marks pieces that are not at the start of a word.
        prefix: String,
        /// Take the blanks of English punctuation back.
        cleanup: bool,
    },
    /// Characters that stand for bytes.
    ByteLevel,
}

impl Decoder {
    /// The text of the tokens.
    pub fn decode<'t>(&self, tokens: impl Iterator<Item = &'t str>) -> String {
        match self {
            Self::Blanks => tokens.collect::<Vec<_>>().join(" "),
            Self::WordPiece { prefix, cleanup } => {
                let mut text = String::new();
                for (position, token) in tokens.enumerate() {
                    let token = match token.strip_prefix(prefix.as_str()) {
                        _ if position == 0 => Cow::Borrowed(token),
                        Some(piece) => Cow::Borrowed(piece),
                        None => Cow::Owned(format!(" {token}")),
                    };
                    text.push_str(&if *cleanup { cleaned(token) } else { token });
                }
                text
            }
            Self::ByteLevel => {
                let mut bytes = Vec::new();
                for token in tokens {
                    let start = bytes.len();
                    for c in token.chars() {
                        if let Some(byte) = char_to_byte(c) {
                            bytes.push(byte);
                        } else {
                            // A token outside of the alphabet stands for its own text.
                            bytes.truncate(start);
                            bytes.extend_from_slice(token.as_bytes());
                            break;
                        }
                    }
                }
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }
}

/// The clean-up of `tokenizers`, token by token: what it can't reach across tokens stays.
fn cleaned(token: Cow<'_, str>) -> Cow<'_, str> {
    const RULES: [(&str, &str); 11] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    RULES.iter().fold(token, |token, (from, to)| {
        if token.contains(from) {
            Cow::Owned(token.replace(from, to))
        } else {
            token
        }
    })
}
