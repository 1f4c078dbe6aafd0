//! A column of text from any Arrow library, read where it lies.

use std::ffi::CStr;
use std::ops::Range;
use std::slice;

use tok::{Error, Result};

use crate::argument;
use crate::ffi::{Array, Schema};

/// How the text of a column lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `string`: offsets of 32 bits.
    Small,
    /// `large_string`: offsets of 64 bits.
    Large,
    /// `string_view`.
    View,
    /// `null`: no text at all.
    Null,
}

/// How lists around the text lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nesting {
    None,
    /// `list`: offsets of 32 bits.
    Small,
    /// `large_list`: offsets of 64 bits.
    Large,
}

/// Chunks of one type.
#[derive(Debug)]
pub struct Column {
    layout: Layout,
    nesting: Nesting,
    chunks: Vec<Array>,
}

/// The lists around the texts of a column.
#[derive(Debug)]
pub struct Outer {
    /// Where each list starts among the texts, and where the last one ends.
    pub offsets: Vec<i64>,
    /// False for a null.
    pub valid: Vec<bool>,
}

impl Column {
    /// A column of text, or of lists of texts, of this type.
    ///
    /// # Safety
    /// Schema and chunks are live structs of a producer that keeps to the specification: buffers as
    /// large as type, lengths and last offsets say. What lies between, the other offsets and the
    /// text itself, is checked here.
    pub unsafe fn new(schema: &Schema, chunks: Vec<Array>) -> Result<Self> {
        let (layout, nesting) = parse(schema)?;
        Ok(Self {
            layout,
            nesting,
            chunks,
        })
    }

    /// The texts, lists opened, and the lists around them if there are any.
    pub fn texts(&self) -> Result<(Texts<'_>, Option<Outer>)> {
        let mut texts = Texts::default();
        if self.nesting == Nesting::None {
            for chunk in &self.chunks {
                texts.push(part(chunk, self.layout, 0, None)?);
            }
            return Ok((texts, None));
        }
        let mut outer = Outer {
            offsets: vec![0],
            valid: Vec::new(),
        };
        for chunk in &self.chunks {
            let Some(child) = child(chunk) else {
                return Err(argument("an Arrow list without its values"));
            };
            let (offset, length) = (bounds(chunk.offset)?, bounds(chunk.length)?);
            let offsets: Vec<i64> = if length == 0 {
                vec![0]
            } else if self.nesting == Nesting::Small {
                let offsets: &[i32] = buffer(chunk, 1, offset, length + 1)?;
                offsets.iter().map(|&offset| i64::from(offset)).collect()
            } else {
                buffer(chunk, 1, offset, length + 1)?.to_vec()
            };
            let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
            if !offsets.is_sorted() || first < 0 || last > child.length {
                return Err(argument("Arrow list offsets out of order"));
            }
            let base = outer.offsets.last().copied().unwrap_or(0) - first;
            outer
                .offsets
                .extend(offsets[1..].iter().map(|offset| offset + base));
            let validity = Validity::of(chunk, offset, length)?;
            outer
                .valid
                .extend((0..length).map(|row| validity.is_valid(row)));
            texts.push(part(
                child,
                self.layout,
                bounds(first)?,
                Some(bounds(last - first)?),
            )?);
        }
        Ok((texts, Some(outer)))
    }
}

/// The type of a column, or its refusal by name.
fn parse(schema: &Schema) -> Result<(Layout, Nesting)> {
    if !schema.dictionary.is_null() {
        return Err(Error::Type(
            "a dictionary-encoded column; cast it to its value type first".to_owned(),
        ));
    }
    let format = format(schema)?;
    let nesting = match format {
        "+l" => Nesting::Small,
        "+L" => Nesting::Large,
        _ => Nesting::None,
    };
    let inner = if nesting == Nesting::None {
        layout(format)
    } else if schema.n_children == 1 {
        // SAFETY: a list type has one child, alive as long as its parent.
        let child = unsafe { &**schema.children };
        if child.dictionary.is_null() {
            layout(self::format(child)?)
        } else {
            None
        }
    } else {
        None
    };
    let inner = inner.ok_or_else(|| {
        Error::Type(format!(
            "an Arrow column of format {format:?}; allowed: string, large_string, string_view \
             (\"u\", \"U\", \"vu\"), and list or large_list of them"
        ))
    })?;
    Ok((inner, nesting))
}

/// How text of a format lies; `None` for what isn't text.
pub(crate) fn layout(format: &str) -> Option<Layout> {
    match format {
        "u" => Some(Layout::Small),
        "U" => Some(Layout::Large),
        "vu" => Some(Layout::View),
        "n" => Some(Layout::Null),
        _ => None,
    }
}

