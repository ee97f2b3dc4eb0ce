//! The data folder.
//!
//! | file         | holds                                                        |
//! |--------------|--------------------------------------------------------------|
//! | `lock`       | nothing; who holds its lock owns the folder                  |
//! | `master.key` | the operator's key, unless `MASTER_API_KEY` is set           |
//! | `sealing.key`| the key of sealed secrets, unless `SEALING_KEY` is set       |
//! | `sealing.check` | the hash by which that key is known again                 |
//! | `dynamodb.db`| the embedded DynamoDB                                        |
//! | `sqs.db`     | the embedded SQS                                             |
//! | `streams/`   | how far each function has consumed its stream                |
//!
//! **Invariant:** one process uses the folder, and only its owner can read it. A key or a database that was lost is never
//! replaced by a new one beside data that needs the old one (of databases, see [`crate::consistency`]).

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use parlance::app::StoreFault;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::storage;

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
    /// There is no sealing key, but data whose secrets it sealed.
    LostSealingKey(PathBuf),
    /// The sealing key, which is in that place, is not the one that sealed the folder's secrets.
    OtherSealingKey(PathBuf, String),
    /// A database that cannot be read.
    Database(PathBuf, rusqlite::Error),
    /// `dynamodb.db` holds nothing, but there is what belongs to one.
    LostDatabase(PathBuf),
    /// `dynamodb.db` lacks records that were taken from it.
    OldDatabase(PathBuf),
    /// `sqs.db` holds no queues, but `dynamodb.db` was used with some.
    LostQueues(PathBuf),
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
            Self::LostSealingKey(folder) => write!(
                f,
                "the sealing key of {} is missing: restore sealing.key from a backup, or set SEALING_KEY to the key. {}",
                folder.display(),
                GiveUp(folder, false)
            ),
            Self::OtherSealingKey(folder, place) => write!(
                f,
                "the sealing key in {place} is not the one that sealed the secrets in {}: restore that one. {}",
                folder.display(),
                GiveUp(folder, *place == SEALING.variable)
            ),
            Self::LostDatabase(folder) => write!(
                f,
                "dynamodb.db in {} is missing or empty, and what is beside it (dynamodb.db-wal, sqs.db, streams/) belongs to \
                 another one: restore all of it from one backup, or choose another folder with --data. To begin anew and give up \
                 what waits in the queues, remove dynamodb.db*, sqs.db* and streams/",
                folder.display()
            ),
            Self::OldDatabase(folder) => write!(
                f,
                "dynamodb.db in {} is older than streams/ beside it, as if it had been copied without its dynamodb.db-wal: \
                 restore the whole folder from one backup. To go on without what is missing, remove streams/",
                folder.display()
            ),
            Self::LostQueues(folder) => write!(
                f,
                "sqs.db in {} is missing or empty, and dynamodb.db and streams/ beside it were used with another one: restore all \
                 of them from one backup. To go on and give up what waited in the queues, remove sqs.db* and streams/",
                folder.display()
            ),
            Self::Database(file, error) => {
                write!(f, "cannot open the database {}: ", file.display())?;
                match storage::fault(error) {
                    Some(StoreFault::Damaged) => f.write_str("it is damaged, or not a database"),
                    Some(StoreFault::Refused) | None => error.fmt(f),
                }
            }
        }
    }
}

impl std::error::Error for DataError {}

/// How to go on without what the lost sealing key sealed, where another one is set in the environment, or none.
struct GiveUp<'a>(&'a Path, bool);

