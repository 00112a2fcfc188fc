//! Installs what a command needs and the machine lacks.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::cargo::{output, run};

/// A package manager, and how it installs redis-server without asking.
struct Manager {
    program: &'static str,
    package: &'static str,
    /// Each step's arguments, in order.
    steps: &'static [&'static [&'static str]],
    environment: &'static [&'static str],
    needs_root: bool,
}

const MANAGERS: &[Manager] = &[
    Manager {
        program: "apt-get",
        package: "redis-server",
        steps: &[
            &["update"],
            &["install", "-y", "--no-install-recommends", "redis-server"],
        ],
        // In run level 1 a package does not start its service.
        environment: &["RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive"],
        needs_root: true,
    },
    Manager {
        program: "dnf",
        package: "redis",
        steps: &[&["install", "-y", "redis"]],
        environment: &[],
        needs_root: true,
    },
    Manager {
        program: "apk",
        package: "redis",
        steps: &[&["add", "--no-cache", "redis"]],
        environment: &[],
        needs_root: true,
    },
    Manager {
        program: "pacman",
        package: "valkey",
        // Valkey's package brings redis-server as another name of its server.
        steps: &[&["-Sy", "--noconfirm", "--needed", "valkey"]],
        environment: &[],
        needs_root: true,
    },
    Manager {
        program: "brew",
        package: "redis",
        steps: &[&["install", "redis"]],
        environment: &[],
        needs_root: false,
    },
];

/// Sees to it that `redis-server` can be started.
pub(crate) fn redis_server() -> Result {
    if is_on_path("redis-server") {
        return Ok(());
    }
    let missing = "redis-server is missing and cannot be installed from here";
    let Some(manager) = MANAGERS.iter().find(|manager| is_on_path(manager.program)) else {
        return Err(format!(
            "{missing}: no package manager known to this command was found; \
             install redis-server (package redis-server, redis or valkey)"
        ));
    };
    let Manager {
        program, package, ..
    } = manager;
    let Some(privilege) = privilege(manager.needs_root) else {
        return Err(format!(
            "{missing}: {program} needs root; as root, install the package {package}"
        ));
    };
    println!(
        "redis-server is missing. The tests and the demo start their own on a free port; \
         installing the package {package} with {program}."
    );
    for step in manager.steps {
        let words = manager.environment.iter().chain([program]).chain(*step);
        run(environment(privilege).args(words))
            .map_err(|error| format!("{error}; install the package {package} by hand"))?;
    }
    stop_service(manager, privilege)?;
    if is_on_path("redis-server") {
        return Ok(());
    }
    Err(format!(
        "the package {package} is installed, but redis-server is still not on the PATH"
    ))
}

/// `env`, as a user who may install packages: it sets variables on the far side of sudo too.
fn environment(privilege: &[&str]) -> Command {
    let mut words = privilege.iter().chain(&["env"]);
    let mut command = Command::new(words.next().unwrap_or(&"env"));
    command.args(words);
    command
}

/// What to put before a command so that it may install packages; none if it may not. Never asks for
/// a password.
fn privilege(needs_root: bool) -> Option<&'static [&'static str]> {
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|user| user.trim() == "0");
    if !needs_root || is_root {
        return Some(&[]);
    }
    let may_become_root = Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    may_become_root.then_some(&["sudo", "-n"])
}

/// Debian's package starts its service under systemd whatever the run level; nobody asked for one.
fn stop_service(manager: &Manager, privilege: &[&str]) -> Result {
    if manager.program != "apt-get" || !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    println!("Stopping the service that came with the package: it is not needed.");
    run(environment(privilege).args(["systemctl", "disable", "--now", "redis-server"]))
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| is_executable(&directory.join(program)))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    fs::metadata(path.with_extension("exe")).is_ok_and(|file| file.is_file())
}
