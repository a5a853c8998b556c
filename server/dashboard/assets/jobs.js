// The list of jobs. The newest thousands are held here, so that searching, sorting and turning pages ask nobody; what
// changes is pushed.
import { follow } from './api.js';
import { Bar, Link, Live, Pager, State, path, useNow } from './parts.js';
import { ago, clock, count, duration, fraction, isOpen, jobState, jobStates, number, pace, percent, plural, progress, seconds, since } from './words.js';
import { html, useEffect, useMemo, useRef, useState } from './view.js';

const newest = 10_000; // jobs that are held
const size = 50; // of a page

// Feed holds jobs by their numbers. Its rows are made once for each revision.
class Feed {
  rows = new Map();
  whole = false;

  take(jobs) {
    for (const job of jobs) {
      const known = this.rows.get(number(job.job_id));
      if (known && number(known.job.revision) > number(job.revision)) continue;
      const p = progress(job);
      this.rows.set(number(job.job_id), {
        job, p, id: number(job.job_id), done: fraction(job, p), open: isOpen(job),
        text: [`#${job.job_id}`, job.file_name, job.project, job.kind, job.upload_id, ...Object.entries(job.labels || {}).flat()].join('\n').toLowerCase(),
      });
    }
  }
}

function useFeed() {
  const [state, set] = useState({ version: 0, live: 'load' });
  const feed = useRef(null);
  feed.current ||= new Feed();
  useEffect(() => {
    let due = 0;
    const draw = () => { // at most once a frame, whatever comes
      due ||= requestAnimationFrame(() => { due = 0; set((s) => ({ ...s, version: s.version + 1 })); });
    };
    const told = (up) => set((s) => ({ ...s, live: up ? 'live' : 'wait' }));
    const stop = follow({ path: () => `/v1/jobs:watch?newest=${newest}`, probe: '/v1/jobs?page_size=1', told }, {
      jobs: (m) => {
        if (m.whole) feed.current.whole = true;
        feed.current.take(m.jobs || []);
        (m.gone_job_ids || []).forEach((id) => feed.current.rows.delete(number(id)));
        draw();
      },
      error: (problem) => set((s) => ({ ...s, problem })),
    });
    return () => { stop(); cancelAnimationFrame(due); };
  }, []);
  return [feed.current, state];
}

const took = (r, now) => since(r.job.started_at || r.job.submitted_at, r.job.ended_at || now);
const left = (r) => (r.open ? (r.p.eta ?? Infinity) : -1);

// The columns by which the list can be sorted: name, heading, what is compared, and whether the greatest comes first.
const columns = [
  { by: 'id', head: 'Job', of: (r) => r.id, down: true },
  { by: 'state', head: 'State', of: (r) => jobStates.indexOf(r.job.state) },
  { by: 'name', head: 'File and project', of: (r) => r.job.file_name.toLowerCase() },
  { by: 'progress', head: 'Progress', of: (r) => r.done },
  { by: 'items', head: 'Items', of: (r) => r.p.total, down: true, end: true },
  { by: 'bad', head: 'Bad', of: (r) => r.p.bad, down: true, end: true },
  { by: 'pace', head: 'Items/s', of: (r) => r.p.rate, down: true, end: true },
  { by: 'time', head: 'Left or took', of: left, end: true },
  { by: 'age', head: 'Submitted', of: (r) => r.id, down: true, end: true },
];

function sorted(rows, by, reverse) {
  const column = columns.find((c) => c.by === by) || columns[0];
  const sign = (column.down ? -1 : 1) * (reverse ? -1 : 1);
  return rows.sort((a, b) => {
    const x = column.of(a);
    const y = column.of(b);
    return x < y ? -sign : x > y ? sign : b.id - a.id;
  });
}

// wish is what of the list somebody wants to see. It is in the address, so that it can be sent to others.
function readWish() {
  const q = new URLSearchParams(location.search);
  return { text: q.get('q') || '', state: q.get('state') || '', by: q.get('sort') || 'id', reverse: q.get('order') === 'reverse', page: Math.max(0, (q.get('page') || 1) - 1) };
}
function writeWish(w) {
  const q = new URLSearchParams();
  if (w.text) q.set('q', w.text);
  if (w.state) q.set('state', w.state);
  if (w.by !== 'id') q.set('sort', w.by);
  if (w.reverse) q.set('order', 'reverse');
  if (w.page) q.set('page', w.page + 1);
  const text = q.toString();
  path.replace(text ? `/?${text}` : '/');
}

