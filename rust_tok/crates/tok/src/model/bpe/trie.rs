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

/// Places whose numbers differ in the lowest 8 bits only: a node's children are in one block.
const BLOCK: usize = 256;
/// A bit for each place of a block, or for each base.
type Places = [u64; BLOCK / 64];

/// So many children are looked for a place apart from fewer.
const MANY: usize = 8;
/// Blocks that may refuse a node before the first of them is given up for later ones too.
const PATIENCE: usize = 2;

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
                nodes: (0..BLOCK).map(Node::free).collect(),
                root: 0,
            },
            taken: vec![[u64::MAX; BLOCK / 64]],
            bases: vec![[u64::MAX; BLOCK / 64]],
            next: [1; 2],
            bytes: Vec::new(),
        };
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
    /// By block.
    taken: Vec<Places>,
    /// By block.
    bases: Vec<Places>,
    /// The first block with places for few and for many children: those before are nearly full.
    next: [usize; 2],
    /// Of the children that are being placed.
    bytes: Vec<u8>,
}

impl Builder {
    /// Places all below the node that the strings reach with `depth` bytes; returns its base.
    fn place(&mut self, entries: &[(&[u8], u32)], depth: usize) -> u32 {
        if entries.is_empty() {
            return CHILDLESS;
        }
        let children = entries.chunk_by(|a, b| a.0[depth] == b.0[depth]);
        let byte_of = |child: &[(&[u8], u32)]| child[0].0[depth];
        self.bytes.clear();
        self.bytes.extend(children.clone().map(byte_of));
        let base = self.take_base();
        for child in children {
            let byte = byte_of(child);
            let (ends, below) = match child {
                [(string, value), below @ ..] if string.len() == depth + 1 => (*value, below),
                below => (NONE, below),
            };
            let node = Node::new(self.place(below, depth + 1), ends, byte);
            self.trie.nodes[(base ^ u32::from(byte)) as usize] = node;
        }
        base
    }

    /// Takes a base that no node has, and the places of the children from there.
    fn take_base(&mut self) -> u32 {
        let many = usize::from(self.bytes.len() >= MANY);
        let first = self.next[many];
        let mut block = first;
        loop {
            if block == self.taken.len() {
                self.taken.push(Places::default());
                self.bases.push(Places::default());
                let nodes = &mut self.trie.nodes;
                nodes.extend((nodes.len()..nodes.len() + BLOCK).map(Node::free));
            }
            if let Some(base) = self.base_in(block) {
                add(&mut self.bases, base);
                for &byte in &self.bytes {
                    add(&mut self.taken, base ^ u32::from(byte));
                }
                return base;
            }
            block += 1;
            if block == first + PATIENCE {
                self.next[many] += 1;
            }
        }
    }

    /// The least such base of a block. Sixty-four are looked at together.
    fn base_in(&self, block: usize) -> Option<u32> {
        let (taken, bases) = (&self.taken[block], &self.bases[block]);
        (0..bases.len()).find_map(|word| {
            let mut unfit = bases[word] | u64::from(word == 0) << UNUSED;
            for &byte in &self.bytes {
                unfit |= exchanged(taken[word ^ usize::from(byte >> 6)], byte & 63);
            }
            let bit = unfit.trailing_ones() as usize;
            (bit < 64).then_some((block * BLOCK + word * 64 + bit) as u32)
        })
    }
}

fn add(blocks: &mut [Places], place: u32) {
    let place = place as usize;
    blocks[place / BLOCK][place % BLOCK / 64] |= 1 << (place % 64);
}

/// The bits in another order: bit `i` is what bit `i ^ by` was.
fn exchanged(mut bits: u64, by: u8) -> u64 {
    // Bits 0, 2, 4, ...; 0, 1, 4, 5, ...; and so on: those that are exchanged with higher ones.
    const LOWER: [u64; 6] = [
        0x5555_5555_5555_5555,
        0x3333_3333_3333_3333,
        0x0F0F_0F0F_0F0F_0F0F,
        0x00FF_00FF_00FF_00FF,
        0x0000_FFFF_0000_FFFF,
        0x0000_0000_FFFF_FFFF,
    ];
    for (step, lower) in LOWER.into_iter().enumerate() {
        if by >> step & 1 == 1 {
            let distance = 1 << step;
            bits = (bits >> distance) & lower | (bits & lower) << distance;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bits_are_exchanged() {
        for by in 0..64u8 {
            for bit in 0..64u8 {
                assert_eq!(exchanged(1 << (bit ^ by), by), 1 << bit);
            }
        }
    }

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
