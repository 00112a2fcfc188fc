//! Processes that a test may end or starve: each is the test itself, started once more to play a
//! part.

use std::any::type_name;
use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use cache_core::secs;

/// The variable that says which part a process plays.
const PART: &str = "FAULTS_PART";

/// How long a process may take to get where it says something.
const PATIENCE: Duration = secs(20);

/// The part that this process plays in a test; none in the test that starts others.
pub(crate) fn part() -> Option<String> {
    env::var(PART).ok()
}

/// A process that plays a part. Dropping it kills it.
///
/// What it says goes to standard error, line by line: its standard output is the harness's.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// Everything it said.
    pub(crate) said: Vec<String>,
}

impl Process {
    /// Starts `test` once more, in this part.
    pub(crate) fn start<T: Fn()>(test: T, part: &str) -> Self {
        Self::run(Command::new(program()), test, part)
    }

    /// The same, in a process that may hold no more than so many files.
    pub(crate) fn start_with_files<T: Fn()>(files: u32, test: T, part: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"ulimit -n "$0" && exec "$@""#]);
        shell.arg(files.to_string()).arg(program());
        Self::run(shell, test, part)
    }

    fn run<T: Fn()>(mut command: Command, _test: T, part: &str) -> Self {
        // The harness knows tests without the name of their program.
        let name = type_name::<T>();
        let name = name.split_once("::").map_or(name, |(_, name)| name);
        let child = command
            .args([name, "--exact", "--nocapture", "--test-threads", "1"])
            .env(PART, part)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("the test can be started once more");
        let errors = child.stderr.take().expect("it is a pipe");
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// Waits until it says a line that begins like this.
    pub(crate) fn says(&mut self, beginning: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said.iter().any(|line| line.starts_with(beginning)) {
            let heard = self.hear(deadline);
            assert!(heard.is_ok(), "{beginning:?} is not in {:?}", self.said);
        }
    }

    /// Asks it to end, as systems do.
    pub(crate) fn terminate(&self) {
        // Built into the shell, so it is there.
        let asked = Command::new("sh")
            .args(["-c", r#"kill -TERM "$0""#])
            .arg(self.child.id().to_string())
            .status();
        assert!(asked.is_ok_and(|status| status.success()), "it is there");
    }

    /// Gives it so long to end by itself, kills it then, and says how it ended.
    pub(crate) fn end_within(mut self, most: Duration) -> End {
        let deadline = Instant::now() + most;
        // Its end closes the pipe.
        let silence = loop {
            if let Err(silence) = self.hear(deadline) {
                break silence;
            }
        };
        if silence == RecvTimeoutError::Timeout {
            self.child.kill().expect("it is a child");
            while self.hear(Instant::now() + PATIENCE).is_ok() {}
        }
        let status = self.child.wait().expect("it is a child");
        let said = std::mem::take(&mut self.said);
        End { status, said }
    }

    fn hear(&mut self, deadline: Instant) -> Result<(), RecvTimeoutError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.said.push(self.lines.recv_timeout(left)?);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, and was waited for then.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl End {
    /// The number after this word, where it was said last.
    pub(crate) fn number(&self, word: &str) -> u64 {
        let of = |line: &String| line.strip_prefix(word)?.strip_prefix(' ')?.parse().ok();
        let number = self.said.iter().rev().find_map(of);
        number.unwrap_or_else(|| unreachable!("no {word:?} in {:?}", self.said))
    }

    /// Where a line that begins like this was said first.
    pub(crate) fn place(&self, beginning: &str) -> Option<usize> {
        let mut said = self.said.iter();
        said.position(|line| line.starts_with(beginning))
    }
}

fn program() -> std::path::PathBuf {
    env::current_exe().expect("this program has a path")
}
