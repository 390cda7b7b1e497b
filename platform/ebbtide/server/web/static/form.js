"use strict";
// The YAML editor: each response updates the text, unless it is focused or was changed after the request was sent.
(() => {
  const {all, $} = window.ebbtide;
  let sent = new Map();
  const value = field => field.type === "checkbox" || field.type === "radio" ? field.checked : field.value;
  const fields = form => all("input:not([type=hidden]), textarea", form);

  document.addEventListener("htmx:beforeRequest", event => {
    const form = event.target.closest?.("form[data-follow]");
    if (form) sent = new Map(fields(form).map(field => [field.id || field.name + field.value, value(field)]));
  });
  document.addEventListener("htmx:afterSwap", event => {
    const form = event.target.closest?.("form[data-follow]");
    if (!form) return;
    for (const field of fields(form)) {
      const known = sent.get(field.id || field.name + field.value);
      if (field === document.activeElement && !/^(radio|checkbox)$/.test(field.type) || known !== undefined && known !== value(field)) continue;
      if (field.type === "checkbox" || field.type === "radio") field.checked = field.defaultChecked;
      else if (field.value !== field.defaultValue) field.value = field.defaultValue;
    }
    editor();
  });

  let rich = null, loading = false;
  // The editor: line numbers, and a Tab key that indents. After Escape, Tab moves the focus.
  let leave = false;
  function editor() {
    const text = $("#yaml"), lines = $("#lines");
    if (!text || !lines) return;
    if (rich) { $("#editor").classList.add("rich"); rich.sync(text.value); mark(); }
    const count = text.value.split("\n").length;
    text.rows = count + 1;
    while (lines.children.length > count) lines.lastElementChild.remove();
    while (lines.children.length < count) lines.append(Object.assign(document.createElement("i"), {textContent: lines.children.length + 1}));
  }
  document.addEventListener("input", event => { if (event.target.id === "yaml") { $("#editor").classList.add("typed"); editor(); } });
  // The colors below the text scroll with it.
  document.addEventListener("scroll", event => { if (event.target.id === "yaml") $("#colors").scrollLeft = event.target.scrollLeft; }, true);
  document.addEventListener("keydown", event => {
    if (event.target.id !== "yaml") return;
    if (event.key === "Escape") leave = true;
    else if (event.key === "Tab" && !event.shiftKey && !leave && !event.ctrlKey && !event.altKey) {
      event.preventDefault();
      event.target.setRangeText("  ", event.target.selectionStart, event.target.selectionEnd, "end");
      event.target.dispatchEvent(new Event("input", {bubbles: true}));
    } else if (event.key !== "Shift") leave = false;
  });
  document.addEventListener("click", event => {
    const link = event.target.closest("[data-line]");
    if (!link) return;
    event.preventDefault();
    if (rich) return rich.select(+link.dataset.line);
    const text = $("#yaml"), rows = text.value.split("\n"), number = +link.dataset.line;
    const start = rows.slice(0, number - 1).reduce((sum, row) => sum + row.length + 1, 0);
    text.focus();
    text.setSelectionRange(start, start + (rows[number - 1] || "").length);
    $("#lines").children[number - 1]?.scrollIntoView({block: "center"});
  });
  // The editor with highlighting and completion replaces the textarea when it is first used; if it cannot be loaded, the
  // textarea stays. It runs in a shadow root of #code.
  async function enrich() {
    const box = $("#editor");
    if (!box || rich || loading) return;
    loading = true;
    try {
      const fields = fetch(box.dataset.fields).then(response => response.ok ? response.json() : {});
      await new Promise((done, failed) => document.head.append(Object.assign(document.createElement("script"), {src: box.dataset.script, onload: done, onerror: failed})));
      const tree = await fields;
      // The user may have typed and selected while this loaded.
      const text = $("#yaml"), {selectionStart, selectionEnd} = text, focused = document.activeElement === text;
      $("#code").hidden = false;
      rich = window.ebbtideEditor.edit($("#code"), text, tree);
      $("#editor").classList.add("rich");
      mark();
      if (focused) { rich.focus(); rich.place(selectionStart, selectionEnd); }
    } catch { /* The textarea works too. */ }
  }
  function mark() {
    rich.mark(all("i[title]", $("#lines")).map(item => ({line: +item.textContent, severity: item.className, message: item.title})));
  }
  document.addEventListener("focusin", event => { if (event.target.id === "yaml") enrich(); });
  document.addEventListener("pointerover", event => { if (event.target.closest?.("#editor")) enrich(); });
  editor();
})();
