//! The wall clock of a machine on which one process of the product runs, set by the test while that runs.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// What shows it.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/wall_clock.c");

/// One such clock.
pub struct WallClock {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl WallClock {
    /// A clock that is right, with its files in this folder.
    ///
    /// # Errors
    /// Why there can be none on this machine.
    pub fn new(folder: &Path, name: &str) -> Result<WallClock, String> {
        let (library, path) = (folder.join(format!("{name}.so")), folder.join(format!("{name}.clock")));
        let output = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(SOURCE).arg("-ldl").output();
        match output {
            Ok(output) if output.status.success() => {}
            Ok(output) => return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => return Err(format!("cc: {error}")),
        }
        let clock = WallClock { library, file: File::create(&path).unwrap(), path };
        clock.set_ahead(0);
        Ok(clock)
    }

    /// Sets it so many seconds ahead of the machine's own.
    pub fn set_ahead(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    /// The environment variables of a process that has this clock.
    pub fn environment(&self) -> [(&str, &str); 2] {
        [("LD_PRELOAD", self.library.to_str().unwrap()), ("WALL_CLOCK", self.path.to_str().unwrap())]
    }
}
