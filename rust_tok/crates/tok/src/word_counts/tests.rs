use proptest::prelude::*;

use super::*;

const KINDS: [WordKind; 4] = [
    WordKind::WordPiece { lowercase: true },
    WordKind::WordPiece { lowercase: false },
    WordKind::Bpe {
        add_prefix_space: false,
    },
    WordKind::Bpe {
        add_prefix_space: true,
    },
];

fn counted(kind: WordKind, texts: &[String]) -> Result<WordCounts> {
    let mut counts = WordCounts::new(kind);
    counts.count(&Texts(texts), &mut |_| Ok(()))?;
    Ok(counts)
}

struct Texts<'t>(&'t [String]);

impl Rows for Texts<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn weight(&self, row: usize) -> usize {
        self.0[row].len()
    }

    fn get(&self, row: usize) -> Result<Option<(&str, Option<&str>)>> {
        Ok(Some((&self.0[row], None)))
    }
}

proptest! {
    #[test]
    fn threads_and_partitions_do_not_change_counts(
        texts in prop::collection::vec("([a-d]{1,4} ?|\\PC){0,30}", 0..12),
        cut in 0_usize..12,
        parts in 1_usize..5,
        kind in prop::sample::select(&KINDS[..]),
    ) {
        let whole = counted(kind, &texts)?;
        let mut counters: Vec<_> = (0..parts).map(|_| Counter::new(kind)).collect();
        count_batch(&Texts(&texts), 0..texts.len(), &mut counters)?;
        let mut by_threads = WordCounts::new(kind);
        for counter in counters {
            by_threads.absorb(counter.table, counter.total)?;
        }
        prop_assert!(by_threads == whole);

        let (first, second) = texts.split_at(cut.min(texts.len()));
        let first = counted(kind, first)?.partition(parts)?;
        let second = counted(kind, second)?.partition(parts)?;
        let mut merged = WordCounts::new(kind);
        for (mut first, second) in first.into_iter().zip(&second) {
            first.merge(second)?;
            merged.merge(&first)?;
        }
        prop_assert!(merged == whole);
        prop_assert_eq!(merged.total(), whole.total());
    }

    #[test]
    fn pruning_keeps_the_counts_of_characters(
        texts in prop::collection::vec("([a-d]{1,4} ){0,30}", 0..12),
        min_count in 0_u64..5,
    ) {
        let whole = counted(KINDS[0], &texts)?;
        let pruned = whole.prune(min_count)?;
        let characters = |counts: &WordCounts| {
            let mut sums = [0_u64; 256];
            for (word, count) in counts.iter() {
                word.iter().for_each(|&byte| sums[usize::from(byte)] += count);
            }
            sums
        };
        prop_assert_eq!(characters(&pruned), characters(&whole));
        let rare = pruned.iter().any(|(word, count)| word.len() > 1 && count < min_count);
        prop_assert!(!rare);
    }
}

#[test]
fn kinds_are_read_as_written() -> Result<()> {
    for kind in KINDS {
        assert_eq!(kind.to_string().parse::<WordKind>()?, kind);
    }
    assert!("unigram".parse::<WordKind>().is_err());
    Ok(())
}

#[test]
fn counts_of_other_settings_are_refused() {
    let mut counts = WordCounts::new(KINDS[0]);
    let outcome = counts.merge(&WordCounts::new(KINDS[1]));
    let refusal = outcome.map_err(|error| error.to_string());
    assert!(matches!(refusal, Err(error) if error.contains("different settings")));
}

#[test]
fn counts_beyond_64_bits_are_refused() -> Result<()> {
    let mut counts = WordCounts::new(KINDS[0]);
    counts.add("a", u64::MAX)?;
    assert!(counts.add("b", 1).is_err());
    assert_eq!(counts.total(), u64::MAX);
    Ok(())
}

#[test]
fn an_interruption_leaves_the_counts_of_before() -> Result<()> {
    let texts = ["a b".to_owned()];
    let mut counts = counted(KINDS[0], &texts)?;
    let outcome = counts.count(&Texts(&texts), &mut |_| Err(Error::Interrupted));
    assert!(matches!(outcome, Err(Error::Interrupted)));
    assert!(counts == counted(KINDS[0], &texts)?);
    Ok(())
}

#[test]
fn the_prefix_space_joins_the_first_word() -> Result<()> {
    let words = |prefix, text: &str| -> Result<Vec<String>> {
        let kind = WordKind::Bpe {
            add_prefix_space: prefix,
        };
        let counts = counted(kind, &[text.to_owned()])?;
        let mut words: Vec<String> = counts
            .iter()
            .map(|(word, _)| String::from_utf8_lossy(word).into_owned())
            .collect();
        words.sort();
        Ok(words)
    };
    assert_eq!(words(true, "a b")?, [" a", " b"]);
    assert_eq!(words(true, " a")?, [" a"]);
    assert!(words(true, "")?.is_empty());
    assert_eq!(words(false, "a b")?, [" b", "a"]);
    Ok(())
}
