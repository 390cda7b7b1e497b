"use strict";
// Charts with uPlot. A figure.chart contains its data as JSON, or names their address in data-src and the chart within the
// response in data-part. Charts with the same data-sync share the cursor and the zoom. The chart replaces the server's SVG
// drawing, which remains if JavaScript is off.
//
// Data: {"time": [seconds…], "unit": "s", "series": [{"label", "values": […or null], "colour": 0…5, "stepped", // prose: the key's name
// "fill", "bound"}], "whole": bool (only integers on the scale), "ceiling" and "peaks" of a scale that cuts off some values}
(() => {
  const {all, $} = window.ebbtide;
  const made = new Map();
  const FAMILY = "Geist, system-ui, sans-serif", FONT = `11px ${FAMILY}`;
  // The latest value of a curve is one of its last points, as in charts.py.
  const LATEST = 8;
  // As in app.css: thin lines, and limits, which alone are dashed. Their names are in the margin on the right, the same for all
  // charts, so that times align.
  const THIN = [2, 3, 4], LIMIT = 4, MARGIN = 108, LINE = 13;
  const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
  const colour = (name, alpha) => {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g);
    probe.remove();
    return alpha ? `rgb(${r} ${g} ${b} / ${alpha})` : `rgb(${r} ${g} ${b})`;
  };
  function number(value, unit) {
    if (value == null) return "–";
    if (unit === "s") return value < 1 ? `${+(value * 1000).toPrecision(3)} ms` : value < 120 ? `${+value.toPrecision(3)} s` : elapsed(value);
    const text = Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3));
    return unit ? `${text} ${unit}` : text;
  }
  const two = value => String(value).padStart(2, "0");
  // All ticks of an axis have the unit of the highest one.
  const ticks = (values, unit) => values.map(value => unit !== "s" ? number(value, "") : value === 0 ? "0" : Math.max(...values) < 1 ? number(value, "s") : `${+value.toPrecision(3)} s`);
  // A time of day in 24-hour format; midnight is shown as the date of the new day.
  function clock(seconds) {
    const when = new Date(seconds * 1000), time = `${two(when.getHours())}:${two(when.getMinutes())}`;
    return time === "00:00" ? when.toLocaleDateString(undefined, {day: "numeric", month: "short"}) : time;
  }
  const moment = seconds => { const when = new Date(seconds * 1000); return [when.getHours(), when.getMinutes(), when.getSeconds()].map(two).join(":"); };
  function keys(figure, data, index) {
    const list = $(".keys", figure);
    if (!list) return;
    data.series.forEach((series, at) => {
      const output = list.children[at] && $("b", list.children[at]);
      if (!output) return;
      // A curve that ended earlier has no latest value.
      const value = index == null ? series.values.slice(-LATEST).findLast(one => one != null) : series.values[index];
      output.textContent = number(value ?? null, data.unit);
    });
    const when = $(".when", figure);
    if (when) when.textContent = index == null ? "" : moment(data.time[index]);
  }
  function options(figure, plot, data) {
    const soft = colour("soft"), line = colour("line"), timed = !("untimed" in figure.dataset);
    const axis = {stroke: soft, grid: {stroke: line, width: 1}, ticks: {show: false}, font: FONT};
    return {
      width: plot.clientWidth, height: plot.clientHeight, padding: [16, MARGIN, timed ? 0 : 4, 0],
      cursor: {
        sync: figure.dataset.sync ? {key: figure.dataset.sync, setSeries: false} : undefined,
        drag: {x: true, y: false, setScale: true}, y: false, points: {size: (chart, index) => data.series[index - 1].bound ? 0 : 6},
      },
      legend: {show: false},
      scales: {x: {time: true}, y: {range: (chart, low, high) => [0, (made.get(figure)?.data ?? data).ceiling ?? (high > 0 ? high * 1.08 : 1)]}},
      axes: [
        {...axis, size: timed ? 26 : 0, space: 64, values: (chart, values) => values.map((value, index) => timed && (!index || clock(value) !== clock(values[index - 1])) ? clock(value) : "")},
        {...axis, size: 44, space: 30, ...(data.whole ? {incrs: WHOLE} : {}), values: (chart, values) => ticks(values, data.unit)},
      ],
      series: [{}, ...data.series.map(series => ({
        label: series.label, width: THIN.includes(series.colour) ? 1 : 1.5, spanGaps: false, // prose: the key's name
        stroke: strokeOf(series, data), fill: series.fill ? colour(`c${series.colour}`, .1) : undefined,
        dash: series.colour === LIMIT ? [4, 3] : undefined, points: {show: false}, // prose: the key's name
        paths: series.stepped ? uPlot.paths.stepped({align: 1}) : undefined,
      }))],
      hooks: {setCursor: [chart => {
        const at = made.get(figure);
        if (!at) return;
        keys(figure, at.data, chart.cursor.idx);
        decide(figure, chart.cursor.idx == null ? null : at.data.time[chart.cursor.idx]);
      }], draw: [chart => {
        drawLimits(chart, made.get(figure)?.data ?? data);
        drawPeaks(chart, made.get(figure)?.data ?? data);
        drawCauses(chart, made.get(figure)?.data ?? data);
        if (figure.dataset.part === "replicas") drawWaits(chart);
      }]},
    };
  }
  // The color of a curve; above its SLO, it is red.
  function strokeOf(series, data) {
    const own = colour(`c${series.colour}`), limit = data.series.find(one => one.bound && one.label === `SLO ${series.label}`)?.values[0];
    if (limit == null) return own;
    const violated = colour("bad");
    return chart => {
      const {top, height} = chart.bbox, at = (chart.valToPos(limit, "y", true) - top) / height;
      if (!(at > 0 && at < 1)) return at >= 1 ? violated : own;
      const fade = chart.ctx.createLinearGradient(0, top, 0, top + height);
      for (const [stop, color] of [[0, violated], [at, violated], [at, own], [1, own]]) fade.addColorStop(stop, color);
      return fade;
    };
  }
  // The position of each limit's name in the margin, from the top: at its line, but at least one line of text below the previous
  // one, and not below the plot.
  function placeLabels(heights, bottom) {
    const order = heights.map((height, index) => [height, index]).sort(([one], [other]) => one - other), places = [];
    let free = -Infinity;
    for (const [height, index] of order) { places[index] = Math.max(height, free); free = places[index] + LINE; }
    let limit = bottom;
    for (const [, index] of order.reverse()) { places[index] = Math.min(places[index], limit); limit = places[index] - LINE; }
    return places;
  }
  // The name and the value of each limit, in the margin next to the end of its line.
  function drawLimits(chart, {series, unit}) {
    const {ctx, bbox} = chart, ratio = devicePixelRatio, right = bbox.left + bbox.width;
    const limits = series.filter(({bound, values}) => bound && values[0] != null)
      .map(({label, values}) => ({text: `${label} ${number(values[0], unit)}`, y: chart.valToPos(values[0], "y", true)}))
      .filter(({y}) => y >= bbox.top - ratio && y <= bbox.top + bbox.height);
    const places = placeLabels(limits.map(({y}) => y / ratio), (bbox.top + bbox.height) / ratio);
    ctx.save();
    ctx.font = `${11 * ratio}px ${FAMILY}`;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    ctx.lineWidth = ratio;
    ctx.setLineDash([]);
    ctx.strokeStyle = colour("limit");
    ctx.fillStyle = colour("soft");
    limits.forEach(({text, y}, index) => {
      ctx.beginPath(); ctx.moveTo(right, y); ctx.lineTo(right + 6 * ratio, places[index] * ratio); ctx.stroke();
      ctx.fillText(text, right + 9 * ratio, places[index] * ratio);
    });
    ctx.restore();
  }
  // A mark above the plot for each peak that the scale cuts off, the highest with its value.
  function drawPeaks(chart, {peaks, unit}) {
    const {ctx, bbox} = chart, ratio = devicePixelRatio, end = bbox.left + bbox.width;
    const shown = (peaks ?? []).map(([time, value]) => [chart.valToPos(time, "x", true), value]).filter(([x]) => x >= bbox.left && x <= end);
    const highest = Math.max(...shown.map(([, value]) => value));
    ctx.save();
    ctx.font = `${11 * ratio}px ${FAMILY}`;
    ctx.fillStyle = colour("soft");
    for (const [x, value] of shown) {
      ctx.beginPath(); ctx.moveTo(x - 3 * ratio, bbox.top - ratio); ctx.lineTo(x + 3 * ratio, bbox.top - ratio); ctx.lineTo(x, bbox.top - 6 * ratio); ctx.fill();
      if (value !== highest) continue;
      const isLate = x > (bbox.left + end) / 2;
      ctx.textAlign = isLate ? "right" : "left";
      ctx.fillText(`p99 ${number(value, unit)}`, x + (isLate ? -6 : 6) * ratio, bbox.top - 3 * ratio);
    }
    ctx.restore();
  }
  // Below the curves: a band with the cause of each decision; across them: a line for each deploy, manual change, and preemption.
  function drawCauses(chart, {causes, marks, time}) {
    const {ctx, bbox} = chart, ratio = devicePixelRatio, at = moment => Math.min(Math.max(chart.valToPos(moment, "x", true), bbox.left), bbox.left + bbox.width);
    ctx.save();
    (causes ?? []).forEach(([start, cause], index) => {
      const left = at(start), end = at(causes[index + 1]?.[0] ?? time.at(-1));
      ctx.fillStyle = colour(`cause-${cause}`);
      ctx.fillRect(left, bbox.top + bbox.height - 4 * ratio, end - left, 4 * ratio);
    });
    ctx.font = `${11 * ratio}px ${FAMILY}`;
    ctx.textAlign = "left";
    let free = -Infinity;
    for (const {time: moment, kind} of marks ?? []) {
      const x = at(moment), text = MARKS[kind];
      if (x <= bbox.left || x >= bbox.left + bbox.width) continue;
      ctx.strokeStyle = ctx.fillStyle = colour("mark");
      if (kind === "cold") { ctx.beginPath(); ctx.arc(x, bbox.top + bbox.height - 10 * ratio, 3.5 * ratio, 0, 7); ctx.fill(); continue; }
      ctx.lineWidth = ratio / 2;
      ctx.setLineDash([]);
      ctx.beginPath(); ctx.moveTo(x, bbox.top - 3 * ratio); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
      if (x < free) continue;
      // The name is above the plot, where no line runs through it.
      const width = ctx.measureText(text).width;
      ctx.fillText(text, x, bbox.top - 4 * ratio);
      free = x + 6 * ratio + width;
    }
    ctx.restore();
  }
  // The cold starts of this page's own requests, [start, end or null] in seconds, each as a band with its length.
  const waits = [];
  function drawWaits(chart) {
    const {ctx, bbox} = chart, ratio = devicePixelRatio, last = chart.data[0].at(-1);
    const at = moment => Math.min(Math.max(chart.valToPos(moment, "x", true), bbox.left), bbox.left + bbox.width);
    ctx.save();
    ctx.font = `${11 * ratio}px ${FAMILY}`;
    ctx.textAlign = "left";
    for (const [start, end] of waits) {
      const left = at(start), right = at(end ?? last);
      if (right <= left) continue;
      ctx.fillStyle = colour("load", .16);
      ctx.fillRect(left, bbox.top, Math.max(right - left, ratio), bbox.height);
      ctx.fillStyle = colour("text");
      const text = end ? `cold start ${number(end - start, "s")}` : "cold start";
      ctx.fillText(text, Math.max(bbox.left, Math.min(left, bbox.left + bbox.width - ctx.measureText(text).width)), bbox.top + 22 * ratio);
    }
    ctx.restore();
  }
  function wait(start) {
    const row = [start, null];
    waits.push(row);
    return end => { if (end) row[1] = end; else waits.splice(waits.indexOf(row), 1); for (const {chart} of made.values()) chart.redraw(); };
  }
  const MARKS = {deploy: "deploy", scale: "manual", preempted: "preempted", rescale: "HPA", cold: ""};
  // The decision under the cursor, in the words of `ebbtide why`.
  const decisions = new Map();
  let wanted = null, asking = 0;
  function decide(figure, time) {
    const place = figure.dataset.decisions && $(".decision", figure);
    if (!place) return;
    place.dataset.idle ??= place.textContent;
    wanted = time;
    clearTimeout(asking);
    if (time == null) { place.textContent = place.dataset.idle; return; }
    const address = `${figure.dataset.decisions}&at=${time}`;
    const show = ({reasons}) => {
      const past = $("#past-at");
      if (past) past.value = new Date(time * 1000).toISOString();
      place.replaceChildren(Object.assign(document.createElement("b"), {textContent: `${moment(time)} `}), reasons.map(({words}) => words[0].toUpperCase() + words.slice(1)).join(". "));
    };
    if (decisions.has(address)) return show(decisions.get(address));
    asking = setTimeout(async () => {
      const found = await fetched(address);
      if (!found) return;
      if (decisions.size > 500) decisions.clear();
      decisions.set(address, found);
      if (wanted === time) show(found);
    }, 80);
  }
  const shapeOf = data => JSON.stringify(data.series.map(series => [series.label, series.colour]));
  const values = data => [data.time, ...data.series.map(series => series.values)];
  function draw(figure, data) {
    const plot = $(".plot", figure), old = made.get(figure);
    if (!data.time.length || !data.series.some(series => series.values.some(value => value != null))) return;
    if (old?.data === data) return;
    const shape = shapeOf(data);
    if (old && old.shape === shape) {
      old.data = data;
      const zoomed = old.zoomed();
      old.chart.setData(values(data), !zoomed);
      if (zoomed) old.chart.redraw();
      if (old.chart.cursor.idx == null) keys(figure, data, null);
      return;
    }
    if (old) end(figure);
    const size = plot.getBoundingClientRect();
    if (!size.width) return;
    plot.replaceChildren();
    const chart = new uPlot(options(figure, plot, data), values(data), plot);
    const watch = new ResizeObserver(() => {
      if (plot.clientWidth && (plot.clientWidth !== chart.width || plot.clientHeight !== chart.height))
        chart.setSize({width: plot.clientWidth, height: plot.clientHeight});
    });
    watch.observe(plot);
    made.set(figure, {chart, data, shape, watch, zoomed: () => {
      const {min, max} = chart.scales.x, time = made.get(figure).data.time;
      return min != null && (max - min) < (time[time.length - 1] - time[0]) * .95;
    }});
    keys(figure, data, null);
  }
  function end(figure) {
    const old = made.get(figure);
    if (!old) return;
    old.watch.disconnect();
    old.chart.destroy();
    made.delete(figure);
  }
  async function load(figure) {
    const inside = $("script[type='application/json']", figure);
    if (inside) return draw(figure, JSON.parse(inside.textContent));
    const data = await request(figure.dataset.src);
    const chart = data && figure.dataset.part ? data[figure.dataset.part] : data;
    if (chart && figure.isConnected) draw(figure, chart);
  }
  // Figures with the same address share one response, which is requested again when the next points are due. A lost connection is shown by app.js.
  const answers = new Map();
  const fetched = address => fetch(address, {headers: {Accept: "application/json"}}).then(answer => answer.ok ? answer.json() : null).catch(() => null);
  function request(address) {
    const known = answers.get(address);
    if (known && performance.now() < known.due) return known.charts;
    const answer = {due: Infinity};
    answer.charts = (async () => {
      const charts = await fetched(address) ?? await known?.charts;
      const {time} = Object.values(charts ?? {})[0] ?? {time: []};
      answer.due = performance.now() + (time.length > 1 ? Math.min(Math.max(time[1] - time[0], 5), 15) - 1 : 3) * 1000;
      return charts;
    })();
    answers.set(address, answer);
    return answer.charts;
  }
  async function refresh() {
    for (const figure of [...made.keys()]) if (!figure.isConnected) end(figure);
    if (document.hidden) return;
    const figures = all("figure.chart");
    for (const address of [...answers.keys()]) if (!figures.some(({dataset}) => dataset.src === address)) answers.delete(address);
    await Promise.all(figures.map(load));
  }
  // Keyboard: arrow keys move the cursor, + and - zoom, 0 shows all.
  document.addEventListener("keydown", event => {
    const plot = event.target.closest?.(".chart .plot"), at = plot && made.get(plot.closest("figure"));
    if (!at) return;
    const {chart, data} = at, count = data.time.length, {min, max} = chart.scales.x;
    const idx = chart.cursor.idx ?? count - 1, middle = data.time[idx] ?? (min + max) / 2;
    const first = data.time[0], last = data.time[count - 1];
    const zoom = (from, to) => chart.setScale("x", {min: Math.max(first, from), max: Math.min(last, to)});
    const step = event.shiftKey ? 10 : 1, size = max - min;
    const go = to => chart.setCursor({left: chart.valToPos(data.time[Math.max(0, Math.min(count - 1, to))], "x"), top: 10}, true, true);
    const moves = {
      ArrowLeft: () => go(idx - step), ArrowRight: () => go(idx + step), Home: () => go(0), End: () => go(count - 1),
      "+": () => zoom(middle - size / 4, middle + size / 4), "-": () => zoom(middle - size, middle + size), 0: () => zoom(first, last),
    };
    if (moves[event.key]) { event.preventDefault(); moves[event.key](); }
  });
  let timer = 0;
  for (const name of ["changed", "beat"]) document.body.addEventListener(name, () => {
    if (timer || !$("figure.chart[data-src]")) return;
    timer = setTimeout(() => { timer = 0; refresh(); }, 4000);
  });
  document.addEventListener("htmx:afterSwap", refresh);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { [...made.keys()].forEach(end); refresh(); });
  window.ebbtide.charts = {refresh, made, wait, waits, placeLabels};
  // The page is painted before its charts, which are static images until then.
  requestAnimationFrame(() => setTimeout(refresh));
})();
