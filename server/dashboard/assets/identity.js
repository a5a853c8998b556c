// Who looks at the pages, and what that one may do. What is not permitted is refused by the API in any case; here it is not
// offered.
import { get } from './api.js';
import { useEffect, useState } from './view.js';

let asked = null;

// useMay returns whether the reader may change jobs, and whether workers. Until that is known, nothing is offered.
export function useMay() {
  const [may, set] = useState({ jobs: false, workers: false });
  useEffect(() => {
    let gone = false;
    asked ||= get('/v1/whoami');
    asked.then((who) => {
      if (!gone) set({ jobs: !who.known || ['submitter', 'admin'].includes(who.role), workers: !who.known || (who.role === 'admin' && !who.projects.length) });
    }, () => { asked = null; });
    return () => { gone = true; };
  }, []);
  return may;
}
