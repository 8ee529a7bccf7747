"use strict";
// The whole page works from one object of columns; a row is an index into them.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const ROW = 60, BUFFER = 8, N = D.rows.id.length, S = D.strings;
const ACCURACY = D.metrics.findIndex(m => m[0] === "accuracy");
const TYPES = [...new Set(D.rows.type)].sort((a, b) => S[a] < S[b] ? -1 : 1);
// The question's kind and the product's type; not every set knows the types.
const kindOf = i => [S[D.rows.subtype[i]], S[D.rows.product[i]].replaceAll("_", " ")].filter(Boolean).join(" · ");
const SEEN = D.rows.seen.length > 0;  // nobody knows without a train split
const DEFAULTS = { model: D.models[0].id, vs: "", outcome: "", differ: "", type: "", seen: "", product: "",
                   metric: "", min: "", max: "", q: "", sort: "row", dir: "up", row: "" };
const state = { ...DEFAULTS };
let shown = [];          // row indices that pass the filters, in order
let current = -1;        // row index in the detail pane

const modelIndex = id => D.models.findIndex(m => m.id === id);
const prediction = (m, i) => S[D.predictions[m].text[i]];
const metric = (m, i, k) => D.vectors[D.predictions[m].vector[i]][k];
const right = (m, i) => metric(m, i, ACCURACY) === 1;
const failed = (m, i) => D.predictions[m].error[i] !== undefined;
const confidence = (m, i) => D.predictions[m].confidence ? D.predictions[m].confidence[i] : null;
const fold = text => text.toLowerCase();
const number = n => n.toLocaleString("en-US");

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

// One lower-cased text a row for searching; predictions of the model in view are added to it.
const hay = Array.from({ length: N }, (_, i) => fold(
  [S[D.rows.question[i]], S[D.rows.answer[i]], S[D.rows.product[i]], D.images.path[D.rows.image[i]], "#" + D.rows.id[i]].join("\n")));

/* ---- filters: each is a test of a row; facets count what would pass all the others ---- */
function tests() {
  const m = modelIndex(state.model), v = modelIndex(state.vs), k = D.metrics.findIndex(x => x[0] === state.metric);
  const low = state.min === "" ? -Infinity : +state.min, high = state.max === "" ? Infinity : +state.max;
  const words = fold(state.q).split(/\s+/).filter(Boolean);
  return {
    outcome: { "": () => true, right: i => right(m, i), wrong: i => !right(m, i) && !failed(m, i), failed: i => failed(m, i) },
    differ: v < 0 ? { "": () => true } : {
      "": () => true, answers: i => fold(prediction(m, i)) !== fold(prediction(v, i)),
      first: i => right(m, i) && !right(v, i), second: i => !right(m, i) && right(v, i),
      both: i => right(m, i) && right(v, i), neither: i => !right(m, i) && !right(v, i) },
    type: Object.fromEntries([["", () => true], ...TYPES.map(t => [S[t], i => D.rows.type[i] === t])]),
    seen: { "": () => true, yes: i => D.rows.seen[i] === 1, no: i => D.rows.seen[i] === 0 },
    product: { "": () => true, [state.product]: i => state.product === "" || S[D.rows.product[i]] === state.product },
    metric: { "": () => true, [state.metric]: k < 0 ? () => true : i => { const x = metric(m, i, k); return x !== null && x >= low && x <= high; } },
    q: { "": () => true, [state.q]: i => { const p = fold(prediction(m, i)); return words.every(w => hay[i].includes(w) || p.includes(w)); } },
  };
}

