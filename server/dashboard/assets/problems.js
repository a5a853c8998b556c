// What went wrong in a job: findings by their code, and the items that killed workers.
import { get } from './api.js';
import { Crash, documents } from './batch.js';
import { count, number, plural } from './words.js';
import { html, useEffect, useRef, useState } from './view.js';

const most = 2000; // findings that are looked at
const shown = 3; // examples of each code

// useEvery runs a load when what it depends on changes, but not again before some time has passed.
function useEvery(ms, load, key) {
  const next = useRef(0);
  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(() => {
      next.current = Date.now() + ms;
      load(stop.signal).catch(() => { /* the next change tries again */ });
    }, Math.max(0, next.current - Date.now()));
    return () => { clearTimeout(timer); stop.abort(); };
  }, [key]);
}

const place = (f) => `${f.file}${number(f.line) ? `:${f.line}` : ''}`;

export function Findings({ id, total }) {
  const [groups, set] = useState(null);
  useEvery(3000, async (signal) => {
    if (!total) { set(null); return; }
    const found = new Map();
    let token = '';
    let n = 0;
    do {
      const page = await get(`/v1/jobs/${id}/findings`, { page_size: 1000, page_token: token }, signal);
      for (const f of page.findings) {
        const key = `${f.severity} ${f.code}`;
        const group = found.get(key) || { code: f.code, error: f.severity === 'SEVERITY_ERROR', n: 0, examples: [] };
        group.n++;
        if (group.examples.length < shown) group.examples.push(f);
        found.set(key, group);
      }
      n += page.findings.length;
      token = page.next_page_token;
    } while (token && n < most);
    set({ list: [...found.values()].sort((a, b) => b.error - a.error || b.n - a.n), n, partial: Boolean(token) });
  }, `${id} ${total}`);
  return html`<section class="card" aria-labelledby="findings"><header><h2 id="findings">Findings</h2>
      <small>${groups?.partial ? `of ${count(total)} the first ${count(groups.n)}, by item` : plural(total, 'finding')}</small></header>
    ${!total && html`<p class="none">None.</p>`}<div class="groups">${(groups?.list || []).map((g) => html`<details key=${g.code + g.error} open=${groups.list.length < 4}>
      <summary><span class="severity ${g.error ? 'error' : 'warning'}">${g.error ? 'error' : 'warning'}</span> <code>${g.code}</code> <b>${count(g.n)}</b></summary>
      <ul>${g.examples.map((f) => html`<li key=${f.item + f.path}><code>${place(f)}</code>${f.document && html` · ${f.document}`}${
        f.path && html` · <code>${f.path}</code>`}<p>${f.message}</p></li>`)}</ul></details>`)}</div></section>`;
}

function Culprit({ b, open }) {
  const [attempts, set] = useState(null);
  const toggled = async (event) => {
    if (!event.target.open || attempts) return;
    try {
      const own = await get(`/v1/batches/${b.batch_id}`);
      // One that was named as its batch was split died in the attempts at that.
      const others = number(b.parent_id) && !own.attempts.length ? await get(`/v1/batches/${b.parent_id}`) : own;
      set(others.attempts.filter((a) => a.crash));
    } catch { set([]); }
  };
  return html`<details onToggle=${toggled}><summary><b>item ${count(number(b.first_item))}</b>${documents(b) && html` · ${documents(b)}`}
      <small> on ${b.worker_id || 'a worker'} · ${plural(number(b.crashes), 'death')}</small></summary>
    <p class="reason">${b.error}</p>
    ${!attempts && html`<p class="waiting"></p>`}${attempts && !attempts.length && html`<p><small>Nothing more is known of its deaths.</small></p>`}
    ${(attempts || []).slice(-1).map((a) => html`<${Crash} key=${a.attempt} crash=${a.crash} />`)}
    <p><button onClick=${() => open(b.batch_id)}>All of batch ${b.batch_id}</button></p></details>`;
}

export function Culprits({ id, crashed, open }) {
  const [list, set] = useState(null);
  useEvery(2000, async (signal) => {
    if (!crashed) { set(null); return; }
    const page = await get(`/v1/jobs/${id}/batches`, { states: 'BATCH_STATE_CRASHED', page_size: 50 }, signal);
    set({ batches: page.batches, more: Boolean(page.next_page_token) });
  }, `${id} ${crashed}`);
  return html`<section class="card" aria-labelledby="culprits"><header><h2 id="culprits">Items that killed workers</h2>
      ${crashed > 0 && html`<a class="button" href="/v1/jobs/${id}/items?outcomes=OUTCOME_CRASHED" download="job-${id}-crashed.jsonl">Download them</a>`}</header>
    ${!crashed && html`<p class="none">None.</p>`}
    <div class="groups">${(list?.batches || []).map((b) => html`<${Culprit} key=${b.batch_id} b=${b} open=${open} />`)}</div>
    ${list?.more && html`<p><small>The first 50 of ${plural(crashed, 'batch', 'batches')}.</small></p>`}</section>`;
}
