//! Which server to talk to, and with which key.
//!
//! The address and the key come from the same place, so that a key is never sent to another server than its own:
//! `DORMOUSE_API_URL` and `DORMOUSE_SECRET_KEY`, else `TRIGGER_API_URL` and `TRIGGER_SECRET_KEY`, else the `.dormouse/dev.json`
//! that `dormouse dev` wrote in this folder or one above it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::usage;
use crate::model::environment::EnvironmentKind;

/// Flags of every command that talks to a server.
#[derive(Debug, Clone, Args)]
pub(super) struct Access {
    /// The server [env: DORMOUSE_API_URL, TRIGGER_API_URL; else that of `dormouse dev`]
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// Refuse unless the secret key is of this environment; with `dormouse dev`, take the key of it
    #[arg(long = "env", value_name = "ENVIRONMENT")]
    environment: Option<Slug>,
    /// The branch, with a key of the preview environment; deploying to it makes it
    #[arg(long, value_name = "NAME", env = "TRIGGER_PREVIEW_BRANCH")]
    branch: Option<String>,
}

/// An environment, as people call it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Slug {
    Dev,
    #[value(alias = "stg")]
    Staging,
    Preview,
    Prod,
}

impl Slug {
    const fn kind(self) -> EnvironmentKind {
        match self {
            Self::Dev => EnvironmentKind::Development,
            Self::Staging => EnvironmentKind::Staging,
            Self::Preview => EnvironmentKind::Preview,
            Self::Prod => EnvironmentKind::Production,
        }
    }
}

/// A server and a key for it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    pub(super) key: SecretString,
    /// The branch that is meant, if the key is of the preview environment.
    pub(super) branch: Option<String>,
    /// Where both were found, for `whoami`.
    pub(super) source: String,
    /// The file of `dormouse dev`, if it was there.
    pub(super) file: Option<PathBuf>,
}

/// What `dormouse dev` leaves for the other commands and for clients in tests.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DevFile {
    pub(super) api_url: String,
    pub(super) secret_key: String,
    pub(super) project_ref: String,
    pub(super) pid: u32,
    /// Of each environment, by its slug.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) keys: BTreeMap<String, String>,
}

impl DevFile {
    /// The key of an environment.
    pub(super) fn key_of(&self, kind: EnvironmentKind) -> Option<&str> {
        let own = (kind == EnvironmentKind::Development).then_some(self.secret_key.as_str());
        own.or_else(|| self.keys.get(kind.slug()).map(String::as_str))
    }

    /// Puts another key in place of one of the file. True if it was there.
    pub(super) fn replace_key(&mut self, before: &str, after: &str) -> bool {
        let keys = std::iter::once(&mut self.secret_key).chain(self.keys.values_mut());
        keys.filter(|key| key.as_str() == before).map(|key| after.clone_into(key)).count() > 0
    }

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
        let found = self.find_with(|name| std::env::var(name).ok().filter(|value| !value.is_empty()), &here)?;
        Ok(Server { branch: self.branch.clone().filter(|name| !name.is_empty()), ..found })
    }

    fn find_with(&self, variable: impl Fn(&str) -> Option<String>, here: &Path) -> anyhow::Result<Server> {
        for brand in ["DORMOUSE", "TRIGGER"] {
            let (url, key) = (format!("{brand}_API_URL"), format!("{brand}_SECRET_KEY"));
            let given = self.api_url.clone().or_else(|| variable(&url));
            match (given, variable(&key)) {
                (Some(address), Some(secret)) => {
                    self.must_be_of_environment(&secret, &key)?;
                    return server(&address, secret.into(), format!("{url}, {key}"));
                }
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
            let kind = self.environment.map_or(EnvironmentKind::Development, Slug::kind);
            let key = file.key_of(kind).ok_or_else(|| usage(format!("{} has no key of {}", path.display(), kind.slug())))?;
            let server = server(&file.api_url, key.into(), path.display().to_string())?;
            return Ok(Server { file: Some(path), ..server });
        }
        Err(usage(
            "no server is known: start one with `dormouse dev`, or set DORMOUSE_API_URL and DORMOUSE_SECRET_KEY to those of yours",
        ))
    }

    fn must_be_of_environment(&self, key: &str, name: &str) -> anyhow::Result<()> {
        let Some(wanted) = self.environment.map(|slug| slug.kind().slug()) else { return Ok(()) };
        if key.starts_with(&format!("tr_{wanted}_")) {
            return Ok(());
        }
        Err(usage(format!("{name} is not a key of {wanted}; --env says that it shall be")))
    }
}

fn server(url: &str, key: SecretString, source: String) -> anyhow::Result<Server> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(usage(format!("{url} is not the address of a server; write http://… or https://…")));
    }
    if key.expose_secret().chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(usage(format!("the secret key ({source}) contains white space")));
    }
    Ok(Server { url: url.trim_end_matches('/').into(), key, branch: None, source, file: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(flag: Option<&str>, variables: &[(&str, &str)], here: &Path) -> Result<(String, String), String> {
        find_in(None, flag, variables, here)
    }

    fn find_in(
        environment: Option<Slug>,
        flag: Option<&str>,
        variables: &[(&str, &str)],
        here: &Path,
    ) -> Result<(String, String), String> {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let access = Access { api_url: flag.map(str::to_owned), environment, branch: None };
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

    #[test]
    fn the_key_is_of_the_environment_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".dormouse")).unwrap();
        let file =
            r#"{"apiUrl":"http://l","secretKey":"d","projectRef":"proj_1","pid":1,"keys":{"dev":"d","stg":"s","prod":"p"}}"#;
        fs::write(folder.path().join(".dormouse/dev.json"), file).unwrap();
        let key = |environment| find_in(environment, None, &[], folder.path()).map(|(_, key)| key);
        assert_eq!([None, Some(Slug::Dev), Some(Slug::Staging)].map(key), ["d", "d", "s"].map(|key| Ok(key.to_owned())));
        assert!(key(Some(Slug::Preview)).unwrap_err().contains("no key of preview"));
        let given = [("DORMOUSE_API_URL", "https://d"), ("DORMOUSE_SECRET_KEY", "tr_stg_1")];
        let with = |environment| find_in(Some(environment), None, &given, folder.path());
        assert!(with(Slug::Staging).is_ok());
        assert!(with(Slug::Prod).unwrap_err().contains("not a key of prod"));
    }

    #[test]
    fn a_rotated_key_is_replaced_wherever_it_stands() {
        let keys = BTreeMap::from([("dev".to_owned(), "a".to_owned()), ("prod".to_owned(), "b".to_owned())]);
        let mut file = DevFile { api_url: String::new(), secret_key: "a".into(), project_ref: String::new(), pid: 1, keys };
        assert!(file.replace_key("a", "c") && file.replace_key("b", "d") && !file.replace_key("b", "e"));
        assert_eq!((file.secret_key.as_str(), file.keys["dev"].as_str(), file.keys["prod"].as_str()), ("c", "c", "d"));
    }
}
