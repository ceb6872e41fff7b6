// The same `echo` on BullMQ. Its Redis writes and syncs every command before it answers.
//
//   node bullmq.mjs worker          runs tasks until it is killed
//   node bullmq.mjs load TASKS      submits them, 64 in flight, and prints how long until the last is done

import { Queue, Worker } from "bullmq";

const url = new URL(process.env.BENCH_REDIS);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const IN_FLIGHT = 64;
const input = { text: "x".repeat(245) };

if (process.argv[2] === "worker") {
  new Worker("bench", async (job) => job.data, { connection, concurrency: 64 });
} else {
  const count = Number(process.argv[3]);
  const queue = new Queue("bench", { connection });
  const done = async (wanted) => {
    while ((await queue.getJobCountByTypes("completed")) < wanted) {
      await new Promise((later) => setTimeout(later, 20));
    }
  };
  // Only when a task has come back is there a worker.
  await queue.add("echo", input);
  await done(1);
  const began = performance.now();
  let left = count;
  const submit = async () => {
    while (left > 0) {
      left -= 1;
      await queue.add("echo", input);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, submit));
  await done(count + 1);
  console.log(JSON.stringify({ tasks: count, seconds: (performance.now() - began) / 1000 }));
  process.exit(0);
}
