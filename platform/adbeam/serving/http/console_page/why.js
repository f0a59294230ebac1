// Why an answer is what it is: what the model was told, the rules that ads have passed, and those that others failed.

import { element, number } from "./shown.js";

const NONE = "–";

/** Fill the part of the page that explains; null hides it. */
export function showWhy(debug) {
  document.getElementById("why").hidden = !debug;
  if (!debug) return;
  fill("told", debug.told, ({ feature, value, is_unread, buckets }) => [
    feature,
    is_unread ? "could not be read" : value === null ? "missing" : [value].flat().join(", "),
    buckets ? buckets.join(", ") : "not told to the model",
  ], "No features are declared.");
  fill("passed", debug.passed, ({ item_id, rules, targeting }) => [item_id, spelled(rules), conditions(targeting)],
    "No ad is in the answer.");
  fill("failed", debug.left_out, ({ item_id, score, rules, targeting }) =>
    [`${item_id} (${number(score)})`, spelled(rules), conditions(targeting)], "No rule kept one of the best ads out.");
  fill("closed", Object.entries(debug.closed), ([rule, rows]) => [spelled([rule]), rows.toLocaleString("en")],
    "No rule closes any ad.");
}

function fill(id, rows, cells, otherwise) {
  const body = document.getElementById(id);
  const width = body.parentElement.querySelectorAll("th").length;
  const made = rows.map((row) => element("tr", {}, ...cells(row).map((text) => element("td", {}, text))));
  if (!made.length) made.push(element("tr", {}, element("td", { colspan: String(width) }, otherwise)));
  body.replaceChildren(...made);
}

function spelled(rules) {
  return rules.map((rule) => rule.replaceAll("_", " ")).join(", ") || NONE;
}

/** Targeting rules in words: "age 18 to 34; country in de, at". */
function conditions(targeting) {
  if (!targeting) return "everybody";
  return Object.entries(targeting).map(([name, rule]) => `${name} ${condition(rule)}`).join("; ");
}

function condition(rule) {
  if (Array.isArray(rule)) return rule.join(", ");
  if (rule === null || typeof rule !== "object") return String(rule);
  const words = [];
  if (rule.in) words.push(`in ${rule.in.join(", ")}`);
  if (rule.not_in) words.push(`not in ${rule.not_in.join(", ")}`);
  if ("from" in rule) words.push(`from ${rule.from}`);
  if ("to" in rule) words.push(`to ${rule.to}`);
  if (rule.missing) words.push("or missing");
  return words.join(" ");
}
