//! Gives the module a version that tells two builds of different sources apart:
//! `0.1.0+` and a checksum of the crates' sources.

use std::io;
use std::path::{Path, PathBuf};

/// FNV-1a: a checksum against mistakes, not against malice, from the standard library alone.
struct Checksum(u64);

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let root = Path::new("../..");
    let mut files = vec![root.join("Cargo.toml"), root.join("Cargo.lock")];
    for krate in ["crates/kernels", "crates/kernels-py", "crates/samples"] {
        files.push(root.join(krate).join("Cargo.toml"));
        files_below(&root.join(krate).join("src"), &mut files)?;
        println!("cargo::rerun-if-changed=../../{krate}/src");
    }
    files.sort();
    let mut checksum = Checksum(0xcbf2_9ce4_8422_2325);
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        checksum.add(file.to_string_lossy().as_bytes());
        checksum.add(&std::fs::read(file)?);
    }
    println!(
        "cargo::rustc-env=BERT_KERNELS_VERSION={}+{:016x}",
        env!("CARGO_PKG_VERSION"),
        checksum.0
    );
    Ok(())
}
