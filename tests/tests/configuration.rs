//! `docs/configuration.md` lists exactly the variables that the code reads, as the code describes
//! them.

use std::collections::BTreeSet;
use std::path::Path;

use cache_core::settings::Setting;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    std::fs::read_to_string(path).expect("the page is there")
}

fn row(setting: &Setting) -> String {
    let Setting {
        name,
        meaning,
        accepts,
        default,
        ..
    } = setting;
    format!("| `{name}` | {meaning} | {accepts} | {default} |")
}

#[test]
fn every_variable_is_documented_as_the_code_describes_it() {
    let page = page();
    let lines: BTreeSet<_> = page.lines().collect();
    let missing: Vec<_> = cache_factory::all_settings()
        .into_iter()
        .map(row)
        .filter(|row| !lines.contains(row.as_str()))
        .collect();
    assert!(missing.is_empty(), "rows to add:\n{}", missing.join("\n"));
}

#[test]
fn nothing_else_is_documented() {
    let known: BTreeSet<_> = cache_factory::all_settings()
        .into_iter()
        .map(|setting| setting.name)
        .collect();
    let page = page();
    let documented = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for name in documented {
        assert!(known.contains(name), "{name} is no setting");
    }
}
