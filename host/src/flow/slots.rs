//! Slots: the source partitions of a task by small numbers, which is how plugins know them.

use std::collections::BTreeMap;

use weir_plugin_api::SlotName;

/// A source partition of the task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotKey {
    /// Index of the source in the pipeline.
    pub source: usize,
    pub topic: String,
    pub partition: i32,
}

/// Numbers are given once and kept while the task lives; a partition that comes back gets its own again.
#[derive(Default)]
pub struct Slots {
    numbers: BTreeMap<SlotKey, u32>,
    keys: Vec<SlotKey>,
    /// What plugins see. Names are leaked, since plugins may put them into their outputs: one short text for each
    /// source and topic, once a process.
    names: Vec<SlotName<'static>>,
}

fn leaked(text: &str) -> &'static str {
    use std::sync::{Mutex, PoisonError};
    static TEXTS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    match texts.iter().find(|known| **known == text) {
        Some(known) => known,
        None => {
            let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
            texts.push(text);
            text
        }
    }
}

impl Slots {
    /// The number of a partition.
    pub fn number(&mut self, key: &SlotKey, source_name: &str) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.numbers.insert(key.clone(), number);
        self.keys.push(key.clone());
        self.names.push(SlotName {
            source: leaked(source_name).into(),
            topic: leaked(&key.topic).into(),
            partition: key.partition,
            partition_count: 0,
        });
        number
    }

    /// Tells plugins how many partitions a topic has.
    pub fn set_partition_count(&mut self, topic: &str, count: i32) {
        let of_topic = |name: &&mut SlotName<'static>| name.topic.as_str() == topic;
        let names = self.names.iter_mut().filter(of_topic);
        names.for_each(|name| name.partition_count = count);
    }

    pub fn key(&self, slot: u32) -> Option<&SlotKey> {
        self.keys.get(slot as usize)
    }

    pub fn names(&self) -> &[SlotName<'static>] {
        &self.names
    }

    /// Slots numbered so far.
    pub fn count(&self) -> usize {
        self.keys.len()
    }
}
