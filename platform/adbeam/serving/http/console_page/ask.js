// The request form: ads, their semantic IDs, and how the catalogue narrows along the one that is selected.

import { call, Refused } from "./api.js";
import { element, number } from "./shown.js";
import { showWhy } from "./why.js";

const field = (id) => document.getElementById(id);
let asked = null;
let chosen = null;

export function showScenes(scenes) {
  if (field("scene").options.length === scenes.length) return;
  field("scene").replaceChildren(...scenes.map((scene) => element("option", { value: scene }, scene)));
}

export function listen() {
  field("request").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(ask);
  });
  field("event").addEventListener("click", () => attempt(record));
}

async function attempt(what) {
  try {
    await what();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(error.message, true);
  }
}

async function ask() {
  asked = request();
  field("answer").hidden = true;
  say("asking");
  const key = field("admin_key").value;
  const answer = await call("v1/ads", key ? { ...asked, debug: true } : asked, key);
  chosen = null;
  field("event").hidden = true;
  if (answer === null) return say("no ad matches");
  const { served } = answer;
  const by = { model: "Decoded", cache: "From the cache", fallback: "Popular ads" }[served.source];
  const how = served.widths ? ` at widths ${served.widths.join(" · ")} of ${served.full_widths.join(" · ")}, rung ${served.rung + 1}` : "";
  const who = served.cold_start ? "; nothing is known about the user" : "";
  say(`${by}${how}: ${number(served.queue_ms)} ms of waiting, ${number(served.decode_ms)} ms of decoding, model ${served.model_version}${who}.`);
  field("ads").replaceChildren(...answer.ads.map(row));
  showWhy(answer.debug);
  field("answer").hidden = false;
  if (!answer.ads.length) return field("path").replaceChildren();
  await choose(answer.ads[0], field("ads").rows[0]);
}

function request() {
  const list = (id) => field(id).value.split(",").map((text) => text.trim()).filter(Boolean);
  const body = { count: Number(field("count").value), scene: field("scene").value };
  if (field("user_id").value) body.user_id = field("user_id").value;
  if (field("deadline_ms").value) body.deadline_ms = Number(field("deadline_ms").value);
  if (field("context").value) body.context = told("context");
  if (field("profile").value) body.user = told("profile");
  const items = list("history");
  const now = Date.now();
  if (items.length) body.history = items.map((item_id, place) => ({ item_id, timestamp: now - (items.length - place) * 60_000 }));
  body.filters = { blocked_categories: list("blocked"), exclude_seen: field("exclude_seen").checked };
  return body;
}

function told(id) {
  try {
    return JSON.parse(field(id).value);
  } catch {
    throw new Refused(0, `${id}: not JSON, as in {"os": "ios"}`);
  }
}

function row(ad) {
  const title = element("button", { type: "button", "aria-pressed": "false" }, ad.title || ad.item_id);
  const made = element("tr", {},
    element("td", {}, title, element("span", { class: "id" }, ad.item_id)),
    element("td", {}, ...ad.sid.map((code) => element("span", { class: "code" }, String(code)))),
    ...[ad.score, ad.probability, ad.expected_ecpm].map((value) => element("td", { class: "number" }, value === null ? "–" : number(value))));
  title.addEventListener("click", () => attempt(() => choose(ad, made)));
  return made;
}

async function choose(ad, made) {
  chosen = ad;
  for (const other of field("ads").rows) {
    other.className = other === made ? "chosen" : "";
    other.querySelector("button").setAttribute("aria-pressed", String(other === made));
  }
  field("event").hidden = !asked.user_id;
  if (!ad.sid.length) return field("path").replaceChildren(element("li", {}, "This ad has no semantic ID."));
  const path = await call(`v1/path?sid=${ad.sid.join(".")}`);
  if (chosen !== ad) return;
  const whole = path.steps.length === ad.sid.length + 1;
  const shown = path.steps.map((step) => prefix(step, ad.sid.length));
  if (!whole) shown.push(element("li", {}, "No longer live."));
  field("path").replaceChildren(...shown);
}

function prefix(step, levels) {
  const codes = step.prefix.map((code) => element("span", { class: "code" }, String(code)));
  const last = step.prefix.length === levels;
  const words = last
    ? [plural(step.leaves, "live ad")]
    : [plural(step.branches, "live branch", "live branches"), `${plural(step.leaves, "live ID")} below`];
  return element("li", {}, ...(codes.length ? codes : [element("span", { class: "code" }, "start")]),
    ...words.map((text) => element("p", {}, text)));
}

async function record() {
  const event = {
    event_id: crypto.randomUUID?.() ?? `console-${Date.now()}-${Math.random()}`, request_id: "console", user_id: asked.user_id,
    item_id: chosen.item_id, timestamp: Date.now(), action: "conversion", scene: asked.scene,
  };
  if (chosen.price !== null) event.price = chosen.price;
  await call("v1/events", { events: [event] });
  say(`Recorded a conversion of ${chosen.item_id} by ${asked.user_id}; ask again to see what it changes.`);
}

function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

function say(text, bad = false) {
  field("outcome").textContent = text;
  field("outcome").className = bad ? "bad" : "";
}
