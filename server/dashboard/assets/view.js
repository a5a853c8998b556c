// What every part is written with.
const { h, render } = window.preact;
export const { useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback } = window.preactHooks;
export const html = window.htm.bind(h);
export { render };
