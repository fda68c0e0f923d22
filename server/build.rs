//! Sets `--cfg planted` when the environment asks for the deliberate faults of `src/planted.rs` and the
//! feature of that name gives the build a place of its own. The feature alone does nothing; the engine's
//! build.rs says why both are needed.

fn main() {
    println!("cargo::rerun-if-env-changed=JAY_PLANTED");
    let asked = std::env::var_os("JAY_PLANTED").is_some_and(|value| value == "1");
    if asked && std::env::var_os("CARGO_FEATURE_PLANTED").is_some() {
        println!("cargo::rustc-cfg=planted");
    }
}
