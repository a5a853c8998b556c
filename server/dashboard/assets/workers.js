// The workers: what each holds, when it was heard, how it goes.
import { get, post } from './api.js';
import { Attempts, Batch, BatchBadge, documents } from './batch.js';
import { useMay } from './identity.js';
import { Confirm, Dialog, Link, Live, notice, useNow } from './parts.js';
import { usePoll } from './poll.js';
import { ago, clock, count, duration, number, pace, plural, since } from './words.js';
import { html, useEffect, useState } from './view.js';

// worded says how a worker is, the worst first.
function worded(w) {
  if (w.ended_at) return ['ended', 'cancelled'];
  if (w.silent) return ['silent', 'crashed'];
  if (w.drained_at) return ['draining', 'failed'];
  if (w.trouble) return ['in trouble', 'failed'];
  return number(w.running) ? ['working', 'running'] : ['idle', 'succeeded'];
}

function Worker({ id, close, changed }) {
  const [found, set] = useState(null);
  const [problem, fail] = useState('');
  const [batch, open] = useState(null);
  useEffect(() => { get(`/v1/workers/${encodeURIComponent(id)}`).then(set, (e) => fail(e.message)); }, [id]);
  if (batch) return html`<${Batch} id=${batch} close=${() => open(null)} />`;
  const w = found?.worker;
  return html`<${Dialog} title="Worker ${id}" close=${close} wide>${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${w && html`<p>${w.host} · process ${w.pid} · ${w.version || 'version not known'} · since ${clock(w.registered_at)}</p>
      ${w.drain_reason && html`<p class="reason">${w.drain_reason}</p>`}${w.trouble && html`<p class="reason">${w.trouble}</p>`}${w.end_reason && html`<p class="reason">${w.end_reason}</p>`}
      <h3>Holds ${plural(number(w.running), 'batch', 'batches')}</h3>
      <ul class="plain holds">${found.batches.map((b) => html`<li key=${b.batch_id}><button class="quiet" onClick=${() => open(b.batch_id)}>batch ${b.batch_id}</button> of
        <${Link} to="/jobs/${b.job_id}">job ${b.job_id}<//> <${BatchBadge} state=${b.state} /> <small>${documents(b)}</small></li>`)}</ul>
      ${found.attempts.length > 0 && html`<h3>Its last attempts that did not complete</h3><${Attempts} attempts=${found.attempts} />`}`}<//>`;
}

export function Workers() {
  const [ended, setEnded] = useState(false);
  const [{ data, live, problem }, again] = usePoll('/v1/workers', { include_ended: ended || undefined, page_size: 1000 }, 2000);
  const [shown, show] = useState('');
  const [draining, drain] = useState('');
  const now = useNow(1000);
  const may = useMay();
  const list = data?.workers || [];
  return html`<div class="head"><h1>Workers</h1><${Live} state=${live} /><span class="grow"></span>
      <label class="check"><input type="checkbox" checked=${ended} onChange=${(e) => setEnded(e.target.checked)} /> also those that have ended</label></div>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <div class="scroll" tabindex="0" role="region" aria-label="Workers"><table class="workers">
      <thead><tr><th scope="col">Worker</th><th scope="col">State</th><th scope="col">Kinds</th><th scope="col" class="end">Holds</th><th scope="col" class="end">Heard</th>
        <th scope="col" class="end">Completed</th><th scope="col" class="end">Batches/min</th><th scope="col" class="end">Crashed</th><th scope="col" class="end">Up</th><th scope="col"><span class="unseen">Actions</span></th></tr></thead>
      <tbody>${list.map((w) => {
    const [words, look] = worded(w);
    const up = since(w.registered_at, w.ended_at || now);
    return html`<tr key=${w.session_id}>
          <td class="name"><button class="link" onClick=${() => show(w.worker_id)}>${w.worker_id}</button> <small>${w.host}</small>${
      w.drain_reason && html`<p class="verdict">${w.drain_reason}</p>`}${w.trouble && html`<p class="verdict">${w.trouble}</p>`}</td>
          <td><span class="state ${look}">${words}</span></td><td>${w.kinds.join(', ')}</td>
          <td class="end">${count(number(w.running))} of ${w.slots}</td><td class="end" title=${clock(w.beat_at)}>${ago(w.beat_at, now)}</td>
          <td class="end">${count(number(w.completed))}</td><td class="end">${up > 1 ? pace((number(w.completed) * 60) / up) : '–'}</td>
          <td class="end bad ${number(w.crashed) ? 'some' : ''}">${count(number(w.crashed))}</td><td class="end">${duration(up)}</td>
          <td class="end">${may.workers && !w.ended_at && !w.drained_at && html`<button onClick=${() => drain(w.worker_id)} aria-label="Drain ${w.worker_id}">Drain</button>`}</td></tr>`;
  })}</tbody></table>${data && !list.length && html`<p class="empty">There are no workers. One is started by <code>tallyman work</code>.</p>`}</div>
    ${shown && html`<${Worker} id=${shown} close=${() => show('')} />`}
    ${draining && html`<${Confirm} title="Drain ${draining}?" action="Drain it" danger close=${() => drain('')}
      done=${async () => { await post(`/v1/workers/${encodeURIComponent(draining)}:drain`); notice(`${draining} is draining.`); again(); }}>
      <p>It claims no more, finishes or gives back what it holds, and exits.</p><//>`}`;
}
