//! Reading the keys of one mapping as `keys.rs` declares them.

use std::fmt::Debug;
use std::time::Duration;

use super::context::{Context, Located, Scalar};
use crate::topology::codes;
use crate::topology::keys::{Absent, Block, Declared, Key, OneOf, Period, Shape, Whole};
use crate::topology::quantity;
use crate::topology::raw::{Entry, Raw};
use crate::topology::words::{capitalized, did_you_mean, listed, nearest, quoted};

/// The keys of a mapping that are present.
pub(super) struct Fields<'c, 'a> {
    pub cx: &'c Context<'a>,
    pub at: Located<'a>,
    block: &'static Block,
    entries: &'a [Entry],
    /// Keys that are probably there under a misspelled name.
    meant: Vec<&'static str>,
}

impl<'c, 'a> Fields<'c, 'a> {
    /// Opens a mapping and notes every key that the block does not declare.
    pub(super) fn open(
        cx: &'c Context<'a>,
        at: Located<'a>,
        block: &'static Block,
    ) -> Option<Self> {
        let entries = cx.mapping(&at, "a mapping")?;
        let mut fields = Fields {
            cx,
            at,
            block,
            entries,
            meant: Vec::new(),
        };
        for entry in entries {
            if !block.keys.iter().any(|key| key.name() == entry.key) {
                let near = nearest(&entry.key, block.keys.iter().map(|key| key.name()));
                fields.note_unknown(entry, near);
                fields.meant.extend(near);
            }
        }
        Some(fields)
    }

    fn note_unknown(&self, entry: &'a Entry, near: Option<&str>) {
        let names = || self.block.keys.iter().map(|key| key.name());
        let help = match near {
            Some(near) => format!("Did you mean `{near}`?"),
            None => format!("Known here: {}.", listed(names(), "and")),
        };
        let message = format!("{} is no key of {}.", quoted(&entry.key), self.block.noun);
        let place = self.at.entry(entry).key_place();
        self.cx.note(codes::UNKNOWN_KEY, &place, message, help);
    }

