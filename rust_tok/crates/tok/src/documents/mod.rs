//! Documents of plain text: what stands between blank lines, found in a stream of blocks.
//!
//! A line ends with `\n`; a blank one holds nothing but ASCII white space. A document belongs to
//! the range of the file in which the last blank line before it begins (the first one to the range
//! at 0): so ranges of any size, each read by itself, give every document exactly once.

use std::mem;

use memchr::memrchr;

use blank_lines::blank_line_ends;

mod blank_lines;
#[cfg(test)]
mod tests;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Documents that are complete: bytes, not looked at as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// All documents, one after the other.
    pub text: Vec<u8>,
    /// Where each ends in `text`.
    pub ends: Vec<i64>,
    /// Where each begins in the file.
    pub places: Vec<i64>,
}

/// What is known of the line that the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// It began before the first byte.
    Cut,
    /// Nothing but white space so far, held back; it began at this place of the file.
    Blank(u64),
    /// It holds text.
    Text,
}

/// Finds the documents of the range `start..end` of a file.
#[derive(Clone, Debug)]
pub struct DocumentSplitter {
    end: u64,
    max_bytes: usize,
    /// Of the next byte in the file.
    place: u64,
    /// How much of a byte order mark has been seen; `None` where there can't be one any more.
    mark: Option<usize>,
    line: Line,
    /// The blank beginning of a line.
    held: Vec<u8>,
    /// Where the document that grows at the end of the text begins in the file.
    open: Option<u64>,
    found: Documents,
    finished: bool,
}

impl DocumentSplitter {
    /// For the range `start..end` of a file, whose bytes from `start - 1` on are to be fed (from 0
    /// on if `start` is 0): that one byte tells whether a line begins at `start`.
    ///
    /// A document of more than `max_bytes` goes on as the next one, after a line if there is one,
    /// else after a blank, else after a character.
    pub fn new(start: u64, end: u64, max_bytes: usize) -> Self {
        let first = start == 0;
        Self {
            end,
            max_bytes: max_bytes.max(1),
            place: start.saturating_sub(1),
            mark: first.then_some(0),
            line: if first { Line::Blank(0) } else { Line::Cut },
            held: Vec::new(),
            open: first.then_some(0),
            found: Documents::default(),
            finished: false,
        }
    }

    /// Whether all documents of the range have been given: nothing more needs to be fed.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// The documents that these next bytes of the file complete.
    pub fn feed(&mut self, block: &[u8]) -> Documents {
        let block = self.after_mark(block);
        self.read(block);
        self.complete()
    }

    /// The last document, at the end of the file.
    pub fn close(&mut self) -> Documents {
        if let Some(seen) = self.mark.take() {
            self.read(&BYTE_ORDER_MARK[..seen]);
        }
        let held = mem::take(&mut self.held);
        self.add(&held);
        self.end_document();
        self.finished = true;
        self.complete()
    }

