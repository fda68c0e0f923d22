//! Sets `--cfg planted` when the environment asks for the deliberate bugs of `src/planted.rs` and the
//! feature of that name gives the build a place of its own; likewise `--cfg shuttle` for the threads of
//! `src/sync.rs`.
//!
//! A flag in RUSTFLAGS would build every dependency again, and the environment alone would build this crate
//! anew at every change of mind; a feature keeps the builds side by side. The feature alone does nothing.

fn main() {
    for (name, variable, feature) in [
        ("planted", "JAY_PLANTED", "CARGO_FEATURE_PLANTED"),
        ("shuttle", "JAY_SHUTTLE", "CARGO_FEATURE_SHUTTLE"),
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
        let asked = std::env::var_os(variable).is_some_and(|value| value == "1");
        if asked && std::env::var_os(feature).is_some() {
            println!("cargo::rustc-cfg={name}");
        }
    }
}