    /// The value of a key; None if it is absent, which is noted if it is required.
    pub(super) fn find(&self, key: &dyn Declared) -> Option<Located<'a>> {
        let found = self.entries.iter().find(|entry| entry.key == key.name());
        let misspelled = self.meant.contains(&key.name());
        if found.is_none() && !misspelled && matches!(key.absent(), Absent::Required) {
            let message = format!(
                "{} needs the key `{}`.",
                capitalized(self.block.noun),
                key.name()
            );
            let help = format!("Add `{}:` ({}).", key.name(), key.kind());
            self.cx
                .note(codes::MISSING_KEY, &self.at.key_place(), message, help);
        }
        found.map(|entry| self.at.entry(entry))
    }

    /// Text; None if absent or faulty.
    pub(super) fn text(&self, key: &Key<Shape>) -> Option<(Scalar, Located<'a>)> {
        let at = self.find(key)?;
        let scalar = self.cx.scalar(&at, key.kind.0)?;
        Some((scalar, at))
    }

    /// The entries of a mapping of names; empty if absent or faulty.
    pub(super) fn entries(&self, key: &Key<Shape>) -> Vec<Located<'a>> {
        let Some(at) = self.find(key) else {
            return Vec::new();
        };
        let entries = self
            .cx
            .mapping(&at, &format!("a {}", key.kind.0))
            .unwrap_or_default();
        entries.iter().map(|entry| at.entry(entry)).collect()
    }

    /// The items of a list of texts; items at fault are left out.
    pub(super) fn texts(&self, key: &Key<Shape>) -> Vec<(Scalar, Located<'a>)> {
        let Some(at) = self.find(key) else {
            return Vec::new();
        };
        let Raw::Sequence(items) = &at.node.value else {
            let help = match &at.node.value {
                Raw::Scalar { text, .. } => format!("Write a list: `{}: [{text}]`.", key.name),
                _ => format!("Write a list: `{}: [a, b]`.", key.name),
            };
            self.cx.wrong_type(&at, &format!("a {}", key.kind.0), &help);
            return Vec::new();
        };
        if items.is_empty() && matches!(key.absent, Absent::Required) {
            let message = format!("`{}` is an empty list.", key.name);
            self.cx.note(
                codes::EMPTY_LIST,
                &at.place(),
                message,
                "Name at least one.",
            );
        }
        let located = items
            .iter()
            .enumerate()
            .map(|(index, node)| at.item(index, node));
        located
            .filter_map(|item| Some((self.cx.scalar(&item, "text")?, item)))
            .collect()
    }

    /// A duration; the default (or zero) where the file's is at fault.
    pub(super) fn period(&self, key: &Key<Period>) -> Duration {
        self.optional_period(key)
            .unwrap_or_else(|| match key.absent {
                Absent::Default(text) => quantity::duration(text).unwrap_or_default(),
                _ => Duration::ZERO,
            })
    }

    /// A duration; None if absent or at fault.
    pub(super) fn optional_period(&self, key: &Key<Period>) -> Option<Duration> {
        let at = self.find(key)?;
        let scalar = self.cx.scalar(&at, "a duration")?;
        let Some(duration) = quantity::duration(&scalar.text) else {
            let message = format!("{} is no duration.", scalar.shown());
            let help = "Write a whole number and a unit: `500ms`, `10s`, `1m` or `2h`.";
            self.cx
                .note(codes::BAD_DURATION, &at.place(), message, help);
            return None;
        };
        let bound = |text| quantity::duration(text).unwrap_or_default();
        if duration < bound(key.kind.min) || duration > bound(key.kind.max) {
            let message = format!(
                "`{}` of {} is outside its bounds.",
                key.name,
                scalar.shown()
            );
            let help = format!("Choose {} to {}.", key.kind.min, key.kind.max);
            self.cx
                .note(codes::OUT_OF_RANGE, &at.place(), message, help);
            return None;
        }
        Some(duration)
    }

    /// A whole number; the default (or the minimum) where the file's is at fault.
    pub(super) fn whole(&self, key: &Key<Whole>) -> u32 {
        self.optional_whole(key)
            .unwrap_or_else(|| match key.absent {
                Absent::Default(text) => text.parse().unwrap_or(key.kind.min),
                _ => key.kind.min,
            })
    }

    /// A whole number; None if absent or at fault.
    pub(super) fn optional_whole(&self, key: &Key<Whole>) -> Option<u32> {
        let at = self.find(key)?;
        let scalar = self.cx.scalar(&at, "an integer")?;
        let Ok(number) = scalar.text.parse::<i64>() else {
            let message = format!(
                "`{}` is an integer, and the file says {}.",
                key.name,
                scalar.shown()
            );
            let help = format!(
                "Write a plain integer from {} to {}.",
                key.kind.min, key.kind.max
            );
            self.cx.note(codes::WRONG_TYPE, &at.place(), message, help);
            return None;
        };
        let fits = u32::try_from(number)
            .ok()
            .filter(|n| (key.kind.min..=key.kind.max).contains(n));
        if fits.is_none() {
            let message = format!(
                "`{}` of {} is outside its bounds.",
                key.name,
                scalar.shown()
            );
            let help = format!("Choose {} to {}.", key.kind.min, key.kind.max);
            self.cx
                .note(codes::OUT_OF_RANGE, &at.place(), message, help);
        }
        fits
    }

    /// One of some words; the default, or the first word, where the file's is absent or at fault.
    pub(super) fn word<T: Copy + Debug>(&self, key: &Key<OneOf<T>>) -> Option<T>
    where
        Key<OneOf<T>>: Declared,
    {
        let word_of = |text: &str| {
            let found = key.kind.0.iter().find(|(word, _)| *word == text);
            found.map(|(_, meaning)| *meaning)
        };
        let Some(at) = self.find(key) else {
            return match key.absent {
                Absent::Default(text) => word_of(text),
                _ => None,
            };
        };
        let scalar = self.cx.scalar(&at, "a word")?;
        let known = word_of(&scalar.text);
        if known.is_none() {
            let words = || key.kind.0.iter().map(|(word, _)| *word);
            let message = format!("`{}` knows no {}.", key.name, scalar.shown());
            let help = did_you_mean(&scalar.text, words())
                .unwrap_or_else(|| format!("Write {}.", listed(words(), "or")));
            self.cx.note(codes::BAD_VALUE, &at.place(), message, help);
        }
        known
    }
}
