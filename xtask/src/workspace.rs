//! What the manifests say, so that no command keeps a list that could be forgotten.

use std::fs;
use std::path::PathBuf;

use crate::Result;
use crate::cargo::root;

/// A package of the workspace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) features: Vec<String>,
}

impl Package {
    /// Packages for use by others: those in `crates/`.
    pub(crate) fn libraries() -> Result<Vec<Self>> {
        Self::in_directories(&subdirectories("crates")?)
    }

    /// Packages with tests: the libraries, the tests, the commands and the demo.
    pub(crate) fn tested() -> Result<Vec<Self>> {
        let mut directories = subdirectories("crates")?;
        directories.extend(["tests", "xtask", "xtask/demo"].map(|path| root().join(path)));
        Self::in_directories(&directories)
    }

    fn in_directories(directories: &[PathBuf]) -> Result<Vec<Self>> {
        directories
            .iter()
            .map(|directory| {
                let path = directory.join("Cargo.toml");
                let manifest = fs::read_to_string(&path)
                    .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
                Self::from_manifest(&manifest)
                    .ok_or_else(|| format!("{} names no package", path.display()))
            })
            .collect()
    }

    /// Reads the two things asked for; a TOML parser would be most of what xtask compiles.
    fn from_manifest(manifest: &str) -> Option<Self> {
        let mut table = "";
        let mut name = None;
        let mut features = Vec::new();
        for line in manifest.lines() {
            if line.starts_with('[') {
                table = line.trim_end();
                continue;
            }
            let Some((key, value)) = line.split_once(" = ") else {
                continue;
            };
            match (table, key) {
                ("[package]", "name") => name = Some(value.trim_matches('"').to_owned()),
                ("[features]", feature) if feature != "default" => {
                    features.push(feature.to_owned());
                }
                _ => {}
            }
        }
        Some(Self {
            name: name?,
            features,
        })
    }
}

fn subdirectories(parent: &str) -> Result<Vec<PathBuf>> {
    let parent = root().join(parent);
    let unreadable = |error| format!("{} cannot be read: {error}", parent.display());
    let mut directories = Vec::new();
    for entry in fs::read_dir(&parent).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.join("Cargo.toml").is_file() {
            directories.push(path);
        }
    }
    directories.sort();
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_gives_its_name_and_features() {
        let manifest = "[package]\nname = \"cache-x\"\nversion.workspace = true\n\n[features]\n\
                        default = [\"a\"]\n## What a does.\na = [\n    \"dep:y\",\n]\nb = []\n\n\
                        [dependencies]\ny = \"1\"\n";
        let package = Package::from_manifest(manifest).unwrap();
        assert_eq!(package.name, "cache-x");
        assert_eq!(package.features, ["a", "b"]);
    }

    #[test]
    fn the_libraries_of_this_workspace_are_found() {
        let libraries = Package::libraries().unwrap();
        let core = libraries
            .iter()
            .find(|package| package.name == "cache-core");
        assert!(core.unwrap().features.contains(&"postcard".to_owned()));
    }
}
