//! How far a function has consumed a stream.
//!
//! There is a file from the first start on, before a record is taken: it names the stream, by which the database that it
//! belongs to is known.
//!
//! **Invariant:** the file is replaced as a whole, after the records it covers were taken. A crash
//! in between hands them over again: at least once, never not at all.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::data::private;

/// The positions of one function in the shards of one stream.
#[derive(Debug)]
pub(super) struct Checkpoints {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    /// A table that was made anew has another stream, in which old positions mean nothing.
    stream: String,
    shards: BTreeMap<String, Position>,
}

/// A position in a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The last record that was taken.
    pub(super) taken: Option<String>,
    /// Whether the shard is closed and all of it was taken.
    pub(super) finished: bool,
}

impl Checkpoints {
    /// Reads the positions in `stream`, or starts at its beginning and says so in the file.
    pub(super) fn load(file: &Path, stream: &str) -> Self {
        let known = match read(file) {
            Ok(state) => (state.stream == stream).then_some(state),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let file = file.display();
                tracing::warn!(%file, %error, "a checkpoint is damaged; the stream is read again");
                None
            }
        };
        let state = known.unwrap_or_else(|| {
            let state = State::new(stream);
            if let Err(error) = write(file, &state) {
                tracing::error!(stream, %error, "a checkpoint was not written");
            }
            state
        });
        Self {
            file: file.to_owned(),
            state: Mutex::new(state),
        }
    }

    pub(super) async fn position(&self, shard: &str) -> Position {
        self.state
            .lock()
            .await
            .shards
            .get(shard)
            .cloned()
            .unwrap_or_default()
    }

    /// Records that everything up to `sequence_number` was taken.
    pub(super) async fn taken(&self, shard: &str, sequence_number: &str) -> io::Result<()> {
        let position = Position {
            taken: Some(sequence_number.to_owned()),
            finished: false,
        };
        self.set(shard, position).await
    }

    /// Records that a closed shard was taken to its end.
    pub(super) async fn finished(&self, shard: &str) -> io::Result<()> {
        let position = Position {
            finished: true,
            ..self.position(shard).await
        };
        self.set(shard, position).await
    }

    /// Forgets the shards that the stream itself has forgotten.
    pub(super) async fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.state
            .lock()
            .await
            .shards
            .retain(|shard, _| is_known(shard));
    }

    async fn set(&self, shard: &str, position: Position) -> io::Result<()> {
        // Held while writing, so that files replace each other in the order of their contents.
        let mut state = self.state.lock().await;
        state.shards.insert(shard.to_owned(), position);
        let text = serde_json::to_vec(&*state)?;
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || replace(&file, &text)).await?
    }
}

impl State {
    fn new(stream: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            shards: BTreeMap::new(),
        }
    }
}

/// A file of positions as an earlier start has left it.
#[derive(Debug)]
pub(crate) struct Recorded {
    file: PathBuf,
    state: State,
}

impl Recorded {
    /// The files in `folder`. One that is damaged names no stream and has no positions.
    pub(crate) fn all(folder: &Path) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder)? {
            let file = entry?.path();
            if file.extension().is_some_and(|it| it == "json") {
                let state = read(&file).unwrap_or_default();
                all.push(Self { file, state });
            }
        }
        Ok(all)
    }

    /// The ARN of the stream.
    pub(crate) fn stream(&self) -> &str {
        &self.state.stream
    }

    /// The last record that was taken from a shard of the stream.
    pub(crate) fn taken(&self) -> Option<&str> {
        let positions = self.state.shards.values();
        positions.filter_map(|it| it.taken.as_deref()).max()
    }

    /// Puts positions beyond `last`, the last record that there is, back to it.
    pub(crate) fn pull_back(&self, last: Option<&str>) -> io::Result<()> {
        let mut state = self.state.clone();
        for position in state.shards.values_mut() {
            if position.taken.as_deref() > last {
                position.taken = last.map(str::to_owned);
            }
        }
        write(&self.file, &state)
    }

    /// Removes the file.
    pub(crate) fn forget(&self) -> io::Result<()> {
        fs::remove_file(&self.file)
    }
}

fn write(file: &Path, state: &State) -> io::Result<()> {
    replace(file, &serde_json::to_vec(state)?)
}

fn read(file: &Path) -> io::Result<State> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut half = private().create(true).truncate(true).open(&new)?;
    // One that was left by an earlier version may have another mode.
    half.set_permissions(Permissions::from_mode(0o600))?;
    half.write_all(text)?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn positions_survive_a_restart_but_not_a_new_stream_and_not_damage() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.json");
        Checkpoints::load(&file, "arn:1")
            .taken("s1", "7")
            .await
            .unwrap();

        let position = Checkpoints::load(&file, "arn:1").position("s1").await;
        assert_eq!(
            position,
            Position {
                taken: Some("7".to_owned()),
                finished: false
            }
        );
        let other = Checkpoints::load(&file, "arn:2").position("s1").await;
        assert_eq!(other, Position::default());
        fs::write(&file, "{").unwrap();
        let damaged = Checkpoints::load(&file, "arn:1").position("s1").await;
        assert_eq!(damaged, Position::default());
    }
}
