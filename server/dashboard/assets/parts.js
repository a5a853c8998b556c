// Parts that pages are made of.
import { html, useEffect, useLayoutEffect, useRef, useState } from './view.js';
import { count, jobState, outcomeName, outcomes, slug } from './words.js';

// path is where the reader is. Only go() changes it, and the browser's own buttons.
const listeners = new Set();
export const path = {
  go(to) {
    history.pushState(null, '', to);
    listeners.forEach((tell) => tell());
    document.getElementById('main')?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  },
  replace(to) { history.replaceState(null, '', to); },
  ready() { document.documentElement.dataset.ready = 'true'; },
};
window.addEventListener('popstate', () => listeners.forEach((tell) => tell()));

export function usePath() {
  const [at, set] = useState(location.pathname);
  useEffect(() => {
    const tell = () => set(location.pathname);
    listeners.add(tell);
    return () => listeners.delete(tell);
  }, []);
  return at;
}

export function Link({ to, children, ...rest }) {
  const click = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || event.button) return;
    event.preventDefault();
    path.go(to);
  };
  return html`<a href=${to} onClick=${click} ...${rest}>${children}</a>`;
}

// useNow returns the time, anew every so many milliseconds.
export function useNow(every = 1000) {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

export const State = ({ job }) => html`<span class="state ${slug(jobState(job))}">${jobState(job)}</span>`;

// Bar is a job's progress: a part for each outcome, what runs, and what is left. total may be more than what is known yet.
export function Bar({ p, total, label }) {
  let x = 0;
  const part = (name, n) => {
    if (!n || !total) return null;
    const width = (100 * n) / total;
    const drawn = html`<rect key=${name} class="fill ${name}" x=${x} y="0" width=${width} height="10" />`;
    x += width;
    return drawn;
  };
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label=${label}>
    ${outcomes.map((o) => part(slug(outcomeName(o)), p.items[o]))}${part('in-flight', p.flying)}</svg>`;
}

export const Key = ({ name, children }) => html`<span class="key"><i class="swatch ${slug(name)}"></i>${children || name}</span>`;

export function Outcomes({ p }) {
  return html`<ul class="legend" aria-label="Items by outcome">
    ${outcomes.map((o) => html`<li key=${o} class=${p.items[o] ? '' : 'none'}><${Key} name=${outcomeName(o)} /> <b>${count(p.items[o] || 0)}</b></li>`)}
    <li><${Key} name="in flight" /> <b>${count(p.flying)}</b></li>
    <li><${Key} name="open" /> <b>${count(p.open - p.flying)}</b></li></ul>`;
}

// Live says whether what is shown is as it is now.
export const Live = ({ state }) => html`<span class="live ${state}" role="status">${
  { live: 'live', ended: 'ended', wait: 'reconnecting …', load: 'loading …' }[state]}</span>`;

// Notices are short words about what was done, which go by themselves.
let told = [];
let tell = () => {};
export function notice(text, bad = false) {
  const one = { text, bad, id: Math.random() };
  told = [...told.slice(-2), one];
  tell();
  setTimeout(() => { told = told.filter((n) => n !== one); tell(); }, bad ? 12_000 : 5_000);
}
export function Notices() {
  const [, set] = useState(0);
  useEffect(() => { tell = () => set((n) => n + 1); return () => { tell = () => {}; }; }, []);
  return html`<div class="notices" aria-live="polite">${told.map((n) => html`
    <div key=${n.id} class=${n.bad ? 'notice bad' : 'notice'}>${n.text}</div>`)}</div>`;
}

// Dialog is a modal window. The browser keeps the focus in it, and Escape closes it.
export function Dialog({ title, close, children, wide }) {
  const box = useRef();
  useLayoutEffect(() => {
    const dialog = box.current;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return html`<dialog ref=${box} class=${wide ? 'wide' : ''} aria-labelledby="dialog-title" onCancel=${(e) => { e.preventDefault(); close(); }}
      onClick=${(e) => e.target === box.current && close()}>
    <div class="inside"><header><h2 id="dialog-title">${title}</h2><button class="quiet" onClick=${close} aria-label="Close">✕</button></header>
    ${children}</div></dialog>`;
}

// Confirm asks before something is done, and says what went wrong.
export function Confirm({ title, children, action, danger, done, close }) {
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState('');
  const act = async (event) => {
    event.preventDefault();
    setBusy(true);
    try { await done(); close(); } catch (e) { setFailed(e.message); setBusy(false); }
  };
  return html`<${Dialog} title=${title} close=${close}><form onSubmit=${act}>${children}
    ${failed && html`<p class="problem" role="alert">${failed}</p>`}
    <div class="actions"><button type="button" onClick=${close}>No, go back</button>
      <button class=${danger ? 'danger' : 'primary'} disabled=${busy}>${action}</button></div></form><//>`;
}

// Pager turns pages of a list that is known as a whole.
export function Pager({ page, pages, turn, children }) {
  return html`<div class="pager"><span>${children}</span>
    ${pages > 1 && html`<span role="group" aria-label="Pages">
      <button onClick=${() => turn(0)} disabled=${page === 0} aria-label="First page">«</button>
      <button onClick=${() => turn(page - 1)} disabled=${page === 0} aria-label="Page before">‹</button>
      <span class="where">${count(page + 1)} of ${count(pages)}</span>
      <button onClick=${() => turn(page + 1)} disabled=${page >= pages - 1} aria-label="Next page">›</button>
      <button onClick=${() => turn(pages - 1)} disabled=${page >= pages - 1} aria-label="Last page">»</button></span>`}</div>`;
}
