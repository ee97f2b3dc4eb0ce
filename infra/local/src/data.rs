//! The data folder.
//!
//! | file         | holds                                                        |
//! |--------------|--------------------------------------------------------------|
//! | `lock`       | nothing; who holds its lock owns the folder                  |
//! | `master.key` | the operator's key, unless `MASTER_API_KEY` is set           |
//! | `sealing.key`| the key of sealed secrets, unless `SEALING_KEY` is set       |
//! | `dynamodb.db`| the embedded DynamoDB                                        |
//! | `sqs.db`     | the embedded SQS                                             |
//! | `streams/`   | how far each function has consumed its stream                |
//!
//! **Invariant:** one process uses the folder, and only its owner can read it.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// As many as the template asks for.
const SHORTEST_KEY: usize = 24;

/// The data folder of this process.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Released by the operating system however this process ends.
    _lock: File,
    _temporary: Option<TempDir>,
}

/// The operator's key.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    /// The key.
    pub secret: String,
    /// The file that holds it, if it did not come from the environment.
    pub file: Option<PathBuf>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Why the folder cannot be used, in one line.
#[derive(Debug)]
pub enum DataError {
    /// Another runner has it.
    InUse(PathBuf),
    /// The file system refuses.
    Io(PathBuf, io::Error),
    /// A key that is too short to be one: which, and where it is.
    ShortKey(&'static str, String),
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "the data folder {} is in use by another runner; choose another with --data",
                path.display()
            ),
            Self::Io(path, error) => write!(f, "cannot use {}: {error}", path.display()),
            Self::ShortKey(which, place) => {
                write!(
                    f,
                    "the {which} in {place} has fewer than {SHORTEST_KEY} characters"
                )
            }
        }
    }
}

impl std::error::Error for DataError {}

