// The map of a job's batches: a cell for each, in its place, colored by its state.
import { follow } from './api.js';
import { Key } from './parts.js';
import { count } from './words.js';
import { html, useEffect, useLayoutEffect, useRef, useState } from './view.js';

// The letters of the protocol; their places are the numbers that are kept of them.
const letters = 'prcfxks';
const names = ['pending', 'running', 'completed', 'failed', 'crashed', 'cancelled', 'split'];
const colors = ['--pending', '--flight', '--stored', '--failed', '--crashed', '--cancelled', '--split'];
const bad = (state) => state === 3 || state === 4;

// apply returns the states after runs, as the protocol writes them, of those before.
export function apply(before, runs, total) {
  const out = new Uint8Array(total);
  out.set(before.subarray(0, total));
  let at = 0;
  for (let i = 0; i < runs.length;) {
    const state = letters.indexOf(runs[i++]);
    let n = 0;
    let given = false;
    while (i < runs.length && runs.charCodeAt(i) <= 57 && runs.charCodeAt(i) >= 48) { n = n * 10 + runs.charCodeAt(i++) - 48; given = true; }
    if (!given) n = 1;
    if (state >= 0) out.fill(state, at, at + n);
    at += n;
  }
  return out;
}

export function useMap(id, run) {
  const [map, set] = useState({ states: new Uint8Array(0), loaded: false });
  useEffect(() => {
    let states = new Uint8Array(0);
    return follow({ path: () => `/v1/jobs/${id}/batches:watch`, probe: `/v1/jobs/${id}` }, {
      batches: (m) => {
        states = apply(states, m.states || '', m.batches || 0);
        set({ states, loaded: true });
      },
      end: () => {},
    });
  }, [id, run]);
  return map;
}

// Sizes: cells as large as they can be in so much height.
const highest = 300;
function layout(width, n) {
  let cell = Math.floor(Math.sqrt((width * highest) / Math.max(n, 1)));
  cell = Math.max(2, Math.min(14, cell));
  const columns = Math.max(1, Math.floor(width / cell));
  return { cell, columns, rows: Math.ceil(n / columns), gap: cell > 4 ? 1 : 0 };
}

export function BatchMap({ states, open }) {
  const canvas = useRef();
  const mark = useRef();
  const pressed = useRef(false);
  const drawn = useRef({ key: '', states: new Uint8Array(0) });
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState(-1); // where the pointer, or the keyboard, is
  const [look, setLook] = useState(0); // changes with the colors
  const n = states.length;
  const l = layout(width || 600, n);

  useLayoutEffect(() => {
    const box = canvas.current.parentElement;
    setWidth(box.clientWidth);
    const observer = new ResizeObserver(() => setWidth(box.clientWidth));
    observer.observe(box);
    const turned = () => setLook((x) => x + 1);
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', turned);
    window.addEventListener('theme', turned);
    return () => { observer.disconnect(); dark.removeEventListener('change', turned); window.removeEventListener('theme', turned); };
  }, []);

  useLayoutEffect(() => { // draws what differs from what is drawn
    if (!width) return;
    const ratio = window.devicePixelRatio || 1;
    const key = [l.cell, l.columns, l.rows, ratio, look].join();
    const before = drawn.current;
    const context = canvas.current.getContext('2d', { alpha: true });
    const anew = before.key !== key;
    if (anew) {
      canvas.current.width = l.columns * l.cell * ratio;
      canvas.current.height = Math.max(1, l.rows * l.cell * ratio);
      canvas.current.style.width = `${l.columns * l.cell}px`;
      canvas.current.style.height = `${l.rows * l.cell}px`;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(document.documentElement);
    const side = l.cell - l.gap;
    for (let state = 0; state < colors.length; state++) {
      context.fillStyle = style.getPropertyValue(colors[state]);
      for (let i = 0; i < n; i++) {
        if (states[i] !== state || (!anew && i < before.states.length && before.states[i] === state)) continue;
        context.fillRect((i % l.columns) * l.cell, Math.floor(i / l.columns) * l.cell, side, side);
      }
    }
    drawn.current = { key, states };
  }, [states, width, look]);

  useLayoutEffect(() => {
    const s = mark.current.style;
    s.display = at < 0 || at >= n ? 'none' : 'block';
    s.transform = `translate(${(at % l.columns) * l.cell - 2}px, ${Math.floor(at / l.columns) * l.cell - 2}px)`;
    s.width = s.height = `${l.cell - l.gap + 4}px`;
  }, [at, l.cell, l.columns, n]);

  const cellAt = (event) => {
    const box = canvas.current.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / l.cell);
    const i = Math.floor((event.clientY - box.top) / l.cell) * l.columns + column;
    return column >= 0 && column < l.columns && i >= 0 && i < n ? i : -1;
  };
  const nextBad = (from) => {
    for (let k = 1; k <= n; k++) if (bad(states[(from + k + n) % n])) return (from + k + n) % n;
    return -1;
  };
  const key = (event) => {
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -l.columns, ArrowDown: l.columns, PageUp: -10 * l.columns, PageDown: 10 * l.columns,
      Home: -n, End: n,
    };
    if (event.key in steps) setAt(Math.max(0, Math.min(n - 1, Math.max(at, 0) + (at < 0 ? 0 : steps[event.key]))));
    else if (event.key === 'Enter' || event.key === ' ') pressed.current = true; // opened when it is let go, or that would close it
    else if (event.key === 'n') { const i = nextBad(at); if (i >= 0) setAt(i); } else return;
    event.preventDefault();
  };
  const released = (event) => {
    if (pressed.current && (event.key === 'Enter' || event.key === ' ') && at >= 0) open(at);
    pressed.current = false;
  };
  const totals = new Array(names.length).fill(0);
  for (let i = 0; i < n; i++) totals[states[i]]++;
  const here = at >= 0 && at < n;
  return html`<div class="map">
    <div class="plane"><canvas ref=${canvas} tabindex="0" role="application" aria-roledescription="map of batches"
        aria-label="${count(n)} batches. Arrow keys move, n goes to the next bad one, Enter opens."
        onMouseMove=${(e) => setAt(cellAt(e))} onMouseLeave=${() => setAt(-1)} onKeyDown=${key} onKeyUp=${released} onFocus=${() => at < 0 && n && setAt(0)}
        onClick=${(e) => { const i = cellAt(e); if (i >= 0) open(i); }}></canvas><i class="mark" ref=${mark}></i></div>
    <div class="under"><span class="here" aria-live="polite">${here ? `batch ${count(at + 1)}: ${names[states[at]]}` : ''}</span><ul class="legend">${names.map((name, i) => totals[i] > 0 && html`<li key=${name}><${Key} name=${name} /> <b>${count(totals[i])}</b></li>`)}</ul>
      ${totals[3] + totals[4] > 0 && html`<button onClick=${() => { const i = nextBad(at); setAt(i); open(i); }}>Next bad one</button>`}</div>
  </div>`;
}