function apply(keepScroll) {
  const all = tests(), names = Object.keys(all), chosen = names.map(n => all[n][state[n]] || all[n][""]);
  const facets = { outcome: {}, differ: {}, type: {}, seen: {} };
  for (const n in facets) for (const value in all[n]) facets[n][value] = 0;
  shown = [];
  for (let i = 0; i < N; i++) {
    let misses = 0, miss = "";
    for (let t = 0; t < chosen.length && misses < 2; t++) if (!chosen[t](i)) { misses++; miss = names[t]; }
    if (misses > 1) continue;
    if (misses === 0) shown.push(i);
    for (const n in facets) if (misses === 0 || miss === n)
      for (const value in facets[n]) if (all[n][value](i)) facets[n][value]++;
  }
  order();
  $("count").textContent = shown.length === N ? `${number(N)} rows` : `${number(shown.length)} of ${number(N)} rows`;
  $("none").hidden = shown.length > 0;
  $("space").style.height = shown.length * ROW + "px";
  $("list").classList.toggle("compare", state.vs !== "");
  $("differ-box").hidden = state.vs === "";
  chips("outcome", [["", "all"], ["right", "right"], ["wrong", "wrong"], ["failed", "no prediction"]], facets.outcome);
  const a = name(state.model), b = name(state.vs);
  chips("differ", [["", "all"], ["answers", "different answers"], ["first", `only ${a} right`], ["second", `only ${b} right`], ["both", "both right"], ["neither", "both wrong"]], facets.differ);
  chips("type", [["", "all"], ...TYPES.map(t => [S[t], S[t]])], facets.type);
  chips("seen", [["", "all"], ["yes", "seen in train"], ["no", "new"]], facets.seen);
  if (!shown.includes(current)) current = shown.length ? shown[0] : -1;
  if (!keepScroll) $("list").scrollTop = 0;
  show(); draw(true); remember();
}

const name = id => (D.models.find(m => m.id === id) || { name: "" }).name;

function order() {
  const m = modelIndex(state.model), k = D.metrics.findIndex(x => x[0] === state.sort), sign = state.dir === "up" ? 1 : -1;
  const key = k >= 0 ? i => metric(m, i, k) : {
    row: null, confidence: i => confidence(m, i), question: i => fold(S[D.rows.question[i]]),
    answer: i => fold(S[D.rows.answer[i]]), prediction: i => fold(prediction(m, i)), product: i => S[D.rows.product[i]] }[state.sort];
  if (!key) { if (sign < 0) shown.reverse(); return; }
  const keys = new Map(shown.map(i => [i, key(i)]));
  // What has no value comes last in either direction; equal rows keep their order.
  shown.sort((i, j) => { const x = keys.get(i), y = keys.get(j);
    if (x === null || y === null) return (x === null) - (y === null) || i - j;
    return (x < y ? -1 : x > y ? 1 : 0) * sign || i - j; });
}

function chips(id, options, counts) {
  const box = $(id), had = document.activeElement && box.contains(document.activeElement) ? state[id] : null;
  box.replaceChildren(...options.map(([value, text]) => el("button", {
    type: "button", "aria-pressed": String(state[id] === value), class: counts[value] ? "" : "empty", "data-value": value,
    onclick: () => set({ [id]: value }) }, text, el("span", {}, number(counts[value] || 0)))));
  if (had !== null) box.querySelector(`[data-value="${CSS.escape(had)}"]`)?.focus();
}

/* ---- the list: only what is in view exists, and what stays in view is kept ---- */
const live = new Map();  // position in the list → its element

function draw(fresh) {
  const list = $("list"), first = Math.max(0, Math.floor(list.scrollTop / ROW) - BUFFER);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + BUFFER);
  for (const [at, row] of live) if (fresh || at < first || at >= last) { row.remove(); live.delete(at); }
  const added = document.createDocumentFragment();
  for (let at = first; at < last; at++) if (!live.has(at)) {
    const row = line(shown[at], at);
    live.set(at, row);
    added.append(row);
  }
  $("space").append(added);
}

function line(i, at) {
  const m = modelIndex(state.model), v = modelIndex(state.vs);
  const row = el("div", { class: "row", role: "option", "aria-selected": String(i === current), "aria-posinset": at + 1, "aria-setsize": shown.length,
    "data-row": D.rows.id[i], style: `top:${at * ROW}px`, onclick: () => { current = i; reveal(); } },
    el("span", { class: "pic" }, image(i)),
    el("span", {}, el("span", { class: "asked" }, S[D.rows.question[i]]), el("small", {}, kindOf(i))),
    el("span", { class: "truth" }, el("small", {}, "expected"), S[D.rows.answer[i]] || "(empty)"), answer(m, i, "mine"));
  if (v >= 0) row.append(answer(v, i, "other"));
  return row;
}

