//! What `docs/promises.md` names as its evidence exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What stands in backticks in the last column of the tables.
fn evidence() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/promises.md")).expect("the page is there");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let last = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned))
        .collect()
}

/// Every file below `directory` but what was built, with its text.
fn texts(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("the entry can be read").path();
        let name = path.to_string_lossy().into_owned();
        if path.is_dir() {
            texts(&path, found);
        } else if name.ends_with(".rs") || name.ends_with(".md") {
            let text = fs::read_to_string(&path).expect("it is text");
            found.push((name, text));
        }
    }
}

#[test]
fn every_test_and_file_that_is_named_exists() {
    let mut files = Vec::new();
    for part in ["crates", "docs", "tests"] {
        texts(&root().join(part), &mut files);
    }
    let exists = |name: &str| {
        let test = format!("fn {name}(");
        let file = format!("/{name}");
        files.iter().any(|(path, text)| match name.contains('.') {
            true => path.ends_with(&file),
            false => path.ends_with(".rs") && text.contains(&test),
        })
    };
    let evidence = evidence();
    assert!(evidence.len() > 50, "the page was not understood");
    let missing: Vec<_> = evidence.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
