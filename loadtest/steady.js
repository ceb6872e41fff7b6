// One rate for two minutes, each task followed to its end: how long does it take?

import { plain, run } from './lib/tasks.js';
import { UNHURRIED, constant, plan } from './lib/plan.js';
import { duration, rate } from './lib/settings.js';

export { handleSummary } from './lib/plan.js';

export const options = plan(
  { steady: constant('tasks', rate(50), duration(120), 100) },
  {
    ...UNHURRIED,
    task_submit: ['p(95)<50', 'p(99)<150'],
    task_start: ['p(95)<75', 'p(99)<200'],
    task_end_to_end: ['p(95)<100', 'p(99)<300'],
  },
);

export async function tasks() {
  await run(plain());
}
