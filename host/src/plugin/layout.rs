//! Whether two builds of the ABI agree, type by type, and in one line why not.

use weir_plugin_api::PluginModuleRef;
use weir_plugin_api::abi_stable::StableAbi;
use weir_plugin_api::abi_stable::abi_stability::abi_checking::{
    AbiInstability, AbiInstabilityError, AbiInstabilityErrors, CheckingGlobals, ExpectedFound,
    check_layout_compatibility_with_globals,
};
use weir_plugin_api::abi_stable::type_layout::{TLFieldOrFunction, TypeLayout};

use super::manifest::AbiVersion;
use super::refused::{Fault, code};

/// Differing types that a message names; one changed struct is reached on many ways.
const TYPES_NAMED_MAX: usize = 8;

/// abi_stable takes "the one who asks has no more trailing fields than the one who answers". Which side that is follows
/// from the versions: so an older plugin loads into a newer host, which its own check would refuse.
///
/// Each check has globals of its own: shared ones would remember the widest version met, and then the order in which
/// files are opened would matter.
pub(super) fn check(plugin: &'static TypeLayout, version: AbiVersion) -> Result<(), Fault> {
    let host = <PluginModuleRef as StableAbi>::LAYOUT;
    let host_version = AbiVersion::host();
    let plugin_answers = version.minor >= host_version.minor;
    let (asks, answers) = if plugin_answers {
        (host, plugin)
    } else {
        (plugin, host)
    };
    let Err(errors) =
        check_layout_compatibility_with_globals(asks, answers, &CheckingGlobals::new())
    else {
        return Ok(());
    };
    tracing::debug!(%errors, "layouts of a plugin's ABI and of this host's differ");
    Err(Fault::new(
        code::ABI_LAYOUT,
        format!(
            "its plugin ABI {version} is laid out differently from this host's {host_version}: {}",
            differences(&errors, plugin_answers)
        ),
    ))
}

/// One part per differing type: `Record: size 112 where this host has 104, 9 fields where this host has 8`.
fn differences(errors: &AbiInstabilityErrors, plugin_answers: bool) -> String {
    let mut types: Vec<(String, Vec<String>)> = Vec::new();
    // A type that differs only because of one inside of it comes without errors of its own.
    for error in errors.errors.iter().filter(|error| !error.errs.is_empty()) {
        let name = type_name(error, errors);
        let found = error
            .errs
            .iter()
            .map(|difference| describe(difference, plugin_answers));
        match types.iter_mut().find(|(known, _)| *known == name) {
            Some((_, differences)) => differences.extend(found),
            None => types.push((name, found.collect())),
        }
    }
    let more = types.len().saturating_sub(TYPES_NAMED_MAX);
    let mut parts: Vec<String> = types
        .into_iter()
        .take(TYPES_NAMED_MAX)
        .map(|(name, mut differences)| {
            differences.sort();
            differences.dedup();
            format!("{name}: {}", differences.join(", "))
        })
        .collect();
    if more > 0 {
        parts.push(format!("and {more} types more"));
    }
    parts.join("; ")
}

fn type_name(error: &AbiInstabilityError, errors: &AbiInstabilityErrors) -> String {
    match error.stack_trace.last().map(|step| step.expected) {
        Some(TLFieldOrFunction::Field(field)) => field.layout().name().to_owned(),
        Some(TLFieldOrFunction::Function(function)) => format!("function {}", function.name),
        None => errors.interface.name().to_owned(),
    }
}

fn describe(difference: &AbiInstability, plugin_answers: bool) -> String {
    use AbiInstability as Differs;
    let sides = Sides { plugin_answers };
    match difference {
        Differs::Size(size) => sides.say("size", size),
        Differs::Alignment(alignment) => sides.say("alignment", alignment),
        Differs::FieldCountMismatch(count) => sides.say("field count", count),
        Differs::MismatchedPrefixSize(count) => sides.say("prefix field count", count),
        Differs::Name(name) => sides.say("type", name),
        Differs::Package(package) => sides.say("package", package),
        Differs::PackageVersion(version) => sides.say("package version", version),
        Differs::UnexpectedField(field) => sides.say("field", &by(field, |field| field.name())),
        Differs::FieldLifetimeMismatch(field) => {
            sides.say("lifetimes of field", &by(field, |field| field.name()))
        }
        Differs::FnLifetimeMismatch(function) => sides.say(
            "lifetimes of function",
            &by(function, |function| function.name),
        ),
        Differs::FnQualifierMismatch(function) => sides.say(
            "qualifiers of function",
            &by(function, |function| function.name),
        ),
        Differs::TooManyVariants(count) => sides.say("variant count", count),
        Differs::UnexpectedVariant(name) => sides.say("variant", name),
        Differs::GenericParamCount(name) => sides.say("generic parameters of", name),
        Differs::NonZeroness(nonzero) => sides.say("never zero", nonzero),
        Differs::MismatchedPrimitive(_) => "another primitive type".to_owned(),
        Differs::ReprAttr(_) => "another representation".to_owned(),
        _ => "another structure".to_owned(),
    }
}

fn by<T: Copy, U>(pair: &ExpectedFound<T>, get: impl Fn(T) -> U) -> ExpectedFound<U> {
    ExpectedFound {
        expected: get(pair.expected),
        found: get(pair.found),
    }
}

struct Sides {
    plugin_answers: bool,
}

impl Sides {
    fn say<T: std::fmt::Display>(&self, what: &str, pair: &ExpectedFound<T>) -> String {
        let (plugin, host) = if self.plugin_answers {
            (&pair.found, &pair.expected)
        } else {
            (&pair.expected, &pair.found)
        };
        format!("{what} {plugin} where this host has {host}")
    }
}
