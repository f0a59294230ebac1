// The tiles, the ladder and the policy: one /v1/status a second, two minutes of it in memory.

import { element, number } from "./shown.js";

const KEPT = 120;
const lines = { load: [], width: [], latency: [], replicas: [] };

export function showStatus(status) {
  const { recent } = status;
  tile("load", number(status.arrivals_per_second), status.arrivals_per_second, "Load in requests a second",
    `${status.in_flight} in flight, ${status.queue_depth} waiting, ${percent(status.utilisation)} busy`);
  const width = status.widths.at(-1);
  tile("width", number(width), width, "Beam width of the last level",
    `rung ${status.rung + 1} of ${status.ladder.length}: ${status.widths.join(" · ")} of ${status.full_widths.join(" · ")}`);
  tile("latency", recent.p95_ms === null ? "–" : number(recent.p95_ms), recent.p95_ms ?? 0, "Latency p95 in milliseconds",
    recent.answers ? `p50 ${number(recent.p50_ms)}, p99 ${number(recent.p99_ms)}; ${degraded(recent)}` : "no answers in ten seconds");
  const running = status.replicas?.RUNNING ?? 0;
  tile("replicas", status.replicas ? number(running) : "–", status.demand_full_width, "Replicas needed at full width",
    `${status.demand_full_width.toFixed(2)} needed here at full width${others(status.replicas)}`);
  document.getElementById("source").textContent =
    `Answered by ${status.replica ?? "the only replica"}; its model was loaded ${number(status.model_age_seconds)} s ago. ` +
    `It decodes in ${status.precision.chosen}: ${status.precision.reason}. ` +
    "Load, width and latency are of the replica that answers; the lines show two minutes.";
  document.getElementById("processor").textContent = processor(status.processor);
  ladder(status);
  policy(status.policy_settings);
}

function tile(id, shown, value, label, note) {
  const box = document.getElementById(id);
  box.querySelector(".value").textContent = shown;
  box.querySelector(".note").textContent = note;
  const line = lines[id];
  line.push(value);
  if (line.length > KEPT) line.shift();
  spark(box.querySelector(".spark"), line, label);
}

function spark(svg, line, label) {
  const most = Math.max(...line, 1e-9);
  const at = (value, place) => `${(200 * (KEPT - line.length + place)) / (KEPT - 1)},${38 - (36 * value) / most}`;
  const points = line.map(at);
  const first = (200 * (KEPT - line.length)) / (KEPT - 1);
  svg.replaceChildren(
    drawn("area", `M${first},40 L${points.join(" L")} L200,40 Z`),
    drawn("line", `M${points.join(" L")}`),
  );
  svg.setAttribute("aria-label", `${label}, last ${line.length} seconds: now ${number(line.at(-1))}, at most ${number(most)}`);
}

function drawn(name, d) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("class", name);
  path.setAttribute("d", d);
  return path;
}

function ladder(status) {
  const sum = (widths) => widths.reduce((total, width) => total + width, 0);
  const widest = sum(status.ladder[0]);
  document.getElementById("ladder").replaceChildren(...status.ladder.map((widths, rung) => {
    const bar = element("span", { class: "bar" });
    bar.style.width = `${(100 * sum(widths)) / widest}%`;
    const step = element("li", {}, element("span", {}, widths.join(" · ")), bar);
    if (rung === status.rung) step.setAttribute("aria-current", "true");
    return step;
  }));
}

function policy(settings) {
  const rows = Object.entries(settings).flatMap(([name, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? Object.entries(value).map(([inner, held]) => [`${name}.${inner}`, held])
      : [[name, value]]);
  const shown = rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, [value].flat().join(", "))]);
  document.getElementById("policy").replaceChildren(...shown);
}

/** What a batch's time was: work of its own, or waiting for a processor that others had. */
function processor({ window_seconds: seconds, off_cpu_share: waited, pressure_share: pressure, steal_share: steal }) {
  const shares = waited === null
    ? [`no batches in ${number(seconds)} s`]
    : [`own ${percent(1 - waited)}, waited ${percent(waited)} of the decode time of ${number(seconds)} s`];
  if (pressure !== null) shares.push(`pressure ${percent(pressure)}`);
  if (steal !== null) shares.push(`stolen ${percent(steal)}`);
  return `Processor: ${shares.join("; ")}`;
}

function degraded({ by_source: sources, answers }) {
  const by = (name) => percent(sources[name] / answers);
  return `${by("model")} by the model, ${by("cache")} cache, ${by("fallback")} popular`;
}

function others(replicas) {
  const rest = Object.entries(replicas ?? {}).filter(([state]) => state !== "RUNNING");
  return rest.map(([state, count]) => `, ${count} ${state.toLowerCase()}`).join("");
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}