pub(crate) fn format(schema: &Schema) -> Result<&str> {
    if schema.format.is_null() {
        return Err(argument("an Arrow schema without a format"));
    }
    // SAFETY: a C string that lives as long as the schema.
    let format = unsafe { CStr::from_ptr(schema.format) };
    format
        .to_str()
        .map_err(|_| argument("an Arrow format that is not ASCII"))
}

fn child(array: &Array) -> Option<&Array> {
    if array.n_children < 1 || array.children.is_null() {
        return None;
    }
    // SAFETY: `n_children` pointers to structs that live as long as their parent.
    unsafe { (*array.children).as_ref() }
}

pub(crate) fn bounds(number: i64) -> Result<usize> {
    usize::try_from(number).map_err(|_| argument("a negative length in an Arrow array"))
}

/// Items `offset..offset + length` of a buffer.
pub(crate) fn buffer<T: Copy>(
    array: &Array,
    number: usize,
    offset: usize,
    length: usize,
) -> Result<&[T]> {
    let pointer = pointer(array, number)?.cast::<T>();
    if length == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(argument("an Arrow buffer that is missing or not aligned"));
    }
    // SAFETY: the producer promises that the buffer holds the items of its layout up to
    // `offset + length`, unchanged while the array is held; null and alignment were checked.
    Ok(unsafe { slice::from_raw_parts(pointer.add(offset), length) })
}

fn pointer(array: &Array, number: usize) -> Result<*const std::ffi::c_void> {
    if number as i64 >= array.n_buffers || array.buffers.is_null() {
        return Err(argument("an Arrow array with too few buffers"));
    }
    // SAFETY: `buffers` points to `n_buffers` pointers.
    Ok(unsafe { *array.buffers.add(number) })
}

/// Which rows are there.
#[derive(Debug)]
pub(crate) struct Validity<'a> {
    bits: Option<&'a [u8]>,
    offset: usize,
}

impl<'a> Validity<'a> {
    pub(crate) fn of(array: &'a Array, offset: usize, length: usize) -> Result<Self> {
        let absent = array.null_count == 0 || length == 0 || pointer(array, 0)?.is_null();
        let bits = if absent {
            None
        } else {
            let bytes = (array.offset.unsigned_abs() as usize + offset + length).div_ceil(8);
            Some(buffer::<u8>(array, 0, 0, bytes)?)
        };
        Ok(Self { bits, offset })
    }

    #[inline]
    pub(crate) fn is_valid(&self, row: usize) -> bool {
        let place = self.offset + row;
        self.bits
            .is_none_or(|bits| bits[place / 8] >> (place % 8) & 1 == 1)
    }
}

/// Texts of all chunks, one after the other.
#[derive(Debug, Default)]
pub struct Texts<'a> {
    parts: Vec<Part<'a>>,
    /// First row of each part.
    starts: Vec<usize>,
    len: usize,
}

#[derive(Debug)]
pub(crate) struct Part<'a> {
    validity: Validity<'a>,
    strings: Strings<'a>,
    len: usize,
}

#[derive(Debug)]
enum Strings<'a> {
    Small(&'a [i32], &'a [u8]),
    Large(&'a [i64], &'a [u8]),
    View(&'a [[u8; 16]], Vec<&'a [u8]>),
    Null,
}

/// A chunk's rows from `skip` on, `take` of them if it says so.
pub(crate) fn part(
    array: &Array,
    layout: Layout,
    skip: usize,
    take: Option<usize>,
) -> Result<Part<'_>> {
    let length = bounds(array.length)?;
    let len = take.unwrap_or(length);
    if skip.checked_add(len).is_none_or(|end| end > length) {
        return Err(argument("an Arrow array shorter than its parent says"));
    }
    let offset = bounds(array.offset)? + skip;
    if layout == Layout::Null {
        return Ok(Part {
            validity: Validity { bits: None, offset },
            strings: Strings::Null,
            len,
        });
    }
    let strings = match layout {
        _ if len == 0 => Strings::Small(&[], &[]),
        Layout::Small => {
            let offsets: &[i32] = buffer(array, 1, offset, len + 1)?;
            let end = bounds(i64::from(offsets[len]))?;
            Strings::Small(offsets, buffer(array, 2, 0, end)?)
        }
        Layout::Large => {
            let offsets: &[i64] = buffer(array, 1, offset, len + 1)?;
            Strings::Large(offsets, buffer(array, 2, 0, bounds(offsets[len])?)?)
        }
        Layout::View | Layout::Null => {
            let views = buffer(array, 1, offset, len)?;
            let num_data = bounds(array.n_buffers - 3)?;
            let lengths: &[i64] = buffer(array, num_data + 2, 0, num_data)?;
            let data = (0..num_data)
                .map(|number| buffer(array, number + 2, 0, bounds(lengths[number])?))
                .collect::<Result<Vec<&[u8]>>>()?;
            Strings::View(views, data)
        }
    };
    Ok(Part {
        validity: Validity::of(array, offset, len)?,
        strings,
        len,
    })
}