function answer(m, i, kind) {
  return el("span", { class: kind }, el("small", {}, D.models[m].name), mark(m, i));
}

function mark(m, i) {
  const lost = failed(m, i);
  return el("span", { class: "mark" + (lost ? " failed" : right(m, i) ? "" : " wrong") }, lost ? "no prediction" : prediction(m, i) || "(empty)");
}

function image(i) {
  const source = D.images.thumb[D.rows.image[i]];
  return source ? el("img", { src: source, alt: "", decoding: "async" }) : el("small", {}, "no image");
}

/* ---- one row in full ---- */
function show() {
  const box = $("detail"), i = current;
  if (i < 0) { box.replaceChildren(); return; }
  const k = D.metrics.findIndex(x => x[0] === (state.metric || state.sort)), extra = k >= 0 && k !== ACCURACY ? k : D.metrics.findIndex(x => x[0] === "f1");
  const order = [modelIndex(state.model), modelIndex(state.vs)].filter(m => m >= 0);
  D.models.forEach((_, m) => order.includes(m) || order.push(m));
  const table = el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "Model"), el("th", {}, "Answer"), el("th", { class: "n" }, "Conf."), ...(extra >= 0 ? [el("th", { class: "n" }, D.metrics[extra][1])] : []))),
    el("tbody", {}, ...order.map(m => { const c = confidence(m, i), x = extra >= 0 ? metric(m, i, extra) : null, why = D.predictions[m].error[i];
      return el("tr", { class: "pick" + (m < 0 ? "" : D.models[m].id === state.model ? " current" : ""), title: "Make it the model in view", onclick: () => set({ model: D.models[m].id, ...(state.vs === D.models[m].id ? { vs: state.model } : {}) }, true) },
        el("td", {}, el("span", { class: "dot " + D.models[m].kind }), D.models[m].name),
        el("td", {}, mark(m, i), ...(why === undefined ? [] : [el("span", { class: "error" }, S[why])])),
        el("td", { class: "n" }, c === null ? "–" : Math.round(100 * c) + "%"), ...(extra >= 0 ? [el("td", { class: "n" }, x === null ? "–" : x.toFixed(2))] : [])); })));
  const siblings = [];
  for (let j = 0; j < N; j++) if (j !== i && D.rows.image[j] === D.rows.image[i]) siblings.push(j);
  const values = el("table", {}, el("tbody", {}, ...D.metrics.map(([id, text], j) => { const x = metric(modelIndex(state.model), i, j);
    return el("tr", {}, el("td", {}, text), el("td", { class: "n" }, x === null ? "–" : x.toFixed(3))); })));
  box.replaceChildren(
    el("div", { class: "steps" }, el("button", { type: "button", onclick: () => step(-1), title: "Previous (↑)" }, "↑"), el("button", { type: "button", onclick: () => step(1), title: "Next (↓)" }, "↓"),
      el("button", { type: "button", class: "link", id: "link", onclick: copy }, "Copy link")),
    el("div", { class: "photo" }, image(i)), el("h1", {}, S[D.rows.question[i]]),
    el("p", { class: "meta" }, "expected ", el("b", {}, S[D.rows.answer[i]] || "(empty)"), ` · ${kindOf(i)}${SEEN ? ` · question ${D.rows.seen[i] ? "seen in train" : "new"}` : ""} · row ${D.rows.id[i]} · ${D.images.path[D.rows.image[i]]}`),
    table, ...(siblings.length ? [el("h2", {}, "Same image"), el("div", { class: "siblings" }, ...siblings.map(j => el("button", { type: "button", onclick: () => jump(j) }, `${S[D.rows.question[j]]} `, mark(modelIndex(state.model), j))))] : []),
    el("h2", {}, `All metrics, ${name(state.model)}`), values);
}

