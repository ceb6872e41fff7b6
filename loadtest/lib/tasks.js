// Tasks, from their submission to their end.

import grpc from 'k6/net/grpc';
import { check } from 'k6';
import encoding from 'k6/encoding';
import { call, ready, reason, retryAfter, watch } from './client.js';
import * as metrics from './metrics.js';

// How long a task may take to its end before it counts as stuck, in milliseconds.
const END_WITHIN = 60_000;
// Bytes of a plain task's input, as in `cargo xtask bench`.
const INPUT = 256;

// Unlike any other virtual user's, of this run or another.
const prefix = Array.from({ length: 3 }, () => Math.random().toString(36).slice(2, 10)).join('');
let submissions = 0;

// A key that makes a repeated submission the same one.
export function requestId() {
  submissions += 1;
  return `loadtest-${prefix}-${submissions}`;
}

// JSON as a field of type bytes.
function bytes(value) {
  return encoding.b64encode(JSON.stringify(value));
}

const plainInput = bytes({ text: 'x'.repeat(INPUT - '{"text":""}'.length) });

// A task that gives back its 256 bytes.
export function plain() {
  return { kind: 'echo', input: plainInput };
}

// A task that takes some time.
export function sleeping(ms) {
  return { kind: 'echo', input: bytes({ sleep_ms: ms }) };
}

// A task that asks a model: the offline generator, in these tests.
export function text(prompt) {
  return { kind: 'text.generate', input: bytes({ prompt }) };
}

// Submits a task. Returns it, or null if it was refused or failed. Overload that is said is an error only
// where `overload` is not expected.
export function submit(task, overload) {
  const began = metrics.now();
  const answer = call('TaskService/SubmitTask', { ...task, request_id: requestId() });
  const took = metrics.now() - began;
  if (answer.status === grpc.StatusOK) {
    metrics.submitTime.add(took);
    metrics.accepted.add(1);
    check(answer, { 'a task is acknowledged': () => true });
    return answer.message.task;
  }
  if (answer.status === grpc.StatusResourceExhausted) {
    metrics.refused.add(1);
    check(answer, { 'a refusal says when to try again': (refusal) => retryAfter(refusal) > 0 });
    if (overload) {
      return null;
    }
  } else {
    metrics.unknown.add(1);
  }
  check(answer, { 'a task is acknowledged': () => false });
  complain('SubmitTask', answer);
  return null;
}

// Follows a task to its end, which must be `state`. `began` is when its submission began.
export async function follow(task, began, state = 'TASK_STATE_SUCCEEDED') {
  const end = await watch(task.id, END_WITHIN);
  const good = check(end, {
    'a task ends in time': (last) => last !== null,
    'a task ends as it should': (last) => last !== null && last.state === state,
  });
  if (!good) {
    metrics.wrong.add(1);
    console.error(`task ${task.id} should be ${state}: ${JSON.stringify(end)}`);
    return end;
  }
  metrics.endToEndTime.add(metrics.now() - began);
  if (end.attempt > 1) {
    metrics.again.add(1);
  }
  if (end.startedAt) {
    metrics.startTime.add(metrics.between(end.createdAt, end.startedAt));
  }
  return end;
}

// Submits a task and follows it to its success.
export async function run(task) {
  ready();
  const began = metrics.now();
  const submitted = submit(task, false);
  return submitted ? follow(submitted, began) : null;
}

// Submits a task under a load that may be too much, and follows one of `every`: following costs more than
// submitting. That the others end is seen in the store, afterwards.
export async function press(task, every) {
  ready();
  const began = metrics.now();
  const submitted = submit(task, true);
  if (submitted && Math.random() < 1 / every) {
    await follow(submitted, began);
  }
}

// Makes another call; its answer must be OK, or of the status that is expected. Returns its message.
export function ask(method, request, expected = grpc.StatusOK) {
  const began = metrics.now();
  const answer = call(method, request);
  const name = method.split('/')[1];
  metrics.callTime.add(metrics.now() - began, { call: name });
  const good = check(answer, { [`${name} answers`]: (given) => given.status === expected });
  if (!good) {
    complain(name, answer);
  }
  return answer.status === grpc.StatusOK ? answer.message : null;
}

function complain(name, answer) {
  console.error(`${name}: status ${answer.status} ${reason(answer)} ${(answer.error || {}).message || ''}`);
}
