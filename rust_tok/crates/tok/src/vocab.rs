//! Tokens and their ids.

use std::sync::OnceLock;

use crate::hash::FastMap;
use crate::word_cache::{WordCache, WordCaches};

/// The largest id that a file may use: ids index tables.
pub const MAX_ID: u32 = (1 << 24) - 1;

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

/// An id as it is stored: 16 bits where the vocabulary fits, else 32.
pub trait Id: Copy + Default + Send + Sync + std::fmt::Debug + 'static {
    /// As many ids as 16 bytes hold.
    type Lanes: Copy + Default + std::fmt::Debug + Send + Sync + AsRef<[Self]> + AsMut<[Self]>;
    /// Number of them.
    const NUM_LANES: usize = 16 / size_of::<Self>();

    /// The table of words with ids of this width.
    fn cache(caches: &WordCaches) -> &OnceLock<Box<WordCache<Self>>>;
    /// The same, to change it.
    fn cache_mut(caches: &mut WordCaches) -> &mut OnceLock<Box<WordCache<Self>>>;
    /// Stores an id that fits.
    fn new(id: u32) -> Self;
    /// The id.
    fn get(self) -> u32;
}

impl Id for u16 {
    type Lanes = [Self; 8];

    fn cache(caches: &WordCaches) -> &OnceLock<Box<WordCache<Self>>> {
        &caches.narrow
    }

    fn cache_mut(caches: &mut WordCaches) -> &mut OnceLock<Box<WordCache<Self>>> {
        &mut caches.narrow
    }

    #[inline]
    fn new(id: u32) -> Self {
        debug_assert!(id <= u32::from(u16::MAX));
        id as u16
    }

    #[inline]
    fn get(self) -> u32 {
        u32::from(self)
    }
}

impl Id for u32 {
    type Lanes = [Self; 4];

    fn cache(caches: &WordCaches) -> &OnceLock<Box<WordCache<Self>>> {
        &caches.wide
    }

    fn cache_mut(caches: &mut WordCaches) -> &mut OnceLock<Box<WordCache<Self>>> {
        &mut caches.wide
    }

    #[inline]
    fn new(id: u32) -> Self {
        id
    }

    #[inline]
    fn get(self) -> u32 {
        self
    }
}