function jump(i) {
  if (!shown.includes(i)) { Object.assign(state, { ...DEFAULTS, model: state.model, vs: state.vs, sort: state.sort, dir: state.dir }); fill(); current = i; apply(); }
  current = i; reveal();
}

function step(by) {
  if (!shown.length) return;
  const at = shown.indexOf(current);
  current = shown[Math.min(shown.length - 1, Math.max(0, at + by))];
  reveal();
}

function reveal() {
  const list = $("list"), top = shown.indexOf(current) * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  draw();
  for (const [at, row] of live) row.setAttribute("aria-selected", String(shown[at] === current));
  show(); remember();
}

/* ---- state lives in the address, so that any view is a link ---- */
function remember() {
  state.row = current < 0 ? "" : String(D.rows.id[current]);
  const kept = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
  history.replaceState(null, "", "#" + new URLSearchParams(kept));
}

function recall() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const key in DEFAULTS) state[key] = asked.has(key) ? asked.get(key) : DEFAULTS[key];
  if (modelIndex(state.model) < 0) state.model = DEFAULTS.model;
  if (modelIndex(state.vs) < 0) state.vs = "";
  fill();
  current = D.rows.id.indexOf(+state.row || (state.row === "0" ? 0 : -1));
  apply();
  if (current >= 0) reveal();
}

function fill() {
  for (const id of ["q", "model", "vs", "product", "metric", "min", "max", "sort"]) $(id).value = state[id];
  $("dir").textContent = state.dir === "up" ? "↑" : "↓";
}

function set(changes, keepScroll) {
  Object.assign(state, changes);
  if (state.vs === state.model) state.vs = "";
  if (state.vs === "") state.differ = "";
  fill(); apply(keepScroll);
}

async function copy() {
  remember();
  try { await navigator.clipboard.writeText(location.href); $("link").textContent = "Copied"; }
  catch { prompt("Copy this link", location.href); }
}

function options(id, list) { $(id).replaceChildren(...list.map(([value, text]) => el("option", { value }, text))); }

const products = [...new Set(D.rows.product)].map(p => S[p]).sort();
const models = D.models.map(m => [m.id, `${m.name} (${(100 * m.accuracy).toFixed(1)}%)`]);
options("model", models);
options("vs", [["", "–"], ...models]);
$("seen").closest("fieldset").hidden = !SEEN;
$("product").closest("fieldset").hidden = products.length < 2;
options("product", [["", "all"], ...products.map(p => [p, p.replaceAll("_", " ")])]);
options("metric", [["", "any metric"], ...D.metrics]);
options("sort", [["row", "row"], ["confidence", "confidence"], ["question", "question"], ["answer", "expected answer"], ["prediction", "prediction"], ["product", "product type"], ...D.metrics]);
for (const id of ["model", "vs", "product", "metric", "sort"]) $(id).addEventListener("change", e => set({ [id]: e.target.value }, id === "model" || id === "vs"));
for (const id of ["q", "min", "max"]) $(id).addEventListener("input", e => set({ [id]: e.target.value }));
$("dir").addEventListener("click", () => set({ dir: state.dir === "up" ? "down" : "up" }));
$("reset").addEventListener("click", () => set({ ...DEFAULTS, model: state.model, vs: state.vs }));
let frame = 0;
$("list").addEventListener("scroll", () => { if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); }); });
addEventListener("resize", () => draw());
addEventListener("hashchange", recall);
if (matchMedia("(max-width: 56rem)").matches) $("drawer").open = false;

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { if (event.key === "Escape") event.target.blur(); return; }
  const page = Math.max(1, Math.floor($("list").clientHeight / ROW) - 1);
  const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -N, End: N };
  if (event.key in moves) { step(moves[event.key]); event.preventDefault(); }
  else if (event.key === "/") { $("q").focus(); $("q").select(); event.preventDefault(); }
  else if (event.key === "w") set({ outcome: state.outcome === "wrong" ? "" : "wrong" });
  else if (event.key === "c") copy();
});
recall();
