// Scenarios, thresholds and the summary: what every script has.

import { summaryFile } from './settings.js';

// What must hold in every run: no failed check, every task that was followed ended as it should, something was done.
const ALWAYS = {
  checks: ['rate==1'],
  tasks_accepted: ['count>0'],
  tasks_wrong: ['count==0'],
  tasks_unknown: ['count==0'],
};

// Where overload is not meant: nothing is refused, and k6 itself keeps up with the rate.
export const UNHURRIED = {
  tasks_refused: ['count==0'],
  dropped_iterations: ['count==0'],
};

// The options of a script.
export function plan(scenarios, thresholds) {
  return {
    scenarios,
    thresholds: { ...ALWAYS, ...thresholds },
    summaryTrendStats: ['min', 'avg', 'med', 'p(95)', 'p(99)', 'max', 'count'],
    // Every tag costs: these are what is looked at afterwards.
    systemTags: ['scenario', 'check'],
    setupTimeout: '60s',
  };
}

// So many iterations a second, whether or not the ones before have ended. `users` of them may be under way at once:
// they are made before the test begins, for making one takes time.
export function constant(exec, rate, seconds, users, startTime = 0) {
  return {
    executor: 'constant-arrival-rate',
    exec,
    rate,
    timeUnit: '1s',
    duration: `${seconds}s`,
    startTime: `${startTime}s`,
    preAllocatedVUs: users,
    maxVUs: users,
    // Longer than a task may take, so that nothing is cut off.
    gracefulStop: '70s',
  };
}

// From one rate to another, evenly.
export function rising(exec, from, to, seconds, users) {
  return {
    executor: 'ramping-arrival-rate',
    exec,
    startRate: from,
    timeUnit: '1s',
    stages: [{ target: to, duration: `${seconds}s` }],
    preAllocatedVUs: users,
    maxVUs: users,
    gracefulStop: '70s',
  };
}

// Where the summary goes: to a file for `xtask`, else a short one to the terminal.
export function handleSummary(data) {
  if (summaryFile) {
    return { [summaryFile]: JSON.stringify(data) };
  }
  return { stdout: short(data.metrics) };
}

function short(metrics) {
  const lines = [];
  for (const [name, metric] of Object.entries(metrics)) {
    for (const [expression, { ok }] of Object.entries(metric.thresholds || {})) {
      lines.push(`${ok ? 'ok  ' : 'FAIL'} ${name} ${expression}`);
    }
  }
  for (const name of ['task_submit', 'task_start', 'task_end_to_end']) {
    const values = (metrics[name] || {}).values;
    if (values && values.count > 0) {
      const show = ['med', 'p(95)', 'p(99)', 'max'].map((stat) => `${stat} ${values[stat].toFixed(1)} ms`);
      lines.push(`${name}: ${show.join(', ')}`);
    }
  }
  return `${lines.join('\n')}\n`;
}
