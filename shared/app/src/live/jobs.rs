//! What is to be done even if this process dies now.

use crate::{
    App,
    domain::{
        Connection, ConnectionId, Error, Log, TenantId, Timestamp, UserId, live::GRACE_SECONDS,
    },
    queue::Fanout,
};

/// How many logs one job catches up with.
const LOGS_PER_JOB: usize = 100;

impl App {
    /// Has a connection caught up with `logs`.
    pub(crate) async fn catch_up_soon(
        &self,
        tenant: TenantId,
        connection: &ConnectionId,
        logs: &[Log],
    ) -> Result<(), Error> {
        let jobs: Vec<_> = logs
            .chunks(LOGS_PER_JOB)
            .map(|logs| Fanout::CatchUp {
                tenant,
                connection: connection.clone(),
                logs: logs.to_vec(),
                tries: 0,
            })
            .collect();
        self.jobs().fan_out(&jobs, 0).await.map_err(Error::from)
    }

    /// Has it told that a user came.
    pub(crate) async fn tell_presence_soon(
        &self,
        tenant: TenantId,
        user: &UserId,
    ) -> Result<(), Error> {
        let job = Fanout::PresenceCame {
            tenant,
            user: user.clone(),
        };
        self.jobs().fan_out(&[job], 0).await.map_err(Error::from)
    }

    /// Has it looked, after the grace, whether the user whose connection ended at `at` is still gone.
    pub(crate) async fn check_presence_later(
        &self,
        connection: &Connection,
        at: Timestamp,
    ) -> Result<(), Error> {
        let job = Fanout::PresenceGone {
            tenant: connection.tenant,
            user: connection.user.clone(),
            at,
        };
        let grace = u16::try_from(GRACE_SECONDS).unwrap_or(u16::MAX);
        let sent = self.jobs().fan_out(&[job], grace).await;
        sent.map_err(Error::from)
    }
}