const groups = [
  ['', 'All', () => true],
  ['open', 'Open', (r) => r.open],
  ['bad', 'With errors', (r) => r.p.bad > 0 || r.job.state === 'JOB_STATE_FAILED'],
  ...jobStates.map((s) => [s.replace('JOB_STATE_', '').toLowerCase(), jobState({ state: s }), (r) => r.job.state === s]),
];

function Row({ r, now }) {
  const { job, p } = r;
  const total = p.total && (r.open && !job.ingest_done && p.size && p.read ? Math.max(p.total, p.total * (p.size / p.read)) : p.total);
  return html`<tr>
    <td class="id"><${Link} to="/jobs/${job.job_id}">${job.job_id}<//></td>
    <td class="st"><${State} job=${job} /></td>
    <td class="name"><${Link} to="/jobs/${job.job_id}" tabindex="-1">${job.file_name}<//> <small>${job.project}${job.kind !== 'annotations' ? ` · ${job.kind}` : ''}</small></td>
    <td class="progress"><${Bar} p=${p} total=${total} label="${percent(r.done, 1)} done" /><span>${percent(r.done, 1)}</span></td>
    <td class="end items">${count(p.total)}</td>
    <td class="end bad ${p.bad ? 'some' : ''}">${count(p.bad)}</td>
    <td class="end pace">${r.open ? pace(p.rate) : ''}</td>
    <td class="end time">${r.open ? (p.eta === null ? '–' : `≈ ${duration(p.eta)}`) : duration(took(r, now))}</td>
    <td class="end age" title=${clock(job.submitted_at)}>${ago(job.submitted_at, now)}</td></tr>`;
}

export function Jobs() {
  const [feed, { version, live, problem }] = useFeed();
  const [wish, setWish] = useState(readWish);
  const now = useNow(5000);
  const want = (part) => { const w = { ...wish, page: 0, ...part }; setWish(w); writeWish(w); };
  const [rows, counts] = useMemo(() => {
    const words = wish.text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [...feed.rows.values()].filter((r) => words.every((w) => r.text.includes(w)));
    const inGroup = groups.find(([name]) => name === wish.state)?.[2] || groups[0][2];
    return [sorted(found.filter(inGroup), wish.by, wish.reverse), groups.map(([, , is]) => found.filter(is).length)];
  }, [version, wish.text, wish.state, wish.by, wish.reverse]);
  const pages = Math.max(1, Math.ceil(rows.length / size));
  const page = Math.min(wish.page, pages - 1);
  const order = (c) => want(wish.by === c.by ? { reverse: !wish.reverse } : { by: c.by, reverse: false });
  const direction = (c) => (wish.by !== c.by ? 'none' : Boolean(c.down) !== wish.reverse ? 'descending' : 'ascending');
  return html`
    <div class="head"><h1>Jobs</h1><${Live} state=${live} /></div>
    ${problem && html`<p class="problem" role="alert">${problem.message}</p>`}
    <div class="tools">
      <input type="search" placeholder="Search file, project, label, #number" aria-label="Search jobs" value=${wish.text} onInput=${(e) => want({ text: e.target.value })} />
      <div class="chips" role="group" aria-label="Jobs to show">${groups.map(([name, words], i) => html`
        <button key=${name} aria-pressed=${wish.state === name} onClick=${() => want({ state: name })}>${words} <b>${count(counts[i])}</b></button>`)}</div>
    </div>
    <${Pager} page=${page} pages=${pages} turn=${(n) => want({ page: n })}>${plural(rows.length, 'job')}${feed.rows.size >= newest ? ` of the newest ${count(newest)}` : ''}<//>
    <div class="scroll" tabindex="0" role="region" aria-label="Jobs"><table class="jobs">
      <thead><tr>${columns.map((c) => html`<th key=${c.by} scope="col" class=${c.end ? 'end' : ''} aria-sort=${direction(c)}>
        <button onClick=${() => order(c)}>${c.head}<i aria-hidden="true">${{ none: '', ascending: '▲', descending: '▼' }[direction(c)]}</i></button></th>`)}</tr></thead>
      <tbody>${rows.slice(page * size, (page + 1) * size).map((r) => html`<${Row} key=${r.id} r=${r} now=${now} />`)}</tbody>
    </table>
    ${!rows.length && html`<p class="empty">${!feed.whole ? 'Loading …' : feed.rows.size ? 'No job is like that.' : 'There are no jobs yet.'}</p>`}</div>`;
}
