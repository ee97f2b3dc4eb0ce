//! The short way for reads.
//!
//! dynoxide turns what is stored into values, and those into JSON again. A plain `GetItem` or `Query` of a
//! table wants the stored text as it is: here it is copied into the answer, on a connection of its own, and in
//! the task that asks unless others wait for the database thread. What is not recognised to the letter goes the long way, through dynoxide: indexes,
//! filters, projections, capacities, pages that could reach 1 MB, and all that has to be refused.
//!
//! This relies on how dynoxide lays out its tables, which is why its version is pinned.
//!
//! **Invariant:** an answer is the one that dynoxide would give. It shows all that was committed before the
//! request came, since a connection reads the last commit.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use dynoxide::types::{AttributeDefinition, KeySchemaElement, KeyType, ScalarAttributeType};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde::Deserialize;

use super::operation::Operation;

/// JSON this long may be an item collection of 1 MB, at which a page ends.
const LONGEST: usize = 1_000_000;
/// Longer keys are refused, with words of dynoxide's.
const LONGEST_KEY: usize = 1024;
/// Three statements for each of a service's tables, and some to spare.
const STATEMENTS: usize = 64;

/// The reading connections, and what is known of the tables.
#[derive(Debug)]
pub(super) struct Reads {
    path: PathBuf,
    /// `None` once the store is closed.
    idle: Mutex<Option<Vec<Connection>>>,
    tables: RwLock<Tables>,
}

type Tables = HashMap<String, Arc<Table>>;

/// A table whose keys are strings.
#[derive(Debug)]
struct Table {
    partition: String,
    sort: Option<String>,
    get: String,
    /// Forward, then backward.
    all: [String; 2],
    between: [String; 2],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetItem<'a> {
    #[serde(borrow)]
    table_name: Cow<'a, str>,
    #[serde(borrow)]
    key: Texts<'a>,
    /// Every read is consistent.
    #[serde(rename = "ConsistentRead")]
    _consistent: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Query<'a> {
    #[serde(borrow)]
    table_name: Cow<'a, str>,
    #[serde(borrow)]
    key_condition_expression: Cow<'a, str>,
    #[serde(borrow)]
    expression_attribute_values: Texts<'a>,
    scan_index_forward: Option<bool>,
    limit: Option<u32>,
    #[serde(rename = "ConsistentRead")]
    _consistent: Option<bool>,
}

type Texts<'a> = BTreeMap<&'a str, Text<'a>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    #[serde(rename = "S", borrow)]
    text: Cow<'a, str>,
}

impl Text<'_> {
    /// As dynoxide stores a string that is a key.
    fn stored(&self) -> Option<String> {
        let fits = !self.text.is_empty() && self.text.len() <= LONGEST_KEY;
        fits.then(|| format!("S:{}", self.text))
    }
}

