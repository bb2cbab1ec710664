//! Tells the export macro which compiler builds the plugin; it stands in the manifest, for bug reports.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().ok();
    let version = version
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_default();
    let number = version
        .split_whitespace()
        .nth(1)
        .unwrap_or("unknown")
        .to_owned();
    println!("cargo::rustc-env=WEIR_SDK_RUSTC={number}");
    println!("cargo::rerun-if-changed=build.rs");
}
