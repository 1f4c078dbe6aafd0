//! Tokens and their ids.

use crate::hash::FastMap;

/// Token to id and back. Ids may have gaps.
#[derive(Clone, Debug, Default)]
pub struct Vocab {
    tokens: Vec<Option<Box<str>>>,
    ids: FastMap<Box<str>, u32>,
}

impl Vocab {
    /// Gives a token an id; both must be new. Returns the token that has the id already.
    pub fn insert(&mut self, token: &str, id: u32) -> Option<&str> {
        let place = id as usize;
        if place >= self.tokens.len() {
            self.tokens.resize(place + 1, None);
        }
        // A token that comes again takes its new id; the old one is left empty.
        if let Some(old) = self.ids.get(token).copied() {
            self.tokens[old as usize] = None;
        }
        if self.tokens[place].is_some() {
            return self.tokens[place].as_deref();
        }
        self.tokens[place] = Some(token.into());
        self.ids.insert(token.into(), id);
        None
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize)?.as_deref()
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True when there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Tokens in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let numbered = self.tokens.iter().zip(0u32..);
        numbered.filter_map(|(token, id)| Some((token.as_deref()?, id)))
    }
}