impl DataFolder {
    /// Makes `path` if need be, and locks it.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |error| DataError::Io(path.to_owned(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        // SQLite and the banner are better served by a path that means the same everywhere.
        let path = fs::canonicalize(path).map_err(failed)?;
        Self::lock(path, None)
    }

    /// Makes a folder that is removed with this value.
    pub fn temporary() -> Result<Self, DataError> {
        let folder = tempfile::Builder::new().prefix("parlance-").tempdir();
        let folder = folder.map_err(|error| DataError::Io(std::env::temp_dir(), error))?;
        Self::lock(folder.path().to_owned(), Some(folder))
    }

    fn lock(path: PathBuf, temporary: Option<TempDir>) -> Result<Self, DataError> {
        let file = path.join("lock");
        let failed = |error| DataError::Io(file.clone(), error);
        let lock = private()
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataError::InUse(path)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let streams = path.join("streams");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&streams)
            .map_err(|error| DataError::Io(streams, error))?;
        Ok(Self {
            path,
            _lock: lock,
            _temporary: temporary,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The embedded DynamoDB's file.
    pub fn dynamodb(&self) -> Result<PathBuf, DataError> {
        self.database("dynamodb.db")
    }

    /// The embedded SQS's file.
    pub fn sqs(&self) -> Result<PathBuf, DataError> {
        self.database("sqs.db")
    }

    /// SQLite takes an empty file for a new database, and gives its companions the same mode.
    fn database(&self, name: &str) -> Result<PathBuf, DataError> {
        let file = self.path.join(name);
        match private().create(true).truncate(false).open(&file) {
            Ok(_) => Ok(file),
            Err(error) => Err(DataError::Io(file, error)),
        }
    }

    /// The folder of the checkpoints.
    pub fn streams(&self) -> PathBuf {
        self.path.join("streams")
    }

    /// The operator's key: the one that was `given`, or else the one in the folder, which is made when missing.
    pub fn master_key(&self, given: Option<String>) -> Result<MasterKey, DataError> {
        let (secret, file) = self.key(&MASTER, given)?;
        Ok(MasterKey { secret, file })
    }

    /// The key that seals tenants' secrets: the one that was `given`, or else the one in the folder, which is made when
    /// missing. Without it what it sealed is lost.
    pub fn sealing_key(&self, given: Option<String>) -> Result<String, DataError> {
        self.key(&SEALING, given).map(|(secret, _)| secret)
    }

    /// The secret, and the file that holds it if there is one.
    fn key(
        &self,
        key: &Key,
        given: Option<String>,
    ) -> Result<(String, Option<PathBuf>), DataError> {
        if let Some(secret) = given {
            return Ok((key.checked(secret, key.variable)?, None));
        }
        let file = self.path.join(key.file);
        match fs::read_to_string(&file) {
            Ok(secret) => {
                let place = file.display().to_string();
                let secret = key.checked(secret.trim().to_owned(), &place)?;
                Ok((secret, Some(file)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = new_secret(key.prefix).and_then(|secret| {
                    write_private(&file, &secret)?;
                    Ok(secret)
                });
                let secret = secret.map_err(|error| DataError::Io(file.clone(), error))?;
                Ok((secret, Some(file)))
            }
            Err(error) => Err(DataError::Io(file, error)),
        }
    }
}

/// A key that the folder holds, or else the environment.
struct Key {
    called: &'static str,
    variable: &'static str,
    file: &'static str,
    prefix: &'static str,
}

const MASTER: Key = Key {
    called: "master key",
    variable: "MASTER_API_KEY",
    file: "master.key",
    prefix: "mk_",
};

const SEALING: Key = Key {
    called: "sealing key",
    variable: "SEALING_KEY",
    file: "sealing.key",
    prefix: "seal_",
};

impl Key {
    fn checked(&self, secret: String, place: &str) -> Result<String, DataError> {
        if secret.len() < SHORTEST_KEY {
            return Err(DataError::ShortKey(self.called, place.to_owned()));
        }
        Ok(secret)
    }
}

fn new_secret(prefix: &str) -> io::Result<String> {
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!("{prefix}{}", hex::encode(random)))
}

/// Writes beside `file` first: a runner that is killed meanwhile leaves no half a key.
fn write_private(file: &Path, secret: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut half = private().create(true).truncate(true).open(&new)?;
    writeln!(half, "{secret}")?;
    half.sync_all()?;
    fs::rename(&new, file)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn two_runners_on_one_folder_are_a_clear_error() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = DataFolder::open(&path).unwrap();
        let second = DataFolder::open(&path).unwrap_err().to_string();
        let path = first.path().display();
        assert_eq!(
            second,
            format!(
                "the data folder {path} is in use by another runner; choose another with --data"
            )
        );
        drop(first);
        DataFolder::open(&parent.path().join("data")).unwrap();
    }

    #[test]
    fn the_master_key_is_made_once_and_nobody_else_can_read_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(&parent.path().join("data")).unwrap();
        let made = folder.master_key(None).unwrap();
        assert!(made.secret.starts_with("mk_") && made.secret.len() == 51);
        assert_eq!(folder.master_key(None).unwrap(), made);
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(made.file.as_deref().unwrap()), 0o600);
    }

    #[test]
    fn the_sealing_key_is_made_once_and_is_another_one() {
        let folder = DataFolder::temporary().unwrap();
        let made = folder.sealing_key(None).unwrap();
        assert!(made.starts_with("seal_") && made.len() == 53);
        assert_eq!(folder.sealing_key(None).unwrap(), made);
        assert_eq!(mode(&folder.path().join("sealing.key")), 0o600);
        assert_ne!(folder.master_key(None).unwrap().secret[3..], made[5..]);
        let short = folder.sealing_key(Some("short".to_owned())).unwrap_err();
        assert_eq!(
            short.to_string(),
            "the sealing key in SEALING_KEY has fewer than 24 characters"
        );
    }

    #[test]
    fn a_given_master_key_wins_and_is_not_stored() {
        let folder = DataFolder::temporary().unwrap();
        let given = "g".repeat(SHORTEST_KEY);
        let key = folder.master_key(Some(given.clone())).unwrap();
        assert_eq!(
            key,
            MasterKey {
                secret: given,
                file: None
            }
        );
        assert!(!folder.path().join("master.key").exists());
        let short = folder.master_key(Some("short".to_owned())).unwrap_err();
        assert_eq!(
            short.to_string(),
            "the master key in MASTER_API_KEY has fewer than 24 characters"
        );
    }

    #[test]
    fn a_folder_that_is_a_file_is_a_clear_error() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        fs::write(&path, "").unwrap();
        let error = DataFolder::open(&path).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("cannot use {}: File exists (os error 17)", path.display())
        );
    }
}
