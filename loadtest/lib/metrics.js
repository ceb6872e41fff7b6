// What is measured beside what k6 measures by itself. `xtask` draws these by name.

import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';

// From the call to the acknowledgement, repeats included.
export const submitTime = new Trend('task_submit', true);
// From the call to when the client hears that the task has ended.
export const endToEndTime = new Trend('task_end_to_end', true);
// From the admission to the start of the handler, on the store's clock. Only of tasks that were followed.
export const startTime = new Trend('task_start', true);
// Any other call, tagged with its name as `call`.
export const callTime = new Trend('call_duration', true);

// Tasks that were acknowledged for the first time.
export const accepted = new Counter('tasks_accepted');
// Submissions that got RESOURCE_EXHAUSTED: overload that was said, which is no error where overload is meant.
export const refused = new Counter('tasks_refused');
// Submissions after which it is not known whether there is a task.
export const unknown = new Counter('tasks_unknown');
// Tasks that were followed to an end other than the one that was meant.
export const wrong = new Counter('tasks_wrong');
// Tasks that were followed and took more than one attempt: their node was lost, or gave them back.
export const again = new Counter('tasks_run_again');
// Calls that failed and were repeated on another replica.
export const repeated = new Counter('calls_repeated');

// Milliseconds since the test began, finer than the clock of JavaScript.
export function now() {
  return exec.instance.currentTestRunDuration;
}

// Milliseconds from one of the server's times to a later one. They are finer than a Date is.
export function between(from, to) {
  return millis(to) - millis(from);
}

function millis(time) {
  const fraction = /\.(\d+)/.exec(time);
  return Math.floor(Date.parse(time) / 1000) * 1000 + (fraction ? Number(`0.${fraction[1]}`) * 1000 : 0);
}
