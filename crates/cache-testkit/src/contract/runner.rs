//! The suite as a test binary.

use std::any::Any;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use super::{Case, Harness, cases};

/// How long one case may take.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Runs every case on every harness as the arguments of the process ask, each as a test of its own
/// in a runtime of its own, and says how that went.
///
/// Takes the arguments of ordinary test binaries: filters, `--exact`, `--skip`, `--list`,
/// `--test-threads`. A case fails when it takes longer than 30 seconds.
#[must_use]
pub fn main(harnesses: Vec<Arc<dyn Harness>>) -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for harness in harnesses {
        let trial = |case: Case| {
            let harness = Arc::clone(&harness);
            let name = format!("{}::{}", harness.name(), case.name);
            Trial::test(name, move || run(case, harness))
        };
        trials.extend(cases().map(trial));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs one case on a thread of its own, which is left behind if it hangs.
fn run(case: Case, harness: Arc<dyn Harness>) -> Result<(), Failed> {
    let (sender, done) = mpsc::channel();
    let body = move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(case.run(harness));
        // Nobody listens any more once the time is up.
        let _ = sender.send(());
        Ok(())
    };
    let thread = thread::Builder::new()
        .name(case.name.to_owned())
        .spawn(body)?;
    let problem = match done.recv_timeout(TIME_LIMIT) {
        Ok(()) => return Ok(()),
        Err(RecvTimeoutError::Timeout) => format!("did not end within {TIME_LIMIT:?}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(outcome) => return Ok(outcome?),
            Err(panic) => message(&*panic).to_owned(),
        },
    };
    Err(format!("{problem}\ncontract: {}", case.sentence).into())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("the case panicked")
}
