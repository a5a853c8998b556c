// Before anything is drawn: the colors that somebody chose here. Without a choice they are those of the system.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem('theme'); } catch { /* storage is off: the system's */ }
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
