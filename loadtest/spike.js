// Ten times the rate for thirty seconds: what does it do to the tasks, and how long until all is as before?

import { plain, press } from './lib/tasks.js';
import { constant, plan } from './lib/plan.js';
import { duration, rate } from './lib/settings.js';

export { handleSummary } from './lib/plan.js';

const usual = rate(30);
// A quarter each: the usual, ten times that, to recover, and the usual again.
const part = Math.floor(duration(120) / 4);

export const options = plan(
  {
    before: constant('usually', usual, part, 50),
    spike: constant('tasks', 10 * usual, part, 250, part),
    recovering: constant('usually', usual, part, 50, 2 * part),
    after: constant('usually', usual, part, 50, 3 * part),
  },
  {
    'dropped_iterations{scenario:before}': ['count==0'],
    'dropped_iterations{scenario:after}': ['count==0'],
    'task_submit{scenario:spike}': ['p(99)<3000'],
    // As in `steady`, before and again afterwards.
    'task_end_to_end{scenario:before}': ['p(95)<100'],
    'task_end_to_end{scenario:after}': ['p(95)<100'],
  },
);

export async function usually() {
  await press(plain(), 1);
}

export async function tasks() {
  await press(plain(), 10);
}
