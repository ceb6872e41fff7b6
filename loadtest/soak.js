// One modest rate for half an hour: do memory or latency drift?

import { plain, run, sleeping } from './lib/tasks.js';
import { UNHURRIED, constant, plan } from './lib/plan.js';
import { duration, rate } from './lib/settings.js';

export { handleSummary } from './lib/plan.js';

export const options = plan(
  { soak: constant('tasks', rate(30), duration(1800), 100) },
  {
    ...UNHURRIED,
    task_submit: ['p(95)<50', 'p(99)<200'],
    task_end_to_end: ['p(95)<250', 'p(99)<500'],
  },
);

export async function tasks() {
  // One of ten is under way for a while, so that tasks run all the time.
  await run(Math.random() < 0.1 ? sleeping(100) : plain());
}
