"use strict";
// Follow a log: scroll with its end while the reader is there, keep only the latest lines, and allow pausing.
(() => {
  const MAX_LINES = 5000;
  const {$, say} = window.ebbtide;
  let source = null, queued = [], paused = false, address = "", fails = 0, retryTimer;

  const state = (tone, text) => {
    const box = $("#log-state");
    if (!box) return;
    box.className = `state ${tone}`;
    box.lastElementChild.textContent = text;
  };
  function add(lines, ours = false) {
    const log = $("#log");
    if (!log) return;
    const end = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
    const part = document.createDocumentFragment();
    for (const line of lines.slice(-MAX_LINES)) {
      const row = document.createElement("p");
      row.textContent = line;
      if (ours) row.className = "ours";
      mark(row);
      part.append(row);
    }
    log.append(part);
    while (log.childElementCount > MAX_LINES) log.firstElementChild.remove();
    if (end) log.scrollTop = log.scrollHeight;
  }
  // Search: only the lines with the text are shown, and the text is marked in them.
  const needle = () => $("#log-search")?.value.trim().toLowerCase() ?? "";
  function mark(row, text = needle()) {
    const line = row.textContent, at = text ? line.toLowerCase().indexOf(text) : -1;
    row.classList.toggle("found", at >= 0);
    if (at < 0) { if (row.children.length) row.textContent = line; return; }
    row.replaceChildren(line.slice(0, at), Object.assign(document.createElement("mark"), {textContent: line.slice(at, at + text.length)}), line.slice(at + text.length));
  }
  function search() {
    const log = $("#log"), text = needle();
    if (!log) return;
    log.classList.toggle("filtered", text !== "");
    for (const row of log.children) mark(row, text);
    if (text) say(`${log.querySelectorAll(".found").length} of ${log.childElementCount} lines`);
    else log.scrollTop = log.scrollHeight;
  }
  function stop() { clearTimeout(retryTimer); source?.close(); source = null; }
  function follow() {
    stop();
    const log = $("#log");
    if (!log) { address = ""; return; }
    address = log.dataset.stream;
    state("wait", "Connecting");
    source = new EventSource(address);
    let fresh = true;
    source.addEventListener("open", () => { fails = 0; state("good", paused ? "Paused" : "Following"); });
    source.addEventListener("lines", event => {
      // A new connection starts with the latest lines, which replace the ones shown.
      if (fresh) { log.replaceChildren(); fresh = false; }
      const lines = JSON.parse(event.data);
      if (!paused) return add(lines);
      queued.push(...lines);
      if (queued.length > MAX_LINES) queued.splice(0, queued.length - MAX_LINES);
      state("calm", `Paused, ${queued.length} new line${queued.length === 1 ? "" : "s"}`);
    });
    source.addEventListener("end", event => {
      const why = JSON.parse(event.data);
      add([why || "The container has stopped, or its pod was deleted."], true);
      state(why ? "bad" : "calm", "Ended");
      stop();
    });
    source.addEventListener("error", () => {
      stop();
      fails += 1;
      state("bad", "Connection lost");
      retryTimer = setTimeout(follow, Math.min(1000 * 2 ** fails, 15000));
    });
  }
  function togglePause() {
    paused = !paused;
    const button = $("#log-pause");
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Follow" : "Pause";
    if (!paused) { add(queued); queued = []; const log = $("#log"); log.scrollTop = log.scrollHeight; }
    state(paused ? "calm" : "good", paused ? "Paused" : "Following");
    say(paused ? "Log paused" : "Following the log");
  }
  function begin() {
    const log = $("#log");
    if (!log) return stop();
    for (const id of ["#log-pause", "#log-clear"]) $(id).hidden = false;
    if (log.dataset.stream !== address) { queued = []; follow(); log.scrollTop = log.scrollHeight; }
  }
  document.addEventListener("click", event => {
    if (event.target.closest("#log-pause")) togglePause();
    else if (event.target.closest("#log-clear")) $("#log").replaceChildren();
  });
  document.addEventListener("input", event => { if (event.target.id === "log-search") search(); });
  document.addEventListener("keydown", event => { if (event.target.id === "log-search" && event.key === "Enter") event.preventDefault(); });
  document.addEventListener("change", event => {
    if (event.target.id === "log-wrap") $("#log").classList.toggle("wide", !event.target.checked);
    if (event.target.id === "container") event.target.form.submit();
  });
  document.addEventListener("visibilitychange", () => document.hidden ? stop() : $("#log") && follow());
  document.addEventListener("htmx:afterSwap", begin);
  addEventListener("pagehide", stop);
  begin();
})();
