//! Installs what a command needs and the machine lacks.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::cargo::{output, run};

/// Programs that a command runs, and where they come from.
struct Need {
    programs: &'static [&'static str],
    /// What they are for, as a whole sentence.
    purpose: &'static str,
    /// The packages by the program of the package manager.
    packages: &'static [(&'static str, &'static [&'static str])],
    /// What Debian's package starts under systemd.
    service: Option<&'static str>,
}

const REDIS: Need = Need {
    programs: &["redis-server"],
    purpose: "The tests and the demo start their own on a free port.",
    packages: &[
        ("apt-get", &["redis-server"]),
        ("dnf", &["redis"]),
        ("apk", &["redis"]),
        // Valkey's package brings redis-server as another name of its server.
        ("pacman", &["valkey"]),
        ("brew", &["redis"]),
    ],
    service: Some("redis-server"),
};

const NODE: Need = Need {
    programs: &["node", "npm"],
    purpose: "dynalite, another implementation of DynamoDB, runs on them.",
    packages: &[
        ("apt-get", &["nodejs", "npm"]),
        ("dnf", &["nodejs", "npm"]),
        ("apk", &["nodejs", "npm"]),
        ("pacman", &["nodejs", "npm"]),
        ("brew", &["node"]),
    ],
    service: None,
};

const VALGRIND: Need = Need {
    programs: &["valgrind"],
    purpose: "The benchmarks count instructions with it.",
    packages: &[
        ("apt-get", &["valgrind"]),
        ("dnf", &["valgrind"]),
        ("apk", &["valgrind"]),
        ("pacman", &["valgrind"]),
        ("brew", &["valgrind"]),
    ],
    service: None,
};

/// A package manager, and how it installs packages without asking.
struct Manager {
    program: &'static str,
    /// What it has to do before.
    refresh: Option<&'static str>,
    /// What stands before the packages.
    install: &'static [&'static str],
    environment: &'static [&'static str],
    needs_root: bool,
}

const MANAGERS: &[Manager] = &[
    Manager {
        program: "apt-get",
        refresh: Some("update"),
        install: &["install", "-y", "--no-install-recommends"],
        // In run level 1 a package does not start its service.
        environment: &["RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive"],
        needs_root: true,
    },
    Manager {
        program: "dnf",
        refresh: None,
        install: &["install", "-y"],
        environment: &[],
        needs_root: true,
    },
    Manager {
        program: "apk",
        refresh: None,
        install: &["add", "--no-cache"],
        environment: &[],
        needs_root: true,
    },
    Manager {
        program: "pacman",
        refresh: None,
        install: &["-Sy", "--noconfirm", "--needed"],
        environment: &[],
        needs_root: true,
    },
    Manager {
        program: "brew",
        refresh: None,
        install: &["install"],
        environment: &[],
        needs_root: false,
    },
];

/// Sees to it that `redis-server` can be started.
pub(crate) fn redis_server() -> Result {
    REDIS.provide()
}

/// Sees to it that `node` and `npm` can be started.
pub(crate) fn node() -> Result {
    NODE.provide()
}

/// Sees to it that `valgrind` can be started.
pub(crate) fn valgrind() -> Result {
    VALGRIND.provide()
}

impl Need {
    /// Installs what is missing, after saying so.
    fn provide(&self) -> Result {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(" and ");
        let Some(manager) = MANAGERS.iter().find(|manager| is_on_path(manager.program)) else {
            return Err(format!(
                "{missing} cannot be installed from here: no package manager known to this command \
                 was found; install {missing} (packages {})",
                self.all_packages().join(", ")
            ));
        };
        let packages = self.packages(manager);
        let names = packages.join(" and ");
        let program = manager.program;
        let Some(privilege) = privilege(manager.needs_root) else {
            return Err(format!(
                "{missing} cannot be installed from here: {program} needs root; \
                 as root, install {names}"
            ));
        };
        println!(
            "Missing: {missing}. {} Installing {names} with {program}.",
            self.purpose
        );
        for step in manager.steps(packages) {
            let words = manager.environment.iter().chain([&program]).chain(&step);
            run(environment(privilege).args(words))
                .map_err(|error| format!("{error}; install {names} by hand"))?;
        }
        self.stop_service(manager, privilege)?;
        match self.missing().as_slice() {
            [] => Ok(()),
            missing => Err(format!(
                "{names} is installed, but {} is still not on the PATH",
                missing.join(" and ")
            )),
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        let mut programs = self.programs.to_vec();
        programs.retain(|program| !is_on_path(program));
        programs
    }

    fn packages(&self, manager: &Manager) -> &'static [&'static str] {
        let known = self.packages.iter();
        known
            .filter(|(program, _)| *program == manager.program)
            .map(|(_, packages)| *packages)
            .next()
            .unwrap_or(self.programs)
    }

    /// What the packages are called here or there.
    fn all_packages(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for name in self.packages.iter().flat_map(|(_, packages)| *packages) {
            if !names.contains(name) {
                names.push(name);
            }
        }
        names
    }

    /// Debian's package starts its service under systemd whatever the run level; nobody asked for
    /// one.
    fn stop_service(&self, manager: &Manager, privilege: &[&str]) -> Result {
        let Some(service) = self.service else {
            return Ok(());
        };
        if manager.program != "apt-get" || !Path::new("/run/systemd/system").exists() {
            return Ok(());
        }
        println!("Stopping the service that came with the package: it is not needed.");
        run(environment(privilege).args(["systemctl", "disable", "--now", service]))
    }
}

impl Manager {
    /// The arguments of each step that installs these packages.
    fn steps(&self, packages: &[&'static str]) -> Vec<Vec<&'static str>> {
        let refresh = self.refresh.map(|word| vec![word]);
        refresh
            .into_iter()
            .chain([[self.install, packages].concat()])
            .collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manager_knows_packages_for_every_need() {
        for need in [REDIS, NODE, VALGRIND] {
            let known: Vec<_> = need.packages.iter().map(|(program, _)| *program).collect();
            let all: Vec<_> = MANAGERS.iter().map(|manager| manager.program).collect();
            assert_eq!(known, all);
        }
    }

    #[test]
    fn packages_are_named_once() {
        assert_eq!(REDIS.all_packages(), ["redis-server", "redis", "valkey"]);
        assert_eq!(NODE.all_packages(), ["nodejs", "npm", "node"]);
    }

    #[test]
    fn packages_are_installed_in_steps() {
        let steps = |manager: &Manager| manager.steps(NODE.packages(manager));
        let install = ["install", "-y", "--no-install-recommends", "nodejs", "npm"];
        assert_eq!(steps(&MANAGERS[0]), [vec!["update"], install.to_vec()]);
        assert_eq!(steps(&MANAGERS[4]), [["install", "node"]]);
    }

    #[test]
    fn what_is_there_is_not_installed() {
        let need = Need {
            programs: &["cargo"],
            ..REDIS
        };
        assert_eq!(need.missing(), Vec::<&str>::new());
        assert_eq!(need.provide(), Ok(()));
    }
}
