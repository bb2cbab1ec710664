//! One `kafka:` mapping, and how several of them become the properties of a client.

use std::collections::BTreeMap;

use super::catalogue::{self, Kind, Property, Side};
use super::{DEFAULTS, OF_CLASSIC_PROTOCOL, OWNED};
use crate::topology::codes;
use crate::topology::model::KafkaProperties;
use crate::topology::raw::Raw;
use crate::topology::resolve::context::{Context, Located, Place};
use crate::topology::words::nearest;

/// The settings of one `kafka:` mapping; those of the side blocks last, because they win.
#[derive(Clone, Debug, Default)]
pub(in crate::topology) struct Layer {
    pub settings: Vec<Setting>,
}

/// One property as set in the file.
#[derive(Clone, Debug)]
pub(in crate::topology) struct Setting {
    pub property: &'static Property,
    pub value: String,
    pub secret: bool,
    /// The clients it goes to: those that know it, within the block it stands in.
    pub side: Side,
    pub place: Place,
}

impl Layer {
    /// Reads a mapping, noting every fault in `cx`.
    pub(in crate::topology) fn read(cx: &Context, at: &Located) -> Layer {
        let mut layer = Layer::default();
        let Some(entries) = cx.mapping(at, "librdkafka properties") else {
            return layer;
        };
        let (blocks, common): (Vec<_>, Vec<_>) = entries
            .iter()
            .map(|entry| at.entry(entry))
            .partition(|entry| block_side(&entry.key).is_some());
        for entry in &common {
            layer.settings.extend(setting(cx, entry, Side::Both));
        }
        for block in &blocks {
            let side = block_side(&block.key).unwrap_or(Side::Both);
            for entry in cx
                .mapping(block, "librdkafka properties")
                .unwrap_or_default()
            {
                layer
                    .settings
                    .extend(setting(cx, &block.entry(entry), side));
            }
        }
        layer.note_second_names(cx);
        layer
    }

    /// Two names of one property in one block contradict each other.
    fn note_second_names(&self, cx: &Context) {
        let mut seen: BTreeMap<(&str, String), &Setting> = BTreeMap::new();
        for setting in &self.settings {
            let block = setting
                .place
                .path
                .rsplit_once('[')
                .map_or("", |(block, _)| block);
            if seen
                .insert((setting.property.name, block.to_owned()), setting)
                .is_some()
            {
                cx.note(
                    codes::KAFKA_CONFLICT,
                    &setting.place,
                    format!("`{}` is set twice, under two names.", setting.property.name),
                    "Keep one of the two names.",
                );
            }
        }
    }

    /// The last setting of a property, which is the one in force.
    pub(in crate::topology) fn find(&self, name: &str) -> Option<&Setting> {
        self.settings
            .iter()
            .rev()
            .find(|setting| setting.property.name == name)
    }
}

fn block_side(key: &str) -> Option<Side> {
    match key {
        "consumer" => Some(Side::Consumer),
        "producer" => Some(Side::Producer),
        _ => None,
    }
}

/// Reads one property standing in a block for `block` clients.
fn setting(cx: &Context, at: &Located, block: Side) -> Option<Setting> {
    let Some(property) = catalogue::find(&at.key) else {
        note_unknown(cx, at, block);
        return None;
    };
    let place = at.key_place();
    if let Some((_, cure)) = OWNED.iter().find(|(name, _)| *name == property.name) {
        let message = format!("The host itself sets `{}`.", at.key);
        cx.note(codes::KAFKA_OWNED, &place, message, *cure);
        return None;
    }
    let side = match (block, property.side) {
        (Side::Both, side) | (side, Side::Both) => side,
        (block, side) if block == side => side,
        (_, side) => {
            note_wrong_side(cx, at, side);
            return None;
        }
    };
    let scalar = match property.kind {
        Kind::Secret => cx.secret_scalar(at, "text")?,
        _ => cx.scalar(at, kind_words(property.kind))?,
    };
    if let Some(cause) = refusal(property, &scalar.text) {
        let message = format!(
            "`{}` is {cause}, and the file says {}.",
            at.key,
            scalar.shown()
        );
        cx.note(
            codes::KAFKA_VALUE,
            &at.place(),
            message,
            value_cure(property.kind),
        );
        return None;
    }
    Some(Setting {
        property,
        secret: scalar.secret,
        value: scalar.text,
        side,
        place,
    })
}

