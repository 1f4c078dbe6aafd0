//! What goes out comes in again, and columns that lie badly are refused. Small enough for Miri:
//! `cargo +nightly miri test --package tok-arrow`.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::Arc;

use tok::batch::Lists;
use tok::documents::Documents;
use tok::word_counts::{WordCounts, WordKind};
use tok_arrow::export::{self, Buffer, Node};
use tok_arrow::ffi::{Array, Interface, Schema};
use tok_arrow::import::Outer;
use tok_arrow::{AnyLists, Column, counts, lists};

fn node(format: &'static CStr, length: usize, buffers: Vec<Option<Buffer>>) -> Node {
    Node {
        format,
        name: c"",
        length,
        null_count: 0,
        buffers,
        children: Vec::new(),
        metadata: Vec::new(),
    }
}

fn column(node: &Arc<Node>, change: impl FnOnce(&mut Array)) -> tok::Result<Column> {
    let schema = export::schema(node)?;
    let mut array = export::array(node);
    change(&mut array);
    // SAFETY: made by the exporter; `change` shortens or leaves it.
    unsafe { Column::new(&schema, vec![array]) }
}

fn read(column: &Column) -> tok::Result<Vec<Option<String>>> {
    let (texts, _) = column.texts()?;
    let rows: Vec<_> = (0..texts.len())
        .map(|row| Ok(texts.get(row)?.map(str::to_owned)))
        .collect::<tok::Result<_>>()?;
    for start in 0..=rows.len() {
        for end in start..=rows.len() {
            let one_by_one: usize = (start..end).map(|row| texts.weight(row)).sum();
            assert_eq!(texts.weight_of(start..end), one_by_one);
        }
    }
    assert!(texts.may_have_nulls() || !rows.contains(&None));
    Ok(rows)
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some((*text).to_owned())).collect()
}

#[test]
fn documents_and_digests_go_out() -> tok::Result<()> {
    let documents = lists::documents(Documents {
        text: b"a\xffb".to_vec(),
        ends: vec![2, 3],
        places: vec![0, 9],
    });
    let formats: Vec<_> = documents
        .children
        .iter()
        .map(|child| child.format)
        .collect();
    assert_eq!((documents.length, formats), (2, vec![c"z", c"l"]));
    assert_eq!(export::array(&documents).n_children, 2);
    let digests = lists::digests(vec![7; 48]);
    let (schema, array) = (export::schema(&digests)?, export::array(&digests));
    // SAFETY: the exporter's own format, alive.
    let format = unsafe { CStr::from_ptr(schema.format) };
    assert_eq!((format, array.length), (c"w:16", 3));
    Ok(())
}

#[test]
fn text_is_read_where_it_lies() -> tok::Result<()> {
    let text = Arc::new(lists::text(c"", vec![0, 2, 2, 5], b"abcde".to_vec()));
    assert_eq!(read(&column(&text, |_| ())?)?, some(&["ab", "", "cde"]));
    let sliced = column(&text, |array| (array.offset, array.length) = (1, 2))?;
    assert_eq!(read(&sliced)?, some(&["", "cde"]));
    let empty = column(&text, |array| array.length = 0)?;
    assert_eq!(read(&empty)?, []);
    Ok(())
}

#[test]
fn large_text_and_nulls() -> tok::Result<()> {
    let buffers = vec![
        Some(Buffer::U8(vec![0b101])),
        Some(Buffer::I64(vec![0, 1, 2, 3])),
        Some(Buffer::U8(b"xyz".to_vec())),
    ];
    let mut large = node(c"U", 3, buffers);
    large.null_count = 1;
    let found = read(&column(&Arc::new(large), |_| ())?)?;
    assert_eq!(found, [Some("x".to_owned()), None, Some("z".to_owned())]);
    Ok(())
}

#[test]
fn views_inside_and_outside() -> tok::Result<()> {
    let mut views = vec![0; 32];
    views[..4].copy_from_slice(&3i32.to_le_bytes());
    views[4..7].copy_from_slice(b"abc");
    views[16..20].copy_from_slice(&14i32.to_le_bytes());
    views[28..32].copy_from_slice(&1i32.to_le_bytes());
    let buffers = vec![
        None,
        Some(Buffer::U8(views)),
        Some(Buffer::U8(b"-fourteen bytes".to_vec())),
        Some(Buffer::I64(vec![15])),
    ];
    let views = Arc::new(node(c"vu", 2, buffers));
    assert_eq!(
        read(&column(&views, |_| ())?)?,
        some(&["abc", "fourteen bytes"])
    );
    Ok(())
}

