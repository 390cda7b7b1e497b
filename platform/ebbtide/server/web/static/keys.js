"use strict";
// Keyboard shortcuts: / focuses the search, j and k the next and previous workload, ? lists all shortcuts, and g followed by
// a letter opens a page. None of them works while the focus is in a field or with a modifier key. Ctrl+K opens a list of
// workloads, projects, pages, and actions.
(() => {
  const {$, all, say} = window.ebbtide;
  const PAGES = {o: ["/overview", "Overview"], w: ["/workloads", "Workloads"], n: ["/new", "New inference"], p: ["/projects", "Projects"], c: ["/cluster", "Cluster"], m: ["/costs", "Costs"], s: ["/simulate", "Simulate"]};
  const element = (name, content = "", attributes = {}) => Object.assign(document.createElement(name), {textContent: content, ...attributes});
  let prefix = -Infinity;

  function list() {
    const dialog = $("#dialog"), box = element("div", "", {className: "dialog"}), rows = element("dl", "", {className: "shortcuts"});
    const rowsOfKeys = [["Ctrl K", "Find a workload, project, page, or action"], ["/", "Search the workloads"], ["j", "Next workload"], ["k", "Previous workload"], ["?", "Show this list"], ...Object.entries(PAGES).map(([key, [, label]]) => [`g ${key}`, label]), ["Esc", "Close a dialog"]];
    for (const [key, label] of rowsOfKeys) {
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
  // The list of Ctrl+K. The server searches the workloads; the projects are those of its filter.
  function palette() {
    const dialog = $("#dialog"), box = element("div", "", {className: "palette"}), found = element("ul", "", {id: "found", role: "listbox", ariaLabel: "Results"});
    const field = element("input", "", {type: "text", placeholder: "Find a workload, project, or page", role: "combobox", autocomplete: "off", spellcheck: false, ariaLabel: "Find a workload, project, or page", ariaExpanded: "true", ariaAutoComplete: "list"});
    field.setAttribute("aria-controls", "found");
    const actions = all(".titled .actions a[href]").map(link => [link.firstChild.textContent.trim(), `action on ${$("h1").textContent}`, link.href]);
    const pages = Object.values(PAGES).map(([address, label]) => [label, "page", address]);
    let remote = [], asked, chosen = 0;
    const show = () => {
      const text = field.value.trim().toLowerCase(), entries = [...remote, ...actions, ...pages].filter(([label]) => label.toLowerCase().includes(text)).slice(0, 12);
      chosen = Math.max(0, Math.min(chosen, entries.length - 1));
      found.replaceChildren(...entries.map(([label, kind, address], index) => {
        const entry = element("li", "", {id: `found-${index}`, role: "option", ariaSelected: String(index === chosen)});
        entry.dataset.address = address;
        entry.append(element("span", label), element("span", kind, {className: "soft"}));
        return entry;
      }));
      entries.length ? field.setAttribute("aria-activedescendant", `found-${chosen}`) : field.removeAttribute("aria-activedescendant");
      if (!entries.length) found.append(element("li", "Nothing found", {className: "soft"}));
      $(`#found-${chosen}`)?.scrollIntoView({block: "nearest"});
    };
    const ask = async () => {
      const text = field.value.trim(), answer = await fetch(`/workloads?${new URLSearchParams({q: text})}`).catch(() => null);
      if (!answer?.ok || text !== field.value.trim()) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      remote = [
        ...all("#grid a.name", page).map(link => [link.textContent, "workload", link.getAttribute("href")]),
        ...all("#in-project option:not([value])", page).map(({textContent}) => [textContent, "project", `/workloads?${new URLSearchParams({project: textContent})}`]),
      ];
      show();
    };
    field.addEventListener("input", () => { chosen = 0; show(); clearTimeout(asked); asked = setTimeout(ask, 120); });
    field.addEventListener("keydown", event => {
      const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
      if (step) { event.preventDefault(); chosen += step; show(); }
      else if (event.key === "Enter") { event.preventDefault(); go($(`#found-${chosen}`)); }
    });
    const go = entry => { if (entry?.dataset.address) location.assign(entry.dataset.address); };
    found.addEventListener("click", event => go(event.target.closest("li")));
    box.append(element("h2", "Find", {id: "dialog-title", className: "hide"}), field, found);
    dialog.replaceChildren(box);
    dialog.showModal();
    field.focus();
    show();
    ask();
  }
  document.addEventListener("click", event => { if (event.target.closest("#find")) palette(); });
  function search() {
    const field = $("#log-search") || $("#q");
    if (!field) { location.assign("/workloads#q"); return; }
    field.focus();
    field.select();
  }
  document.addEventListener("keydown", event => {
    // The editor is in a shadow root: outside of it, the event's target is the root's host.
    const target = event.composedPath()[0];
    if ((event.ctrlKey || event.metaKey) && event.key === "k" && $("#find") && !$("#dialog").open) { event.preventDefault(); palette(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || target.closest?.("input, textarea, select, [contenteditable], dialog")) return;
    // The time of the key press: a busy page handles it later.
    const follows = event.timeStamp - prefix < 1500;
    prefix = -Infinity;
    if (follows && PAGES[event.key]) { event.preventDefault(); location.assign(PAGES[event.key][0]); }
    else if (event.key === "g") { prefix = event.timeStamp; say("Go to: o, w, n, p, c, m or s"); }
    else if (event.key === "j" || event.key === "k") {
      const rows = all("#grid a.name"), index = rows.indexOf(document.activeElement) + (event.key === "j" ? 1 : -1);
      rows[Math.max(0, Math.min(index, rows.length - 1))]?.focus();
    }
    else if (event.key === "/") { event.preventDefault(); search(); }
    else if (event.key === "?") { event.preventDefault(); list(); }
  });
  if (location.hash === "#q") search();
})();
