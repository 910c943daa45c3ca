(() => {
"use strict";
// Search, filters and order of the claims. Without this script every claim stands in its part.
const tools = document.getElementById("tools");
if (!tools) return;
const parts = [...document.querySelectorAll("details.part[id]")];
const rows = parts.flatMap((part) => [...part.querySelectorAll("tbody tr")]);
const home = new Map(rows.map((row) => [row, row.parentElement]));
const flat = document.getElementById("sorted");
const found = document.getElementById("found");
const field = (name) => document.getElementById(name);
const names = ["search", "verdict", "protocol", "part", "sort"];
const RANK = { "not reproduced": 0, inconclusive: 1, reproduced: 2, "not tested": 3, "": 4 };

function worst(row) {
  return Math.min(RANK[row.dataset.matched], RANK[row.dataset.tuned]);
}

const ORDERS = {
  verdict: (a, b) => worst(a) - worst(b),
  differ: (a, b) => differs(b) - differs(a) || worst(a) - worst(b),
};

function differs(row) {
  const { matched, tuned } = row.dataset;
  return Number(Boolean(matched && tuned) && matched !== tuned);
}

function shows(row) {
  const words = field("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = row.textContent.toLowerCase();
  if (!words.every((word) => text.includes(word))) return false;
  const [verdict, protocol, part] = ["verdict", "protocol", "part"].map((name) => field(name).value);
  if (part && row.dataset.part !== part) return false;
  const seen = protocol ? [row.dataset[protocol]] : [row.dataset.matched, row.dataset.tuned];
  if (protocol && !seen[0]) return false;
  return !verdict || seen.includes(verdict);
}

function apply() {
  const order = field("sort").value;
  const narrowed = names.slice(0, 4).some((name) => field(name).value);
  const kept = rows.filter(shows);
  for (const row of rows) row.hidden = !kept.includes(row);
  flat.hidden = !order;
  if (order) {
    flat.querySelector("tbody").replaceChildren(...kept.toSorted(ORDERS[order]));
  } else {
    for (const row of rows) home.get(row).append(row);
  }
  for (const part of parts) {
    const any = [...part.querySelectorAll("tbody tr")].some((row) => !row.hidden);
    part.hidden = Boolean(order) || !any;
    if (narrowed) part.open = any;
  }
  found.textContent = `${kept.length} of ${rows.length} claim${rows.length === 1 ? "" : "s"}`;
}

for (const name of names) field(name).addEventListener("input", apply);
field("clear").addEventListener("click", () => {
  for (const name of names) field(name).value = "";
  for (const part of parts) part.open = false;
  apply();
  field("search").focus();
});
field("all").addEventListener("click", () => {
  const open = !parts.every((part) => part.open);
  for (const part of parts) part.open = open;
});

/** Open what the address leads to. */
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const part = target?.closest("details.part");
  if (!part) return;
  if (target.hidden) field("clear").click();
  part.open = true;
  target.scrollIntoView({ block: "start" });
}
addEventListener("hashchange", reveal);
document.addEventListener("click", (event) => {
  if (event.target.closest('a[href^="#claim-"]')) setTimeout(reveal);
});
let closed = [];
addEventListener("beforeprint", () => {
  closed = parts.filter((part) => !part.open);
  for (const part of closed) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of closed) part.open = false;
});
tools.hidden = false;
apply();
reveal();
})();
