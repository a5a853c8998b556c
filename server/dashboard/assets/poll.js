// What is looked at again and again, while somebody sees it.
import { get } from './api.js';
import { useEffect, useState } from './view.js';

// usePoll returns what a path answers, with query values, anew every so many milliseconds.
export function usePoll(path, values, every) {
  const [state, set] = useState({ data: null, live: 'load', problem: '' });
  const [turn, setTurn] = useState(0);
  const key = JSON.stringify([path, values]);
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const look = async () => {
      clearTimeout(timer);
      if (document.hidden) return;
      try {
        const data = await get(path, values, stop.signal);
        set({ data, live: 'live', problem: '' });
      } catch (e) {
        if (stop.signal.aborted) return;
        set((s) => ({ ...s, live: 'wait', problem: e.status ? e.message : '' }));
      }
      timer = setTimeout(look, every);
    };
    document.addEventListener('visibilitychange', look);
    look();
    return () => { stop.abort(); clearTimeout(timer); document.removeEventListener('visibilitychange', look); };
  }, [key, turn]);
  return [state, () => setTurn((n) => n + 1)];
}