#[test]
fn lists_of_text_keep_their_bounds() -> tok::Result<()> {
    let text = lists::text(c"item", vec![0, 1, 2, 3], b"abc".to_vec());
    let outer = lists::list(
        Buffer::I32(vec![0, 2, 2, 3]),
        3,
        Some(vec![true, false, true]),
        text,
    );
    let column = column(&Arc::new(outer), |_| ())?;
    let (texts, outer) = column.texts()?;
    assert_eq!(texts.len(), 3);
    assert_eq!(
        outer.map(|outer| (outer.offsets, outer.valid)),
        Some((vec![0, 2, 2, 3], vec![true, false, true]))
    );
    Ok(())
}

#[test]
fn offsets_that_lead_astray_are_refused() -> tok::Result<()> {
    for offsets in [
        vec![0, 9, 3],
        vec![0, -1, 3],
        vec![2, 1, 3],
        vec![i32::MIN, i32::MAX, 3],
    ] {
        let buffers = vec![
            None,
            Some(Buffer::I32(offsets)),
            Some(Buffer::U8(b"abc".to_vec())),
        ];
        let text = column(&Arc::new(node(c"u", 2, buffers)), |_| ())?;
        assert!(text.texts()?.0.weight_of(0..2) <= 3);
        assert!(read(&text).is_err());
    }
    let text = lists::text(c"item", vec![0, 1], b"a".to_vec());
    for offsets in [vec![0, 2], vec![1, 0], vec![-1, 1]] {
        let buffers = vec![None, Some(Buffer::I32(offsets))];
        let mut outer = node(c"+l", 1, buffers);
        outer.children.push(Arc::new(text_again(&text)));
        assert!(column(&Arc::new(outer), |_| ())?.texts().is_err());
    }
    Ok(())
}

fn text_again(text: &Node) -> Node {
    assert_eq!(text.length, 1);
    lists::text(c"item", vec![0, 1], b"a".to_vec())
}

#[test]
fn other_types_and_broken_text_are_refused() -> tok::Result<()> {
    let numbers = Arc::new(node(c"i", 1, vec![None, Some(Buffer::I32(vec![1]))]));
    assert!(matches!(column(&numbers, |_| ()), Err(tok::Error::Type(_))));
    let text = Arc::new(lists::text(c"", vec![0, 1], vec![0xff]));
    assert!(read(&column(&text, |_| ())?).is_err());
    let text = Arc::new(lists::text(c"", vec![0, 1], vec![b'a']));
    for change in [
        (|array: &mut Array| array.length = -1) as fn(&mut Array),
        |array| array.offset = -1,
        |array| array.n_buffers = 1,
        |array| array.buffers = ptr::null_mut(),
    ] {
        assert!(column(&text, change)?.texts().is_err());
    }
    Ok(())
}

#[test]
fn ids_become_lists() {
    let ids = Lists {
        ids: vec![1u16, 2, 3],
        lengths: vec![2, 0, 1],
    };
    let outer = Outer {
        offsets: vec![0, 3],
        valid: vec![true],
    };
    let node = lists::ids(
        AnyLists::Narrow(ids),
        Some(vec![true, false, true]),
        Some(outer),
    );
    let array = export::array(&node);
    assert_eq!((array.length, array.n_children), (1, 1));
    // SAFETY: one child, alive as long as the array.
    let inner = unsafe { &**array.children };
    assert_eq!((inner.length, inner.null_count), (3, 1));
    // SAFETY: a child has its node's buffers: bits, and four offsets.
    let offsets = unsafe { std::slice::from_raw_parts((*inner.buffers.add(1)).cast::<i32>(), 4) };
    assert_eq!(offsets, [0, 2, 2, 3]);
}

#[test]
fn counts_travel() -> tok::Result<()> {
    let mut sent = WordCounts::new(WordKind::Bpe {
        add_prefix_space: false,
    });
    for (word, count) in [
        ("a", 1),
        (" wörd", 7),
        ("a word that is not short", u64::MAX / 4),
    ] {
        sent.add(word, count)?;
    }
    let node = counts::export(&sent);
    let mut stream = export::stream(&node);
    let schema = stream.schema()?;
    let chunks = Vec::from_iter(stream.next_chunk()?);
    assert_eq!(chunks.len(), 1);
    assert!(stream.next_chunk()?.is_none());
    // SAFETY: made by the exporter.
    let received = unsafe { counts::import(&schema, &chunks) }?;
    assert!(received == sent);
    Ok(())
}

#[test]
fn what_is_no_count_is_refused() -> tok::Result<()> {
    let text = Arc::new(lists::text(c"word", vec![0, 1], b"a".to_vec()));
    let schema = export::schema(&text)?;
    // SAFETY: made by the exporter.
    assert!(unsafe { counts::import(&schema, &[export::array(&text)]) }.is_err());
    Ok(())
}

#[test]
fn an_empty_struct_is_released_once() {
    let mut schema = Schema::empty();
    schema.release();
    let text = Arc::new(lists::text(c"", vec![0], Vec::new()));
    let mut array = export::array(&text);
    array.release();
    assert!(array.release.is_none());
    array.release();
    assert_eq!(Arc::strong_count(&text), 1);
    let _: *mut c_void = array.private_data;
}
