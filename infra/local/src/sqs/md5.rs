//! MD5 as hex digits: how SQS lets a client check what it sent and received. Not a defence.

use md5::{Digest, Md5};

pub(super) fn digest(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Md5::digest(bytes))
}
