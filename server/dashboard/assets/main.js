// The frame of all pages, and which page is shown.
import { html, render, useEffect, useState } from './view.js';
import { Jobs } from './jobs.js';
import { Job } from './job.js';
import { Statistics } from './statistics.js';
import { Upload } from './upload.js';
import { Workers } from './workers.js';
import { Link, Notices, path, usePath } from './parts.js';

const pages = [
  { at: /^\/$/, name: 'Jobs', page: () => html`<${Jobs} />` },
  { at: /^\/jobs\/(\d+)$/, name: 'Job', page: (id) => html`<${Job} key=${id} id=${id} />` },
  { at: /^\/upload$/, name: 'Upload', page: () => html`<${Upload} />` },
  { at: /^\/workers$/, name: 'Workers', page: () => html`<${Workers} />` },
  { at: /^\/statistics$/, name: 'Statistics', page: () => html`<${Statistics} />` },
];

const links = [['/', 'Jobs'], ['/upload', 'Upload'], ['/workers', 'Workers'], ['/statistics', 'Statistics']];

function Theme() {
  const root = document.documentElement;
  const [theme, choose] = useState(root.dataset.theme || 'auto');
  const next = { auto: 'light', light: 'dark', dark: 'auto' }[theme];
  const turn = () => {
    if (next === 'auto') delete root.dataset.theme; else root.dataset.theme = next;
    try { localStorage.setItem('theme', next); } catch { /* it lasts until the page is left */ }
    choose(next);
    window.dispatchEvent(new Event('theme'));
  };
  return html`<button class="quiet theme" onClick=${turn} title="Colors: ${theme}. Click for ${next}."
    aria-label="Colors: ${theme}; change to ${next}">${{ auto: '◐', light: '☀', dark: '☾' }[theme]}</button>`;
}

function App() {
  const at = usePath();
  const found = pages.map((p) => [p, p.at.exec(at)]).find(([, m]) => m);
  useEffect(() => {
    if (!found) document.title = 'Tallyman';
    else if (found[0].name !== 'Job') document.title = `${found[0].name} · Tallyman`;
  }, [at]);
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <header class="top">
      <${Link} class="brand" to="/"><img src=${new URL('icon.svg', import.meta.url).href} alt="" width="22" height="22" />Tallyman<//>
      <nav aria-label="Pages">${links.map(([to, name]) => html`
        <${Link} to=${to} aria-current=${at === to || (to === '/' && at.startsWith('/jobs/')) ? 'page' : undefined}>${name}<//>`)}
        <a href="/api">API</a>
      </nav>
      <${Theme} />
    </header>
    <main id="main" tabindex="-1">${found ? found[0].page(...found[1].slice(1)) : html`
      <h1>There is no such page</h1><p><${Link} to="/">All jobs<//></p>`}</main>
    <${Notices} />`;
}

const app = document.getElementById('app');
app.replaceChildren();
render(html`<${App} />`, app);
path.ready();
