// What the pages do when scripts run. Everything works without, but for being live.
"use strict";
(() => {
  // morph makes the element a what b is, and leaves in place what is the same, so that
  // focus, selection and a screen reader's place stay where they are.
  const morph = (a, b) => {
    if (a.nodeType !== b.nodeType || a.nodeName !== b.nodeName || (a.id || "") !== (b.id || "")) { a.replaceWith(b); return; }
    if (a.nodeType !== Node.ELEMENT_NODE) { if (a.data !== b.data) a.data = b.data; return; }
    for (const { name } of [...a.attributes]) if (!b.hasAttribute(name) && name !== "open") a.removeAttribute(name);
    for (const { name, value } of b.attributes) if (a.getAttribute(name) !== value) a.setAttribute(name, value);
    morphChildren(a, b);
  };
  const morphChildren = (a, b) => {
    const known = new Map();
    for (const e of a.children) if (e.id) known.set(e.id, e);
    let next = a.firstChild;
    for (const want of [...b.childNodes]) {
      const have = want.id ? known.get(want.id) : (next && !next.id && next.nodeName === want.nodeName ? next : null);
      if (!have) { a.insertBefore(want, next); continue; }
      if (have === next) next = next.nextSibling; else a.insertBefore(have, next);
      morph(have, want);
    }
    while (next) { const gone = next; next = next.nextSibling; gone.remove(); }
  };

  // A page that is live names its stream in data-live. While nobody looks at the page
  // there is no stream, so that many tabs do not hold the few connections of a browser.
  const root = document.querySelector("[data-live]");
  const note = document.getElementById("connection");
  const say = (text) => { note.textContent = text; note.hidden = text === ""; };
  const silence = 40000; // ms without a sign of life
  let source = null, watchdog = 0, again = 0, tries = 0, over = false;
  const close = () => { clearTimeout(watchdog); clearTimeout(again); if (source) source.close(); source = null; };
  const alive = () => { tries = 0; clearTimeout(watchdog); watchdog = setTimeout(lost, silence); };
  const lost = () => {
    close();
    if (over || document.hidden) return;
    say("No connection to the daemon. What is shown may be old. Trying again…");
    again = setTimeout(open, Math.min(15000, 1000 * 2 ** Math.min(tries++, 4)) * (0.8 + 0.4 * Math.random()));
  };
  const open = () => {
    close();
    if (over || document.hidden) return;
    source = new EventSource(root.dataset.live);
    watchdog = setTimeout(lost, silence);
    source.onopen = () => { alive(); say(""); };
    source.onerror = lost;
    source.addEventListener("beat", alive);
    source.addEventListener("trouble", (e) => { alive(); const text = JSON.parse(e.data); say(text === "" ? "" : "Not up to date: " + text); });
    source.addEventListener("end", () => { over = true; close(); say("The session has ended. Reload the page to sign in."); });
    source.addEventListener("part", (e) => {
      alive();
      const { id, html } = JSON.parse(e.data);
      const at = document.getElementById(id);
      if (!at) return;
      const t = document.createElement("template");
      t.innerHTML = html;
      morphChildren(at, t.content);
      if (window.htmx) window.htmx.process(at);
    });
  };
  if (root) {
    document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else open(); });
    window.addEventListener("pagehide", close);
    window.addEventListener("pageshow", (e) => { if (e.persisted) open(); });
    open();
  }

  // A box with data-all chooses all boxes of that name in its form.
  document.addEventListener("change", (e) => {
    const name = e.target.dataset && e.target.dataset.all;
    if (!name) return;
    for (const box of document.querySelectorAll(`input[type=checkbox][name="${CSS.escape(name)}"]`)) box.checked = e.target.checked;
  });

  // A form that is on its way is not sent twice.
  document.addEventListener("submit", (e) => {
    if (e.target.dataset.sent && Date.now() - e.target.dataset.sent < 3000) { e.preventDefault(); return; }
    e.target.dataset.sent = Date.now();
  });
})();
