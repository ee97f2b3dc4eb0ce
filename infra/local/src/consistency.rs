//! Whether the files of the data folder belong together.
//!
//! | file          | holds                                                                            |
//! |---------------|----------------------------------------------------------------------------------|
//! | `dynamodb.db` | its streams, with the last record of each, which is never trimmed                |
//! | `sqs.db`      | its queues, which are made once all tables of `dynamodb.db` are                  |
//! | `streams/`    | the streams' names, once there are queues, and the last records that were taken  |
//!
//! A file of `SQLite` that is copied without its `-wal` is valid and lacks what was in there: all of it, if the runner had
//! just begun. So files are judged by what they hold.
//!
//! **Invariant:** each of these is made after what it belongs to, so a start that was killed never looks like a loss. A
//! start that is refused has changed nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use parlance::domain::Timestamp;
use rusqlite::Connection;

use crate::data::{DataError, DataFolder};
use crate::dynamodb::{Contents, written_at};
use crate::sqs::holds_queues;
use crate::storage;
use crate::streams::Recorded;

/// A database as it is found.
struct Found {
    path: PathBuf,
    /// Its size; `None` if there is no such file.
    bytes: Option<u64>,
    /// A runner that ends well leaves no WAL, and one that is killed does.
    has_wal: bool,
}

impl Found {
    fn at(path: PathBuf) -> Self {
        let wal = path.with_extension("db-wal");
        Self {
            bytes: fs::metadata(&path).ok().map(|file| file.len()),
            has_wal: wal.exists(),
            path,
        }
    }

    /// Whether nothing is left of it.
    fn is_gone(&self) -> bool {
        self.bytes.is_none() && !self.has_wal
    }

    /// Whether only its WAL is left. SQLite would delete that.
    fn is_only_wal(&self) -> bool {
        self.bytes.unwrap_or(0) == 0 && self.has_wal
    }

    /// Reads the database with `of`. A file that is missing or empty holds nothing.
    fn look<T: Default>(
        &self,
        of: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DataError> {
        if self.bytes.unwrap_or(0) == 0 {
            return Ok(T::default());
        }
        let looked = storage::look(&self.path, self.has_wal).and_then(|file| of(&file));
        looked.map_err(|error| DataError::Database(self.path.clone(), error))
    }
}

/// Refuses a folder whose embedded databases have lost what the rest of it belongs to. Ask before they are opened or made.
/// `with_queues` says that the queues are embedded too.
pub(crate) fn check(data: &DataFolder, with_queues: bool) -> Result<(), DataError> {
    let folder = || data.path().to_owned();
    let database = Found::at(data.path().join("dynamodb.db"));
    let queues = Found::at(data.path().join("sqs.db"));
    let failed = |error| DataError::Io(data.streams(), error);
    let recorded = Recorded::all(&data.streams()).map_err(failed)?;
    if with_queues && database.is_gone() && queues.is_gone() {
        // Somebody begins anew. Positions in streams that are gone mean nothing.
        return recorded
            .iter()
            .try_for_each(Recorded::forget)
            .map_err(failed);
    }
    let contents = database.look(Contents::of)?;
    let holds_queues = queues.look(holds_queues)?;
    if is_empty(&contents, &recorded) {
        let is_lost = holds_queues || !recorded.is_empty() || database.is_only_wal();
        return if is_lost {
            Err(DataError::LostDatabase(folder()))
        } else {
            Ok(())
        };
    }
    if with_queues && !holds_queues && (!recorded.is_empty() || queues.is_only_wal()) {
        return Err(DataError::LostQueues(folder()));
    }
    let (mut losses, mut behind) = (BTreeMap::new(), Vec::new());
    // Of another stream are positions in a table that was made anew.
    for recorded in recorded
        .iter()
        .filter(|it| contents.has_stream(it.stream()))
    {
        let last = contents.last(recorded.stream());
        if recorded.taken() <= last {
            continue;
        }
        if !database.has_wal {
            return Err(DataError::OldDatabase(folder()));
        }
        let loss = Loss::between(last, recorded.taken());
        let known = losses.entry(recorded.stream()).or_insert(loss);
        known.until = known.until.max(loss.until);
        behind.push((recorded, last));
    }
    for (stream, loss) in losses {
        loss.tell(stream);
    }
    for (recorded, last) in behind {
        recorded.pull_back(last).map_err(failed)?;
    }
    Ok(())
}

/// The span at the end of a stream, and so of its table, of which writes are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Loss {
    /// When the last write that is there was made. `None` if none is.
    after: Option<Timestamp>,
    /// When the last write was made that a function had taken. Later ones may be missing too.
    until: Option<Timestamp>,
}

