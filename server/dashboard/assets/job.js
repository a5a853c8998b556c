// One job, live.
import { follow } from './api.js';
import { Bar, Link, Live, Outcomes, State, useNow } from './parts.js';
import { bytes, clock, count, duration, fraction, isOpen, pace, percent, plural, progress, since } from './words.js';
import { html, useEffect, useState } from './view.js';

function useJob(id) {
  const [state, set] = useState({ job: null, live: 'load', problem: null });
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
  }, [id]);
  return state;
}

function Figures({ job, p, now }) {
  const open = isOpen(job);
  const took = job.started_at ? duration(since(job.started_at, job.ended_at || now)) : '–';
  const figures = [
    ['done', percent(fraction(job, p), 1), `${count(p.ended)} of ${job.ingest_done ? '' : 'so far '}${plural(p.total, 'item')}`],
    ['bad items', count(p.bad), `${plural(p.errors, 'error')}, ${plural(p.warnings, 'warning')}`],
    ['items/s', pace(p.rate), open ? (p.eta === null ? 'time left not known' : `≈ ${duration(p.eta)} left`) : 'on average'],
    [open ? 'running for' : 'took', took, job.started_at ? `since ${clock(job.started_at)}` : 'not begun'],
    ['read', bytes(p.read), job.ingest_done ? 'upload complete' : p.size ? `of ${bytes(p.size)}` : 'uploading'],
  ];
  return html`<dl class="figures">${figures.map(([name, value, more]) => html`<div key=${name}><dt>${name}</dt><dd>${value}<small>${more}</small></dd></div>`)}</dl>`;
}

export function Job({ id }) {
  const { job, live, problem } = useJob(id);
  const now = useNow(1000);
  useEffect(() => { document.title = job ? `${job.file_name} · job ${id} · Tallyman` : `Job ${id} · Tallyman`; }, [job?.file_name]);
  if (problem) return html`<div class="head"><h1>Job ${id}</h1></div><p class="problem" role="alert">${problem.message}</p><p><${Link} to="/">All jobs<//></p>`;
  if (!job) return html`<div class="head"><h1>Job ${id}</h1><${Live} state=${live} /></div>`;
  const p = progress(job);
  const total = p.total && (!job.ingest_done && p.size && p.read ? Math.max(p.total, p.total * (p.size / p.read)) : p.total);
  return html`
    <div class="head"><h1>${job.file_name} <small>job ${id}${job.project && ` · ${job.project}`} · ${job.kind}${job.run > 1 ? ` · run ${job.run}` : ''}</small></h1>
      <${State} job=${job} /><${Live} state=${live} /></div>
    ${job.reason && html`<p class="reason">${job.reason}</p>`}
    <section class="card" aria-label="Progress"><${Bar} p=${p} total=${total} label="${percent(fraction(job, p), 1)} done" />
      <${Outcomes} p=${p} /><${Figures} job=${job} p=${p} now=${now} /></section>`;
}
