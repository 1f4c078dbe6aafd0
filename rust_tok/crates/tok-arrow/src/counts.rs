//! Word counts as an Arrow struct of `word` and `count`, their settings in the type's metadata.

use std::ffi::CStr;
use std::slice;
use std::sync::Arc;

use tok::Result;
use tok::word_counts::{WordCounts, WordKind};

use crate::argument;
use crate::export::{Buffer, Node};
use crate::ffi::{Array, Schema};
use crate::import::{self, Texts, Validity};
use crate::lists;

/// Key of the metadata; its value is the kind of the words.
const KEY: &str = "rust_tok.words";

/// The columns, in an order that depends on the words alone.
pub fn export(counts: &WordCounts) -> Arc<Node> {
    let mut offsets = Vec::with_capacity(counts.len() + 1);
    offsets.push(0);
    let mut bytes = Vec::with_capacity(counts.num_bytes());
    let mut numbers = Vec::with_capacity(counts.len());
    for (word, count) in counts.iter_in_stable_order() {
        bytes.extend_from_slice(word);
        offsets.push(bytes.len() as i64);
        numbers.push(count);
    }
    let words = lists::text(c"word", offsets, bytes);
    let numbers = Node {
        format: c"L",
        name: c"count",
        length: counts.len(),
        null_count: 0,
        buffers: vec![None, Some(Buffer::U64(numbers))],
        children: Vec::new(),
        metadata: Vec::new(),
    };
    Arc::new(Node {
        format: c"+s",
        name: c"",
        length: counts.len(),
        null_count: 0,
        buffers: vec![None],
        children: vec![Arc::new(words), Arc::new(numbers)],
        metadata: vec![(KEY, counts.kind().to_string())],
    })
}

/// Reads a table or record batch that `export` made, or that was put together from such.
///
/// # Safety
/// Schema and chunks are live structs of a producer that keeps to the specification.
pub unsafe fn import(schema: &Schema, chunks: &[Array]) -> Result<WordCounts> {
    let kind = kind(schema)?;
    let columns = Columns::find(schema)?;
    let mut counts = WordCounts::new(kind);
    for chunk in chunks {
        columns.read(chunk, &mut counts)?;
    }
    Ok(counts)
}

/// Where the two columns stand in a struct, and how the words lie.
struct Columns {
    word: usize,
    count: usize,
    layout: import::Layout,
}

impl Columns {
    fn find(schema: &Schema) -> Result<Self> {
        let needed = || argument("word counts are columns `word` (string) and `count` (uint64)");
        let (mut word, mut count) = (None, None);
        for (number, child) in children(schema.n_children, schema.children).enumerate() {
            match (name(child), import::format(child)?) {
                ("word", format) => word = import::layout(format).map(|layout| (number, layout)),
                ("count", "L") => count = Some(number),
                _ => {}
            }
        }
        let (word, layout) = word.ok_or_else(needed)?;
        let count = count.ok_or_else(needed)?;
        Ok(Self {
            word,
            count,
            layout,
        })
    }

    fn read(&self, chunk: &Array, counts: &mut WordCounts) -> Result<()> {
        let (offset, length) = (import::bounds(chunk.offset)?, import::bounds(chunk.length)?);
        let child = |number| {
            children(chunk.n_children, chunk.children)
                .nth(number)
                .ok_or_else(|| argument("an Arrow struct without its columns"))
        };
        let numbers: &Array = child(self.count)?;
        let start = import::bounds(numbers.offset)? + offset;
        let mut words = Texts::default();
        words.push(import::part(
            child(self.word)?,
            self.layout,
            offset,
            Some(length),
        )?);
        let valid = Validity::of(numbers, start, length)?;
        let numbers: &[u64] = import::buffer(numbers, 1, start, length)?;
        for (row, &count) in numbers.iter().enumerate() {
            match words.get(row)? {
                Some(word) if valid.is_valid(row) => counts.add(word, count)?,
                _ => return Err(argument(format!("row {row} of the word counts is null"))),
            }
        }
        Ok(())
    }
}

fn children<'a, T: 'a>(number: i64, children: *mut *mut T) -> impl Iterator<Item = &'a T> {
    let number = usize::try_from(number).unwrap_or(0);
    let pointers: &[*mut T] = if number == 0 || children.is_null() {
        &[]
    } else {
        // SAFETY: the producer promises `number` pointers to live structs.
        unsafe { slice::from_raw_parts(children, number) }
    };
    // SAFETY: as above; they live as long as their parent, which the caller holds.
    (pointers.iter()).filter_map(|&child| unsafe { child.as_ref() })
}

fn name(schema: &Schema) -> &str {
    if schema.name.is_null() {
        return "";
    }
    // SAFETY: a C string that lives as long as the schema.
    let name = unsafe { CStr::from_ptr(schema.name) };
    name.to_str().unwrap_or("")
}

/// The kind of the words, from the metadata of the type.
fn kind(schema: &Schema) -> Result<WordKind> {
    let missing = || {
        argument(format!(
            "not word counts: no {KEY:?} in the schema's metadata"
        ))
    };
    let entries = metadata(schema);
    let entry = entries.iter().find(|(key, _)| *key == KEY.as_bytes());
    let (_, value) = entry.ok_or_else(missing)?;
    let value = std::str::from_utf8(value).map_err(|_| missing())?;
    value.parse()
}

/// Keys and values: their number, then length and bytes of each.
fn metadata(schema: &Schema) -> Vec<(&[u8], &[u8])> {
    if schema.metadata.is_null() {
        return Vec::new();
    }
    let mut reader = Reader(schema.metadata.cast());
    // SAFETY: the producer promises this form; the bytes live as long as the schema.
    unsafe {
        let num_entries = reader.number();
        (0..num_entries)
            .map(|_| (reader.text(), reader.text()))
            .collect()
    }
}

/// Reads on from a place in metadata.
struct Reader(*const u8);

impl Reader {
    /// # Safety
    /// A number of four bytes stands here.
    unsafe fn number(&mut self) -> usize {
        // SAFETY: the caller's promise; the place behind is inside, or the end.
        let number = unsafe {
            let number = self.0.cast::<i32>().read_unaligned();
            self.0 = self.0.add(4);
            number
        };
        usize::try_from(number).unwrap_or(0)
    }

    /// # Safety
    /// A length and as many bytes stand here, for as long as `'a`.
    unsafe fn text<'a>(&mut self) -> &'a [u8] {
        // SAFETY: the caller's promise; the place behind is inside, or the end.
        unsafe {
            let length = self.number();
            let text = slice::from_raw_parts(self.0, length);
            self.0 = self.0.add(length);
            text
        }
    }
}
