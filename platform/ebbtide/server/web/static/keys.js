"use strict";
// Keyboard shortcuts: / focuses the search, ? lists all shortcuts, and g followed by a letter opens a page. None of them works
// while the focus is in a field or with a modifier key.
(() => {
  const {$, say} = window.ebbtide;
  const PAGES = {o: ["/overview", "Overview"], w: ["/workloads", "Workloads"], n: ["/new", "New inference"], p: ["/projects", "Projects"], c: ["/cluster", "Cluster"], s: ["/simulate", "Simulate"]};
  const element = (name, content = "", attributes = {}) => Object.assign(document.createElement(name), {textContent: content, ...attributes});
  let prefix = -Infinity;

  function list() {
    const dialog = $("#dialog"), box = element("div", "", {className: "dialog"}), rows = element("dl", "", {className: "shortcuts"});
    const all = [["/", "Search the workloads"], ["?", "Show this list"], ...Object.entries(PAGES).map(([key, [, label]]) => [`g ${key}`, label]), ["Esc", "Close a dialog"]];
    for (const [key, label] of all) {
      const term = element("dt");
      for (const part of key.split(" ")) term.append(element("kbd", part), " ");
      rows.append(term, element("dd", label));
    }
    const close = element("button", "Close", {type: "button", className: "button"});
    close.dataset.close = "";
    const actions = element("div", "", {className: "actions"});
    actions.append(close);
    box.append(element("h2", "Keyboard shortcuts", {id: "dialog-title"}), rows, actions);
    dialog.replaceChildren(box);
    dialog.showModal();
    close.focus();
  }
  function search() {
    const field = $("#log-search") || $("#q");
    if (!field) { location.assign("/workloads#q"); return; }
    field.focus();
    field.select();
  }
  document.addEventListener("keydown", event => {
    // The editor is in a shadow root: outside of it, the event's target is the root's host.
    const target = event.composedPath()[0];
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || target.closest?.("input, textarea, select, [contenteditable], dialog")) return;
    const follows = performance.now() - prefix < 1500;
    prefix = -Infinity;
    if (follows && PAGES[event.key]) { event.preventDefault(); location.assign(PAGES[event.key][0]); }
    else if (event.key === "g") { prefix = performance.now(); say("Go to: o, w, n, p, c or s"); }
    else if (event.key === "/") { event.preventDefault(); search(); }
    else if (event.key === "?") { event.preventDefault(); list(); }
  });
  if (location.hash === "#q") search();
})();
