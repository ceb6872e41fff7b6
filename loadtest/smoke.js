// Every call of the API once a second, and a few tasks, for a minute: does it work at all? For CI.

import grpc from 'k6/net/grpc';
import { check } from 'k6';
import { ask, follow, plain, run, sleeping, submit } from './lib/tasks.js';
import { ready } from './lib/client.js';
import { now } from './lib/metrics.js';
import { UNHURRIED, constant, plan } from './lib/plan.js';
import { duration, rate } from './lib/settings.js';

export { handleSummary } from './lib/plan.js';

const seconds = duration(60);

export const options = plan(
  {
    tasks: constant('tasks', rate(20), seconds, 40),
    calls: constant('calls', 1, seconds, 20),
  },
  {
    ...UNHURRIED,
    // Wide: a machine of CI is slow, and does other things.
    task_submit: ['p(95)<500'],
    task_end_to_end: ['p(95)<2000'],
  },
);

export async function tasks() {
  await run(plain());
}

export async function calls() {
  ready();
  const began = now();
  const task = submit(sleeping(50), false);
  if (!task) {
    return;
  }
  ask('TaskService/GetTask', { id: task.id });
  ask('TaskService/ListTasks', { page_size: 10 });
  ask('ClusterService/GetCluster', {});
  const listed = ask('ClusterService/ListNodes', {});
  const trusted = listed !== null && listed.nodes.every(({ suspects }) => suspects.length === 0);
  check(listed, { 'no node suspects another': () => trusted });
  ask('ClusterService/ListKinds', {});
  ask('ClusterService/ListAlerts', {});
  ask('ProviderService/ListProviders', {});
  ask('TaskService/SubmitTask', { kind: 'nothing' }, grpc.StatusInvalidArgument);
  ask('TaskService/GetTask', { id: '00000000-0000-7000-8000-000000000000' }, grpc.StatusNotFound);
  await follow(task, began);
  const events = ask('TaskService/ListTaskEvents', { id: task.id });
  const dense = events !== null && events.events.every(({ seq }, at) => Number(seq) === at + 1);
  check(events, { 'events are numbered without a gap': () => dense });
}
