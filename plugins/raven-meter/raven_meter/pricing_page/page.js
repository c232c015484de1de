// Shows pricing.json as a table: filtered, sorted, and a few rows at a time. Text only ever becomes text.
"use strict";

const STEP = 100;
const LABELS = ["Provider", "Model", null, "Context", "Input", "Output", "Cached", "Cache write", "Notes"];
const PROVIDER = 0, MODEL = 1, NAME = 2, CONTEXT = 3, INPUT = 4, WRITE = 7, NOTES = 8;

const filter = document.getElementById("filter");
const status = document.getElementById("status");
const body = document.getElementById("rows");
const more = document.getElementById("more");
const headers = [...document.querySelectorAll("th button")];

let all = [];
let chosen = [];
let shown = 0;
let sorted = { column: null, descending: false };

function cell(row, column) {
  const made = document.createElement("td");
  made.setAttribute("role", "cell");
  made.dataset.label = LABELS[column];
  const value = row[column];
  if (column === NOTES) {
    made.className = "notes";
    made.textContent = value.join("; ");
  } else if (column === CONTEXT) {
    made.className = "number";
    made.textContent = value === null ? "" : value.toLocaleString("en-US");
  } else if (column >= INPUT && column <= WRITE) {
    made.className = "number";
    made.textContent = value === "" ? "" : "$" + value;
  } else {
    made.textContent = value;
  }
  if (column === MODEL) {
    const inner = document.createElement("span");
    inner.textContent = value;
    if (row[NAME]) {
      const name = document.createElement("span");
      name.className = "name";
      name.textContent = row[NAME];
      inner.append(name);
    }
    made.replaceChildren(inner);
    made.className = "model";
  }
  return made;
}

function line(row) {
  const made = document.createElement("tr");
  made.setAttribute("role", "row");
  for (let column = 0; column < LABELS.length; column += 1) {
    if (LABELS[column] !== null) made.append(cell(row, column));
  }
  return made;
}

function count() {
  const of = chosen.length === all.length ? "" : ` that match, of ${all.length.toLocaleString("en-US")}`;
  const models = `${chosen.length.toLocaleString("en-US")} models${of}`;
  status.textContent = shown < chosen.length ? `${models}; the first ${shown.toLocaleString("en-US")} are shown` : models;
  more.hidden = shown >= chosen.length;
}

function extend(number) {
  const next = chosen.slice(shown, shown + number);
  body.append(...next.map(line));
  shown += next.length;
  count();
}

function compare(one, other) {
  const column = sorted.column;
  if (column < CONTEXT) return one[column].localeCompare(other[column]);
  // What has no figure comes last, whichever way it is sorted.
  const first = one[column], second = other[column];
  const none = (value) => value === null || value === "";
  if (none(first) || none(second)) return (none(first) - none(second)) * (sorted.descending ? -1 : 1);
  return Number(first) - Number(second);
}

function show() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  chosen = all.filter((row) => words.every((word) => row.text.includes(word)));
  if (sorted.column !== null) {
    chosen.sort((one, other) => compare(one, other) * (sorted.descending ? -1 : 1));
  }
  shown = 0;
  body.replaceChildren();
  extend(STEP);
}

function sort(button) {
  const column = Number(button.dataset.column);
  sorted = { column, descending: sorted.column === column && !sorted.descending };
  for (const one of headers) one.closest("th").removeAttribute("aria-sort");
  button.closest("th").setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
  show();
}

async function load() {
  const reply = await fetch("pricing.json");
  if (!reply.ok) throw new Error(`the list could not be loaded (${reply.status})`);
  const document_ = await reply.json();
  all = document_.rows;
  for (const row of all) row.text = `${row[PROVIDER]}/${row[MODEL]} ${row[NAME]}`.toLowerCase();
  document.getElementById("source").textContent =
    `Packaged prices: ${document_.source}, as of ${document_.generated} (${document_.licence}).`;
  show();
}

let waiting = 0;
filter.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(show, 60);
});
filter.form.addEventListener("submit", (event) => event.preventDefault());
for (const button of headers) button.addEventListener("click", () => sort(button));
more.addEventListener("click", () => {
  const first = shown;
  extend(STEP);
  // The keyboard goes on at the first row that was not there before.
  const row = body.children[first];
  if (row) {
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
  }
});
load().catch((error) => {
  status.textContent = error.message;
});
