// Calls of the API, and streams that come back by themselves.

// Problem is what a call that failed says.
export class Problem extends Error {
  constructor(status, body) {
    super(body?.message || `the server answered with ${status}`);
    this.status = status;
    this.reason = body?.details?.find((d) => d.reason)?.reason || '';
  }
}

async function answer(response) {
  const text = await response.text();
  let body = null;
  try { body = JSON.parse(text); } catch { /* not from the API: a proxy, perhaps */ }
  if (!response.ok) throw new Problem(response.status, body);
  return body;
}

export function query(values) {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== '') q.append(name, one);
  }
  const text = q.toString();
  return text && `?${text}`;
}

export const get = async (path, values = {}, signal) => answer(await fetch(path + query(values), { signal }));

export const post = async (path, body = {}) => answer(await fetch(path, {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
}));

// uuid names requests, also on pages that are not served over TLS, where crypto.randomUUID is missing.
export function uuid() {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  const x = [...b].map((v) => v.toString(16).padStart(2, '0')).join('');
  return [x.slice(0, 8), x.slice(8, 12), x.slice(12, 16), x.slice(16, 20), x.slice(20)].join('-');
}

const slowest = 10_000; // between two attempts to connect, in milliseconds
const final = [400, 401, 403, 404]; // answers that another attempt would not change

// follow reads server-sent events until the function it returns is called. path() is asked anew for each connection, so
// that it can say what has been seen. handlers has a function for each name of an event; 'end' closes for good, and so does
// what is wrong and stays so, which 'error' is told: probe is a path that says what is wrong when there is no stream.
// told(live) hears whether the stream is up. A page that nobody sees lets go of its connection, of which browsers have only
// six a host, and takes it up when it is seen again.
export function follow({ path, probe, told = () => {} }, handlers) {
  let source = null;
  let timer = 0;
  let wait = 500;
  let over = false;
  const close = () => { clearTimeout(timer); source?.close(); source = null; };
  const again = () => {
    close();
    if (over) return;
    told(false);
    timer = setTimeout(open, wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, slowest);
  };
  const fail = (problem) => { over = true; close(); handlers.error?.(problem); };
  const refused = async () => { // a browser does not say with what a stream was refused
    again();
    try { await get(probe); } catch (e) { if (!over && final.includes(e.status)) fail(e); }
  };
  function open() {
    close();
    if (over || document.hidden) return;
    source = new EventSource(path());
    source.onopen = () => { wait = 500; told(true); };
    source.addEventListener('error', (event) => {
      if (event.data !== undefined) { // the server's own: why the stream ends
        let body = null;
        try { body = JSON.parse(event.data); } catch { /* shown without its words */ }
        if (body?.code === 5 || body?.code === 7) fail(new Problem(404, body)); else again();
      } else if (source?.readyState === EventSource.CLOSED) {
        refused();
      } else {
        again();
      }
    });
    for (const [name, handle] of Object.entries(handlers)) {
      if (name === 'error') continue;
      source.addEventListener(name, (event) => {
        if (name === 'end') { over = true; close(); }
        handle(JSON.parse(event.data), event.data.length);
      });
    }
  }
  const seen = () => { if (document.hidden) close(); else if (!source) open(); };
  document.addEventListener('visibilitychange', seen);
  open();
  return () => { over = true; document.removeEventListener('visibilitychange', seen); close(); };
}
