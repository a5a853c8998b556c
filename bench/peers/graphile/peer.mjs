// What Graphile Worker does of the benches, for the program peers: peer.mjs fill N, drain SLOTS N, or latency HOW N PAUSE,
// on the database of DATABASE_URL. It writes one JSON value.
import { makeWorkerUtils, run, Logger } from "graphile-worker";

const connectionString = process.env.DATABASE_URL;
const logger = new Logger(() => () => {});
const [verb, ...args] = process.argv.slice(2);

// fill migrates the database and adds jobs.
async function fill(n) {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  const atOnce = 5000;
  for (let from = 0; from < n; from += atOnce) {
    const jobs = Array.from({ length: Math.min(atOnce, n - from) }, (_, i) => ({ identifier: "noop", payload: { n: from + i } }));
    await utils.addJobs(jobs);
  }
  await utils.release();
  return {};
}

// counted is a task that notes when each job began, and resolves when the last did.
function counted(n) {
  const at = new Array(n);
  let left = n;
  let end;
  const all = new Promise((resolve) => (end = resolve));
  const began = new Map();
  const task = async ({ n: number }) => {
    if (at[number] !== undefined) return; // again
    at[number] = performance.now();
    began.get(number)?.();
    if (--left === 0) end();
  };
  // of resolves when a job has begun.
  const of = (number) => (at[number] !== undefined ? Promise.resolve() : new Promise((resolve) => began.set(number, resolve)));
  return { at, all, of, task };
}

// drain works the jobs off. Many slots come with the settings that its own benchmarks use: jobs are fetched, and said to
// be done, in groups.
async function drain(slots, n) {
  const jobs = counted(n);
  const worker = { connectionString, concurrentJobs: slots, maxPoolSize: 10 };
  if (slots > 8) {
    Object.assign(worker, { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 });
  }
  const begun = performance.now();
  const runner = await run({ logger, noHandleSignals: true, taskList: { noop: jobs.task }, preset: { worker } });
  await jobs.all;
  await runner.stop(); // which waits until all are said to be done
  return { seconds: (performance.now() - begun) / 1000 };
}

const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// latency adds jobs one behind the other, or one after each pause, with the defaults.
async function latency(how, n, pause) {
  const warming = 10;
  const jobs = counted(warming + n);
  const utils = await makeWorkerUtils({ connectionString, logger });
  const runner = await run({ connectionString, logger, noHandleSignals: true, concurrency: 8, taskList: { noop: jobs.task } });
  const added = [];
  const adding = [];
  for (let i = 0; i < jobs.at.length; i++) {
    const next = how === "steady" && after(pause);
    added[i] = performance.now();
    adding.push(utils.addJob("noop", { n: i }));
    if (how === "idle") await jobs.of(i);
    await (next || after(pause));
  }
  await Promise.all(adding);
  await jobs.all;
  await runner.stop();
  await utils.release();
  return { milliseconds: added.map((t, i) => jobs.at[i] - t).slice(warming) };
}

const result = await { fill: () => fill(+args[0]), drain: () => drain(+args[0], +args[1]), latency: () => latency(args[0], +args[1], +args[2]) }[verb]();
process.stdout.write(JSON.stringify(result) + "\n");
