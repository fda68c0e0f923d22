//! Sets `--cfg planted` when the environment asks for the deliberate bugs of `src/planted.rs`.
//!
//! A flag in RUSTFLAGS would build every dependency again; this rebuilds one crate.

fn main() {
    println!("cargo::rerun-if-env-changed=JAY_PLANTED");
    if std::env::var_os("JAY_PLANTED").is_some_and(|value| value == "1") {
        println!("cargo::rustc-cfg=planted");
    }
}
