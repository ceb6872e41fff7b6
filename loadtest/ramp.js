// A rate that rises for three minutes, past what can be had: where is the knee?

import { plain, press } from './lib/tasks.js';
import { plan, rising } from './lib/plan.js';
import { duration, rate } from './lib/settings.js';

export { handleSummary } from './lib/plan.js';

export const options = plan(
  // Past the knee calls wait, and with them virtual users: k6 drops what it has no user for, and counts it.
  { ramp: rising('tasks', 20, rate(600), duration(180), 300) },
  {
    // Of accepted calls, also past the knee: overload is refused or slow, not endless.
    task_submit: ['p(99)<5000'],
  },
);

export async function tasks() {
  await press(plain(), 10);
}
