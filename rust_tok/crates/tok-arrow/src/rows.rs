//! Columns as the rows that batch calls read.

use std::ops::Range;

use crate::import::Texts;

/// Rows of one column, or of two side by side.
#[derive(Debug)]
pub struct TextRows<'a> {
    /// The column.
    pub texts: &'a Texts<'a>,
    /// The one beside it, of as many rows.
    pub pairs: Option<&'a Texts<'a>>,
}

impl TextRows<'_> {
    /// Which rows are there; `None` when all are.
    pub fn validity(&self) -> Option<Vec<bool>> {
        let has_nulls = |texts: &Texts<'_>| texts.may_have_nulls();
        if !has_nulls(self.texts) && !self.pairs.is_some_and(has_nulls) {
            return None;
        }
        let pair_valid = |row| self.pairs.is_none_or(|pairs| pairs.is_valid(row));
        let valid: Vec<bool> = (0..self.texts.len())
            .map(|row| self.texts.is_valid(row) && pair_valid(row))
            .collect();
        valid.contains(&false).then_some(valid)
    }
}

impl tok::batch::Rows for TextRows<'_> {
    fn len(&self) -> usize {
        self.texts.len()
    }

    #[inline]
    fn weight(&self, row: usize) -> usize {
        self.texts.weight(row) + self.pairs.map_or(0, |pairs| pairs.weight(row))
    }

    fn weight_of(&self, rows: Range<usize>) -> usize {
        let weight = |texts: &Texts<'_>| texts.weight_of(rows.clone());
        weight(self.texts) + self.pairs.map_or(0, weight)
    }

    #[inline]
    fn get(&self, row: usize) -> tok::Result<Option<(&str, Option<&str>)>> {
        let Some(text) = self.texts.get(row)? else {
            return Ok(None);
        };
        match self.pairs {
            None => Ok(Some((text, None))),
            Some(pairs) => Ok(pairs.get(row)?.map(|pair| (text, Some(pair)))),
        }
    }

    #[inline]
    fn bytes(&self, row: usize) -> tok::Result<Option<&[u8]>> {
        self.texts.bytes(row)
    }
}
