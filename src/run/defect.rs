//! What is made to go wrong on purpose.

use clap::ValueEnum as _;

use crate::{sandbox, sqld};

/// Something that the sandbox or the stand-in database does wrong on purpose, so that it can be seen whether anybody notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Of the database.
    Database(sqld::Defect),
    /// Of the cluster.
    Cluster(sandbox::Defect),
}

impl Defect {
    /// The one that the sandbox has.
    pub(super) const fn of_cluster(defect: Option<Self>) -> Option<sandbox::Defect> {
        match defect {
            Some(Self::Cluster(defect)) => Some(defect),
            Some(Self::Database(_)) | None => None,
        }
    }

    /// The one that the database has, by its name.
    pub(super) fn of_database(defect: Option<Self>) -> Option<String> {
        match defect {
            Some(defect @ Self::Database(_)) => Some(defect.name()),
            Some(Self::Cluster(_)) | None => None,
        }
    }

    /// Its name on the command line and in the reports.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Database(defect) => defect.to_possible_value().expect("no defect is hidden").get_name().to_owned(),
            Self::Cluster(sandbox::Defect::ChangeAddress) => "change-address".to_owned(),
            Self::Cluster(sandbox::Defect::UndoFails) => "undo-fails".to_owned(),
            Self::Cluster(sandbox::Defect::FaultsDoNothing) => "faults-do-nothing".to_owned(),
        }
    }
}