fn note_unknown(cx: &Context, at: &Located, block: Side) {
    let aliases = catalogue::ALIASES.iter().map(|(alias, _)| *alias);
    let names = catalogue::PROPERTIES
        .iter()
        .filter(|property| {
            block == Side::Both || matches!(property.side, Side::Both) || property.side == block
        })
        .map(|property| property.name);
    let blocks = ["consumer", "producer"]
        .into_iter()
        .filter(|_| block == Side::Both);
    let crowded = cx.is_crowded();
    let near = match crowded {
        true => None,
        false => nearest(&at.key, blocks.chain(names).chain(aliases)),
    };
    // A misspelled secret is one too, and without a suggestion anything might be.
    if crowded || near.is_some_and(catalogue::is_secret) {
        cx.hide(at);
    }
    let help = match near {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "Look the name up in librdkafka's CONFIGURATION.md; Java's names differ in places."
            .into(),
    };
    let message = match at.node.value {
        Raw::Mapping(_) => format!("`{}` is no block of `kafka`.", at.key),
        _ => format!("librdkafka has no property `{}`.", at.key),
    };
    cx.note(codes::KAFKA_UNKNOWN, &at.key_place(), message, help);
}

fn note_wrong_side(cx: &Context, at: &Located, side: Side) {
    let (owner, other) = match side {
        Side::Producer => ("producer", "consumer"),
        _ => ("consumer", "producer"),
    };
    cx.note(
        codes::KAFKA_WRONG_SIDE,
        &at.key_place(),
        format!(
            "`{}` is a {owner}'s property and stands in a `{other}:` block.",
            at.key
        ),
        format!("Move it to `{owner}:` or directly under `kafka:`."),
    );
}

/// Why librdkafka would refuse a value; None if it would not.
pub(super) fn refusal(property: &Property, value: &str) -> Option<String> {
    match property.kind {
        Kind::Text | Kind::Secret => value.contains('\0').then(|| "text without NUL".to_owned()),
        Kind::Boolean => {
            (!matches!(value, "true" | "false")).then(|| "`true` or `false`".to_owned())
        }
        Kind::Integer(min, max) => {
            let fits = value
                .parse::<i64>()
                .is_ok_and(|number| (min..=max).contains(&number));
            (!fits).then(|| format!("an integer from {min} to {max}"))
        }
        Kind::Float(min, max) => {
            let fits = value
                .parse::<f64>()
                .is_ok_and(|number| number >= min as f64 && number <= max as f64);
            (!fits).then(|| format!("a number from {min} to {max}"))
        }
        Kind::Words(words) => {
            (!words.contains(&value)).then(|| format!("one of {}", words.join(", ")))
        }
        Kind::Acks => {
            let fits = value == "all"
                || value
                    .parse::<i64>()
                    .is_ok_and(|acks| (-1..=1000).contains(&acks));
            (!fits).then(|| "`all` or a number of replicas".to_owned())
        }
    }
}

fn kind_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Secret | Kind::Words(_) | Kind::Acks => "text",
        Kind::Boolean => "`true` or `false`",
        Kind::Integer(..) => "an integer",
        Kind::Float(..) => "a number",
    }
}

fn value_cure(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "Write `true` or `false`.",
        Kind::Integer(..) => {
            "Write a plain integer; properties take no units such as `s` or `KiB`."
        }
        Kind::Float(..) => "Write a plain number.",
        _ => "Use one of the values that librdkafka's CONFIGURATION.md lists.",
    }
}

/// The properties of a node's clients: Weir's defaults, then the layers, the nearest last.
pub(in crate::topology) fn combine<'l>(
    layers: impl IntoIterator<Item = &'l Layer>,
) -> KafkaProperties {
    let layers: Vec<&Layer> = layers.into_iter().collect();
    let mut properties = KafkaProperties::default();
    for (name, value, _) in DEFAULTS {
        if let Some(property) = catalogue::find(name) {
            put(&mut properties, property, property.side, value);
        }
    }
    for setting in layers.iter().flat_map(|layer| &layer.settings) {
        put(
            &mut properties,
            setting.property,
            setting.side,
            &setting.value,
        );
        // Never removed: a public value on one side may stand beside a secret on the other.
        if setting.secret {
            properties
                .secret_keys
                .insert(setting.property.name.to_owned());
        }
    }
    if properties.is_grouped_by_broker() {
        // Defaults only: what the file sets is refused where it stands.
        let is_set = |name: &str| layers.iter().any(|layer| layer.find(name).is_some());
        let unset = OF_CLASSIC_PROTOCOL.iter().filter(|name| !is_set(name));
        unset.for_each(|name| drop(properties.consumer.remove(*name)));
    }
    properties
}

fn put(properties: &mut KafkaProperties, property: &Property, side: Side, value: &str) {
    if matches!(side, Side::Consumer | Side::Both) {
        properties
            .consumer
            .insert(property.name.to_owned(), value.to_owned());
    }
    if matches!(side, Side::Producer | Side::Both) {
        properties
            .producer
            .insert(property.name.to_owned(), value.to_owned());
    }
}
