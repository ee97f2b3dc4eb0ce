//! Every state, asked by every rule.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    Timestamp,
    subscription::Topic,
    tenant::{RetrySchedule, Waits},
    timestamp::SKEW_SECONDS,
};

const OURS: u128 = 1;
const THEIRS: u128 = 2;

fn noon() -> Timestamp {
    "2025-12-13T12:00:00Z".parse().unwrap()
}

/// So many seconds after noon.
fn at(seconds: i64) -> Timestamp {
    noon().plus_seconds(seconds)
}

fn job() -> Job {
    let hex = format!("{:032x}", 7);
    Job {
        tenant: format!("tenant_{hex}").parse().unwrap(),
        subject: Subject::Notification(format!("notif_{hex}").parse().unwrap()),
        user: None,
    }
}

fn about() -> About {
    About {
        event: "notification".to_owned(),
        room: None,
        topic: Some(Topic::stored("news".to_owned())),
    }
}

/// Two attempts left of five, overdue an hour after noon.
pub(super) fn row(state: State, token: u128) -> Delivery {
    Delivery {
        id: job().id(),
        tenant: job().tenant,
        subject: job().subject,
        user: None,
        about: about(),
        state,
        attempts: 13,
        round: 3,
        done: names(&["a"]),
        refused: BTreeMap::new(),
        is_owed: true,
        held_since: None,
        created_at: at(-600),
        last_attempt_at: Some(at(-10)),
        error: Some("HTTP 500".to_owned()),
        error_endpoint: Some("b".to_owned()),
        overdue_at: at(3_600),
        content: None,
        token,
    }
}

