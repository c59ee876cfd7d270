//! Tells the compiler of which interpreter's build this is a module.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
