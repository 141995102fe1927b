//! Names the build: what each Parquet file says beside the version of the program that wrote it.
//!
//! It is `ADU_EXPORT_BUILD` where whoever builds sets it, else the commit that the sources are said to be of: by a
//! package of Cargo, or by Git's own files. Neither a network nor Git is needed. A build for tests has no such name,
//! or each commit would build everything again.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Characters of a commit that are shown.
const SHORT: usize = 12;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=ADU_EXPORT_BUILD");
    let named = env::var("ADU_EXPORT_BUILD").ok().filter(|name| is_plain(name));
    let build = match env::var("PROFILE").as_deref() {
        Ok("release") => named.or_else(packaged_commit).or_else(checked_out_commit),
        _ => named,
    };
    println!("cargo:rustc-env=ADU_EXPORT_BUILD={}", build.as_deref().unwrap_or("unknown"));
}

/// Whether it can stand in parentheses.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte))
}

/// Reads a file, and has this run again when it changes.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text)
}

/// The begin of a commit's name.
fn short(commit: &str) -> Option<String> {
    let commit = commit.trim();
    let is_commit = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| commit[..SHORT].to_owned())
}

/// The commit that `cargo package` notes.
fn packaged_commit() -> Option<String> {
    let info = read(Path::new(".cargo_vcs_info.json"))?;
    let (_, rest) = info.split_once("\"sha1\"")?;
    short(rest.split('"').nth(1)?)
}

/// The commit that is checked out. Whether files were changed since then only Git could tell.
fn checked_out_commit() -> Option<String> {
    let mut git = PathBuf::from(".git");
    if git.is_file() {
        // A work tree besides the first one.
        git = PathBuf::from(read(&git)?.strip_prefix("gitdir:")?.trim());
    }
    let head = read(&git.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref:").map(str::trim) else { return short(&head) };
    let common = read(&git.join("commondir")).map_or_else(|| git.clone(), |common| git.join(common.trim()));
    let packed = || {
        let refs = read(&common.join("packed-refs"))?;
        let line = refs.lines().find(|line| line.split(' ').nth(1) == Some(name))?;
        short(line.split(' ').next()?)
    };
    read(&common.join(name)).and_then(|commit| short(&commit)).or_else(packed)
}
