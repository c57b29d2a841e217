//! Builds Linux's own tree, of a source tree that the user names, and measures it beside ours.
//!
//! What is compiled: that tree's `lib/maple_tree.c` with its `include/linux/maple_tree.h`, and three
//! files of our own beside this one. Everything that is built stays where cargo builds; none of
//! Linux's text nor anything made from it is part of this repository.

use crate::ci::{Checked, Outcome};
use crate::run::{cargo, succeed, target, top, works};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const USAGE: &str = "\
usage: cargo xtask linux-peer --source DIR [OPTIONS OF peers]

DIR is an unpacked Linux source tree, 6.8 to 6.17. On Debian:

  apt-get install linux-source-6.12
  tar -xf /usr/src/linux-source-6.12.tar.xz -C SOMEWHERE

Other options go to `cargo run --release -p peers`, which `--help` describes; `--targets` prints the
table of targets.
";

/// The header that is the tree's own; every other one it includes is ours.
const OWN_HEADER: &str = "linux/maple_tree.h";

/// `cargo xtask linux-peer`, with what follows on the command line.
pub(crate) fn beside(words: &[&str]) -> Checked {
    let ["--source", source, options @ ..] = words else {
        return Err(USAGE.to_owned());
    };
    if !works(Command::new("gcc").arg("--version")) {
        return Ok(Outcome::Skipped("gcc is not installed".to_owned()));
    }
    let library = build(Path::new(source))?;
    let library = library
        .to_str()
        .ok_or("the build directory's name is not UTF-8")?;
    let run = [
        "run",
        "--release",
        "--quiet",
        "-p",
        "peers",
        "--",
        "--c-lib",
        library,
    ];
    cargo(&[&run, options].concat())?;
    Ok(Outcome::Passed)
}

/// Compiles the library, and says where it is.
fn build(source: &Path) -> Result<PathBuf, String> {
    let tree = Tree::read(source)?;
    let ours = top().join("xtask/src/linux_peer");
    let out = target().join("linux-peer");
    write_headers(&out, &tree)?;
    let library = out.join("liblinux_peer.so");
    let mut gcc = Command::new("gcc");
    // As the kernel is compiled, where it matters here. Hidden names: calls within the library go
    // straight to their function, as within a kernel.
    gcc.args([
        "-std=gnu11",
        "-O2",
        "-fno-strict-aliasing",
        "-fPIC",
        "-shared",
    ])
    .args(["-fvisibility=hidden", "-Wall"])
    .args(
        tree.has_expected_entries
            .then_some("-DPEER_HAS_EXPECTED_ENTRIES"),
    )
    .arg("-I")
    .arg(&out)
    .arg("-I")
    .arg(&ours)
    .args(["driver.c", "slab.c"].map(|file| ours.join(file)))
    .arg(&tree.code)
    .arg("-o")
    .arg(&library);
    succeed(&mut gcc)?;
    println!("Linux {}: {}", tree.version, library.display());
    Ok(library)
}

/// What is taken of Linux's sources.
struct Tree {
    version: String,
    code: PathBuf,
    header: PathBuf,
    /// Every header that either of them includes.
    included: Vec<String>,
    has_expected_entries: bool,
}

impl Tree {
    fn read(source: &Path) -> Result<Self, String> {
        let source = fs::canonicalize(source)
            .map_err(|error| format!("{}: {error}\n\n{USAGE}", source.display()))?;
        let code = source.join("lib/maple_tree.c");
        let header = source.join("include").join(OWN_HEADER);
        let text = |path: &Path| {
            fs::read_to_string(path).map_err(|error| {
                format!(
                    "{}: {error}: is this a Linux source tree?\n\n{USAGE}",
                    path.display()
                )
            })
        };
        let (code_text, header_text) = (text(&code)?, text(&header)?);
        let version = version(&text(&source.join("Makefile"))?);
        if !header_text.contains("__mt_dup") {
            return Err(format!(
                "Linux {version} cannot duplicate a tree: 6.8 or newer can"
            ));
        }
        if code_text.contains("kmem_cache_prefill_sheaf") {
            return Err(format!(
                "Linux {version} reserves nodes through an interface of its allocator that is not \
                 provided here: 6.17 or older does not"
            ));
        }
        let mut included = headers(&code_text);
        included.extend(headers(&header_text));
        Ok(Self {
            version,
            code,
            header,
            included,
            has_expected_entries: header_text.contains("mas_expected_entries"),
        })
    }
}

/// One line for each header: the tree's own is included from where it is, the others are ours.
fn write_headers(out: &Path, tree: &Tree) -> Result<(), String> {
    for name in &tree.included {
        let line = if name == OWN_HEADER {
            format!("#include \"{}\"\n", tree.header.display())
        } else {
            "#include \"kernel_api.h\"\n".to_owned()
        };
        let path = out.join(name);
        let parent = path.parent().unwrap_or(out);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, line))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// The headers in angle brackets that `text` includes.
fn headers(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("#include <"));
    let names = lines.filter_map(|line| line.split('>').next());
    // A name that leads out of the directory is no header of Linux's.
    let inside = names.filter(|name| !name.starts_with('/') && !name.contains(".."));
    inside.map(str::to_owned).collect()
}

/// The version that a Makefile of Linux's begins with.
fn version(makefile: &str) -> String {
    let number = |name: &str| {
        let mut lines = makefile.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='));
        value.unwrap_or("?").trim().to_owned()
    };
    ["VERSION", "PATCHLEVEL", "SUBLEVEL"].map(number).join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_the_makefile() {
        let makefile = "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 95\nEXTRAVERSION =\n";
        assert_eq!(version(makefile), "6.12.95");
    }

    #[test]
    fn only_headers_in_angle_brackets_below_the_include_directory_are_taken() {
        let text = "#include <linux/slab.h>\n#include \"own.h\"\n#include <../x.h>\nint a;\n";
        assert_eq!(headers(text), ["linux/slab.h"]);
    }
}
