// One job, live.
import { follow, get } from './api.js';
import { Batch } from './batch.js';
import { Chart } from './chart.js';
import { BatchMap, useMap } from './map.js';
import { Culprits, Findings } from './problems.js';
import { Steer } from './steer.js';
import { Bar, Link, Live, Outcomes, State, useNow } from './parts.js';
import { badOutcomes, bytes, clock, count, duration, fraction, isOpen, number, pace, percent, plural, progress, since } from './words.js';
import { html, useEffect, useRef, useState } from './view.js';

// useJob follows a job. again() begins anew, for one that had ended and was retried.
function useJob(id) {
  const [state, set] = useState({ job: null, live: 'load', problem: null });
  const [run, again] = useState(0);
  useEffect(() => {
    let seen = 0;
    const told = (up) => set((s) => ({ ...s, live: up ? 'live' : 'wait' }));
    const path = () => `/v1/jobs/${id}/watch${seen ? `?after_revision=${seen}` : ''}`;
    return follow({ path, probe: `/v1/jobs/${id}`, told }, {
      job: (job) => {
        seen = job.revision;
        set((s) => ({ ...s, job, live: 'live' }));
      },
      end: () => set((s) => ({ ...s, live: 'ended' })),
      error: (problem) => set((s) => ({ ...s, problem })),
    });
  }, [id, run]);
  return [state, run, () => again((n) => n + 1)];
}

function Figures({ job, p, now }) {
  const open = isOpen(job);
  const took = job.started_at ? duration(since(job.started_at, job.ended_at || now)) : '–';
  const figures = [
    ['done', percent(fraction(job, p), 1), `${count(p.ended)} of ${job.ingest_done ? '' : 'so far '}${plural(p.total, 'item')}`],
    ['bad items', count(p.bad), html`${plural(p.errors, 'error')}, ${plural(p.warnings, 'warning')}${p.bad > 0 && html` · <a download="job-${job.job_id}-bad.jsonl"
      title="As they were uploaded, to be corrected and sent again" href="/v1/jobs/${job.job_id}/items?${badOutcomes.map((o) => `outcomes=${o}`).join('&')}">download</a>`}`],
    ['items/s', pace(p.rate), open ? (p.eta === null ? 'time left not known' : `≈ ${duration(p.eta)} left`) : 'on average'],
    [open ? 'running for' : 'took', took, job.started_at ? `since ${clock(job.started_at)}` : 'not begun'],
    ['read', bytes(p.read), job.ingest_done ? 'upload complete' : p.size ? `of ${bytes(p.size)}` : 'uploading'],
  ];
  return html`<dl class="figures">${figures.map(([name, value, more]) => html`<div key=${name}><dt>${name}</dt><dd>${value}<small>${more}</small></dd></div>`)}</dl>`;
}

const kept = 3600; // points of the pace that are kept, at most one a second

// usePace collects the pace of a job for as long as the page is open.
function usePace(job, p) {
  const points = useRef({ times: [], values: [] });
  const last = points.current.times.at(-1) || 0;
  const now = Math.floor(Date.now() / 1000);
  if (job && isOpen(job) && now > last) {
    const { times, values } = points.current;
    points.current = { times: [...times.slice(-kept), now], values: [...values.slice(-kept), p.rate] };
  }
  return points.current;
}

export function Job({ id }) {
  const [{ job, live, problem }, run, again] = useJob(id);
  const map = useMap(id, run);
  const [shown, show] = useState(null);
  const now = useNow(1000);
  useEffect(() => { document.title = job ? `${job.file_name} · job ${id} · Tallyman` : `Job ${id} · Tallyman`; }, [job?.file_name]);
  const p = job && progress(job);
  const pacing = usePace(job, p);
  useEffect(() => { // a job that has ended is not followed, until somebody retries it
    if (live !== 'ended') return undefined;
    const look = setInterval(async () => {
      try { if (number((await get(`/v1/jobs/${id}`)).job.run) > number(job.run)) again(); } catch { /* gone, or away */ }
    }, 3000);
    return () => clearInterval(look);
  }, [live, job?.run]);
  if (problem) return html`<div class="head"><h1>Job ${id}</h1></div><p class="problem" role="alert">${problem.message}</p><p><${Link} to="/">All jobs<//></p>`;
  if (!job) return html`<div class="head"><h1>Job ${id}</h1><${Live} state=${live} /></div>`;
  const total = p.total && (!job.ingest_done && p.size && p.read ? Math.max(p.total, p.total * (p.size / p.read)) : p.total);
  return html`
    <div class="head"><h1>${job.file_name} <small>job ${id}${job.project && ` · ${job.project}`} · ${job.kind}${job.run > 1 ? ` · run ${job.run}` : ''}</small></h1>
      <${Live} state=${live} /><${State} job=${job} /><span class="grow"></span><${Steer} job=${job} p=${p} /></div>
    ${job.reason && html`<p class="reason">${job.reason}</p>`}
    <section class="card" aria-label="Progress"><${Bar} p=${p} total=${total} label="${percent(fraction(job, p), 1)} done" />
      <${Outcomes} p=${p} /><${Figures} job=${job} p=${p} now=${now} /></section>
    <section class="card" aria-labelledby="batches"><header><h2 id="batches">Batches</h2><small>${plural(map.states.length, 'batch', 'batches')}, each in its place</small></header>
      <${BatchMap} states=${map.states} open=${(ordinal) => show({ ordinal })} /></section>
    ${pacing.times.length > 0 && html`<section class="card" aria-labelledby="pace"><header><h2 id="pace">Items per second</h2><small>since this page was opened</small></header>
      <${Chart} times=${pacing.times} values=${pacing.values} label="Items per second" /></section>`}
    <div class="pair"><${Culprits} id=${id} crashed=${p.batches.BATCH_STATE_CRASHED || 0} open=${(batch) => show({ batch })} />
      <${Findings} id=${id} total=${p.errors + p.warnings} /></div>
    ${shown && html`<${Batch} job=${id} id=${shown.batch} ordinal=${shown.ordinal} close=${() => show(null)} />`}`;
}