impl fmt::Display for GiveUp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(folder, is_set) = self;
        f.write_str("To give up what it sealed (webhooks' secrets, providers' keys), ")?;
        if !is_set {
            let file = folder.join(SEALING.file);
            let file = file.display();
            write!(
                f,
                "put a new key of at least {SHORTEST_KEY} characters into {file} and "
            )?;
        }
        write!(f, "remove {}", folder.join(SEALING_CHECK).display())
    }
}

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

    /// Whether a file of the folder has anything in it.
    fn holds(&self, name: &str) -> bool {
        fs::metadata(self.path.join(name)).is_ok_and(|file| file.len() > 0)
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

    /// The key that seals tenants' secrets: the one that was `given`, or else the one in the folder, which is made on the
    /// first start. Without it what it sealed is lost, so another one is refused. Ask before the database is made.
    pub fn sealing_key(&self, given: Option<String>) -> Result<String, DataError> {
        let file = self.path.join(SEALING_CHECK);
        let failed = |error| DataError::Io(file.clone(), error);
        let known = match fs::read_to_string(&file) {
            Ok(known) => Some(known.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        // Folders of earlier versions have no check.
        let is_used = known.is_some() || self.holds("dynamodb.db");
        if is_used && given.is_none() && !self.holds(SEALING.file) {
            return Err(DataError::LostSealingKey(self.path.clone()));
        }
        let (secret, found) = self.key(&SEALING, given)?;
        let check = check_of(&secret);
        match known {
            Some(known) if known == check => {}
            Some(_) => {
                let place = found.map(|file| file.display().to_string());
                let place = place.unwrap_or_else(|| SEALING.variable.to_owned());
                return Err(DataError::OtherSealingKey(self.path.clone(), place));
            }
            None => write_private(&file, &check).map_err(failed)?,
        }
        Ok(secret)
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

/// The file by which the sealing key is known again.
const SEALING_CHECK: &str = "sealing.check";

/// Tells one sealing key from another, and nothing of the key.
fn check_of(key: &str) -> String {
    let hash = Sha256::new().chain_update("parlance sealing key check 1\n");
    hex::encode(hash.chain_update(key).finalize())
}

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

/// Opens what only the owner may read.
pub(crate) fn private() -> OpenOptions {
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
        let folder = DataFolder::temporary().unwrap();
        let short = folder.sealing_key(Some("short".to_owned())).unwrap_err();
        assert_eq!(
            short.to_string(),
            "the sealing key in SEALING_KEY has fewer than 24 characters"
        );
    }

    #[test]
    fn a_sealing_key_that_was_lost_is_not_replaced() {
        let folder = DataFolder::temporary().unwrap();
        let made = folder.sealing_key(None).unwrap();
        let file = folder.path().join("sealing.key");
        fs::remove_file(&file).unwrap();
        let error = folder.sealing_key(None).unwrap_err().to_string();
        let told = format!("the sealing key of {} is missing", folder.path().display());
        assert!(error.starts_with(&told), "{error}");
        // It may be what is left of it.
        fs::write(&file, "").unwrap();
        folder.sealing_key(None).unwrap_err();
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
        assert_eq!(folder.sealing_key(Some(made.clone())).unwrap(), made);
        // A folder of an earlier version, which has no check, has a database.
        fs::remove_file(folder.path().join(SEALING_CHECK)).unwrap();
        fs::write(folder.dynamodb().unwrap(), "data").unwrap();
        folder.sealing_key(None).unwrap_err();
    }

    #[test]
    fn another_sealing_key_than_before_is_refused_until_the_old_one_is_given_up() {
        let folder = DataFolder::temporary().unwrap();
        folder.sealing_key(None).unwrap();
        let other = "o".repeat(SHORTEST_KEY);
        let error = folder.sealing_key(Some(other.clone())).unwrap_err();
        let told = "the sealing key in SEALING_KEY is not the one that sealed the secrets in";
        assert!(error.to_string().starts_with(told), "{error}");
        // A key in the file would not be used: the variable goes before it.
        assert!(!error.to_string().contains("put a new key"), "{error}");
        fs::write(folder.path().join("sealing.key"), &other).unwrap();
        folder.sealing_key(None).unwrap_err();
        // As the error says.
        fs::remove_file(folder.path().join(SEALING_CHECK)).unwrap();
        assert_eq!(folder.sealing_key(None).unwrap(), other);
        assert_eq!(folder.sealing_key(None).unwrap(), other);
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
