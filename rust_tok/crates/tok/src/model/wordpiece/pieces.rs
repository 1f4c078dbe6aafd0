//! The longest known piece first, in time linear in the word: LinMaxMatch of Song et al., "Fast
//! WordPiece Tokenization" (EMNLP 2021).
//!
//! Two tries, of the pieces at the start of a word and of those inside, walked byte by byte. A
//! node from which a byte leads nowhere has a failure link: to the node of what is left once the
//! pieces that the greedy match certainly takes from the node's text (its pops) are taken off.
//! Every step down reads a byte and every link taken gives at least one piece, so that a word of
//! n bytes takes at most 2 n steps.
//!
//! The edges lie in a double array: the child of a node by a byte is at `base ^ byte`, and is one
//! if its `check` is the node. Pops are lists that share their beginnings, from the last piece
//! back: along a path no more are made than it has bytes, so that memory is linear as well.

use crate::id::Id;

const NONE: u32 = u32::MAX;
/// Node of nothing read yet.
const START: u32 = 0;
/// Node of a piece's end inside of a word.
const INSIDE: u32 = 1;
/// Places tried for the children of a node before the array is made longer.
const TRIES: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Node {
    base: u32,
    /// The parent; `NONE` for a place that is free.
    check: u32,
}

const FREE: Node = Node {
    base: 0,
    check: NONE,
};

/// Where to go on when a byte leads nowhere.
#[derive(Clone, Copy, Debug)]
struct Failure {
    link: u32,
    /// The last one of the pops.
    pops: u32,
    num_pops: u32,
}

const DEAD: Failure = Failure {
    link: NONE,
    pops: NONE,
    num_pops: 0,
};

/// A piece, and the place of the one before it.
#[derive(Clone, Copy, Debug)]
struct Pop {
    id: u32,
    before: u32,
}

/// Pieces at the start of a word and inside.
#[derive(Debug)]
pub(super) struct Pieces {
    nodes: Vec<Node>,
    failures: Vec<Failure>,
    pops: Vec<Pop>,
}

