// A gRPC client of several replicas, as a client library would be one: each virtual user has a home among them and
// one connection; where a replica is away, the call moves on to the next and comes home later.
//
// A call is repeated only where that is right: after UNAVAILABLE, and after an answer that says that nobody knows
// (UNKNOWN). So every call that is made through `call` must be the same twice as once: a submission has a request_id.

import grpc from 'k6/net/grpc';
import { sleep } from 'k6';
import exec from 'k6/execution';
import { addresses } from './settings.js';
import { now, repeated } from './metrics.js';

// How long one attempt may take, and how long a call with its repeats, in milliseconds.
const ATTEMPT = 10_000;
const TOTAL = 30_000;
// How long a home that was away is left alone, in milliseconds.
const AWAY = 3_000;
const BACKOFF_FIRST = 50;
const BACKOFF_MAX = 2_000;

const client = new grpc.Client();
client.load(
  ['../proto'],
  'callboard/v1/task_service.proto',
  'callboard/v1/cluster_service.proto',
  'callboard/v1/provider_service.proto',
);

// The index of the address that is connected; none at first.
let connected = -1;
// When the home was last found away.
let awayAt = -Infinity;

function home() {
  return (exec.vu.idInTest - 1) % addresses.length;
}

// Connects to an address; null, or a status as a call would give it.
function connect(index) {
  if (connected === index) {
    return null;
  }
  leave();
  try {
    client.connect(addresses[index], { plaintext: true, timeout: '2s' });
  } catch (error) {
    return { status: grpc.StatusUnavailable, error: { message: String(error), details: [] } };
  }
  connected = index;
  return null;
}

function leave() {
  if (connected >= 0) {
    client.close();
  }
  connected = -1;
}

// Where a call goes first: home, unless that was just away.
function first() {
  const away = now() - awayAt < AWAY;
  return (away ? home() + 1 : home()) % addresses.length;
}

// Connects home before the clock of an iteration starts, as a client that has been up for a while.
export function ready() {
  connect(first());
}

// The delay in the error's RetryInfo, in milliseconds; 0 if it has none.
export function retryAfter(answer) {
  const details = (answer.error && answer.error.details) || [];
  const info = details.find((detail) => String(detail['@type']).endsWith('google.rpc.RetryInfo'));
  return info ? parseFloat(info.retryDelay) * 1000 : 0;
}

// The stable reason of an error; empty if a server gave none.
export function reason(answer) {
  const details = (answer.error && answer.error.details) || [];
  const info = details.find((detail) => String(detail['@type']).endsWith('google.rpc.ErrorInfo'));
  return info ? info.reason : '';
}

// Whether another attempt of a call that is the same twice as once could help.
function isPassing(answer) {
  if (reason(answer) === 'PROVIDERS_FAILED') {
    return false;
  }
  return answer.status === grpc.StatusUnavailable || answer.status === grpc.StatusUnknown;
}

// Makes a unary call, on another replica if need be. Returns the last attempt's answer.
export function call(method, request) {
  const began = now();
  const start = first();
  let backoff = BACKOFF_FIRST;
  for (let attempt = 0; ; attempt += 1) {
    const index = (start + attempt) % addresses.length;
    const params = { timeout: `${ATTEMPT}ms` };
    const answer = connect(index) || client.invoke(`callboard.v1.${method}`, request, params);
    if (!isPassing(answer)) {
      return answer;
    }
    const round = (attempt + 1) % addresses.length === 0;
    const pause = Math.max(retryAfter(answer), round ? backoff * (0.5 + Math.random() / 2) : 0);
    if (now() - began + pause > TOTAL) {
      return answer;
    }
    passedOver(index, method);
    if (round) {
      backoff = Math.min(backoff * 2, BACKOFF_MAX);
    }
    sleep(pause / 1000);
  }
}

function passedOver(index, what) {
  repeated.add(1, { call: what });
  if (index === home()) {
    awayAt = now();
  }
  leave();
}

// Opens a watch of a task and returns its last state once it has ended, or null if that is not within `limit`
// milliseconds. A stream that breaks off is opened again elsewhere.
export async function watch(id, limit) {
  const until = now() + limit;
  const start = first();
  for (let attempt = 0; ; attempt += 1) {
    const index = (start + attempt) % addresses.length;
    const end = connect(index) ? null : await watchHere(id, until - now());
    if (end || now() >= until) {
      return end;
    }
    passedOver(index, 'TaskService/WatchTask');
    if ((attempt + 1) % addresses.length === 0) {
      sleep(BACKOFF_FIRST / 1000);
    }
  }
  return null;
}

function watchHere(id, limit) {
  return new Promise((resolve) => {
    const params = { timeout: `${Math.ceil(limit)}ms` };
    const stream = new grpc.Stream(client, 'callboard.v1.TaskService/WatchTask', params);
    stream.on('data', (message) => {
      if (message.task && hasEnded(message.task)) {
        resolve(message.task);
      }
    });
    stream.on('error', () => resolve(null));
    stream.on('end', () => resolve(null));
    stream.write({ id });
    stream.end();
  });
}

// Whether a task's state is final.
export function hasEnded(task) {
  return ['TASK_STATE_SUCCEEDED', 'TASK_STATE_FAILED', 'TASK_STATE_CANCELLED'].includes(task.state);
}