impl<'a> Part<'a> {
    /// The bytes of a row; `None` where its offsets lead nowhere.
    #[inline]
    fn bytes(&self, row: usize) -> Option<&[u8]> {
        let range =
            |start: i64, end: i64| Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?);
        match &self.strings {
            Strings::Small(offsets, data) => {
                data.get(range(offsets[row].into(), offsets[row + 1].into())?)
            }
            Strings::Large(offsets, data) => data.get(range(offsets[row], offsets[row + 1])?),
            Strings::View(views, data) => {
                let view = &views[row];
                let word = |at: usize| {
                    i32::from_le_bytes([view[at], view[at + 1], view[at + 2], view[at + 3]])
                };
                let length = usize::try_from(word(0)).ok()?;
                if length <= 12 {
                    return view.get(4..4 + length);
                }
                let start = usize::try_from(word(12)).ok()?;
                data.get(usize::try_from(word(8)).ok()?)?
                    .get(start..start.checked_add(length)?)
            }
            Strings::Null => Some(&[]),
        }
    }
}

impl Part<'_> {
    fn weight_of(&self, rows: Range<usize>) -> usize {
        let distance = |start: i64, end: i64, data: &[u8]| {
            usize::try_from(end.saturating_sub(start)).map_or(0, |bytes| bytes.min(data.len()))
        };
        match &self.strings {
            _ if rows.is_empty() => 0,
            Strings::Small(offsets, data) => {
                distance(offsets[rows.start].into(), offsets[rows.end].into(), data)
            }
            Strings::Large(offsets, data) => distance(offsets[rows.start], offsets[rows.end], data),
            Strings::View(..) | Strings::Null => {
                rows.map(|row| self.bytes(row).map_or(0, <[u8]>::len)).sum()
            }
        }
    }
}

impl<'a> Texts<'a> {
    pub(crate) fn push(&mut self, part: Part<'a>) {
        self.starts.push(self.len);
        self.len += part.len;
        self.parts.push(part);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn place(&self, row: usize) -> (&Part<'a>, usize) {
        let number = match self.starts.len() {
            1 => 0,
            _ => self.starts.partition_point(|&start| start <= row) - 1,
        };
        (&self.parts[number], row - self.starts[number])
    }

    /// Whether the row is no null.
    #[inline]
    pub fn is_valid(&self, row: usize) -> bool {
        let (part, row) = self.place(row);
        !matches!(part.strings, Strings::Null) && part.validity.is_valid(row)
    }

    /// False when every row is there.
    pub fn may_have_nulls(&self) -> bool {
        (self.parts.iter())
            .any(|part| matches!(part.strings, Strings::Null) || part.validity.bits.is_some())
    }

    /// Bytes of some rows together. Offsets that lead nowhere, which [`get`](Self::get) refuses,
    /// may make it any number up to that of the bytes there are.
    pub fn weight_of(&self, rows: Range<usize>) -> usize {
        let parts = self.parts.iter().zip(&self.starts);
        parts
            .map(|(part, &start)| {
                let place = |row: usize| row.saturating_sub(start).min(part.len);
                part.weight_of(place(rows.start)..place(rows.end))
            })
            .sum()
    }

    /// Bytes of a row, without looking at its text.
    #[inline]
    pub fn weight(&self, row: usize) -> usize {
        let (part, place) = self.place(row);
        part.bytes(place).map_or(0, <[u8]>::len)
    }

    /// The bytes of a row, without a check that they are UTF-8; `None` for a null.
    #[inline]
    pub fn bytes(&self, row: usize) -> Result<Option<&[u8]>> {
        if !self.is_valid(row) {
            return Ok(None);
        }
        let (part, place) = self.place(row);
        part.bytes(place).map(Some).ok_or_else(|| {
            Error::Argument(format!(
                "row {row}: Arrow offsets that lead outside of the text"
            ))
        })
    }

    /// The text of a row; `None` for a null.
    #[inline]
    pub fn get(&self, row: usize) -> Result<Option<&str>> {
        let Some(bytes) = self.bytes(row)? else {
            return Ok(None);
        };
        if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
            return Ok(Some(text));
        }
        // The standard library's error tells the place.
        std::str::from_utf8(bytes).map(Some).map_err(|error| {
            Error::Argument(format!(
                "row {row} is not UTF-8 at byte {}",
                error.valid_up_to()
            ))
        })
    }
}
