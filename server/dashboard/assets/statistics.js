// What ended in a window of time.
import { Batch, documents } from './batch.js';
import { Key, Link, Live } from './parts.js';
import { usePoll } from './poll.js';
import { ago, batchState, count, duration, endName, number, percent, plural, seconds, since } from './words.js';
import { html, useState } from './view.js';

const windows = [['3600s', '1 h'], ['86400s', '24 h'], ['604800s', '7 d']];
const enough = 20; // batches without which a rate says little

export function Statistics() {
  const [window, choose] = useState('3600s');
  const [project, setProject] = useState('');
  const [{ data, live, problem }] = usePoll('/v1/statistics', { window, project }, 10_000);
  const [shown, show] = useState(null);
  const now = Date.now();
  const s = data || {};
  const batches = number(s.batches);
  const figures = [
    ['batches ended', count(batches), 'without parts of split ones'],
    ['crash rate', batches ? percent(s.crash_rate || 0, 1) : '–', batches < enough ? `too few to say, below ${enough}` : plural(number(s.batches_crashed), 'batch died', 'batches died')],
    ['mean', duration(batches ? seconds(s.duration_mean) : null), 'from claim to end'],
    ['median', duration(batches ? seconds(s.duration_p50) : null), 'to about 20 %'],
    ['99 of 100 within', duration(batches ? seconds(s.duration_p99) : null), 'to about 20 %'],
  ];
  const example = (id) => html`<button class="link" onClick=${() => show(id)}>batch ${id}</button>`;
  return html`<div class="head"><h1>Statistics</h1><${Live} state=${live} /></div>
    <div class="tools"><div class="chips" role="group" aria-label="Window">${windows.map(([value, name]) => html`
      <button key=${value} aria-pressed=${window === value} onClick=${() => choose(value)}>${name}</button>`)}</div>
      <input type="search" placeholder="Only of a project" aria-label="Only of a project" value=${project} onChange=${(e) => setProject(e.target.value.trim())} /></div>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <section class="card" aria-label="Sums"><dl class="figures">${figures.map(([name, value, more]) => html`<div key=${name}><dt>${name}</dt><dd>${value}<small>${more}</small></dd></div>`)}</dl>
      <ul class="legend">${(s.batches_by_state || []).map((b) => html`<li key=${b.state}><${Key} name=${batchState(b.state)} /> <b>${count(number(b.batches))}</b></li>`)}</ul></section>
    <section class="card table" aria-labelledby="failures"><header><h2 id="failures">Commonest failures</h2></header>
      <div class="inner" tabindex="0" role="region" aria-labelledby="failures"><table><thead><tr><th scope="col">Message</th><th scope="col">Ended as</th><th scope="col" class="end">Attempts</th><th scope="col">For example</th><th scope="col" class="end">Last</th></tr></thead>
      <tbody>${(s.failures || []).map((f) => html`<tr key=${f.message + f.end}><td class="message">${f.message}</td><td>${endName(f.end)}</td><td class="end">${count(number(f.attempts))}</td>
        <td>${example(f.example_batch_id)}</td><td class="end">${ago(f.last_at, now)}</td></tr>`)}</tbody></table>${data && !s.failures?.length && html`<p class="empty">None.</p>`}</div></section>
    <section class="card table" aria-labelledby="crashes"><header><h2 id="crashes">Crashes that are alike</h2></header>
      <div class="inner" tabindex="0" role="region" aria-labelledby="crashes"><table><thead><tr><th scope="col">How</th><th scope="col">Standard error</th><th scope="col" class="end">Deaths</th><th scope="col" class="end">Batches</th><th scope="col">For example</th><th scope="col" class="end">Last</th></tr></thead>
      <tbody>${(s.crashes || []).map((c) => html`<tr key=${c.fingerprint}><td>${c.signal || `exit code ${c.exit_code}`}</td><td class="message"><code>${c.stderr_line || '–'}</code></td><td class="end">${count(number(c.attempts))}</td>
        <td class="end">${count(number(c.batches))}</td><td>${example(c.example_batch_id)}</td><td class="end">${ago(c.last_at, now)}</td></tr>`)}</tbody></table>${data && !s.crashes?.length && html`<p class="empty">None.</p>`}</div></section>
    <section class="card table" aria-labelledby="slowest"><header><h2 id="slowest">Slowest batches</h2></header>
      <div class="inner" tabindex="0" role="region" aria-labelledby="slowest"><table><thead><tr><th scope="col">Batch</th><th scope="col">Job</th><th scope="col">Documents</th><th scope="col">Worker</th><th scope="col" class="end">Items</th><th scope="col" class="end">Took</th></tr></thead>
      <tbody>${(s.slowest || []).map((b) => html`<tr key=${b.batch_id}><td>${example(b.batch_id)}</td><td><${Link} to="/jobs/${b.job_id}">job ${b.job_id}<//></td><td class="message">${documents(b)}</td><td>${b.worker_id}</td>
        <td class="end">${count(number(b.item_count))}</td><td class="end">${duration(since(b.claimed_at, b.settled_at))}</td></tr>`)}</tbody></table>${data && !s.slowest?.length && html`<p class="empty">None.</p>`}</div></section>
    ${shown && html`<${Batch} key=${shown} id=${shown} close=${() => show(null)} />`}`;
}