pub(super) fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn states() -> [(&'static str, Delivery); 11] {
    let discarded = State::Discarded {
        at: at(-1),
        by: "operator".to_owned(),
        reason: "old".to_owned(),
    };
    let attempting = |until| State::Attempting { until };
    [
        ("queued", row(State::Queued, THEIRS)),
        ("ours", row(attempting(at(50)), OURS)),
        ("theirs", row(attempting(at(50)), THEIRS)),
        ("broken off", row(attempting(at(0)), THEIRS)),
        ("waiting", row(State::Waiting { until: at(20) }, THEIRS)),
        ("waited", row(State::Waiting { until: at(0) }, THEIRS)),
        ("parked", row(State::Parked { until: at(7_200) }, THEIRS)),
        ("was parked", row(State::Parked { until: at(0) }, THEIRS)),
        ("delivered", row(State::Delivered { at: at(-1) }, THEIRS)),
        ("dead", row(State::Dead { at: at(-5) }, THEIRS)),
        ("discarded", row(discarded, THEIRS)),
    ]
}

fn schedule() -> RetrySchedule {
    RetrySchedule::DEFAULT
}

fn attempt() -> Attempt {
    Attempt {
        lease: OURS,
        now: noon(),
        schedule: schedule(),
    }
}

/// One that was sent as soon as it was made.
const fn receipt(receives: u32, sent_at: Timestamp) -> Receipt {
    Receipt {
        receives,
        sent_at,
        made_at: Some(sent_at),
    }
}

fn begin(known: Delivery, receipt: Receipt) -> Step<Begun> {
    begin_any(Some(known), receipt)
}

fn begin_any(known: Option<Delivery>, receipt: Receipt) -> Step<Begun> {
    let telling = Telling {
        about: &about(),
        content: Some("{}"),
        is_owed: true,
    };
    Delivery::begin(known, &job(), telling, receipt, attempt())
}

fn failure() -> Failure {
    Failure {
        took: names(&["b"]),
        failed: reasons(&[("c", "connection timeout")]),
        content: Some("{}".to_owned()),
        ..Failure::default()
    }
}

/// Only paused endpoints are left.
fn paused(endpoints: &[&str]) -> Failure {
    Failure {
        paused: names(endpoints),
        content: Some("{}".to_owned()),
        ..Failure::default()
    }
}

/// Who took it before a fault of ours ended the attempt.
fn faulted(took: &[&str]) -> Failure {
    Failure {
        took: names(took),
        ..Failure::default()
    }
}

pub(super) fn reasons(reasons: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = reasons.iter();
    owned
        .map(|(id, reason)| ((*id).to_owned(), (*reason).to_owned()))
        .collect()
}

fn user_offline() -> Fault {
    Fault::Passing("user offline".to_owned())
}

/// What the attempt under way failed for, and of which endpoint that is said.
fn cause(row: &Delivery) -> (Option<&str>, Option<&str>) {
    (row.error.as_deref(), row.error_endpoint.as_deref())
}

/// Its attempt under way, in its `round`th of five.
fn ours(round: u32) -> Delivery {
    Delivery {
        round,
        ..row(State::Attempting { until: at(50) }, OURS)
    }
}

/// The state that is written, and the answer.
fn short<T>(step: Step<T>) -> (&'static str, T) {
    match step {
        Step::Write(row, answer) => (row.state.name(), answer),
        Step::Stay(answer) => ("-", answer),
    }
}

fn written<T: std::fmt::Debug>(step: Step<T>) -> Delivery {
    match step {
        Step::Write(row, _) => *row,
        Step::Stay(answer) => panic!("nothing is written: {answer:?}"),
    }
}

/// What `rule` makes of every state.
#[track_caller]
fn assert_each<T: PartialEq + std::fmt::Debug>(
    rule: impl Fn(Delivery) -> Step<T>,
    wanted: [(&'static str, T); 11],
) {
    for ((name, row), wanted) in states().into_iter().zip(wanted) {
        assert_eq!(short(rule(row)), wanted, "{name}");
    }
}

#[test]
fn a_job_begins_only_what_is_due_and_nobody_tries() {
    let wanted = [
        ("attempting", Begun::Go),
        ("-", Begun::Go),
        ("-", Begun::NotYet { seconds: 51 }),
        ("attempting", Begun::Go),
        ("-", Begun::NotYet { seconds: 21 }),
        ("attempting", Begun::Go),
        ("-", Begun::Parked),
        ("attempting", Begun::Go),
        ("-", Begun::Done),
        ("-", Begun::Dead { fresh: false }),
        ("-", Begun::Done),
    ];
    for receipt in [
        receipt(1, at(-600)),
        receipt(2, at(-1)),
        receipt(19, at(-600)),
    ] {
        assert_each(|row| begin(row, receipt), wanted);
    }
}

/// What becomes of one that is dead since 5 seconds ago.
fn meets_death(receives: u32, made: Option<i64>, sent: i64) -> Step<Begun> {
    let receipt = Receipt {
        receives,
        sent_at: at(sent),
        made_at: made.map(at),
    };
    begin(row(State::Dead { at: at(-5) }, THEIRS), receipt)
}

#[test]
fn a_job_that_was_moved_back_from_the_dead_letters_begins_what_is_dead_afresh() {
    // Made long before the death, or just before it, and moved when it was dead. The last one is a late copy that came
    // after the death, and was moved back much later.
    for (made, sent) in [(-600, -4), (-6, -4), (-4, 40)] {
        // The first receives may have been lost.
        for receives in [1, 3] {
            let row = written(meets_death(receives, Some(made), sent));
            assert_eq!((row.round, row.attempts), (1, 14));
            assert_eq!(row.state, State::Attempting { until: at(60) });
        }
    }
}

#[test]
fn a_copy_that_was_made_after_the_death_revives_nothing() {
    for sent in [-4, -3, 20] {
        let step = meets_death(1, Some(-4), sent);
        assert_eq!(short(step), ("-", Begun::Dead { fresh: false }), "{sent}");
    }
}

#[test]
fn a_job_that_does_not_say_when_it_was_made_was_moved_back_if_it_is_young() {
    assert_eq!(short(meets_death(1, None, -4)), ("attempting", Begun::Go));
    for (receives, sent) in [(2, -4), (1, -6)] {
        let step = meets_death(receives, None, sent);
        assert_eq!(short(step), ("-", Begun::Dead { fresh: false }));
    }
}

#[test]
fn the_first_job_makes_the_row() {
    let step = begin_any(None, receipt(1, at(-1)));
    let row = written(step);
    assert_eq!((row.round, row.attempts), (1, 1));
    assert_eq!(
        (row.created_at, row.last_attempt_at),
        (noon(), Some(noon()))
    );
    assert_eq!((row.token, row.about), (OURS, about()));
}

#[test]
fn an_attempt_is_counted_and_dated_before_it_starts() {
    let row = written(begin(row(State::Queued, THEIRS), receipt(1, noon())));
    assert_eq!((row.round, row.attempts), (4, 14));
    assert_eq!(row.last_attempt_at, Some(noon()));
    assert_eq!(row.token, OURS);
}

#[test]
fn what_broke_off_says_so() {
    let broken_off = State::Attempting { until: at(0) };
    let row = written(begin(row(broken_off, THEIRS), receipt(2, at(-100))));
    assert_eq!(row.error.as_deref(), Some("attempt broke off"));
}

#[test]
fn what_has_used_up_its_attempts_is_dead_when_its_job_comes() {
    for state in [
        State::Queued,
        State::Attempting { until: at(0) },
        State::Waiting { until: at(0) },
        State::Parked { until: at(0) },
    ] {
        let used_up = Delivery {
            round: 5,
            ..row(state, THEIRS)
        };
        assert_eq!(
            short(begin(used_up, receipt(2, at(-1)))),
            ("dead", Begun::Dead { fresh: true })
        );
    }
}

#[test]
fn what_is_found_dead_keeps_what_was_to_be_told() {
    let used_up = Delivery {
        round: 5,
        ..row(State::Attempting { until: at(0) }, THEIRS)
    };
    let dead = written(begin(used_up.clone(), receipt(2, at(-1))));
    assert_eq!(dead.content.as_deref(), Some("{}"));
    let kept = Delivery {
        content: Some("[]".to_owned()),
        ..used_up
    };
    let dead = written(begin(kept, receipt(2, at(-1))));
    assert_eq!(dead.content.as_deref(), Some("[]"));
}

#[test]
fn what_was_taken_is_delivered_whoever_holds_the_lease() {
    let mut wanted = [("delivered", ()); 11];
    wanted[8].0 = "-";
    wanted[10].0 = "-";
    assert_each(|row| row.delivered(&names(&["b"]), noon()), wanted);
}

#[test]
fn a_delivered_one_says_who_took_it_and_forgets_what_was_told() {
    let known = Delivery {
        content: Some("{}".to_owned()),
        ..row(State::Attempting { until: at(50) }, OURS)
    };
    let row = written(known.delivered(&names(&["b"]), noon()));
    assert_eq!((row.done, row.content), (names(&["a", "b"]), None));
    assert_eq!(row.state, State::Delivered { at: noon() });
}

#[test]
fn only_who_holds_the_lease_fails_an_attempt() {
    let waiting = |seconds| Ended::Waiting { seconds };
    let wanted = [
        ("queued", waiting(1)),
        ("waiting", waiting(30)),
        ("attempting", waiting(51)),
        ("attempting", waiting(1)),
        ("waiting", waiting(21)),
        ("waiting", waiting(1)),
        ("parked", Ended::Parked),
        ("parked", Ended::Parked),
        ("-", Ended::Done),
        ("dead", Ended::Dead),
        ("-", Ended::Done),
    ];
    assert_each(|row| row.failed(&failure(), attempt()), wanted);
}

#[test]
fn only_who_holds_the_lease_takes_an_attempt_back() {
    let mut wanted = [
        "queued",
        "waiting",
        "attempting",
        "attempting",
        "waiting",
        "waiting",
        "parked",
        "parked",
        "-",
        "dead",
        "-",
    ]
    .map(|state| (state, ()));
    assert_each(|row| row.unmade(&faulted(&["b"]), attempt()), wanted);
    // Where nobody took it there is nothing to note of another's.
    for (index, wanted) in wanted.iter_mut().enumerate() {
        wanted.0 = if index == 1 { "waiting" } else { "-" };
    }
    assert_each(|row| row.unmade(&faulted(&[]), attempt()), wanted);
}

#[test]
fn an_attempt_that_was_taken_back_does_not_count_and_another_may_start_at_once() {
    let ours = row(State::Attempting { until: at(50) }, OURS);
    let unmade = written(ours.unmade(&faulted(&["b"]), attempt()));
    assert_eq!((unmade.attempts, unmade.round), (12, 2));
    assert_eq!(unmade.done, names(&["a", "b"]));
    assert_eq!(
        short(begin(unmade, receipt(2, at(-1)))),
        ("attempting", Begun::Go)
    );
}

#[test]
fn who_took_it_is_kept_even_after_the_lease() {
    for (name, known) in states() {
        let is_final = matches!(
            known.state,
            State::Delivered { .. } | State::Discarded { .. }
        );
        match known.failed(&failure(), attempt()) {
            Step::Write(row, _) => assert_eq!(row.done, names(&["a", "b"]), "{name}"),
            Step::Stay(_) => assert!(is_final, "{name}"),
        }
    }
}

#[test]
fn what_a_failed_attempt_wrote_is_recognised_when_its_answer_was_lost() {
    for (failure, round) in [
        (failure(), 3),
        (failure(), 5),
        (
            Failure {
                retry_after: Some(7_200),
                ..failure()
            },
            3,
        ),
    ] {
        let ours = Delivery {
            round,
            ..row(State::Attempting { until: at(50) }, OURS)
        };
        let (first, answer) = match ours.failed(&failure, attempt()) {
            Step::Write(row, answer) => (*row, answer),
            Step::Stay(answer) => panic!("{answer:?}"),
        };
        let again = match first.failed(&failure, attempt()) {
            Step::Stay(answer) => answer,
            Step::Write(row, _) => panic!("{row:?}"),
        };
        match (answer, again) {
            // A moment more, so that it does not come early.
            (Ended::Waiting { seconds }, Ended::Waiting { seconds: again }) => {
                assert_eq!(seconds + 1, again);
            }
            (answer, again) => assert_eq!(answer, again),
        }
    }
}

#[test]
fn the_last_attempt_ends_in_death_with_what_was_to_be_told() {
    let ours = Delivery {
        round: 5,
        ..row(State::Attempting { until: at(50) }, OURS)
    };
    let row = written(ours.failed(&failure(), attempt()));
    assert_eq!(row.state, State::Dead { at: noon() });
    assert_eq!(row.error.as_deref(), Some("connection timeout"));
    assert_eq!(row.content.as_deref(), Some("{}"));
}

#[test]
fn what_cannot_succeed_is_not_tried_again() {
    let hopeless = Failure {
        fault: Some(Fault::Final("its content is no longer kept".to_owned())),
        ..failure()
    };
    let ours = row(State::Attempting { until: at(50) }, OURS);
    assert_eq!(
        short(ours.failed(&hopeless, attempt())),
        ("dead", Ended::Dead)
    );
}

#[test]
fn a_longer_wait_that_the_receiver_asks_for_is_granted_up_to_a_day() {
    let wait = |asked| {
        let failure = Failure {
            retry_after: Some(asked),
            ..failure()
        };
        let ours = row(State::Attempting { until: at(50) }, OURS);
        let row = written(ours.failed(&failure, attempt()));
        match row.state {
            State::Waiting { until } | State::Parked { until } => until,
            state => panic!("{state:?}"),
        }
    };
    assert_eq!(wait(10), at(30));
    assert_eq!(wait(100), at(100));
    assert_eq!(wait(86_400), at(86_400));
    assert_eq!(wait(u32::MAX), at(86_400));
}

#[test]
fn a_wait_beyond_fifteen_minutes_is_parked_until_its_time() {
    let ended = |interval| {
        let schedule = RetrySchedule::stored(5, interval, Waits::Fixed);
        let ours = row(State::Attempting { until: at(50) }, OURS);
        let attempt = Attempt {
            schedule,
            ..attempt()
        };
        written(ours.failed(&failure(), attempt))
    };
    let held = ended(900);
    assert_eq!(held.state, State::Waiting { until: at(900) });
    assert_eq!((held.overdue_at, held.content), (at(3_600), None));
    let parked = ended(901);
    assert_eq!(parked.state, State::Parked { until: at(901) });
    assert_eq!(parked.overdue_at, at(901));
    // By then its source may be gone.
    assert_eq!(parked.content.as_deref(), Some("{}"));
}

#[test]
fn only_the_dead_are_redriven_and_with_a_fresh_set_of_attempts() {
    let mut wanted = [("-", false); 11];
    wanted[9] = ("queued", true);
    assert_each(|row| row.redriven(OURS, noon()), wanted);
    let row = written(row(State::Dead { at: at(-5) }, THEIRS).redriven(OURS, noon()));
    assert_eq!((row.round, row.attempts), (0, 13));
    assert_eq!(row.overdue_at, at(900));
    // The same try again, its answer lost; and somebody else's.
    assert_eq!(short(row.clone().redriven(OURS, noon())), ("-", true));
    assert_eq!(short(row.redriven(THEIRS, noon())), ("-", false));
}

#[test]
fn only_the_dead_are_discarded_with_who_did_it_and_why() {
    let mut wanted = [("-", false); 11];
    wanted[9] = ("discarded", true);
    assert_each(|row| row.discarded("alice", "spam", OURS, noon()), wanted);
    let row =
        written(row(State::Dead { at: at(-5) }, THEIRS).discarded("alice", "spam", OURS, noon()));
    let discarded = State::Discarded {
        at: noon(),
        by: "alice".to_owned(),
        reason: "spam".to_owned(),
    };
    assert_eq!(row.state, discarded);
    let again = row.discarded("alice", "spam", OURS, noon());
    assert_eq!(short(again), ("-", true));
}

#[test]
fn only_what_is_open_and_overdue_is_queued_again() {
    let due = |row| Delivery {
        overdue_at: at(0),
        ..row
    };
    assert_each(|row| row.requeued(noon()), [("-", ()); 11]);
    let wanted = [
        "queued",
        "attempting",
        "attempting",
        "attempting",
        "waiting",
        "waiting",
        "queued",
        "queued",
        "-",
        "-",
        "-",
    ];
    assert_each(
        |row| due(row).requeued(noon()),
        wanted.map(|state| (state, ())),
    );
    // Looked after again, should this job be lost as well.
    let row = written(due(row(State::Queued, THEIRS)).requeued(noon()));
    assert_eq!(row.overdue_at, at(900));
}

#[test]
fn a_new_round_is_overdue_after_its_whole_schedule_and_some() {
    let step = begin_any(None, receipt(1, at(-1)));
    // Four waits of 30 s, five leases of a minute, a quarter of an hour.
    assert_eq!(written(step).overdue_at, at(120 + 300 + 900));
}

/// How a state answers to a job that comes when the clock was set back by `step` seconds.
fn after_a_step_back(state: State, step: i64) -> Step<Begun> {
    let attempt = Attempt {
        now: at(-step),
        ..attempt()
    };
    let (about, receipt) = (about(), receipt(2, at(-step)));
    let telling = Telling {
        about: &about,
        content: None,
        is_owed: true,
    };
    Delivery::begin(Some(row(state, THEIRS)), &job(), telling, receipt, attempt)
}

#[test]
fn after_a_step_back_nobody_waits_for_longer_than_the_state_lasts() {
    const DAY: i64 = 86_400;
    let long = i64::from(LONGEST_HELD_SECONDS);
    for (state, longest) in [
        (State::Attempting { until: at(0) }, LEASE_SECONDS),
        (State::Waiting { until: at(0) }, long),
        (State::Parked { until: at(0) }, DAY),
    ] {
        let held = after_a_step_back(state.clone(), longest);
        assert!(matches!(held, Step::Stay(_)), "{state:?}: {held:?}");
        for step in [longest + SKEW_SECONDS + 1, 2 * DAY, 3_650 * DAY] {
            let tried = after_a_step_back(state.clone(), step);
            assert!(
                matches!(tried, Step::Write(_, Begun::Go)),
                "{step}: {tried:?}"
            );
        }
    }
}

#[test]
fn a_letter_that_died_at_a_time_to_come_may_be_moved_back() {
    let dead = || State::Dead { at: at(0) };
    let moved = after_a_step_back(dead(), 86_400);
    assert!(matches!(moved, Step::Write(_, Begun::Go)), "{moved:?}");
    let late = after_a_step_back(dead(), 1);
    assert_eq!(late, Step::Stay(Begun::Dead { fresh: false }));
}

#[test]
fn an_endpoint_that_refused_is_kept_with_its_reason_while_others_are_tried_again() {
    let mixed = Failure {
        failed: reasons(&[("c", "HTTP 500")]),
        refused: reasons(&[("d", "HTTP 410")]),
        ..failure()
    };
    let row = written(ours(3).failed(&mixed, attempt()));
    assert_eq!(row.state, State::Waiting { until: at(30) });
    assert_eq!(row.refused, reasons(&[("d", "HTTP 410")]));
    assert_eq!(cause(&row), (Some("HTTP 500"), Some("c")));
}

#[test]
fn a_delivery_that_all_others_took_is_dead_with_the_endpoint_that_refused_it() {
    let refused = Failure {
        took: names(&["b"]),
        refused: reasons(&[("d", "HTTP 410")]),
        ..Failure::default()
    };
    let row = written(ours(3).failed(&refused, attempt()));
    assert_eq!(row.state, State::Dead { at: noon() });
    assert_eq!(cause(&row), (Some("HTTP 410"), Some("d")));
    assert_eq!(row.done, names(&["a", "b"]));
}

#[test]
fn a_refusal_is_kept_when_a_fault_of_ours_takes_the_attempt_back() {
    let refused = Failure {
        refused: reasons(&[("d", "HTTP 410")]),
        ..faulted(&["b"])
    };
    let row = written(ours(3).unmade(&refused, attempt()));
    assert_eq!((row.round, row.refused), (2, refused.refused));
}

#[test]
fn a_delivery_that_only_paused_endpoints_lack_is_held_and_counts_no_attempt() {
    for round in [1, 3, 5] {
        let before = ours(round);
        let attempts = before.attempts;
        let (row, ended) = match before.failed(&paused(&["p"]), attempt()) {
            Step::Write(row, ended) => (*row, ended),
            Step::Stay(ended) => panic!("{ended:?}"),
        };
        assert_eq!(ended, Ended::Held { fresh: true });
        assert_eq!(
            row.state,
            State::Parked {
                until: at(LOOKED_AT_SECONDS)
            }
        );
        assert_eq!(row.overdue_at, at(LOOKED_AT_SECONDS));
        assert_eq!((row.attempts, row.round), (attempts - 1, 0));
        assert_eq!(row.held_since, Some(noon()));
        assert_eq!(cause(&row), (Some("endpoint paused"), Some("p")));
        assert_eq!(row.content.as_deref(), Some("{}"));
    }
}

#[test]
fn a_delivery_that_was_never_tried_has_no_last_attempt_while_it_is_held() {
    let first = Delivery {
        attempts: 1,
        round: 1,
        ..ours(1)
    };
    let row = written(first.failed(&paused(&["p"]), attempt()));
    assert_eq!((row.attempts, row.last_attempt_at), (0, None));
}

#[test]
fn a_held_delivery_is_looked_at_once_a_day_and_dead_after_two_weeks() {
    let days = |days: i64| at(days * 24 * 3_600);
    let mut row = written(ours(1).failed(&paused(&["p"]), attempt()));
    for day in 1..14 {
        assert_eq!(row.state, State::Parked { until: days(day) });
        let look = Attempt {
            now: days(day),
            ..attempt()
        };
        row.state = State::Attempting { until: look.now };
        row.token = OURS;
        row = written(row.failed(&paused(&["p"]), look));
        assert_eq!(row.held_since, Some(noon()));
    }
    let last = Attempt {
        now: days(14),
        ..attempt()
    };
    row.state = State::Attempting { until: last.now };
    let row = written(row.failed(&paused(&["p"]), last));
    assert_eq!(row.state, State::Dead { at: days(14) });
    assert_eq!(cause(&row), (Some("endpoint paused"), Some("p")));
}

#[test]
fn an_endpoint_that_used_up_its_attempts_is_not_asked_again_while_others_are_paused() {
    let mixed = Failure {
        paused: names(&["p"]),
        ..failure()
    };
    let row = written(ours(5).failed(&mixed, attempt()));
    assert_eq!(
        row.state,
        State::Parked {
            until: at(LOOKED_AT_SECONDS)
        }
    );
    assert_eq!(row.refused, reasons(&[("c", "connection timeout")]));
    assert_eq!(cause(&row), (Some("connection timeout"), Some("c")));
    // The paused ones have all their attempts still.
    assert_eq!((row.attempts, row.round), (13, 0));
}

#[test]
fn an_endpoint_that_fails_is_tried_again_although_another_is_paused() {
    let mixed = Failure {
        paused: names(&["p"]),
        ..failure()
    };
    let row = written(ours(3).failed(&mixed, attempt()));
    assert_eq!(row.state, State::Waiting { until: at(30) });
    assert_eq!(row.held_since, None);
}

#[test]
fn a_user_who_is_away_is_looked_for_on_the_schedule_before_the_delivery_is_held() {
    let away = Failure {
        fault: Some(user_offline()),
        ..paused(&["p"])
    };
    let waits = written(ours(1).failed(&away, attempt()));
    assert_eq!(waits.state, State::Waiting { until: at(30) });
    let held = written(ours(5).failed(&away, attempt()));
    assert_eq!((held.held_since, held.attempts), (Some(noon()), 13));
    // And once when it is looked at.
    let looked_at = Delivery {
        held_since: held.held_since,
        ..ours(1)
    };
    let held = written(looked_at.failed(&away, attempt()));
    assert_eq!((held.held_since, held.attempts), (Some(noon()), 12));
}

#[test]
fn only_a_held_delivery_is_woken_and_with_all_of_its_attempts() {
    assert_each(|row| row.woken(OURS, noon()), [("-", false); 11]);
    let held = written(ours(4).failed(&paused(&["p"]), attempt()));
    let woken = written(held.woken(OURS, noon()));
    assert_eq!((&woken.state, woken.round), (&State::Queued, 0));
    assert_eq!(woken.overdue_at, at(900));
    // The same try again, its answer lost; and somebody else's.
    assert_eq!(short(woken.clone().woken(OURS, noon())), ("-", true));
    assert_eq!(short(woken.woken(THEIRS, noon())), ("-", false));
}

#[test]
fn a_held_delivery_whose_write_lost_its_answer_is_recognised() {
    let held = written(ours(4).failed(&paused(&["p"]), attempt()));
    let again = held.failed(&paused(&["p"]), attempt());
    assert_eq!(short(again), ("-", Ended::Held { fresh: false }));
}

#[test]
fn a_letter_that_is_redriven_is_told_to_those_again_that_refused_it() {
    let dead = Delivery {
        refused: reasons(&[("d", "HTTP 410")]),
        ..row(State::Dead { at: at(-5) }, THEIRS)
    };
    let row = written(dead.redriven(OURS, noon()));
    assert_eq!((row.refused, row.is_owed), (BTreeMap::new(), true));
}

#[test]
fn a_delivery_is_owed_from_its_first_attempt_for_an_endpoint_on() {
    let fresh = |is_owed| {
        let telling = Telling {
            about: &about(),
            content: None,
            is_owed,
        };
        written(Delivery::begin(
            None,
            &job(),
            telling,
            receipt(1, noon()),
            attempt(),
        ))
    };
    assert!(!fresh(false).is_owed);
    // Even if that attempt is taken back.
    let unmade = written(fresh(true).unmade(&faulted(&[]), attempt()));
    assert_eq!((unmade.attempts, unmade.is_owed), (0, true));
}

#[test]
fn after_a_step_back_a_delivery_is_held_from_then_on() {
    let before = Delivery {
        held_since: Some(at(365 * 24 * 3_600)),
        ..ours(1)
    };
    let held = written(before.failed(&paused(&["p"]), attempt()));
    assert_eq!(held.held_since, Some(noon()));
}
