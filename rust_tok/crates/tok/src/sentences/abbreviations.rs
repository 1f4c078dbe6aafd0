//! Full stops that belong to an abbreviation.
//!
//! UAX 29 ends a sentence at a full stop, white space and a capital letter, and so in the middle of
//! "Dr. Curie" and "No. 5 Elm Street". Three rules take such an end back. They look only at a full stop that is
//! followed directly by white space in the same paragraph:
//!
//! 1. The word before it is in [`NEVER_LAST`]: titles, and abbreviations that call for more.
//! 2. The word before it is in [`BEFORE_NUMBER`] and a digit follows.
//! 3. The word before it is a single capital letter other than "I", with white space or nothing
//!    before it: the initial of a name ("J. R. R. Tolkien").
//!
//! A word reaches back to white space, less opening brackets and quotes in front. Words are compared
//! as they are written: "at No. 5 Elm Street" has no end inside, "They said no. 5 Men left." has one. Abbreviations that often
//! end a sentence (etc., Inc., Jr., p.m., U.S.) are left to UAX 29.

use super::classes::Class;

/// Never the last word of a sentence.
const NEVER_LAST: &[&str] = &[
    "Adm", "Capt", "Cmdr", "Col", "Cpl", "Dr", "Fr", "Gen", "Gov", "Hon", "Lt", "Maj", "Messrs",
    "Mme", "Mr", "Mrs", "Ms", "Mt", "Pres", "Prof", "Rep", "Rev", "Sen", "Sgt", "St", "E.g", "e.g",
    "I.e", "i.e", "Cf", "cf", "viz", "vs", "approx", "ca",
];

/// Not the last word of a sentence when a digit follows.
const BEFORE_NUMBER: &[&str] = &[
    "Apr", "Aug", "Ch", "ch", "Dec", "Eq", "eq", "Eqs", "eqs", "Feb", "Fig", "fig", "Figs", "figs",
    "Jan", "Jul", "Jun", "Mar", "No", "Nos", "Nov", "Oct", "p", "pp", "Sec", "sec", "Sect", "sect",
    "Sep", "Sept", "Vol", "vol", "Vols", "vols",
];

/// Whether the full stop between `before` and `after`, white space, is no end of a sentence.
pub(super) fn continues(before: &str, after: &str) -> bool {
    let is_space = |c| {
        let class = Class::of(c);
        class == Class::Sp || class.ends_paragraph()
    };
    let word = &before[before.rfind(is_space).unwrap_or(0)..];
    let word = word.trim_start_matches(|c| !char::is_alphanumeric(c));
    let mut letters = word.chars();
    if let (Some(initial), None) = (letters.next(), letters.next())
        && Class::of(initial) == Class::Upper
        && word != "I"
    {
        return true;
    }
    NEVER_LAST.contains(&word)
        || after.starts_with(|c: char| c.is_ascii_digit()) && BEFORE_NUMBER.contains(&word)
}
