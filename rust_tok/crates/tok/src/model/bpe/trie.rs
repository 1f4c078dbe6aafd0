//! The longest token at the start of some bytes: a double-array trie.

/// A trie of byte strings with a value each.
///
/// A node's children stand at `base ^ byte`, for a base that no other node has, so a child is told
/// from another node's by its byte alone and a node takes 8 bytes.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    root: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Where the children stand, and in the lowest 8 bits the byte that leads here.
    base_and_byte: u64,
}

/// No value.
const NONE: u32 = (1 << 24) - 1;
/// The base of nodes without children: nothing stands in the first 256 places.
const CHILDLESS: u32 = 1;
/// No base ends like this, so that free places that claim to be reached from such a one never are.
const UNUSED: u32 = 0;

/// As many children are looked for a place from further on.
const MANY: usize = 8;
/// Free places that may be refused before they are given up for later nodes too.
const PATIENCE: usize = 32;

impl Node {
    fn new(base: u32, value: u32, byte: u8) -> Self {
        Self {
            base_and_byte: u64::from(base) << 32 | u64::from(value) << 8 | u64::from(byte),
        }
    }

    fn free(place: usize) -> Self {
        Self::new(CHILDLESS, NONE, (place as u32 ^ UNUSED) as u8)
    }

    #[inline(always)]
    fn base(self) -> u32 {
        (self.base_and_byte >> 32) as u32
    }

    #[inline(always)]
    fn value(self) -> u32 {
        (self.base_and_byte >> 8) as u32 & NONE
    }

    #[inline(always)]
    fn byte(self) -> u8 {
        self.base_and_byte as u8
    }
}

impl Trie {
    /// Of distinct strings in order, none empty; values have 24 bits, not all set.
    pub(super) fn new(entries: &[(&[u8], u32)]) -> Self {
        let mut builder = Builder {
            trie: Self {
                nodes: (0..512).map(Node::free).collect(),
                root: 0,
            },
            taken: vec![true; 256],
            bases: vec![true; 256],
            next: [256; 2],
        };
        builder.taken.resize(512, false);
        builder.bases.resize(512, false);
        builder.trie.root = builder.place(entries, 0);
        builder.trie
    }

    /// The value of the longest string that the bytes start with, and its length.
    #[inline(always)]
    pub(super) fn longest(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let mut base = self.root;
        let mut found = None;
        for (depth, &byte) in bytes.iter().enumerate() {
            let node = self.nodes.get((base ^ u32::from(byte)) as usize);
            let Some(node) = node.filter(|node| node.byte() == byte) else {
                break;
            };
            if node.value() != NONE {
                found = Some((node.value(), depth + 1));
            }
            base = node.base();
        }
        found
    }
}

struct Builder {
    trie: Trie,
    taken: Vec<bool>,
    bases: Vec<bool>,
    /// Where to look for places of few and of many children: what lies before is nearly full.
    next: [usize; 2],
}

impl Builder {
    /// Places all below the node that the strings reach with `depth` bytes; returns its base.
    fn place(&mut self, entries: &[(&[u8], u32)], depth: usize) -> u32 {
        let children: Vec<_> = entries
            .chunk_by(|a, b| a.0[depth] == b.0[depth])
            .map(|child| (child[0].0[depth], child))
            .collect();
        if children.is_empty() {
            return CHILDLESS;
        }
        let bytes: Vec<u8> = children.iter().map(|(byte, _)| *byte).collect();
        let base = self.find_base(&bytes);
        self.bases[base as usize] = true;
        for &(byte, _) in &children {
            self.taken[(base ^ u32::from(byte)) as usize] = true;
        }
        for (byte, child) in children {
            let (ends, below) = match child {
                [(string, value), below @ ..] if string.len() == depth + 1 => (*value, below),
                below => (NONE, below),
            };
            let node = Node::new(self.place(below, depth + 1), ends, byte);
            self.trie.nodes[(base ^ u32::from(byte)) as usize] = node;
        }
        base
    }

    fn find_base(&mut self, bytes: &[u8]) -> u32 {
        let first = u32::from(bytes[0]);
        let many = usize::from(bytes.len() >= MANY);
        let taken = |place: &usize| self.taken.get(*place).is_some_and(|&taken| taken);
        let mut place = self.next[many];
        while taken(&place) {
            place += 1;
        }
        self.next[many] = place;
        let mut refused = 0;
        loop {
            while place + 256 > self.taken.len() {
                let len = self.taken.len() + 256;
                self.taken.resize(len, false);
                self.bases.resize(len, false);
                let nodes = &mut self.trie.nodes;
                nodes.extend((nodes.len()..len).map(Node::free));
            }
            if self.taken[place] {
                place += 1;
                continue;
            }
            let base = place as u32 ^ first;
            let child = |byte: &u8| (base ^ u32::from(*byte)) as usize;
            let fits = || bytes.iter().all(|byte| !self.taken[child(byte)]);
            if base & 0xFF != UNUSED && !self.bases[base as usize] && fits() {
                return base;
            }
            place += 1;
            refused += 1;
            if refused == PATIENCE {
                self.next[many] = place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

        #[test]
        fn the_longest_string_is_found(
            strings in prop::collection::vec(
                prop_oneof![prop::collection::vec(0u8..4, 1..8), prop::collection::vec(any::<u8>(), 1..4)],
                0..400,
            ),
            texts in prop::collection::vec(prop::collection::vec(0u8..4, 0..10), 50),
        ) {
            let values: BTreeMap<&[u8], u32> = strings.iter().map(Vec::as_slice).zip(0..).collect();
            let entries: Vec<_> = values.iter().map(|(string, value)| (*string, *value)).collect();
            let trie = Trie::new(&entries);
            for text in texts.iter().chain(&strings) {
                let expected = (1..=text.len()).rev().find_map(|len| Some((*values.get(&text[..len])?, len)));
                prop_assert_eq!(trie.longest(text), expected);
            }
        }
    }
}
