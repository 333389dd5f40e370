//! Campaigns: several experiments and what they must show together.

use serde::Deserialize;

use crate::experiment::FileError;

/// What is to be reached, in the words of the design.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Goal {
    /// Its name, which the targets of experiments refer to.
    pub id: String,
    /// What is demanded.
    pub text: String,
    /// What was measured, if not by an experiment.
    pub measured: String,
    /// Whether that meets it.
    pub met: bool,
    /// What measured it.
    pub command: String,
    /// What to know about it.
    pub note: String,
}

/// A campaign file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Campaign {
    /// Heading of its report.
    pub title: String,
    /// What its report is about.
    pub about: String,
    /// Names of shipped experiments, or paths of files from where the campaign's file is.
    pub experiments: Vec<String>,
    /// What is to be reached.
    pub goal: Vec<Goal>,
}

impl Campaign {
    /// Reads a campaign file.
    ///
    /// # Errors
    /// [`FileError`] with the line.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let (campaign, rest) = crate::experiment::split_file::<Self>(
            text,
            &["title", "about", "experiments", "goal"],
        )?;
        match rest.keys().next() {
            Some(unknown) => Err(crate::experiment::error_at(
                text,
                unknown,
                &format!("`{unknown}` is no field of a campaign: title, about, experiments, goal"),
            )),
            None => Ok(campaign),
        }
    }
}
