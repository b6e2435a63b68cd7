//! Suites in JavaScript, each a folder of `tests/` with a lock file of the packages that it needs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The files of a suite in a folder of their own, with its packages beside them.
pub struct Suite(tempfile::TempDir);

impl Suite {
    /// A suite by its folder in `tests/`. Its packages are installed, once for a lock file.
    pub fn of(name: &str) -> Suite {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let suite = root.join("tests").join(name);
        let folder = tempfile::Builder::new().prefix(&format!("dormouse-{name}-")).tempdir().unwrap();
        copy(&suite, folder.path());
        std::os::unix::fs::symlink(installed(root, &suite).join("node_modules"), folder.path().join("node_modules")).unwrap();
        Suite(folder)
    }

    /// Runs a script, which finds in its environment, of what the clients read there, only this.
    pub fn node(&self, script: &str, environment: &[(&str, String)]) -> Command {
        let mut node = Command::new("node");
        node.arg(script).current_dir(self.0.path()).stdin(Stdio::null()).stderr(Stdio::inherit());
        let ours = std::env::vars().filter(|(name, _)| name.starts_with("TRIGGER_") || name == "VERCEL_GIT_COMMIT_REF");
        ours.for_each(|(name, _)| {
            node.env_remove(name);
        });
        node.envs(environment.iter().map(|(name, value)| (name, value)));
        node
    }
}

/// Where the packages of the lock file are, once they are.
fn installed(root: &Path, suite: &Path) -> PathBuf {
    let script = root.join("guest-sdk/toolchain/languages.sh");
    let output = Command::new(script).arg("node").arg(suite).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the packages of {} could not be installed", suite.display());
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// All but what somebody has installed or built there by hand.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (name, copy) = (entry.file_name(), to.join(entry.file_name()));
        if entry.path().is_file() {
            fs::copy(entry.path(), copy).unwrap();
        } else if name != "node_modules" && name != "dist" {
            fs::create_dir(&copy).unwrap();
            self::copy(&entry.path(), &copy);
        }
    }
}
