// Uploading by drag and drop, with progress. What is cut goes on when it is tried again.
import { get, Problem, uuid } from './api.js';
import { useMay } from './identity.js';
import { Link } from './parts.js';
import { bytes, duration, pace, percent } from './words.js';
import { html, useEffect, useRef, useState } from './view.js';

// send sends a file as the body of a request, and says how far it is. fetch cannot tell that.
function send(file, values, told) {
  const request = new XMLHttpRequest();
  const q = new URLSearchParams(Object.entries(values).filter(([, v]) => v));
  const done = new Promise((resolve, reject) => {
    request.upload.onprogress = (e) => told(e.loaded);
    request.onload = () => {
      let body = null;
      try { body = JSON.parse(request.responseText); } catch { /* not from the API */ }
      if (request.status < 300) resolve(body); else reject(Object.assign(new Problem(request.status, body), { job: body?.job }));
    };
    request.onerror = () => reject(new Problem(0, { message: 'the connection was cut; try again to go on where it was' }));
    request.onabort = () => reject(new Problem(0, { message: 'stopped; try again to go on where it was' }));
    request.open('POST', `/v1/uploads?${q}`);
    request.setRequestHeader('Content-Type', 'application/octet-stream');
    request.send(file);
  });
  return { done, stop: () => request.abort() };
}

function Sending({ one, drop }) {
  const [s, set] = useState({ sent: 0, job: '', state: 'sending', problem: '', rate: 0, try: 0 });
  const sending = useRef();
  useEffect(() => {
    const began = performance.now();
    let gone = false;
    const put = (part) => { if (!gone) set((old) => ({ ...old, ...part })); };
    const upload = send(one.file, one.values, (sent) => put({ sent, rate: sent / ((performance.now() - began) / 1000) }));
    sending.current = upload;
    // The job is there long before its upload ends: it can be followed meanwhile.
    const look = setInterval(async () => {
      try {
        put({ job: (await get(`/v1/uploads/${one.values.upload_id}`)).upload.job_id });
        clearInterval(look);
      } catch { /* not yet */ }
    }, 1500);
    upload.done.then(
      (answer) => put({ state: 'done', job: answer.job.job_id, sent: one.file.size }),
      (e) => put({ state: 'failed', problem: e.job ? e.job.reason || e.message : e.message, job: e.job?.job_id || '' }),
    ).finally(() => clearInterval(look));
    return () => { gone = true; clearInterval(look); };
  }, [s.try]);
  useEffect(() => () => sending.current?.stop(), []);
  const { size } = one.file;
  const left = s.rate > 0 ? (size - s.sent) / s.rate : null;
  return html`<li class="card sending">
    <div class="head"><h3>${one.file.name}</h3><small>${bytes(size)}${one.values.project && ` · ${one.values.project}`}</small><span class="grow"></span>
      ${s.job && html`<${Link} class="button primary" to="/jobs/${s.job}">${s.state === 'done' ? `Job ${s.job}` : `Follow job ${s.job}`}<//>`}
      ${s.state === 'sending' && html`<button onClick=${() => sending.current.stop()}>Stop</button>`}
      ${s.state === 'failed' && html`<button class="primary" onClick=${() => set({ ...s, state: 'sending', problem: '', sent: 0, try: s.try + 1 })}>Try again</button>`}
      ${s.state !== 'sending' && html`<button class="quiet" aria-label="Remove ${one.file.name} from this list" onClick=${drop}>✕</button>`}</div>
    <progress max=${size || 1} value=${s.state === 'done' ? size || 1 : s.sent} aria-label="Sent of ${one.file.name}"></progress>
    <p><small>${s.state === 'done' ? 'All of it is committed.' : s.state === 'failed' ? '' :
      s.sent >= size ? 'Sent; the coordinator is reading the rest of it …' : `${percent(s.sent, size)} · ${pace(s.rate) === '–' ? '–' : `${bytes(s.rate)}/s`} · ${left === null ? '–' : duration(left)} left`}</small></p>
    ${s.problem && html`<p class="problem" role="alert">${s.problem}</p>`}</li>`;
}

export function Upload() {
  const [list, setList] = useState([]);
  const [over, setOver] = useState(false);
  const [values, setValues] = useState({ project: '', kind: '', mode: '' });
  const chosen = useRef();
  const may = useMay();
  const add = (files) => setList((old) => [...old, ...[...files].map((file) => ({
    file, id: uuid(), values: { ...values, file_name: file.name, upload_id: uuid(), size: String(file.size) },
  }))]);
  const field = (name, label, more) => html`<label>${label}<input name=${name} value=${values[name]} ...${more}
    onInput=${(e) => setValues({ ...values, [name]: e.target.value.trim() })} /></label>`;
  return html`<div class="head"><h1>Upload</h1></div>
    <form class="fields" onSubmit=${(e) => e.preventDefault()}>
      ${field('project', 'Project', { placeholder: 'needed for annotations', autocomplete: 'off' })}
      ${field('kind', 'Kind', { placeholder: 'annotations', autocomplete: 'off' })}
      <label>What is there already<select value=${values.mode} onChange=${(e) => setValues({ ...values, mode: e.target.value })}>
        <option value="">replace it</option><option value="add">add to it</option><option value="merge">merge with it</option><option value="skip">skip those documents</option></select></label>
    </form>
    <div class="drop ${over ? 'over' : ''}" onDragOver=${(e) => { e.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)}
        onDrop=${(e) => { e.preventDefault(); setOver(false); add(e.dataTransfer.files); }}>
      <p>Drop files here</p><p><button class="primary" disabled=${!may.jobs} onClick=${() => chosen.current.click()}>Choose files</button></p>
      <p><small>JSON Lines, JSON, tar or ZIP, compressed or not. Each file becomes a job.</small></p>
      <input ref=${chosen} type="file" multiple class="hidden" aria-label="Files to upload" tabindex="-1" onChange=${(e) => { add(e.target.files); e.target.value = ''; }} /></div>
    <ul class="plain" aria-label="Uploads">${list.map((one) => html`<${Sending} key=${one.id} one=${one} drop=${() => setList((old) => old.filter((o) => o !== one))} />`)}</ul>`;
}
