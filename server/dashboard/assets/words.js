// How numbers, times and states are written.

const counts = new Intl.NumberFormat('en-US');
const short = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });

// number reads the protocol's 64-bit numbers, which are strings, and fields that are left out.
export const number = (v) => Number(v || 0);
export const count = (n) => counts.format(n);
export const brief = (n) => (n < 10_000 ? counts.format(Math.round(n)) : short.format(n));
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

export function pace(perSecond) {
  if (!perSecond) return '–';
  return perSecond < 10 ? perSecond.toFixed(1) : brief(perSecond);
}

export function percent(part, whole) {
  if (!whole) return '–';
  const p = (100 * part) / whole;
  if (part && p < 0.1) return '<0.1 %';
  if (part < whole && p > 99.9) return '>99.9 %';
  return `${p.toFixed(p < 10 && part ? 1 : 0)} %`;
}

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  let unit = -1;
  do { n /= 1024; unit++; } while (n >= 1024 && unit < 4);
  return `${n.toFixed(n < 10 ? 1 : 0)} ${['KiB', 'MiB', 'GiB', 'TiB', 'PiB'][unit]}`;
}

// seconds reads the protocol's durations, such as "3.500s".
export const seconds = (text) => (text ? parseFloat(text) : 0);

export function duration(s) {
  if (s === null || s === undefined || Number.isNaN(s)) return '–';
  if (s < 0.0995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  s = Math.round(s);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, '0')} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const since = (a, b) => (new Date(b) - new Date(a)) / 1000;

export function ago(time, now) {
  const s = Math.max(0, (now - new Date(time)) / 1000);
  if (s < 5) return 'now';
  if (s < 60) return `${Math.floor(s / 5) * 5} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

export const clock = (time) => (time ? new Date(time).toLocaleString([], { dateStyle: 'medium', timeStyle: 'medium' }) : '–');

// lower makes words of the protocol's names: BATCH_STATE_ENDED_BADLY is "ended badly".
const lower = (name, prefix) => (name || '').replace(prefix, '').toLowerCase().replaceAll('_', ' ');

export const jobState = (job) => lower(job.state, 'JOB_STATE_');
export const batchState = (state) => lower(state, 'BATCH_STATE_');
export const outcomeName = (outcome) => lower(outcome, 'OUTCOME_');
export const endName = (end) => lower(end, 'ATTEMPT_END_');
export const slug = (words) => words.replaceAll(' ', '-');

// The outcomes in the order in which they are drawn, good ones first.
export const outcomes = ['STORED', 'STORED_WITH_WARNINGS', 'SKIPPED', 'DOCUMENT_MISSING', 'REJECTED', 'FAILED', 'CRASHED', 'CANCELLED']
  .map((name) => `OUTCOME_${name}`);
export const badOutcomes = outcomes.slice(3);

export const jobStates = ['RUNNING', 'PAUSED', 'CANCELLING', 'SUCCEEDED', 'COMPLETED_WITH_ERRORS', 'FAILED', 'CANCELLED'].map((n) => `JOB_STATE_${n}`);
export const isOpen = (job) => ['JOB_STATE_RUNNING', 'JOB_STATE_PAUSED', 'JOB_STATE_CANCELLING'].includes(job.state);

// progress reads a job's numbers.
export function progress(job) {
  const p = job.progress || {};
  const items = Object.fromEntries((p.items_by_outcome || []).map((c) => [c.outcome, number(c.items)]));
  const batches = Object.fromEntries((p.batches_by_state || []).map((c) => [c.state, number(c.batches)]));
  return {
    items, batches,
    total: number(p.items_total), ended: number(p.items_ended), flying: number(p.items_in_flight), open: number(p.items_open),
    bad: badOutcomes.reduce((sum, o) => sum + (items[o] || 0), 0),
    read: number(p.bytes_read), size: number(p.bytes_total), annotations: number(p.annotations),
    errors: number(p.errors), warnings: number(p.warnings), rate: p.items_per_second || 0, eta: p.eta ? seconds(p.eta) : null,
  };
}

// fraction is how much of a job is done, from 0 to 1: while it is being read, by the bytes that it will have.
export function fraction(job, p) {
  if (!isOpen(job)) return 1;
  if (!p.total) return 0;
  const read = job.ingest_done || !p.size ? 1 : Math.min(1, p.read / p.size);
  return (p.ended / p.total) * read;
}
