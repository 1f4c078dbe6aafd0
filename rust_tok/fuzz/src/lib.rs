//! What the fuzz targets share: small tokenizers, and Arrow columns with arbitrary content in
//! buffers of the right size, as a producer that keeps to the specification can give them.

use std::error::Error;
use std::ffi::CStr;
use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use tok::{EncodeOptions, Tokenizer};
use tok_arrow::export::{Buffer, Node};

/// What an input has shown: an error is what should never have been one.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Reports an input that went wrong to the fuzzer.
#[track_caller]
pub fn must_hold(outcome: Outcome) {
    assert!(outcome.is_ok(), "{outcome:?}");
}

/// WordPiece and byte-level BPE, read from the seeds.
pub fn tokenizers() -> Result<&'static [Tokenizer; 2], &'static tok::Error> {
    static TOKENIZERS: LazyLock<tok::Result<[Tokenizer; 2]>> = LazyLock::new(|| {
        Ok([
            Tokenizer::from_json(include_str!("../seeds/tokenizer_json/wordpiece.json"))?,
            Tokenizer::from_json(include_str!("../seeds/tokenizer_json/bpe.json"))?,
        ])
    });
    TOKENIZERS.as_ref()
}

/// The ids of one text, or of a pair.
pub fn encode(
    tokenizer: &Tokenizer,
    text: &str,
    pair: Option<&str>,
    options: EncodeOptions,
) -> tok::Result<Vec<u32>> {
    let mut ids = Vec::new();
    tokenizer.with_scratch(0, |scratch| {
        tokenizer.encode_into(text, pair, options, scratch, &mut ids)
    })?;
    Ok(ids)
}

/// How the text of a column lies.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Layout {
    /// `string`
    Small,
    /// `large_string`
    Large,
    /// `string_view`
    View,
}

/// A column of text: its buffers have the sizes that the specification promises, no more; what is
/// in them is anything.
#[derive(Arbitrary, Debug)]
pub struct AnyText {
    layout: Layout,
    validity: Option<Vec<u8>>,
    offsets: Vec<i16>,
    views: Vec<[u8; 16]>,
    data: Vec<u8>,
}

impl AnyText {
    /// The column, and its length.
    pub fn node(&self) -> Node {
        match self.layout {
            Layout::Small => self.plain(c"u", |offsets| {
                Buffer::I32(offsets.into_iter().map(i32::from).collect())
            }),
            Layout::Large => self.plain(c"U", |offsets| {
                Buffer::I64(offsets.into_iter().map(i64::from).collect())
            }),
            Layout::View => {
                let views = self.views.concat();
                let lengths = Buffer::I64(vec![self.data.len() as i64]);
                let data = Some(Buffer::U8(self.data.clone()));
                let buffers = vec![None, Some(Buffer::U8(views)), data, Some(lengths)];
                self.with_validity(c"vu", self.views.len(), buffers)
            }
        }
    }

    fn plain(&self, format: &'static CStr, buffer: impl FnOnce(Vec<i16>) -> Buffer) -> Node {
        let end = i16::try_from(self.data.len()).unwrap_or(i16::MAX);
        // The last offset, of a slice too, says how large the data is: that much is promised.
        let mut offsets: Vec<i16> = self.offsets.iter().map(|&at| at.min(end)).collect();
        offsets.push(end);
        let length = offsets.len() - 1;
        let data = self.data[..end as usize].to_vec();
        let buffers = vec![None, Some(buffer(offsets)), Some(Buffer::U8(data))];
        self.with_validity(format, length, buffers)
    }

    fn with_validity(
        &self,
        format: &'static CStr,
        length: usize,
        mut buffers: Vec<Option<Buffer>>,
    ) -> Node {
        let bits = self.validity.as_ref().map(|bits| {
            let mut bits = bits.clone();
            bits.resize(length.div_ceil(8), 0);
            bits
        });
        let null_count = usize::from(bits.is_some());
        buffers[0] = bits.map(Buffer::U8);
        Node {
            format,
            name: c"word",
            length,
            null_count,
            buffers,
            children: Vec::new(),
            metadata: Vec::new(),
        }
    }
}

/// A column around others.
pub fn nested(
    format: &'static CStr,
    length: usize,
    buffers: Vec<Option<Buffer>>,
    children: Vec<Node>,
    metadata: Vec<(&'static str, String)>,
) -> Arc<Node> {
    Arc::new(Node {
        format,
        name: c"",
        length,
        null_count: 0,
        buffers,
        children: children.into_iter().map(Arc::new).collect(),
        metadata,
    })
}
