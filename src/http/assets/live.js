// Puts sections of this page in place as the daemon sends them. Without this file the page reloads itself.
(() => {
  'use strict';
  const path = document.currentScript.dataset.path;
  const dot = document.getElementById('live');
  const waiting = new Map();
  const say = (state, text) => {
    if (dot.dataset.state !== state) {
      dot.dataset.state = state;
      dot.textContent = text;
    }
  };
  // Somebody who copies a text keeps it until the selection is gone.
  const isRead = (section) => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && section.contains(selection.anchorNode);
  };
  const put = (id, html) => {
    const section = document.getElementById(id);
    if (!section) return location.reload();
    if (isRead(section)) return waiting.set(id, html);
    waiting.delete(id);
    const typed = section.querySelector('input[type=search]');
    const text = typed && document.activeElement === typed ? typed.value : null;
    const open = new Map([...section.querySelectorAll('details[id]')].map((d) => [d.id, d.open]));
    const reach = 'a[href], summary, button, input, [tabindex]';
    const before = [...section.querySelectorAll(reach)];
    const focused = before.indexOf(document.activeElement);
    const target = focused < 0 ? null : before[focused].getAttribute('href');
    const scrolled = [...section.querySelectorAll('.scrolls')].map((box) => box.scrollLeft);
    section.innerHTML = html;
    for (const [name, state] of open) {
      const details = document.getElementById(name);
      if (details) details.open = state;
    }
    section.querySelectorAll('.scrolls').forEach((box, i) => { box.scrollLeft = scrolled[i] || 0; });
    if (focused >= 0) {
      const after = [...section.querySelectorAll(reach)];
      // Several links may lead to one place.
      const fits = (e) => e && (!target || e.getAttribute('href') === target);
      const same = fits(after[focused]) ? after[focused] : after.find(fits) || after[focused];
      if (same) {
        same.focus({ preventScroll: true });
        if (text !== null && same.matches('input')) same.value = text;
      }
    }
  };
  document.addEventListener('selectionchange', () => {
    for (const [id, html] of [...waiting]) put(id, html);
  });
  let source = null;
  const listen = () => {
    source = new EventSource('/live?of=' + encodeURIComponent(path));
    source.addEventListener('open', () => say('live', 'live'));
    source.addEventListener('section', (event) => {
      const { id, html } = JSON.parse(event.data);
      put(id, html);
    });
    source.addEventListener('title', (event) => { document.title = JSON.parse(event.data); });
    source.addEventListener('stale', (event) => {
      if (JSON.parse(event.data)) say('lost', 'the export folder answers slowly or not at all: this is what was known last');
      else say('live', 'live');
    });
    source.addEventListener('reload', () => { source.close(); location.reload(); });
    source.addEventListener('error', () => {
      say('lost', 'no answer: this is what was known last');
      // A browser tries again by itself, except after an answer that is no stream.
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
    });
  };
  // Nobody looks at a hidden page.
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) source.close();
    else if (source.readyState === EventSource.CLOSED) listen();
  });
  window.addEventListener('pagehide', () => source.close());
  say('wait', 'connects');
  listen();
})();
