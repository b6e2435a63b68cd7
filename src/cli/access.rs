//! Which server to talk to, and with which key.
//!
//! The address and the key come from the same place, so that a key is never sent to another server than its own:
//! `DORMOUSE_API_URL` and `DORMOUSE_SECRET_KEY`, else `TRIGGER_API_URL` and `TRIGGER_SECRET_KEY`, else the `.dormouse/dev.json`
//! that `dormouse dev` wrote in this folder or one above it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::usage;

/// Flags of every command that talks to a server.
#[derive(Debug, Clone, Args)]
pub(super) struct Access {
    /// The server [env: DORMOUSE_API_URL, TRIGGER_API_URL; else that of `dormouse dev`]
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
}

/// A server and a key for it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    pub(super) key: SecretString,
    /// Where both were found, for `whoami`.
    pub(super) source: String,
}

/// What `dormouse dev` leaves for the other commands and for clients in tests.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DevFile {
    pub(super) api_url: String,
    pub(super) secret_key: String,
    pub(super) project_ref: String,
    pub(super) pid: u32,
}

impl DevFile {
    /// Its place in a data folder.
    pub(super) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("dev.json")
    }

    pub(super) fn read(path: &Path) -> anyhow::Result<Option<DevFile>> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(|| format!("{} is malformed", path.display()))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("could not read {}", path.display())),
        }
    }
}

impl Access {
    /// Finds the server and its key.
    pub(super) fn find(&self) -> anyhow::Result<Server> {
        let here = std::env::current_dir().context("could not find the current folder")?;
        self.find_with(|name| std::env::var(name).ok().filter(|value| !value.is_empty()), &here)
    }

    fn find_with(&self, variable: impl Fn(&str) -> Option<String>, here: &Path) -> anyhow::Result<Server> {
        for brand in ["DORMOUSE", "TRIGGER"] {
            let (url, key) = (format!("{brand}_API_URL"), format!("{brand}_SECRET_KEY"));
            let given = self.api_url.clone().or_else(|| variable(&url));
            match (given, variable(&key)) {
                (Some(address), Some(secret)) => return server(&address, secret.into(), format!("{url}, {key}")),
                (Some(_), None) if self.api_url.is_none() => return Err(usage(format!("{url} is set, but {key} is not"))),
                (None, Some(_)) => return Err(usage(format!("{key} is set, but {url} is not"))),
                _ => {}
            }
        }
        let found = here.ancestors().map(|folder| DevFile::path(&folder.join(".dormouse")));
        for path in found {
            let Some(file) = DevFile::read(&path)? else { continue };
            let other = self.api_url.as_ref().filter(|url| url.trim_end_matches('/') != file.api_url);
            if let Some(url) = other {
                return Err(usage(format!(
                    "set DORMOUSE_SECRET_KEY to a key of {url} (that of {} is another's)",
                    path.display()
                )));
            }
            return server(&file.api_url, file.secret_key.into(), path.display().to_string());
        }
        Err(usage(
            "no server is known: start one with `dormouse dev`, or set DORMOUSE_API_URL and DORMOUSE_SECRET_KEY to those of yours",
        ))
    }
}

fn server(url: &str, key: SecretString, source: String) -> anyhow::Result<Server> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(usage(format!("{url} is not the address of a server; write http://… or https://…")));
    }
    if key.expose_secret().chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(usage(format!("the secret key ({source}) contains white space")));
    }
    Ok(Server { url: url.trim_end_matches('/').into(), key, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(flag: Option<&str>, variables: &[(&str, &str)], here: &Path) -> Result<(String, String), String> {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let access = Access { api_url: flag.map(str::to_owned) };
        let found = access.find_with(variable, here).map_err(|error| error.to_string())?;
        Ok((found.url, found.key.expose_secret().to_owned()))
    }

    #[test]
    fn our_variables_come_before_those_of_trigger_and_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::create_dir(folder.path().join(".dormouse")).unwrap();
        let file = r#"{"apiUrl":"http://localhost:1","secretKey":"dev","projectRef":"proj_1","pid":1}"#;
        fs::write(folder.path().join(".dormouse/dev.json"), file).unwrap();
        let ours = [("DORMOUSE_API_URL", "https://d/"), ("DORMOUSE_SECRET_KEY", "d")];
        let theirs = [("TRIGGER_API_URL", "https://t"), ("TRIGGER_SECRET_KEY", "t")];
        let said = |url: &str, key: &str| Ok((url.to_owned(), key.to_owned()));
        assert_eq!(find(None, &[ours, theirs].concat(), &below), said("https://d", "d"));
        assert_eq!(find(None, &theirs, &below), said("https://t", "t"));
        assert_eq!(find(None, &[], &below), said("http://localhost:1", "dev"));
        assert_eq!(find(Some("http://localhost:1/"), &[], &below), said("http://localhost:1", "dev"));
    }

    #[test]
    fn a_key_is_not_sent_to_another_server_than_its_own() {
        let empty = tempfile::tempdir().unwrap();
        let said = |variables: &[(&str, &str)]| find(None, variables, empty.path()).unwrap_err();
        assert!(said(&[("DORMOUSE_API_URL", "https://d")]).contains("DORMOUSE_SECRET_KEY is not"));
        assert!(said(&[("DORMOUSE_SECRET_KEY", "d"), ("TRIGGER_API_URL", "https://t")]).contains("DORMOUSE_API_URL is not"));
        assert!(said(&[]).contains("dormouse dev"));
        fs::create_dir(empty.path().join(".dormouse")).unwrap();
        let file = r#"{"apiUrl":"http://localhost:1","secretKey":"dev","projectRef":"proj_1","pid":1}"#;
        fs::write(empty.path().join(".dormouse/dev.json"), file).unwrap();
        assert!(find(Some("https://elsewhere"), &[], empty.path()).unwrap_err().contains("DORMOUSE_SECRET_KEY"));
    }
}
