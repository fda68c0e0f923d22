//! Sets `--cfg planted` when the environment asks for the deliberate bugs of `src/planted.rs` and the
//! feature of that name gives the build a place of its own.
//!
//! A flag in RUSTFLAGS would build every dependency again, and the environment alone would build this crate
//! anew at every change of mind; a feature keeps both builds side by side. The feature alone does nothing.

fn main() {
    println!("cargo::rerun-if-env-changed=JAY_PLANTED");
    let asked = std::env::var_os("JAY_PLANTED").is_some_and(|value| value == "1");
    if asked && std::env::var_os("CARGO_FEATURE_PLANTED").is_some() {
        println!("cargo::rustc-cfg=planted");
    }
}
