//! Which words had to go, and how many of them came back: only for those a larger table is worth
//! its memory.

/// A sample of the words that had to go since a table has its size.
#[derive(Debug)]
pub(super) struct Lost {
    /// A part of each word's hash; zero where there is none.
    marks: Box<[u32; MARKS]>,
    /// Words of the sample that came back.
    num_back: usize,
}

/// One word of so many is in the sample.
const SAMPLE: usize = 16;
/// Marks that are remembered: with the sample, those of about the last 131,072 words.
const MARKS: usize = 1 << 13;

impl Default for Lost {
    fn default() -> Self {
        Self {
            marks: Box::new([0; MARKS]),
            num_back: 0,
        }
    }
}

impl Lost {
    /// The place and the mark of a word that belongs to the sample.
    fn mark(hash: u64) -> Option<(usize, u32)> {
        let place = (hash as usize / SAMPLE) % MARKS;
        let mark = (hash >> 24) as u32 | 1;
        (hash as usize)
            .is_multiple_of(SAMPLE)
            .then_some((place, mark))
    }

    /// A word has to go.
    pub(super) fn note(&mut self, hash: u64) {
        if let Some((place, mark)) = Self::mark(hash) {
            self.marks[place] = mark;
        }
    }

    /// A word isn't there. Returns about how many had to go and came back, with this one.
    pub(super) fn num_back_with(&mut self, hash: u64) -> usize {
        if let Some((place, mark)) = Self::mark(hash)
            && self.marks[place] == mark
        {
            self.marks[place] = 0;
            self.num_back += 1;
        }
        self.num_back * SAMPLE
    }
}
