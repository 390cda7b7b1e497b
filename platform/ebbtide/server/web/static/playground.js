"use strict";
// The playground: send the form with fetch, and show the response as its parts arrive, with the time to each of them.
// Events of the stream: `sent` {cold}, `text` with a part of the response, then `end` with the measurements, or `fail`.
(() => {
  const {$, all, say, toast} = window.ebbtide;
  const MAX_RESPONSES = 20, MAX_SHOWN = 2000;
  let running = null;
  const seconds = value => value < 1 ? `${+(value * 1000).toPrecision(3)} ms` : `${+value.toPrecision(3)} s`;

  const shorten = text => text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;

  async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
      for (;;) {
        const {value, done} = await reader.read();
        if (done) return;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(block) || [];
          if (name) yield [name, JSON.parse(data)];
        }
      }
    } finally { reader.cancel().catch(() => {}); }
  }

  function show(form) {
    const box = $("#exchange").content.firstElementChild.cloneNode(true), data = new FormData(form);
    const chat = data.get("kind") === "chat";
    $(".said", box).textContent = chat ? shorten(data.get("message").trim()) : `${data.get("method")} ${data.get("path") || "/"}`;
    $(".answer", box).classList.add(chat ? "prose" : "code");
    $("#no-responses").replaceChildren();
    $("#responses").append(box);
    box.scrollIntoView({block: "nearest"});
    while ($("#responses").childElementCount > MAX_RESPONSES) $("#responses").firstElementChild.remove();
    const state = (tone, text) => { const part = $(".state", box); part.className = `state ${tone}`; part.lastElementChild.textContent = text; };
    return {box, chat, state, answer: $(".answer", box), measured: $(".measured", box)};
  }

  async function send(form) {
    const abort = new AbortController(), shown = show(form), start = performance.now();
    const {box, chat, state, answer, measured} = shown;
    let cold = false, text = "", first = 0, waited = null;
    running = abort;
    buttons();
    const timer = setInterval(() => {
      const passed = (performance.now() - start) / 1000;
      if (!text) measured.textContent = cold ? `No replica was ready: starting one, ${passed.toFixed(1)} s` : `${passed.toFixed(1)} s`;
    }, 100);
    try {
      const response = await fetch(form.action, {
        method: "POST", body: new URLSearchParams(new FormData(form)), signal: abort.signal, redirect: "error",
        headers: {Accept: "text/event-stream"},
      });
      if (!response.ok || !response.headers.get("content-type").startsWith("text/event-stream")) throw new Error(await problem(response));
      let ended = false;
      for await (const [name, data] of events(response.body)) {
        if (name === "sent") {
          cold = data.cold;
          // The chart marks the time until the response begins.
          if (cold) { const end = window.ebbtide.charts.wait(data.time); waited = length => end(length && data.time + length); }
          $(".cold", box).hidden = !cold;
          $(".waited", box).classList.toggle("cold", cold);
          state("wait", "Waiting");
        } else if (name === "text") {
          first ||= (performance.now() - start) / 1000;
          waited?.(first);
          waited = null;
          if (!text) { state("wait", "Receiving"); measured.textContent = `${chat ? "first token" : "first byte"} after ${seconds(first)}`; }
          text += data;
          answer.append(data);
        } else if (name === "end") {
          ended = true;
          finish(shown, data, text, chat);
        } else throw new Error(data);
      }
      if (!ended) throw new Error("The connection to Ebbtide was lost.");
    } catch (error) {
      const stopped = error.name === "AbortError";
      state(stopped ? "calm" : "bad", stopped ? "Stopped" : "No response");
      measured.textContent = stopped ? `stopped after ${seconds((performance.now() - start) / 1000)}` : error.message;
      say(stopped ? "Stopped" : error.message);
    } finally {
      clearInterval(timer);
      waited?.(0);
      running = null;
      buttons();
    }
  }
  async function problem(response) {
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    return all(".tall h1, .tall .prose", page).map(part => part.textContent.trim()).join(": ") || `The server returned status ${response.status}.`;
  }
  function finish({box, state, answer, measured}, data, text, chat) {
    const waited = data.total ? 100 * (data.first || data.total) / data.total : 100;
    state(data.status < 400 ? "good" : "bad", `${data.status} ${data.reason}`.trim());
    $(".waited", box).setAttribute("width", waited);
    $(".answered", box).setAttribute("x", waited);
    $(".answered", box).setAttribute("width", 100 - waited);
    measured.textContent = "";
    const tiles = [[chat ? "First token" : "First byte", data.first && seconds(data.first)], ["Complete", seconds(data.total)], ["Tokens/s", data.rate?.toFixed(1)]];
    for (const [name, value] of tiles.filter(([, value]) => value)) {
      const tile = document.createElement("div");
      tile.append(Object.assign(document.createElement("dt"), {textContent: name}), Object.assign(document.createElement("dd"), {textContent: value}));
      $(".tiles", box).append(tile);
    }
    $(".tiles", box).hidden = false;
    $(".cut", box).hidden = !data.cut;
    // JSON on one line is easier to read with indentation.
    try { if (!chat && !data.cut) answer.textContent = JSON.stringify(JSON.parse(text), null, 2); } catch { /* Not JSON: shown as it is. */ }
    say(`Response ${data.status} after ${seconds(data.total)}`);
  }
  function buttons() {
    if (!$("#send")) return;
    // A hidden or disabled button loses the focus.
    const focused = [$("#send"), $("#stop")].includes(document.activeElement);
    $("#stop").hidden = !running;
    $("#send").disabled = !!running;
    if (focused) $(running ? "#stop" : "#send").focus();
  }

  document.addEventListener("submit", event => {
    if (event.target.id !== "playground") return;
    event.preventDefault();
    if (!running) send(event.target);
  });
  document.addEventListener("click", event => { if (event.target.closest("#stop")) running?.abort(); });
  document.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.form?.id === "playground") { event.preventDefault(); event.target.form.requestSubmit(); }
  });
  // The command follows the form.
  let pending;
  document.addEventListener("input", event => {
    const form = event.target.form;
    if (form?.id !== "playground") return;
    clearTimeout(pending);
    pending = setTimeout(() => htmx.ajax("POST", form.action, {source: "#curl", target: "#curl", swap: "morph", values: {...Object.fromEntries(new FormData(form)), do: "curl"}}), 300);
  });
  addEventListener("pagehide", () => running?.abort());
})();
