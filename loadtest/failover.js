// A replica is killed in the middle and comes back later: does a client notice more than a pause?
//
// The kill is not done here: `cargo xtask loadtest failover` does it, a third into the run.

import { run, sleeping } from './lib/tasks.js';
import { UNHURRIED, constant, plan } from './lib/plan.js';
import { duration, rate } from './lib/settings.js';

export { handleSummary } from './lib/plan.js';

export const options = plan(
  { failover: constant('tasks', rate(40), duration(120), 300) },
  {
    ...UNHURRIED,
    task_submit: ['p(95)<150', 'max<3000'],
    task_end_to_end: ['p(95)<1000', 'max<5000'],
  },
);

export async function tasks() {
  // They are under way for a while, so that some are on the replica that is killed.
  await run(sleeping(Math.floor(Math.random() * 400)));
}
