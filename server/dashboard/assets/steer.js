// What can be done to a job. Everything that changes it is asked about first.
import { post, uuid } from './api.js';
import { useMay } from './identity.js';
import { Confirm, notice } from './parts.js';
import { count, isOpen, plural } from './words.js';
import { html, useState } from './view.js';

export function Steer({ job, p }) {
  const [asked, ask] = useState('');
  const may = useMay();
  const close = () => ask('');
  const id = job.job_id;
  const call = (verb, body, done) => async () => { await post(`/v1/jobs/${id}:${verb}`, body); notice(done); };
  const retryable = ['BATCH_STATE_FAILED', 'BATCH_STATE_CRASHED', 'BATCH_STATE_CANCELLED'].reduce((n, s) => n + (p.batches[s] || 0), 0);
  const state = job.state.replace('JOB_STATE_', '');
  if (!may.jobs) return html`<div class="steer"></div>`;
  return html`<div class="steer" role="group" aria-label="Steer the job">
    ${state === 'RUNNING' && html`<button onClick=${() => ask('pause')}>Pause</button>`}
    ${state === 'PAUSED' && html`<button class="primary" onClick=${() => ask('resume')}>Resume</button>`}
    ${retryable > 0 && state !== 'CANCELLING' && html`<button class=${isOpen(job) ? '' : 'primary'} onClick=${() => ask('retry')}>Retry ${plural(retryable, 'batch', 'batches')}</button>`}
    ${['RUNNING', 'PAUSED'].includes(state) && html`<button onClick=${() => ask('cancel')}>Cancel</button>`}
    ${asked === 'pause' && html`<${Confirm} title="Pause job ${id}?" action="Pause" close=${close} done=${call('pause', {}, `Job ${id} is paused.`)}>
      <p>No batch of it is claimed until it is resumed. The ${count(p.batches.BATCH_STATE_RUNNING || 0)} that run are given back; what is done stays done.</p><//>`}
    ${asked === 'resume' && html`<${Confirm} title="Resume job ${id}?" action="Resume" close=${close} done=${call('resume', {}, `Job ${id} goes on.`)}>
      <p>Its batches are claimed again.</p><//>`}
    ${asked === 'cancel' && html`<${Confirm} title="Cancel job ${id}?" action="Cancel the job" danger close=${close} done=${call('cancel', { reason: 'cancelled on the dashboard' }, `Job ${id} is being cancelled.`)}>
      <p>${plural(p.open, 'item')} without an outcome end as cancelled. What is stored stays stored. They can be retried later.</p><//>`}
    ${asked === 'retry' && html`<${Confirm} title="Retry job ${id}?" action="Retry" close=${close} done=${call('retry', { request_id: uuid() }, `Job ${id} tries ${plural(retryable, 'batch', 'batches')} again.`)}>
      <p>${plural(retryable, 'batch', 'batches')} that failed, crashed or were cancelled are tried again. Items with an outcome of their own keep it.</p><//>`}
  </div>`;
}
