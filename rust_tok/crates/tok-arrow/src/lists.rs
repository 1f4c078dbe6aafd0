//! Columns of ids, of text and of digests, as calls give them.

use std::ffi::CStr;
use std::iter;
use std::sync::Arc;

use tok::batch::Lists;
use tok::content_hash;
use tok::documents::Documents;

use crate::export::{Buffer, Node};
use crate::import::Outer;

/// Ids of either width.
pub enum AnyLists {
    /// Every id of the vocabulary fits 16 bits.
    Narrow(Lists<u16>),
    /// 32 bits.
    Wide(Lists<u32>),
}

/// Lists of ids as a column, with the lists around them if there are any.
pub fn ids(lists: AnyLists, valid: Option<Vec<bool>>, outer: Option<Outer>) -> Arc<Node> {
    let (format, ids, length, lengths) = match lists {
        AnyLists::Narrow(lists) => (
            c"S",
            lists.ids.len(),
            lists.lengths.len(),
            (Buffer::U16(lists.ids), lists.lengths),
        ),
        AnyLists::Wide(lists) => (
            c"I",
            lists.ids.len(),
            lists.lengths.len(),
            (Buffer::U32(lists.ids), lists.lengths),
        ),
    };
    let (buffer, lengths) = lengths;
    let values = Node {
        format,
        name: c"item",
        length: ids,
        null_count: 0,
        buffers: vec![None, Some(buffer)],
        children: Vec::new(),
        metadata: Vec::new(),
    };
    let mut node = list(offsets_of(lengths, ids), length, valid, values);
    if let Some(outer) = outer {
        let rows = outer.valid.len();
        node = list(Buffer::I64(outer.offsets), rows, Some(outer.valid), node);
    }
    Arc::new(node)
}

/// Where lists start: 32 bits while the ids allow it, in the memory that the lengths lie in.
fn offsets_of(lengths: Vec<u32>, num_ids: usize) -> Buffer {
    if i32::try_from(num_ids).is_ok() {
        let mut end = 0;
        let starts = lengths.into_iter().map(|length| {
            let start = end;
            end += length as i32;
            start
        });
        let mut offsets: Vec<i32> = starts.collect();
        offsets.push(end);
        return Buffer::I32(offsets);
    }
    let mut end = 0;
    let mut offsets = Vec::with_capacity(lengths.len() + 1);
    offsets.push(0);
    offsets.extend(lengths.iter().map(|&length| {
        end += i64::from(length);
        end
    }));
    Buffer::I64(offsets)
}

/// A list node; offsets of 64 bits become 32 where they fit.
pub fn list(offsets: Buffer, length: usize, valid: Option<Vec<bool>>, child: Node) -> Node {
    let offsets = match offsets {
        Buffer::I64(offsets) if i32::try_from(child.length).is_ok() => {
            Buffer::I32(offsets.iter().map(|&offset| offset as i32).collect())
        }
        other => other,
    };
    let null_count = valid.iter().flatten().filter(|valid| !**valid).count();
    let bits = valid.filter(|_| null_count > 0).map(|valid| {
        let mut bits = vec![0; length.div_ceil(8)];
        for (row, _) in valid.iter().enumerate().filter(|(_, valid)| **valid) {
            bits[row / 8] |= 1 << (row % 8);
        }
        Buffer::U8(bits)
    });
    Node {
        format: if matches!(offsets, Buffer::I32(_)) {
            c"+l"
        } else {
            c"+L"
        },
        name: c"item",
        length,
        null_count,
        buffers: vec![bits, Some(offsets)],
        children: vec![Arc::new(child)],
        metadata: Vec::new(),
    }
}

/// A text node; offsets of 64 bits become 32 where they fit.
pub fn text(name: &'static CStr, offsets: Vec<i64>, bytes: Vec<u8>) -> Node {
    let length = offsets.len() - 1;
    let (format, offsets) = if i32::try_from(bytes.len()).is_ok() {
        let narrow = offsets.iter().map(|&offset| offset as i32).collect();
        (c"u", Buffer::I32(narrow))
    } else {
        (c"U", Buffer::I64(offsets))
    };
    Node {
        format,
        name,
        length,
        null_count: 0,
        buffers: vec![None, Some(offsets), Some(Buffer::U8(bytes))],
        children: Vec::new(),
        metadata: Vec::new(),
    }
}

/// Documents as structs of `text` (strings where all are UTF-8, else binary) and `place` (of 64
/// bits).
pub fn documents(documents: Documents) -> Arc<Node> {
    let Documents { text, ends, places } = documents;
    let length = places.len();
    // Parts of a text that are cut where characters begin are themselves UTF-8.
    let all_utf8 = simdutf8::basic::from_utf8(&text).is_ok_and(|text| {
        let mut places = ends.iter().map(|&end| usize::try_from(end));
        places.all(|place| place.is_ok_and(|place| text.is_char_boundary(place)))
    });
    let mut text = self::text(c"text", iter::once(0).chain(ends).collect(), text);
    if !all_utf8 {
        text.format = if text.format == c"u" { c"z" } else { c"Z" };
    }
    let places = Node {
        format: c"l",
        name: c"place",
        length,
        null_count: 0,
        buffers: vec![None, Some(Buffer::I64(places))],
        children: Vec::new(),
        metadata: Vec::new(),
    };
    Arc::new(Node {
        format: c"+s",
        name: c"",
        length,
        null_count: 0,
        buffers: vec![None],
        children: vec![Arc::new(text), Arc::new(places)],
        metadata: Vec::new(),
    })
}

/// Digests of 16 bytes.
pub fn digests(digests: Vec<u8>) -> Arc<Node> {
    const { assert!(content_hash::DIGEST_BYTES == 16) };
    Arc::new(Node {
        format: c"w:16",
        name: c"",
        length: digests.len() / content_hash::DIGEST_BYTES,
        null_count: 0,
        buffers: vec![None, Some(Buffer::U8(digests))],
        children: Vec::new(),
        metadata: Vec::new(),
    })
}
