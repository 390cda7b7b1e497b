"use strict";
// Page behavior: live updates of parts, dialogs, copy buttons, and times in the reader's time zone. Without this script every
// page can still be read and every form can be submitted.
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Morphing: updates a part of the page in place, so that focus, scroll position, open details, and charts are kept.
  function attributes(old, fresh) {
    for (const {name, value} of [...fresh.attributes])
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const {name} of [...old.attributes])
      if (!fresh.hasAttribute(name) && !(name === "open" && old.localName === "details")) old.removeAttribute(name);
  }
  function alike(old, fresh) {
    return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && (old.id || "") === (fresh.id || "");
  }
  function morph(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) {
        old.nodeValue = fresh.nodeValue;
        old.parentElement?.closest("[data-flash]")?.classList.add("changed");
      }
      return;
    }
    if (old.hasAttribute("data-keep") && old.getAttribute("data-keep") === fresh.getAttribute("data-keep")) return;
    const announced = old.getAttribute("data-say");
    const wasChanged = old.classList.contains("changed");
    const copyShown = !old.hidden && fresh.hidden && old.classList.contains("copy");
    attributes(old, fresh);
    if (wasChanged) old.classList.add("changed");
    if (copyShown) old.hidden = false;
    if (announced !== null && announced !== fresh.getAttribute("data-say")) say(fresh.getAttribute("data-say"));
    if (old === document.activeElement && "value" in old) return;
    const named = new Map(), kept = new Set([...fresh.children].map(child => child.id).filter(Boolean));
    for (const child of [...old.children]) if (child.id) kept.has(child.id) ? named.set(child.id, child) : drop(child);
    let place = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      let match = next.id ? named.get(next.id) : null;
      if (!match && !next.id) {
        // A line that disappeared before it must not replace a kept part.
        match = place;
        while (match && (match.id || !alike(match, next) || match.dataset?.keep !== next.dataset?.keep)) match = match.nextSibling;
      }
      if (match && !alike(match, next)) match = null;
      if (!match) { old.insertBefore(next, place); continue; }
      if (match === place) place = place.nextSibling; else old.insertBefore(match, place);
      morph(match, next);
    }
    while (place) { const next = place.nextSibling; drop(place); place = next; }
  }
  function drop(node) {
    if (node.nodeType === Node.ELEMENT_NODE) node.dispatchEvent(new CustomEvent("dropped", {bubbles: true}));
    node.remove();
  }
  function renew(target, fragment) {
    const focused = document.activeElement, fresh = fragment.firstElementChild;
    if (!fresh) return;
    morph(target, fresh);
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({preventScroll: true});
    ready(target);
  }
  htmx.defineExtension("morph", {
    isInlineSwap: style => style === "morph",
    handleSwap: (style, target, fragment) => {
      if (style !== "morph") return false;
      renew(target, fragment);
      return [target];
    },
  });

  // A part that updates itself is sent only if it changed.
  const shown = new WeakMap();
  document.addEventListener("htmx:configRequest", event => {
    const {elt, target, path, headers} = event.detail, known = shown.get(target);
    if (elt === target && known?.path === path) headers["If-None-Match"] = known.tag;
  });
  // htmx writes an aborted request to the console as an error, unless the details name no error.
  document.addEventListener("htmx:beforeSend", event => { event.detail.error = ""; });
  document.addEventListener("htmx:afterSwap", event => {
    const {target, xhr, requestConfig} = event.detail, tag = xhr.getResponseHeader("ETag");
    if (tag && requestConfig.elt === target) shown.set(target, {path: requestConfig.path, tag}); else shown.delete(target);
  });

  // Announcements for screen readers, and toasts.
  let announcements = [];
  function say(text) {
    if (!text) return;
    announcements.push(text);
    if (announcements.length === 1) setTimeout(() => { $("#say").textContent = announcements.slice(0, 5).join(". "); announcements = []; }, 400);
  }
  let toastTimer;
  function toast(text, kind) {
    $(".toast")?.remove();
    const box = document.createElement("div");
    box.className = `toast notice ${kind}`;
    box.setAttribute("role", kind === "bad" ? "alert" : "status");
    box.textContent = text;
    document.body.append(box);
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => box.remove(), 6000);
  }

  // Prepare a new part of the page: show copy buttons, and convert times to the reader's time zone.
  function ready(root) {
    for (const button of all("button.copy[hidden]", root)) button.hidden = false;
    for (const time of all("time[datetime]:not([data-told])", root)) {
      const when = new Date(time.dateTime);
      if (isNaN(when)) continue;
      time.dataset.told = "";
      time.title = time.dateTime;
      const today = when.toDateString() === new Date().toDateString();
      time.textContent = today ? clock(when) : `${when.toLocaleDateString(undefined, {day: "numeric", month: "short", year: "numeric"})}, ${clock(when)}`;
    }
    // On a narrow screen, the selected tab must be visible.
    for (const chosen of all(".tabs [aria-current], .side nav [aria-current]", root)) {
      const strip = chosen.parentElement;
      if (strip.scrollWidth > strip.clientWidth && (chosen.offsetLeft < strip.scrollLeft || chosen.offsetLeft + chosen.offsetWidth > strip.scrollLeft + strip.clientWidth))
        strip.scrollLeft = chosen.offsetLeft - (strip.clientWidth - chosen.offsetWidth) / 2;
    }
  }
  // A time of day in 24-hour format.
  const clock = when => [when.getHours(), when.getMinutes(), when.getSeconds()].map(part => String(part).padStart(2, "0")).join(":");

  document.addEventListener("click", async event => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      try {
        await navigator.clipboard.writeText(copy.dataset.copy);
        copy.classList.add("done");
        say("Copied");
        setTimeout(() => copy.classList.remove("done"), 1500);
      } catch { toast("Copying failed: the browser denied access to the clipboard.", "bad"); }
      return;
    }
    for (const menu of all("details[data-menu][open]")) if (!menu.contains(event.target) && !event.target.closest("dialog")) menu.open = false;
    if (event.target.closest("[aria-disabled=true]")) { event.preventDefault(); return; }
    if (event.target.closest("[data-close]")) { event.preventDefault(); $("#dialog").close(); }
    else if (event.target === $("#dialog")) $("#dialog").close();
  });

  document.addEventListener("keydown", event => {
    const menu = event.key === "Escape" && event.target.closest?.("details[data-menu][open]");
    if (menu) { menu.open = false; $("summary", menu).focus(); }
  });

  // Dialogs: a link or form that targets #dialog opens it; the focus then returns to the opener.
  document.addEventListener("htmx:afterSwap", event => {
    const dialog = $("#dialog");
    if (event.detail.target === dialog && !dialog.open) dialog.showModal();
    const first = event.detail.target === dialog && ($("[autofocus]", dialog) || $("[aria-invalid=true]", dialog));
    if (first) first.focus();
    ready(event.detail.target);
  });
  $("#dialog").addEventListener("close", () => $("#dialog").replaceChildren());
  document.addEventListener("htmx:responseError", event => {
    const errorPage = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
    const parts = all(".notice strong, .notice span", errorPage).map(part => part.textContent.trim());
    toast(parts.join(": ") || `The server returned status ${event.detail.xhr.status}.`, "bad");
  });
  document.addEventListener("animationend", event => event.target.classList.remove("changed"));

  // The change stream: parts listen for `changed` and `beat` on the body. A hidden page closes the stream.
  const address = document.body.dataset.live;
  let source = null, lost = null, fails = 0, retryTimer, watch;
  // The server sends an event every second. A connection that is silent, as after a network failure without a reset, is lost.
  const SILENCE = 2500;
  function heard() {
    clearTimeout(watch);
    watch = setTimeout(() => source && fail(), SILENCE);
  }
  function show() {
    lost ??= new Date();
    $("#lost-since").textContent = clock(lost);
    $("#lost").hidden = false;
  }
  function fail() {
    fails += 1;
    show();
    clearTimeout(watch);
    source?.close(); source = null;
    clearTimeout(retryTimer);
    retryTimer = setTimeout(connect, Math.min(1000 * 2 ** (fails - 1), 15000));
  }
  function connect() {
    if (!address || source || document.hidden) return;
    source = new EventSource(address);
    heard();
    source.addEventListener("open", () => {
      heard();
      if (fails) htmx.trigger(document.body, "changed");
      fails = 0; lost = null;
      document.body.dataset.heard = "";
      $("#lost").hidden = true;
    });
    source.addEventListener("alive", heard);
    for (const name of ["changed", "beat"]) source.addEventListener(name, () => { heard(); htmx.trigger(document.body, name); });
    source.addEventListener("error", fail);
  }
  function disconnect() { clearTimeout(retryTimer); clearTimeout(watch); source?.close(); source = null; }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return disconnect();
    connect();
    if (address) htmx.trigger(document.body, "changed");
  });
  addEventListener("offline", () => address && fail());
  addEventListener("online", () => { disconnect(); connect(); });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);

  window.ebbtide = {renew, say, toast, ready, all, $, reconnect: () => { disconnect(); connect(); }};
  ready(document);
  connect();
})();
