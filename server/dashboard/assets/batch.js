// One batch: what it is, how its attempts went, and what it was split into.
import { get } from './api.js';
import { Dialog } from './parts.js';
import { batchState, bytes, clock, count, duration, endName, number, plural, since, slug } from './words.js';
import { html, useEffect, useState } from './view.js';

export const BatchBadge = ({ state }) => html`<span class="state ${slug(batchState(state))}">${batchState(state)}</span>`;

// documents names the first documents of a batch and how many there are.
export function documents(batch) {
  const named = (batch.documents || []).slice(0, 3);
  const more = number(batch.document_count) - named.length;
  return named.join(', ') + (more > 0 && named.length ? ` +${count(more)}` : '');
}

const range = (b) => (number(b.item_count) === 1 ? `item ${count(number(b.first_item))}`
  : `items ${count(number(b.first_item))}–${count(number(b.first_item) + number(b.item_count) - 1)}`);

export function Crash({ crash }) {
  if (!crash) return null;
  const how = crash.signal || `exit code ${crash.exit_code}`;
  const memory = number(crash.peak_memory_bytes);
  return html`<div class="crash"><p>The process ended by <b>${how}</b>${memory ? `, at most ${bytes(memory)} of memory` : ''}${
    crash.fingerprint ? html`, like crashes with <code>${crash.fingerprint}</code>` : ''}.</p>
    ${crash.stderr ? html`<pre class="stderr" tabindex="0" aria-label="Standard error">${crash.stderr}</pre>` : html`<p><small>It wrote nothing to standard error.</small></p>`}</div>`;
}

export function Attempts({ attempts }) {
  return html`<ol class="attempts">${attempts.map((a) => html`<li key=${`${a.batch_id}.${a.attempt}`}>
    <b>Attempt ${a.attempt}</b> ${endName(a.end)} on <code>${a.worker_id}</code> after ${duration(since(a.claimed_at, a.ended_at))}
    <small title=${clock(a.ended_at)}> · ${clock(a.ended_at)}</small>
    ${a.message && html`<p>${a.message}</p>`}${a.decision && html`<p class="decision">${a.decision}</p>`}<${Crash} crash=${a.crash} /></li>`)}</ol>`;
}

function Tree({ family, parent, shown, show }) {
  const parts = family.filter((b) => number(b.parent_id) === number(parent));
  if (!parts.length) return null;
  return html`<ul class=${number(parent) ? '' : 'tree'}>${parts.map((b) => html`<li key=${b.batch_id}>
    <button class="quiet" aria-current=${b.batch_id === shown ? 'true' : undefined} onClick=${() => show(b.batch_id)}>
      <i class="swatch ${slug(batchState(b.state))}"></i>${range(b)} <small>${batchState(b.state)} · batch ${b.batch_id}</small></button>
    <${Tree} family=${family} parent=${b.batch_id} shown=${shown} show=${show} /></li>`)}</ul>`;
}

// Batch shows a batch by its number, or by its place in its job.
export function Batch({ job, id, ordinal, close }) {
  const [shown, show] = useState(id);
  const [found, set] = useState(null);
  const [problem, fail] = useState('');
  useEffect(() => {
    const stop = new AbortController();
    (async () => {
      try {
        let wanted = shown;
        if (!wanted) {
          const list = await get(`/v1/jobs/${job}/batches`, { from_ordinal: ordinal, page_size: 1 }, stop.signal);
          wanted = list.batches[0]?.batch_id;
        }
        set(await get(`/v1/batches/${wanted}`, {}, stop.signal));
      } catch (e) { if (!stop.signal.aborted) fail(e.message); }
    })();
    return () => stop.abort();
  }, [shown]);
  const b = found?.batch;
  return html`<${Dialog} title=${b ? `Batch ${b.batch_id}` : 'Batch'} close=${close} wide>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${!b && !problem && html`<p class="empty">Loading …</p>`}
    ${b && html`<p><${BatchBadge} state=${b.state} /> ${range(b)}${documents(b) && html` · <span>${documents(b)}</span>`}</p>
      <dl class="facts"><div><dt>Place in the job</dt><dd>${count(number(b.ordinal) + 1)}</dd></div>
        <div><dt>Done</dt><dd>${count(number(b.done_items))} of ${plural(number(b.item_count), 'item')}</dd></div>
        <div><dt>Attempts</dt><dd>${b.attempt}: ${b.failures} failed, ${b.crashes} died, ${b.losses} lost</dd></div>
        <div><dt>Worker</dt><dd>${b.worker_id || '–'}</dd></div>
        <div><dt>Last claimed</dt><dd>${clock(b.claimed_at)}</dd></div>
        <div><dt>Took</dt><dd>${b.claimed_at && b.settled_at ? duration(since(b.claimed_at, b.settled_at)) : '–'}</dd></div></dl>
      ${b.error && html`<p class="reason">${b.error}</p>`}
      ${found.family?.length > 0 && html`<h3>Split</h3><${Tree} family=${found.family} parent="0" shown=${b.batch_id} show=${show} />`}
      ${found.attempts?.length > 0 && html`<h3>Attempts that did not complete</h3><${Attempts} attempts=${found.attempts} />`}`}<//>`;
}
