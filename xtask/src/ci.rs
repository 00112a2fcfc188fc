//! `ci`: everything that continuous integration checks.

use crate::flags::Storage;
use crate::{Result, demo, docs, lint, slim, test};

/// Runs the checks in order and stops at the first that fails.
pub(crate) fn run() -> Result {
    lint::run()?;
    docs::run()?;
    test::everything()?;
    demo::run(&[Storage::Memory], false, &[])?;
    slim::run()
}
