// What a run is told from outside. `cargo xtask loadtest` sets these variables; by hand the defaults serve.

// The replicas' public addresses.
export const addresses = (__ENV.LOADTEST_ADDRESSES || '127.0.0.1:7070').split(',');

// The file that the summary goes to. Empty: a short one is printed.
export const summaryFile = __ENV.LOADTEST_SUMMARY || '';

// The rate a script runs at, in iterations a second, unless --rate says otherwise.
export function rate(usual) {
  const asked = Number(__ENV.LOADTEST_RATE || usual);
  if (!Number.isInteger(asked) || asked < 1) {
    throw new Error(`LOADTEST_RATE must be a whole number from 1: ${__ENV.LOADTEST_RATE}`);
  }
  return asked;
}

// How long a script lasts, in whole seconds, unless --duration says otherwise.
export function duration(usual) {
  const asked = Number(__ENV.LOADTEST_SECONDS || usual);
  if (!Number.isInteger(asked) || asked < 6) {
    throw new Error(`LOADTEST_SECONDS must be a whole number from 6: ${__ENV.LOADTEST_SECONDS}`);
  }
  return asked;
}
