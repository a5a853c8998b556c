// A line over time.
import { html, useEffect, useLayoutEffect, useRef } from './view.js';
import { brief } from './words.js';

const height = 150;

export function Chart({ times, values, label }) {
  const box = useRef();
  const plot = useRef();
  const last = useRef([times, values]);
  last.current = [times, values];
  useLayoutEffect(() => {
    const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
    const axis = { stroke: () => color('--soft'), grid: { stroke: () => color('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
    const made = new window.uPlot({
      width: Math.max(box.current.clientWidth, 100), height, legend: { show: false }, cursor: { y: false, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
      axes: [{ ...axis }, { ...axis, size: 52, values: (_, ticks) => ticks.map(brief) }],
      series: [{}, { stroke: () => color('--flight'), fill: () => `${color('--flight')}22`, width: 1.5, points: { show: false } }],
    }, last.current, box.current);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: Math.max(box.current.clientWidth, 100), height }));
    observer.observe(box.current);
    const turned = () => made.redraw();
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', turned);
    window.addEventListener('theme', turned);
    return () => { observer.disconnect(); dark.removeEventListener('change', turned); window.removeEventListener('theme', turned); made.destroy(); };
  }, []);
  useEffect(() => plot.current.setData(last.current), [times, values]);
  const now = values.length ? values[values.length - 1] : 0;
  return html`<div class="chart" role="img" aria-label="${label}: ${brief(now || 0)} now" ref=${box}></div>`;
}