impl Pieces {
    /// Of pieces that are not empty, each kind without repetition.
    pub(super) fn new<'v>(
        initial: impl Iterator<Item = (&'v [u8], u32)>,
        inside: impl Iterator<Item = (&'v [u8], u32)>,
    ) -> Self {
        let mut tree = Tree::default();
        let roots = [tree.add(initial), tree.add(inside)];
        let mut pieces = Self {
            nodes: vec![FREE; 512],
            failures: Vec::new(),
            pops: Vec::new(),
        };
        // Nobody's children: no byte leads here.
        pieces.nodes[START as usize].check = START;
        pieces.nodes[INSIDE as usize].check = INSIDE;
        pieces.lay_out(&tree, roots);
        pieces
    }

    /// Appends the ids of a word that is not empty; false, with some of them, if it can't be put
    /// together.
    pub(super) fn encode<I: Id>(&self, word: &[u8], ids: &mut Vec<I>) -> bool {
        let mut node = START;
        for &byte in word {
            let mut child = self.child(node, byte);
            while child == NONE {
                let failure = &self.failures[node as usize];
                if failure.link == NONE {
                    return false;
                }
                self.pop(failure, ids);
                node = failure.link;
                child = self.child(node, byte);
            }
            node = child;
        }
        while node != INSIDE {
            let failure = &self.failures[node as usize];
            if failure.link == NONE {
                return false;
            }
            self.pop(failure, ids);
            node = failure.link;
        }
        true
    }

    #[inline]
    fn child(&self, node: u32, byte: u8) -> u32 {
        let place = self.nodes[node as usize].base ^ u32::from(byte);
        match self.nodes.get(place as usize) {
            Some(child) if child.check == node && place > INSIDE => place,
            _ => NONE,
        }
    }

    #[inline]
    fn pop<I: Id>(&self, failure: &Failure, ids: &mut Vec<I>) {
        if failure.num_pops == 1 {
            ids.push(I::new(self.pops[failure.pops as usize].id));
            return;
        }
        let start = ids.len();
        ids.resize(start + failure.num_pops as usize, I::default());
        let mut place = failure.pops;
        for id in ids[start..].iter_mut().rev() {
            let pop = self.pops[place as usize];
            *id = I::new(pop.id);
            place = pop.before;
        }
    }

    /// Gives the nodes of the tree their places and failures, level by level: a failure link
    /// leads to a node that is nearer to a root.
    fn lay_out(&mut self, tree: &Tree, roots: [u32; 2]) {
        self.failures = vec![DEAD; self.nodes.len()];
        let mut level = vec![(roots[0], START), (roots[1], INSIDE)];
        let mut children = Vec::new();
        let mut free = INSIDE as usize + 1;
        while !level.is_empty() {
            let mut next_level = Vec::new();
            for &(number, place) in &level {
                children.clear();
                children.extend(tree.children(number));
                if children.is_empty() {
                    continue;
                }
                let base = self.room(&children, tree, &mut free);
                self.nodes[place as usize].base = base;
                for &child in &children {
                    let at = base ^ u32::from(tree.nodes[child as usize].byte);
                    self.nodes[at as usize].check = place;
                    next_level.push((child, at));
                }
            }
            for &(number, place) in &next_level {
                self.fail(&tree.nodes[number as usize], place);
            }
            level = next_level;
        }
    }

    /// A base under which the places of all children are free.
    fn room(&mut self, children: &[u32], tree: &Tree, free: &mut usize) -> u32 {
        let bytes = || {
            children
                .iter()
                .map(|&child| u32::from(tree.nodes[child as usize].byte))
        };
        let first = bytes().next().unwrap_or(0);
        while self.nodes.get(*free).is_some_and(|node| node.check != NONE) {
            *free += 1;
        }
        let places = (*free..self.nodes.len()).filter(|&place| self.nodes[place].check == NONE);
        let found = places
            .take(TRIES)
            .map(|place| place as u32 ^ first)
            .find(|base| {
                bytes().all(|byte| {
                    let node = self.nodes.get((base ^ byte) as usize);
                    node.is_some_and(|node| node.check == NONE)
                })
            });
        found.unwrap_or_else(|| {
            // A multiple of 256, as every length of the array is.
            let base = self.nodes.len();
            self.nodes.resize(base + 256, FREE);
            self.failures.resize(base + 256, DEAD);
            base as u32
        })
    }

    /// Sets a node's failure from its parent's.
    fn fail(&mut self, node: &Branch, place: u32) {
        if node.id != NONE {
            let pops = self.append(NONE, node.id);
            self.failures[place as usize] = Failure {
                link: INSIDE,
                pops,
                num_pops: 1,
            };
            return;
        }
        let parent = self.nodes[place as usize].check;
        let mut failure = self.failures[parent as usize];
        while failure.link != NONE {
            let child = self.child(failure.link, node.byte);
            if child != NONE {
                failure.link = child;
                self.failures[place as usize] = failure;
                return;
            }
            let next = self.failures[failure.link as usize];
            let mut ids = vec![0u32; 0];
            self.pop(&next, &mut ids);
            for id in ids {
                failure.pops = self.append(failure.pops, id);
                failure.num_pops += 1;
            }
            failure.link = next.link;
        }
    }

    fn append(&mut self, before: u32, id: u32) -> u32 {
        self.pops.push(Pop { id, before });
        self.pops.len() as u32 - 1
    }
}

/// The tries as they are put together.
#[derive(Debug, Default)]
struct Tree {
    nodes: Vec<Branch>,
}

#[derive(Clone, Copy, Debug)]
struct Branch {
    byte: u8,
    /// The piece that ends here; `NONE` if none does.
    id: u32,
    first_child: u32,
    next_sibling: u32,
}

impl Tree {
    /// Adds a trie, and returns its root.
    fn add<'v>(&mut self, pieces: impl Iterator<Item = (&'v [u8], u32)>) -> u32 {
        let mut sorted: Vec<_> = pieces.collect();
        sorted.sort_unstable();
        let root = self.node(0);
        // The nodes of the last piece, from the root on.
        let mut path = vec![root];
        let mut last: &[u8] = &[];
        for (piece, id) in sorted {
            let shared = last.iter().zip(piece).take_while(|(a, b)| a == b).count();
            path.truncate(shared + 1);
            for &byte in &piece[shared..] {
                let parent = path[path.len() - 1] as usize;
                let node = self.node(byte);
                self.nodes[node as usize].next_sibling = self.nodes[parent].first_child;
                self.nodes[parent].first_child = node;
                path.push(node);
            }
            self.nodes[path[path.len() - 1] as usize].id = id;
            last = piece;
        }
        root
    }

    fn node(&mut self, byte: u8) -> u32 {
        self.nodes.push(Branch {
            byte,
            id: NONE,
            first_child: NONE,
            next_sibling: NONE,
        });
        self.nodes.len() as u32 - 1
    }

    fn children(&self, number: u32) -> impl Iterator<Item = u32> {
        let some = |child: u32| (child != NONE).then_some(child);
        let first = some(self.nodes[number as usize].first_child);
        std::iter::successors(first, move |&child| {
            some(self.nodes[child as usize].next_sibling)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Vocabulary = BTreeMap<String, u32>;

    /// Longest first, by trying all.
    fn by_definition(initial: &Vocabulary, inside: &Vocabulary, word: &str) -> Option<Vec<u32>> {
        let (mut ids, mut rest, mut pieces) = (Vec::new(), word, initial);
        while !rest.is_empty() {
            let ends = (1..=rest.len())
                .rev()
                .filter(|&end| rest.is_char_boundary(end));
            let (end, id) = ends
                .filter_map(|end| Some((end, *pieces.get(&rest[..end])?)))
                .next()?;
            ids.push(id);
            rest = &rest[end..];
            pieces = inside;
        }
        Some(ids)
    }

    fn vocabulary(letters: &'static str) -> impl Strategy<Value = Vocabulary> {
        prop::collection::btree_map(letters, 0u32..1000, 0..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 400 }))]

        #[test]
        fn pieces_are_the_longest_ones(
            initial in vocabulary("[abé]{1,6}"),
            inside in vocabulary("[abé]{1,6}"),
            words in prop::collection::vec("[abé]{1,24}", 1..20),
        ) {
            let of = |pieces: &'_ Vocabulary| -> Vec<(Vec<u8>, u32)> {
                pieces.iter().map(|(piece, &id)| (piece.as_bytes().to_vec(), id)).collect()
            };
            let (first, then) = (of(&initial), of(&inside));
            let pieces = Pieces::new(
                first.iter().map(|(piece, id)| (piece.as_slice(), *id)),
                then.iter().map(|(piece, id)| (piece.as_slice(), *id)),
            );
            for word in words {
                let mut ids = Vec::<u32>::new();
                let found = pieces.encode(word.as_bytes(), &mut ids).then_some(ids);
                prop_assert_eq!(found, by_definition(&initial, &inside, &word));
            }
        }
    }

    #[test]
    fn memory_is_linear_in_the_vocabulary() {
        let long = [b'a'; 20_000];
        let inside = [(&long[..1], 1), (&long[..], 2)];
        let pieces = Pieces::new([(&long[..1], 0)].into_iter(), inside.into_iter());
        assert!(pieces.pops.len() <= 40_000);
        let mut ids = Vec::<u32>::new();
        assert!(pieces.encode(&long[..19_999], &mut ids));
        assert_eq!(ids.len(), 19_999);
    }
}
