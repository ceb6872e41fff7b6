// What many clients do at once, for two minutes: submit, watch, cancel, look at tasks, ask a model.

import { check } from 'k6';
import { ask, follow, plain, run, sleeping, submit, text } from './lib/tasks.js';
import { hasEnded, ready } from './lib/client.js';
import { now } from './lib/metrics.js';
import { UNHURRIED, constant, plan } from './lib/plan.js';
import { duration, rate } from './lib/settings.js';

export { handleSummary } from './lib/plan.js';

const usual = rate(20);
const seconds = duration(120);
const share = (part) => Math.max(1, Math.round(usual * part));

export const options = plan(
  {
    watched: constant('watched', share(1), seconds, 40),
    cancelled: constant('cancelled', share(0.25), seconds, 20),
    looked_at: constant('lookedAt', share(0.5), seconds, 20),
    generated: constant('generated', share(0.25), seconds, 30),
  },
  {
    ...UNHURRIED,
    task_submit: ['p(95)<100', 'p(99)<500'],
    'task_end_to_end{scenario:watched}': ['p(95)<300', 'p(99)<1000'],
    'call_duration{call:CancelTask}': ['p(95)<150'],
    'call_duration{call:ListTasks}': ['p(95)<150'],
    'call_duration{call:GetTask}': ['p(95)<100'],
    'call_duration{call:GetCluster}': ['p(95)<150'],
    'call_duration{call:Generate}': ['p(95)<500'],
  },
);

export async function watched() {
  await run(plain());
}

// Half of them before they run, half while they do.
export async function cancelled() {
  ready();
  const began = now();
  const late = Math.random() < 0.5;
  const task = submit(late ? { ...sleeping(20_000), delay: '60s' } : sleeping(20_000), false);
  if (!task) {
    return;
  }
  const answer = ask('TaskService/CancelTask', { id: task.id });
  const heard = answer !== null && (hasEnded(answer.task) || answer.task.cancelRequested);
  check(answer, { 'it is cancelled, or will be': () => heard });
  await follow(task, began, 'TASK_STATE_CANCELLED');
}

export function lookedAt() {
  ready();
  const page = ask('TaskService/ListTasks', { page_size: 50 });
  if (page && page.nextPageToken) {
    ask('TaskService/ListTasks', { page_size: 50, page_token: page.nextPageToken });
  }
  ask('TaskService/ListTasks', { page_size: 20, filter: { states: ['TASK_STATE_CANCELLED'], kind: 'echo' } });
  if (page && page.tasks.length > 0) {
    const { id } = page.tasks[Math.floor(Math.random() * page.tasks.length)];
    ask('TaskService/GetTask', { id, view: 'TASK_VIEW_FULL' });
    ask('TaskService/ListTaskEvents', { id });
  }
  ask('ClusterService/GetCluster', {});
}

// Straight from the broker, and as a task.
export async function generated() {
  ready();
  const messages = [{ role: 'CHAT_ROLE_USER', content: 'a haiku about tea' }];
  const answer = ask('ProviderService/Generate', { messages });
  check(answer, { 'a text comes back': (given) => given !== null && given.text.length > 0 });
  await run(text('a haiku about rain'));
}