impl Reads {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            idle: Mutex::new(Some(Vec::new())),
            tables: RwLock::default(),
        }
    }

    /// The answer to a request, if it can be given the short way.
    pub(super) fn answer(&self, operation: Operation, body: &[u8]) -> Option<Vec<u8>> {
        match operation {
            Operation::GetItem => {
                let request = serde_json::from_slice(body).ok()?;
                self.with(|connection| self.get(connection, &request))
            }
            Operation::Query => {
                let request = serde_json::from_slice(body).ok()?;
                self.with(|connection| self.query(connection, &request))
            }
            _ => None,
        }
    }

    /// Held while tables change: what was known of them is forgotten.
    pub(super) fn redefinition(&self) -> impl Drop + '_ {
        let mut tables = self.known();
        tables.clear();
        tables
    }

    /// Closes the connections; from now on there is no short way.
    pub(super) fn close(&self) {
        self.idle().take();
    }

    /// Reads on a connection that nobody else uses meanwhile.
    fn with(&self, read: impl FnOnce(&Connection) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        let idle = self.idle().as_mut()?.pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open(&self.path).ok()?,
        };
        let answer = read(&connection);
        if let Some(idle) = self.idle().as_mut() {
            idle.push(connection);
        }
        answer
    }

    fn get(&self, connection: &Connection, request: &GetItem<'_>) -> Option<Vec<u8>> {
        let table = self.table(connection, &request.table_name)?;
        let partition = request.key.get(table.partition.as_str())?.stored()?;
        let sort = match &table.sort {
            Some(sort) => request.key.get(sort.as_str())?.stored()?,
            None => String::new(),
        };
        if request.key.len() != 1 + usize::from(table.sort.is_some()) {
            return None;
        }
        let mut statement = connection.prepare_cached(&table.get).ok()?;
        let mut rows = statement.query((partition, sort)).ok()?;
        let Some(row) = rows.next().ok()? else {
            return Some(b"{}".to_vec());
        };
        let item = row.get_ref(0).ok()?.as_str().ok()?;
        Some([r#"{"Item":"#, item, "}"].concat().into_bytes())
    }

    fn query(&self, connection: &Connection, request: &Query<'_>) -> Option<Vec<u8>> {
        let table = self.table(connection, &request.table_name)?;
        let words: Vec<&str> = request.key_condition_expression.split(' ').collect();
        let (partition, range) = match words[..] {
            [name, "=", value] if name == table.partition => (value, None),
            [name, "=", value, "AND", sort, "BETWEEN", first, "AND", last]
                if name == table.partition && Some(sort) == table.sort.as_deref() =>
            {
                (value, Some((first, last)))
            }
            _ => return None,
        };
        let values = &request.expression_attribute_values;
        let value = |name| values.get(name).and_then(Text::stored);
        let direction = usize::from(!request.scan_index_forward.unwrap_or(true));
        // SQLite takes a negative limit for none.
        let limit = match request.limit {
            None => -1,
            Some(0) => return None,
            Some(limit) => i64::from(limit),
        };

        let mut statement;
        let mut rows = match range {
            None if values.len() == 1 => {
                statement = connection.prepare_cached(&table.all[direction]).ok()?;
                statement.query(params![value(partition)?, limit]).ok()?
            }
            Some((first, last)) if values.len() == 3 => {
                let (partition, first, last) = (value(partition)?, value(first)?, value(last)?);
                if first > last {
                    return None;
                }
                statement = connection.prepare_cached(&table.between[direction]).ok()?;
                let values = params![partition, limit, first, last];
                statement.query(values).ok()?
            }
            _ => return None,
        };
        let mut answer = String::from(r#"{"Items":["#);
        let (mut count, mut last) = (0, String::new());
        while let Some(row) = rows.next().ok()? {
            if count > 0 {
                answer.push(',');
            }
            answer.push_str(row.get_ref(0).ok()?.as_str().ok()?);
            if answer.len() > LONGEST {
                return None;
            }
            count += 1;
            if count == limit {
                row.get_ref(1).ok()?.as_str().ok()?.clone_into(&mut last);
            }
        }
        let count_text = count.to_string();
        answer.extend([
            r#"],"Count":"#,
            &count_text,
            r#","ScannedCount":"#,
            &count_text,
        ]);
        if count == limit {
            let quoted = |stored: &str| serde_json::to_string(stored.strip_prefix("S:")?).ok();
            let at = quoted(&value(partition)?)?;
            let key = [
                r#","LastEvaluatedKey":{""#,
                &table.partition,
                r#"":{"S":"#,
                &at,
                "}",
            ];
            answer.extend(key);
            if let Some(sort) = &table.sort {
                answer.extend([r#",""#, sort, r#"":{"S":"#, &quoted(&last)?, "}"]);
            }
            answer.push('}');
        }
        answer.push('}');
        Some(answer.into_bytes())
    }

    fn table(&self, connection: &Connection, name: &str) -> Option<Arc<Table>> {
        let known = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = known.get(name) {
            return Some(table.clone());
        }
        drop(known);
        let mut known = self.known();
        let table = Arc::new(Table::look_up(connection, name)?);
        known.insert(name.to_owned(), table.clone());
        Some(table)
    }

    fn known(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Option<Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// What dynoxide noted of a table. `None` if it does not exist, or not all of its keys are strings.
    fn look_up(connection: &Connection, name: &str) -> Option<Self> {
        let (keys, attributes): (String, String) = connection
            .query_row(
                "SELECT key_schema, attribute_definitions FROM _tables
                 WHERE table_name = ?1 AND table_status = 'ACTIVE'",
                [name],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .ok()??;
        let attributes: Vec<AttributeDefinition> = serde_json::from_str(&attributes).ok()?;
        let keys: Vec<KeySchemaElement> = serde_json::from_str(&keys).ok()?;
        let key = |kind| {
            let key = keys.iter().find(|key| key.key_type == kind)?;
            Some(key.attribute_name.clone())
        };
        let (partition, sort) = (key(KeyType::HASH)?, key(KeyType::RANGE));
        let all_are_plain = [Some(&partition), sort.as_ref()]
            .into_iter()
            .flatten()
            .all(|key| {
                let is_text = attributes.iter().any(|attribute| {
                    attribute.attribute_name == *key
                        && attribute.attribute_type == ScalarAttributeType::S
                });
                is_text
                    && key
                        .bytes()
                        .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
            });
        if !all_are_plain {
            return None;
        }
        let from = format!(r#"FROM "{}" WHERE pk = ?1"#, name.replace('"', r#""""#));
        let select = format!("SELECT item_json, sk {from}");
        let both = |condition: &str| {
            ["ASC", "DESC"]
                .map(|order| format!("{select} {condition} ORDER BY sk {order} LIMIT ?2"))
        };
        Some(Self {
            partition,
            sort,
            get: format!("SELECT item_json {from} AND sk = ?2"),
            all: both(""),
            between: both("AND sk BETWEEN ?3 AND ?4"),
        })
    }
}

/// The file exists: dynoxide has set it up.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}
