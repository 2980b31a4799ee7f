// The list of VMs: only rows that are near what is seen are in the page, and what was
// chosen stays chosen while one searches and scrolls. Without this, the list has pages.
"use strict";
(() => {
  const form = document.getElementById("choice");
  const chosen = new Map(); // path → bytes
  const told = document.getElementById("chosen");
  const none = document.getElementById("choose-none");
  const boxes = () => form.querySelectorAll("input[name=vm]");

  const tell = () => {
    if (!told) return;
    let bytes = 0;
    for (const n of chosen.values()) bytes += n;
    told.textContent = chosen.size === 0 ? "" : `${chosen.size} chosen, ${(bytes / 2 ** 30).toFixed(1)} GiB`;
    none.hidden = chosen.size === 0;
  };
  const mark = () => { for (const box of boxes()) box.checked = chosen.has(box.value); };
  form.addEventListener("change", (e) => {
    if (e.target.name !== "vm") return;
    if (e.target.checked) chosen.set(e.target.value, Number(e.target.dataset.bytes)); else chosen.delete(e.target.value);
    tell();
  });
  if (none) none.addEventListener("click", () => { chosen.clear(); mark(); tell(); });
  // What was chosen and is not in the page goes with the form, too.
  form.addEventListener("submit", (e) => {
    for (const old of form.querySelectorAll("input.carried")) old.remove();
    if (e.submitter && e.submitter.name === "all") return;
    const here = new Set([...boxes()].map((box) => box.value));
    for (const path of chosen.keys()) {
      if (here.has(path)) continue;
      const carried = document.createElement("input");
      carried.type = "hidden"; carried.name = "vm"; carried.value = path; carried.className = "carried";
      form.append(carried);
    }
  });

  // Windows of rows.
  let wanted = null; // the request that is on its way
  const height = (list) => { const row = list.querySelector(".rows tr"); return row ? row.getBoundingClientRect().height : 40; };
  const pad = (list, where, rows, h) => {
    const body = list.querySelector(where);
    let cell = body.querySelector("td");
    if (rows > 0 && !cell) { cell = body.insertRow().insertCell(); cell.className = "pad"; }
    if (rows === 0) { body.replaceChildren(); return; }
    cell.style.height = `${rows * h}px`;
    cell.colSpan = [...list.querySelectorAll("thead th")].filter((th) => th.offsetWidth > 0).length; // a column more would take room
  };
  const lay = (list) => {
    const total = Number(list.dataset.total), from = Number(list.dataset.from), count = list.querySelectorAll(".rows tr").length, h = height(list);
    pad(list, ".above", from, h);
    pad(list, ".below", Math.max(total - from - count, 0), h);
  };
  const look = (list) => {
    const size = Number(list.dataset.size), total = Number(list.dataset.total);
    const count = list.querySelectorAll(".rows tr").length, have = Number(list.dataset.from);
    const first = Math.floor(list.scrollTop / height(list)), seen = Math.ceil(list.clientHeight / height(list));
    const enough = have <= Math.max(first - 20, 0) && have + count >= Math.min(first + seen + 20, total);
    if (enough) return;
    const from = Math.max(0, Math.floor(first / size) * size - size);
    if (wanted && wanted.list === list) return; // what is seen then is looked at when it has come
    const mine = wanted = { list };
    fetch(`${list.dataset.rows}&from=${from}&count=${3 * size}`, { headers: { "HX-Request": "true" } })
      .then((r) => {
        if (!r.ok || r.headers.has("HX-Redirect")) throw new Error(String(r.status));
        if (r.headers.get("Inventory-Version") !== list.dataset.version && list === shown && window.htmx)
          window.htmx.ajax("GET", list.dataset.list, { target: "#list", swap: "outerHTML" }); // it was read again meanwhile
        return r.text();
      })
      .then((html) => {
        if (wanted !== mine) return; // another list is shown
        wanted = null;
        const t = document.createElement("template");
        t.innerHTML = html;
        const held = document.activeElement && document.activeElement.name === "vm" ? document.activeElement.value : null;
        list.querySelector(".rows").replaceChildren(t.content);
        list.dataset.from = from;
        mark();
        lay(list);
        if (held !== null) for (const box of boxes()) if (box.value === held) box.focus({ preventScroll: true });
        look(list);
      })
      .catch(() => { if (wanted === mine) { wanted = null; setTimeout(() => look(list), 2000); } });
  };
  let shown = null, place = null; // the list that is in the page, and where one looks at it
  let held = null; // the box that has the focus, while the list is made anew
  const begin = () => {
    const list = form.querySelector(".virtual");
    if (list === shown) return; // something else was swapped
    shown = list;
    mark();
    if (!list) return;
    list.classList.add("scrolls");
    const from = Number(list.dataset.from);
    lay(list);
    if (place && place.rows === list.dataset.rows) { // the same list, read again: it stays where it was
      list.scrollTop = place.top;
      look(list);
    } else list.scrollTop = from * height(list);
    const keep = () => { place = { rows: list.dataset.rows, top: list.scrollTop }; };
    keep();
    list.addEventListener("scroll", () => { if (list === shown) keep(); look(list); }, { passive: true });
    if (held !== null) for (const box of boxes()) if (box.value === held) box.focus({ preventScroll: true });
    held = null;
  };
  begin();
  document.addEventListener("htmx:beforeSwap", () => { const at = document.activeElement; held = at && at.name === "vm" ? at.value : null; });
  document.addEventListener("htmx:afterSwap", begin);
  window.addEventListener("resize", () => { const list = form.querySelector(".virtual"); if (list) { lay(list); look(list); } });
  tell();
})();