    /// The rest of the block behind a byte order mark at the beginning of the file.
    fn after_mark<'a>(&mut self, block: &'a [u8]) -> &'a [u8] {
        let Some(seen) = self.mark else {
            return block;
        };
        let wanted = &BYTE_ORDER_MARK[seen..];
        let same = wanted.iter().zip(block).take_while(|(a, b)| a == b).count();
        if same == wanted.len() {
            self.mark = None;
            self.place = BYTE_ORDER_MARK.len() as u64;
            self.open = Some(self.place);
        } else if same == block.len() {
            self.mark = Some(seen + same);
        } else {
            self.mark = None;
            self.read(&BYTE_ORDER_MARK[..seen]);
            return block;
        }
        &block[same..]
    }

    fn read(&mut self, block: &[u8]) {
        let mut at = 0;
        for blank_end in blank_line_ends(block, matches!(self.line, Line::Blank(_))) {
            let lines = &block[at..=blank_end];
            let (text, blank) = lines.split_at(last_line(&lines[..lines.len() - 1]));
            self.take_lines(text);
            self.take_lines(blank);
            at = blank_end + 1;
        }
        let (lines, cut_off) = block[at..].split_at(last_line(&block[at..]));
        self.take_lines(lines);
        self.take_part(cut_off);
    }

    /// Lines up to their ends: as many as hold text, or a blank one.
    fn take_lines(&mut self, lines: &[u8]) {
        self.take_part(lines);
        if !lines.is_empty() {
            self.line = Line::Blank(self.place);
        }
    }

    fn take_part(&mut self, part: &[u8]) {
        if !part.is_empty() && !self.finished {
            self.take(part);
            self.place += part.len() as u64;
            let undecided = matches!(self.line, Line::Blank(begin) if begin < self.end);
            self.finished |= self.open.is_none() && self.place >= self.end && !undecided;
        }
    }

    /// A line up to its end, several that hold text, or a part of one that has not ended yet.
    fn take(&mut self, part: &[u8]) {
        if let Line::Blank(begin) = self.line {
            if !is_blank(part) {
                self.line = Line::Text;
                if !self.held.is_empty() {
                    let held = mem::take(&mut self.held);
                    self.add(&held);
                }
            } else if part.ends_with(b"\n") {
                self.end_document();
                self.held.clear();
                self.open = (begin < self.end).then_some(self.place + part.len() as u64);
                self.finished = begin >= self.end;
                return;
            } else {
                self.held.extend_from_slice(part);
                return;
            }
        }
        self.add(part);
    }

    /// Adds to the open document, if there is one.
    fn add(&mut self, part: &[u8]) {
        if self.open.is_none() {
            return;
        }
        self.found.text.extend_from_slice(part);
        while self.found.text.len() - self.begin() > self.max_bytes {
            self.cut();
        }
    }

    /// Where the open document begins in the text.
    fn begin(&self) -> usize {
        self.found.ends.last().map_or(0, |&end| end as usize)
    }

    /// Ends the open document where it is too long; the rest of it is open.
    fn cut(&mut self) {
        let begin = self.begin();
        let long = &self.found.text[begin..];
        let first = &long[..self.max_bytes];
        let at = memrchr(b'\n', first).or_else(|| memrchr(b' ', first));
        let at = at.map_or_else(|| character_end(long, self.max_bytes), |at| at + 1);
        let rest = self.found.text.split_off(begin + at);
        self.end_document();
        self.open = self.open.map(|place| place + at as u64);
        self.found.text.extend_from_slice(&rest);
    }

    /// The open document is complete: without the line ends behind it, and if it holds any text.
    fn end_document(&mut self) {
        let (Some(place), begin) = (self.open, self.begin()) else {
            return;
        };
        let text = &mut self.found.text;
        let ends_line = |&&byte: &&u8| byte == b'\n' || byte == b'\r';
        let line_ends = text[begin..].iter().rev().take_while(ends_line).count();
        text.truncate(text.len() - line_ends);
        if is_blank(&text[begin..]) {
            text.truncate(begin);
            return;
        }
        self.found.ends.push(text.len() as i64);
        self.found.places.push(place as i64);
    }

    /// Takes out the complete documents; the text of the open one stays.
    fn complete(&mut self) -> Documents {
        if self.found.ends.is_empty() {
            return Documents::default(); // a long document is not copied at every block
        }
        let mut next = Documents::default();
        if !self.finished {
            // The next block will bring about as much.
            next.text.reserve(self.found.text.len());
            next.text
                .extend_from_slice(&self.found.text[self.begin()..]);
        }
        self.found.text.truncate(self.begin());
        mem::replace(&mut self.found, next)
    }
}

/// The last place from which on a text of UTF-8 can be cut, at most `limit`, and not 0.
fn character_end(text: &[u8], limit: usize) -> usize {
    let starts = |&at: &usize| text.get(at).is_none_or(|byte| byte & 0xC0 != 0x80);
    (2..=limit).rev().find(starts).unwrap_or(1)
}

/// Where the line begins that has not ended at the end of the text.
fn last_line(text: &[u8]) -> usize {
    memrchr(b'\n', text).map_or(0, |at| at + 1)
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|&byte| is_space(byte))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}
