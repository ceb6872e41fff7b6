//! The contract of [`Store`].
//!
//! Beside its own point, every property ends with the same audit of all that it admitted: the log is
//! dense and replays to the stored lifecycle, the observers were told exactly that log in its order,
//! `handoff` rose with every way into QUEUED, and the counts add up.

pub mod admit;
pub mod cancel;
pub mod claim;
pub mod finish;
pub(in crate::contract) mod kit;
pub mod observe;
pub mod read;
pub mod registry;
pub mod run;
pub mod schedule;
pub mod sessions;
pub mod taken;

use crate::store::Store;
use async_trait::async_trait;
use callboard_domain::{SessionId, TaskId, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// A fresh, empty store on a clock of its own. Whatever jitter it draws is 0.5.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The store, as one node opens it. Always the same one.
    fn store(&self) -> Arc<dyn Store>;

    /// The same data, as a second node opens it. Where one process owns the data, the same store.
    fn other(&self) -> Arc<dyn Store> {
        self.store()
    }

    /// The store's clock.
    fn now(&self) -> Timestamp;

    /// Moves the store's clock forward, for all who use it.
    async fn advance(&self, by: Duration);

    /// Removes the row of a session behind the store's back, as a restored backup or a careless hand
    /// would: what it held is orphaned.
    async fn forget_session(&self, session: SessionId);

    /// Holds a task's row locked, as a write of another node that takes long would. `None` where only one write
    /// goes on at a time.
    async fn hold(&self, id: TaskId) -> Option<Box<dyn Held>> {
        let _ = id;
        None
    }
}

/// A row that is held locked. Dropped, it is let go, sooner or later.
#[async_trait]
pub trait Held: Send + Sync {
    /// Waits until so many writes of the fixture's stores wait for locks.
    async fn until_waiting(&mut self, count: usize);

    /// Lets it go.
    async fn let_go(self: Box<Self>);
}

/// Runs the contract of `Store` as one test for each property.
///
/// `$make` is a function without arguments to a future of a [`Fixture`](crate::contract::store::Fixture).
#[macro_export]
macro_rules! store_contract {
    ($make:expr) => {
        $crate::contract_tests!(
            $make,
            store::admit,
            [
                admits_a_new_task,
                stamps_admission_with_its_own_clock,
                admits_a_task_for_later,
                answers_a_batch_in_order,
                a_request_id_makes_admission_idempotent,
                a_request_id_cannot_be_used_for_another_request,
                a_request_id_counts_within_one_batch,
                a_request_sent_at_once_makes_one_task,
                an_id_that_is_taken_harms_nobody,
                data_that_is_refused_harms_no_other,
                admissions_at_once_do_not_mix,
            ]
        );
        $crate::contract_tests!(
            $make,
            store::cancel,
            [
                a_waiting_task_is_cancelled_at_once,
                a_running_task_is_asked_to_stop,
                what_has_ended_is_not_cancelled,
                a_success_after_the_request_counts,
                every_other_way_out_ends_cancelled,
                a_cancel_and_a_claim_at_once_agree,
            ]
        );
        $crate::contract_tests!(
            $make,
            store::claim,
            [
                claims_with_the_input,
                what_does_not_wait_is_gone,
                an_id_that_comes_twice_is_claimed_once,
                a_kind_that_is_not_hosted_is_handed_off_again_later,
                a_claim_gives_back_what_it_cannot_start,
                only_a_live_session_claims,
                claims_at_once_give_each_task_to_one,
                a_claim_waits_for_a_row_that_is_locked,
                lists_what_a_session_holds,
            ]
        );
        $crate::contract_tests!(
            $make,
            store::finish,
            [
                records_a_success,
                a_result_may_be_absent_or_empty,
                a_retryable_failure_is_tried_again,
                a_named_wait_is_honoured,
                a_failure_for_good_is_final,
                a_lost_attempt_cannot_overwrite_a_newer_one,
                a_success_reported_twice_is_recorded_once,
                a_success_twice_in_one_batch_is_recorded_once,
                a_result_over_the_limit_fails_alone,
                a_result_that_is_refused_fails_alone,
                an_attempt_stopped_by_its_node_waits_again,
            ]
        );
        $crate::contract_tests!($make, store::observe, [what_is_told_is_committed]);
        $crate::contract_tests!(
            $make,
            store::read,
            [
                reads_what_exists,
                reads_a_thousand_at_once,
                reads_see_what_was_answered,
                reads_a_log_in_parts,
                lists_newest_first_in_pages,
                lists_what_fits,
                finds_by_the_end_of_an_id,
                counts_by_state,
                tells_the_depth_of_queues,
                lists_what_is_queued,
            ]
        );
        $crate::contract_tests!($make, store::registry, [keeps_the_newest_version_of_a_kind, keeps_alerts,]);
        $crate::contract_tests!(
            $make,
            store::run,
            [
                records_a_start,
                records_progress,
                what_is_stale_changes_nothing,
                an_attempt_is_given_back,
                every_way_into_queued_raises_the_handoff,
            ]
        );
        $crate::contract_tests!(
            $make,
            store::schedule,
            [
                nothing_is_due_in_an_empty_store,
                releases_what_is_due,
                releases_no_more_than_asked_for,
                a_task_that_is_due_is_released_once,
            ]
        );
        $crate::contract_tests!(
            $make,
            store::sessions,
            [
                lists_live_sessions,
                only_a_live_session_is_renewed,
                renewing_tells_of_cancels,
                ending_a_session_requeues_its_tasks,
                ending_an_unknown_session_changes_nothing,
                an_ended_session_writes_nothing,
                a_loss_before_the_start_never_counts,
                a_task_that_is_lost_too_often_fails,
                a_suspect_stays_alone,
                an_accusation_ends_a_session_that_is_silent,
                orphans_are_recovered,
                a_claim_and_the_end_of_its_session_agree,
                the_end_of_a_session_finds_a_claim_under_way,
            ]
        );
        $crate::contract_tests!(
            $make,
            store::taken,
            [
                what_is_taken_is_claimed_with_its_admission,
                only_what_is_new_and_due_is_taken,
                only_under_a_live_session_is_anything_taken,
                what_was_taken_is_recovered,
                an_admission_and_the_end_of_its_session_agree,
            ]
        );
    };
}
