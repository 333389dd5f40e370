//! What every command needs: where the node lives and how to print.

use std::path::{Path, PathBuf};

use comity_api::{Client, ClientError, SOCKET_NAME};

use crate::args::Cli;
use crate::output::Output;

/// Where the node lives and how to print.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) home: PathBuf,
    pub(crate) out: Output,
    /// -v as often as it was given; handed on to a detached node.
    pub(crate) verbose: u8,
}

impl Context {
    pub(crate) fn new(cli: &Cli) -> Self {
        let home = cli.home.clone().unwrap_or_else(default_home);
        // A detached node and a daemon that serves a path work in other directories.
        let home = std::path::absolute(&home).unwrap_or(home);
        let json = cli.output.json || cli.command.wants_json();
        Self { home, out: Output::new(json, cli.quiet), verbose: cli.verbose }
    }

    /// The node of this home.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] when there is none.
    pub(crate) async fn client(&self) -> Result<Client, ClientError> {
        Client::connect(self.socket()).await
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join(SOCKET_NAME)
    }
}

/// The platform's directory for a user's data (XDG Base Directory Specification; Apple's File System Programming Guide).
fn default_home() -> PathBuf {
    data_directory(
        std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).as_deref(),
        std::env::home_dir().as_deref(),
        cfg!(target_os = "macos"),
    )
}

fn data_directory(xdg_data: Option<&Path>, user: Option<&Path>, macos: bool) -> PathBuf {
    let base = match (xdg_data, user) {
        // A relative XDG_DATA_HOME is invalid and to be ignored, says the specification.
        (Some(xdg), _) if xdg.is_absolute() => xdg.to_owned(),
        (_, Some(user)) if macos => user.join("Library/Application Support"),
        (_, Some(user)) => user.join(".local/share"),
        (_, None) => PathBuf::from("."),
    };
    base.join("comity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_home_follows_the_platform() {
        let user = Some(Path::new("/home/me"));
        assert_eq!(data_directory(None, user, false), Path::new("/home/me/.local/share/comity"));
        assert_eq!(
            data_directory(Some(Path::new("/data")), user, false),
            Path::new("/data/comity")
        );
        assert_eq!(
            data_directory(Some(Path::new("relative")), user, false),
            Path::new("/home/me/.local/share/comity")
        );
        assert_eq!(
            data_directory(None, user, true),
            Path::new("/home/me/Library/Application Support/comity")
        );
        assert_eq!(data_directory(None, None, false), Path::new("./comity"));
    }
}