impl Loss {
    /// Between the last record that there is and the last one that was taken.
    fn between(last: Option<&str>, taken: Option<&str>) -> Self {
        Self {
            after: last.and_then(written_at),
            until: taken.and_then(written_at),
        }
    }

    fn tell(self, stream: &str) {
        let table = stream.split('/').nth(1).unwrap_or_default();
        let time = |at: Option<Timestamp>| at.map(tracing::field::display);
        tracing::warn!(
            table,
            after = time(self.after),
            until = time(self.until),
            "acknowledged writes are lost: those of this table between these times at least, and of other tables too. The end \
             of dynamodb.db-wal is missing, as after a power cut. To have them back, stop the runner and restore the whole \
             data folder from a backup. Otherwise the runner goes on without them, and clients must drop what they hold \
             beyond a room's last_seq (docs/upgrade.md)"
        );
    }
}

/// Whether a database holds nothing: no table, or new tables that are not those of the positions.
fn is_empty(contents: &Contents, recorded: &[Recorded]) -> bool {
    let mut known = recorded
        .iter()
        .filter(|it| !it.stream().is_empty())
        .peekable();
    let is_other = known.peek().is_some() && known.all(|it| !contents.has_stream(it.stream()));
    !contents.has_tables || (is_other && !contents.has_records())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use aws_sdk_dynamodb::types::AttributeValue;
    use serde_json::{Value, json};

    use super::*;
    use crate::clients::{embedded_dynamodb, embedded_sqs, embedded_streams};
    use crate::dynamodb::{DynamoDb, Sync};
    use crate::provision::provision;
    use crate::sqs::{self, Sqs};
    use crate::template::Stack;

    const TABLE: &str = "
Resources:
  Log:
    Type: AWS::DynamoDB::Table
    Properties:
      AttributeDefinitions: [{ AttributeName: pk, AttributeType: S }]
      KeySchema: [{ AttributeName: pk, KeyType: HASH }]
      StreamSpecification: { StreamViewType: NEW_IMAGE }
";
    const QUEUE: &str = "
  Work: { Type: AWS::SQS::Queue }
";

    fn file(data: &DataFolder, name: &str) -> PathBuf {
        data.path().join(name)
    }

    /// The stores, while they are open.
    struct Open {
        dynamodb: DynamoDb,
        sqs: Sqs,
    }

    impl Open {
        fn at(data: &DataFolder) -> Self {
            let dynamodb = DynamoDb::open(&data.dynamodb().unwrap(), Sync::Normal).unwrap();
            let sqs = Sqs::open(Some(&data.sqs().unwrap()), sqs::Sync::Normal).unwrap();
            Self { dynamodb, sqs }
        }

        /// Makes what a stack has; the stream of its table.
        async fn provision(&self, stack: &str) -> String {
            let dynamodb = embedded_dynamodb(self.dynamodb.http_client());
            let sqs = embedded_sqs(self.sqs.http_client());
            let stack = Stack::parse(stack).unwrap();
            let provisioned = provision(&stack, &dynamodb, &sqs).await.unwrap();
            provisioned.stream_arns["Log"].clone()
        }

        /// Puts an item; the sequence number of its record.
        async fn put(&self, stream: &str, key: &str) -> String {
            let put = embedded_dynamodb(self.dynamodb.http_client()).put_item();
            let put = put.table_name("Log");
            let put = put.item("pk", AttributeValue::S(key.to_owned()));
            put.send().await.unwrap();
            let streams = embedded_streams(self.dynamodb.http_client());
            let described = streams.describe_stream().stream_arn(stream).send().await;
            let described = described.unwrap().stream_description.unwrap();
            let range = described.shards()[0].sequence_number_range().unwrap();
            range.ending_sequence_number().unwrap().to_owned()
        }

        fn close(self) {
            self.dynamodb.close();
            self.sqs.close();
        }
    }

    /// Notes that a function has taken the records of a stream up to `taken`.
    fn take(data: &DataFolder, stream: &str, taken: Option<&str>) {
        let state =
            json!({ "stream": stream, "shards": { "s": { "taken": taken, "finished": false } } });
        fs::write(data.streams().join("F-Log.json"), state.to_string()).unwrap();
    }

    fn taken(data: &DataFolder) -> Value {
        let state = fs::read(data.streams().join("F-Log.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        state["shards"]["s"]["taken"].clone()
    }

    /// A folder of a runner that has ended well after it took a record, and the stream.
    async fn used() -> (DataFolder, String) {
        let data = DataFolder::temporary().unwrap();
        let open = Open::at(&data);
        let stream = open.provision(&format!("{TABLE}{QUEUE}")).await;
        let last = open.put(&stream, "a").await;
        open.close();
        take(&data, &stream, Some(&last));
        check(&data, true).unwrap();
        (data, stream)
    }

    /// Replaces a database by one that has lost its content, in each way. The stores of the last two have opened it since.
    fn each_loss(data: &DataFolder, name: &str, test: impl Fn(&str)) {
        let path = file(data, name);
        fs::remove_file(&path).unwrap();
        test("missing");
        fs::write(&path, "").unwrap();
        test("empty");
        let header = Connection::open(&path).unwrap();
        let mode = header.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
        mode.unwrap();
        drop(header);
        assert!(fs::metadata(&path).unwrap().len() > 0);
        test("no schema");
        let other = DataFolder::temporary().unwrap();
        Open::at(&other).close();
        fs::copy(file(&other, name), &path).unwrap();
        test("no tables or queues");
    }

    #[tokio::test]
    async fn a_start_that_was_killed_at_any_step_of_a_first_start_is_not_refused() {
        let data = DataFolder::temporary().unwrap();
        check(&data, true).unwrap();
        data.dynamodb().unwrap();
        check(&data, true).unwrap();
        let dynamodb = DynamoDb::open(&data.dynamodb().unwrap(), Sync::Normal).unwrap();
        check(&data, true).unwrap();
        data.sqs().unwrap();
        check(&data, true).unwrap();
        let sqs = Sqs::open(Some(&data.sqs().unwrap()), sqs::Sync::Normal).unwrap();
        check(&data, true).unwrap();
        let open = Open { dynamodb, sqs };
        open.provision(TABLE).await;
        check(&data, true).unwrap();
        let stream = open.provision(&format!("{TABLE}{QUEUE}")).await;
        check(&data, true).unwrap();
        take(&data, &stream, None);
        check(&data, true).unwrap();
        let last = open.put(&stream, "a").await;
        check(&data, true).unwrap();
        take(&data, &stream, Some(&last));
        check(&data, true).unwrap();
    }

    #[tokio::test]
    async fn a_database_without_tables_is_refused_beside_queues_or_positions() {
        for beside in ["sqs.db", "streams"] {
            let (data, _) = used().await;
            each_loss(&data, "dynamodb.db", |loss| {
                let kept = fs::read(file(&data, "sqs.db")).unwrap();
                let positions = fs::read(data.streams().join("F-Log.json")).unwrap();
                if beside == "sqs.db" {
                    fs::remove_file(data.streams().join("F-Log.json")).unwrap();
                } else {
                    fs::write(file(&data, "sqs.db"), "").unwrap();
                }
                let error = check(&data, true).unwrap_err();
                assert!(
                    matches!(error, DataError::LostDatabase(_)),
                    "{loss}, {beside}"
                );
                fs::write(file(&data, "sqs.db"), kept).unwrap();
                fs::write(data.streams().join("F-Log.json"), positions).unwrap();
            });
        }
    }

    #[tokio::test]
    async fn a_database_of_new_tables_without_records_is_refused_beside_positions_of_others() {
        let (data, _) = used().await;
        fs::remove_file(file(&data, "dynamodb.db")).unwrap();
        let open = Open::at(&data);
        open.provision(TABLE).await;
        open.close();
        let error = check(&data, true).unwrap_err();
        assert!(matches!(error, DataError::LostDatabase(_)), "{error}");
    }

    #[tokio::test]
    async fn a_table_that_was_made_anew_is_no_loss() {
        let (data, stream) = used().await;
        let open = Open::at(&data);
        let last = open.put(&stream, "b").await;
        open.close();
        take(&data, &format!("{stream}1"), Some(&last));
        check(&data, true).unwrap();
    }

    #[tokio::test]
    async fn a_wal_without_its_database_is_refused() {
        let (data, _) = used().await;
        fs::remove_file(data.streams().join("F-Log.json")).unwrap();
        for name in ["dynamodb.db", "sqs.db"] {
            let kept = fs::read(file(&data, name)).unwrap();
            let wal = file(&data, &format!("{name}-wal"));
            fs::write(file(&data, name), "").unwrap();
            fs::write(&wal, "what is left").unwrap();
            check(&data, true).unwrap_err();
            fs::remove_file(&wal).unwrap();
            fs::write(file(&data, name), kept).unwrap();
        }
    }

    #[tokio::test]
    async fn missing_queues_are_refused_beside_a_database_that_was_used() {
        let (data, _) = used().await;
        each_loss(&data, "sqs.db", |loss| {
            let error = check(&data, true).unwrap_err();
            assert!(matches!(error, DataError::LostQueues(_)), "{loss}");
        });
        // They are elsewhere.
        check(&data, false).unwrap();
        // As the error says.
        fs::remove_file(data.streams().join("F-Log.json")).unwrap();
        check(&data, true).unwrap();
    }

    #[tokio::test]
    async fn a_database_that_lacks_records_which_were_taken_is_refused() {
        let (data, stream) = used().await;
        let old = fs::read(file(&data, "dynamodb.db")).unwrap();
        let open = Open::at(&data);
        let last = open.put(&stream, "b").await;
        open.close();
        take(&data, &stream, Some(&last));
        check(&data, true).unwrap();

        fs::write(file(&data, "dynamodb.db"), old).unwrap();

        let error = check(&data, true).unwrap_err();
        assert!(matches!(error, DataError::OldDatabase(_)), "{error}");
        fs::remove_file(data.streams().join("F-Log.json")).unwrap();
        check(&data, true).unwrap();
    }

    #[tokio::test]
    async fn the_last_moments_that_a_power_cut_takes_are_no_reason_to_refuse_any_start() {
        let (data, stream) = used().await;
        let first = taken(&data);
        let later = first.as_str().unwrap().parse::<u128>().unwrap() + 1;
        take(&data, &stream, Some(&later.to_string()));
        // The end of it is lost.
        fs::write(file(&data, "dynamodb.db-wal"), "").unwrap();

        check(&data, true).unwrap();

        // After a good end.
        fs::remove_file(file(&data, "dynamodb.db-wal")).unwrap();
        check(&data, true).unwrap();
        assert_eq!(taken(&data), first);
    }

    #[tokio::test]
    async fn a_loss_is_known_from_the_last_write_that_is_there_to_the_last_that_was_taken() {
        let (data, _) = used().await;
        let first = taken(&data).as_str().unwrap().to_owned();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = i64::try_from(now.unwrap().as_micros()).unwrap();
        let loss = Loss::between(Some(&first), Some(&first));
        let (after, until) = (loss.after.unwrap(), loss.until.unwrap());
        assert_eq!(after, until);
        // Written by this test.
        assert!(
            (0..600).contains(&(now / 1_000_000 - after.seconds())),
            "{after}"
        );
        let later = first.parse::<u128>().unwrap() + 3_000_000;
        let loss = Loss::between(Some(&first), Some(&later.to_string()));
        assert_eq!(loss.until, Some(after.plus_seconds(3)));
        assert_eq!(Loss::between(None, Some(&first)).after, None);
    }

    #[tokio::test]
    async fn a_folder_without_both_databases_begins_anew_even_if_its_first_start_is_killed() {
        let (data, _) = used().await;
        for name in ["dynamodb.db", "sqs.db"] {
            fs::remove_file(file(&data, name)).unwrap();
        }
        check(&data, true).unwrap();
        data.dynamodb().unwrap();
        check(&data, true).unwrap();
    }

    #[tokio::test]
    async fn looking_changes_no_file() {
        let (data, stream) = used().await;
        let files = || -> BTreeMap<_, _> {
            let files = fs::read_dir(data.path())
                .unwrap()
                .map(|it| it.unwrap().path());
            // The index of a WAL is made anew by whoever reads it.
            let files = files.filter(|it| it.is_file() && !it.ends_with("dynamodb.db-shm"));
            files
                .map(|it| (it.clone(), fs::read(it).unwrap()))
                .collect()
        };
        let ended_well = files();
        check(&data, true).unwrap();
        assert!(files() == ended_well);

        let open = Open::at(&data);
        open.put(&stream, "b").await;
        // As a kill leaves it.
        let wal = fs::read(file(&data, "dynamodb.db-wal")).unwrap();
        let database = fs::read(file(&data, "dynamodb.db")).unwrap();
        open.close();
        fs::write(file(&data, "dynamodb.db-wal"), wal).unwrap();
        fs::write(file(&data, "dynamodb.db"), database).unwrap();
        let killed = files();
        check(&data, true).unwrap();
        assert!(files() == killed);
    }
}
