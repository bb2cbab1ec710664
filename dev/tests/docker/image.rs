use crate::{root, text};
use dockerfile_parser::{Dockerfile, Instruction, ShellOrExecExpr};
use std::path::Path;

fn dockerfile() -> Dockerfile {
    Dockerfile::parse(&text("docker/Dockerfile"))
        .unwrap_or_else(|error| panic!("docker/Dockerfile: {error}"))
}

/// Sources of every COPY out of the build context.
fn copied(dockerfile: &Dockerfile) -> Vec<String> {
    let copies = dockerfile
        .instructions
        .iter()
        .filter_map(|instruction| match instruction {
            Instruction::Copy(copy)
                if !copy.flags.iter().any(|flag| flag.name.content == "from") =>
            {
                Some(copy)
            }
            _ => None,
        });
    copies
        .flat_map(|copy| copy.sources.iter().map(|source| source.content.clone()))
        .collect()
}

/// The shell text of every RUN, line breaks removed.
fn commands(dockerfile: &Dockerfile) -> String {
    let runs = dockerfile
        .instructions
        .iter()
        .filter_map(|instruction| match instruction {
            Instruction::Run(run) => Some(run),
            _ => None,
        });
    runs.map(|run| match &run.expr {
        ShellOrExecExpr::Shell(shell) => shell.to_string(),
        ShellOrExecExpr::Exec(exec) => exec.as_str_vec().join(" "),
    })
    .collect::<Vec<String>>()
    .join(" ")
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// A pattern of .dockerignore as far as ours go: a path, a name with `**/` before it, or `*` and an ending.
fn ignored(path: &str) -> bool {
    let patterns = text(".dockerignore");
    let patterns = patterns
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = path.split('/').next().unwrap_or(path);
    patterns.into_iter().any(|pattern| {
        match (pattern.strip_prefix("**/"), pattern.strip_prefix('*')) {
            (Some(name), _) => path.split('/').any(|part| part == name),
            (None, Some(ending)) => !path.contains('/') && path.ends_with(ending),
            (None, None) => path == pattern || first == pattern,
        }
    })
}

#[test]
fn every_copied_path_is_in_the_context() {
    let copied = copied(&dockerfile());
    assert!(copied.contains(&"Cargo.lock".to_owned()), "{copied:?}");
    for source in copied {
        assert!(root().join(&source).exists(), "COPY {source}: not there");
        assert!(
            !ignored(&source),
            "COPY {source}: .dockerignore leaves it out"
        );
    }
}

/// Cargo reads the manifest of every member, also of those that are not built.
#[test]
fn every_member_of_the_workspace_is_copied() {
    let copied = copied(&dockerfile());
    let manifest = text("Cargo.toml");
    let (_, after) = manifest
        .split_once("members = [")
        .expect("members in Cargo.toml");
    let (members, _) = after.split_once(']').expect("the end of members");
    let members: Vec<&str> = members
        .split(',')
        .map(|member| member.trim().trim_matches('"'))
        .filter(|member| !member.is_empty())
        .collect();
    assert!(members.contains(&"host"), "{members:?}");
    for member in members {
        assert!(
            copied
                .iter()
                .any(|source| Path::new(member).starts_with(source)),
            "{member} is not copied"
        );
    }
}

/// A plugin that the image lacks would show only when a pipeline names it.
#[test]
fn every_plugin_is_built_and_carried() {
    let commands = commands(&dockerfile());
    let mut plugins = Vec::new();
    for entry in std::fs::read_dir(root().join("plugins")).unwrap() {
        let Ok(manifest) = std::fs::read_to_string(entry.unwrap().path().join("Cargo.toml")) else {
            continue;
        };
        if !manifest.contains("\"cdylib\"") {
            continue;
        }
        let name = manifest
            .lines()
            .find_map(|line| line.strip_prefix("name = "))
            .expect("a package name")
            .trim_matches('"')
            .to_owned();
        plugins.push(name);
    }
    assert!(plugins.len() >= 3, "{plugins:?}");
    for plugin in plugins {
        assert!(
            commands.contains(&format!("--package {plugin} ")),
            "{plugin} is not built"
        );
        let library = format!("target/release/lib{}.so", plugin.replace('-', "_"));
        assert!(
            words(&commands).contains(&library.as_str()),
            "{library} is not carried"
        );
    }
    for program in ["weir", "weir-demo"] {
        assert!(
            commands.contains(&format!("--package {program} ")),
            "{program} is not built"
        );
        assert!(
            words(&commands).contains(&format!("target/release/{program}").as_str()),
            "{program} is not carried"
        );
    }
}

#[test]
fn the_last_stage_runs_unprivileged_and_checks_itself() {
    let dockerfile = dockerfile();
    let stages: Vec<_> = dockerfile.iter_stages().collect();
    let last = stages.last().expect("a stage");
    assert!(stages.len() == 2, "a builder and a runtime stage");
    let mut user = None;
    let mut validated_as = None;
    for instruction in &last.instructions {
        match instruction {
            Instruction::Misc(misc) if misc.instruction.content == "USER" => {
                user = Some(misc.arguments.to_string().trim().to_owned())
            }
            Instruction::Run(run)
                if run
                    .as_exec()
                    .is_some_and(|exec| exec.as_str_vec() == ["weir", "validate"]) =>
            {
                validated_as = user.clone()
            }
            _ => {}
        }
    }
    assert_eq!(user.as_deref(), Some("10001:10001"));
    assert_eq!(
        validated_as, user,
        "the image validates its topology as the user that will run it"
    );
}

#[test]
fn stages_copy_only_from_stages_before_them() {
    let dockerfile = dockerfile();
    let names: Vec<String> = dockerfile
        .iter_stages()
        .filter_map(|stage| stage.name)
        .collect();
    for instruction in &dockerfile.instructions {
        let Instruction::Copy(copy) = instruction else {
            continue;
        };
        for flag in copy.flags.iter().filter(|flag| flag.name.content == "from") {
            assert!(
                names.contains(&flag.value.content),
                "COPY --from={}",
                flag.value.content
            );
        }
    }
}

#[test]
fn the_compiler_fits_the_workspace() {
    let wanted = text("Cargo.toml").lines().find_map(|line| {
        line.strip_prefix("rust-version = ")
            .map(|version| version.trim_matches('"').to_owned())
    });
    let dockerfile = dockerfile();
    let builder = dockerfile
        .instructions
        .iter()
        .find_map(|instruction| match instruction {
            Instruction::From(from) => from.image_parsed.tag.clone(),
            _ => None,
        });
    assert_eq!(
        builder
            .as_deref()
            .and_then(|tag| tag.split_once('-'))
            .map(|(version, _)| version.to_owned()),
        wanted
    );
}
