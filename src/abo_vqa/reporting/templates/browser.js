"use strict";
// A row is an index into the store's columns (browser_store.js).
const $ = id => document.getElementById(id);
const ROW = 60, BUFFER = 8;
let TYPES = [], typeOf = null;  // the question types by name, and each row's place among them
let SEEN = false;               // nobody knows without a train split
// The question's kind and the product's type; not every set knows the types.
const kindOf = i => [S[columns.subtype[i]], S[columns.product[i]].replaceAll("_", " ")].filter(Boolean).join(" · ");
const DEFAULTS = { model: D.models[0].id, vs: "", outcome: "", differ: "", type: "", seen: "", product: "",
                   metric: "", min: "", max: "", q: "", sort: "row", dir: "up", row: "" };
const state = { ...DEFAULTS };
let shown = new Int32Array(0);  // row indices that pass the filters, in order
let current = -1;               // row index in the detail pane
const number = n => n.toLocaleString("en-US");

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "class") node.className = value;
    else if (key === "top") node.style.top = value;  // an attribute would be against the page's policy
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

/* ---- what the state asks for may still have to be read ---- */
function needed() {
  const names = ["rows"];
  for (const id of [state.model, state.vs]) if (modelIndex(id) >= 0) names.push(`model-${modelIndex(id)}`);
  for (const id of [state.metric, state.sort]) { const k = D.metrics.findIndex(x => x[0] === id); if (k >= 0) names.push(`metric-${k}`); }
  return names.filter(each => !isThere(each));
}

let wanted = 0;  // the latest view asked for: an earlier one, read too late, isn't drawn

function apply(keepScroll) {
  const turn = ++wanted, missing = needed();
  if (!missing.length) return update(keepScroll);
  $("count").textContent = "reading…";
  return Promise.all(missing.map(load)).then(() => { if (turn === wanted) update(keepScroll); }, report);
}

const afterwards = (reading, next) => reading ? reading.then(next) : next();
const ready = () => !needed().length;

function report(error) { $("count").textContent = error.message; }

function update(keepScroll) {
  const { rows, facets } = filtered(state);
  shown = sorted(rows, state);
  $("count").textContent = shown.length === N ? `${number(N)} rows` : `${number(shown.length)} of ${number(N)} rows`;
  $("none").hidden = shown.length > 0;
  $("space").style.height = shown.length * ROW + "px";
  $("list").classList.toggle("compare", state.vs !== "");
  $("differ-box").hidden = state.vs === "";
  chips("outcome", [["", "all"], ["right", "right"], ["wrong", "wrong"], ["failed", "no prediction"]], facets.outcome);
  const a = name(state.model), b = name(state.vs);
  if (facets.differ) chips("differ", [["", "all"], ["answers", "different answers"], ["first", `only ${a} right`], ["second", `only ${b} right`], ["both", "both right"], ["neither", "both wrong"]], facets.differ);
  chips("type", [["", "all"], ...TYPES.map(t => [S[t], S[t]])], facets.type);
  chips("seen", [["", "all"], ["yes", "seen in train"], ["no", "new"]], facets.seen);
  if (!shown.includes(current)) current = shown.length ? shown[0] : -1;
  if (!keepScroll) $("list").scrollTop = 0;
  show(); draw(true); remember();
}

const name = id => (D.models.find(m => m.id === id) || { name: "" }).name;

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
  if (!ready()) return;
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
    "data-row": columns.id[i], top: `${at * ROW}px`, onclick: () => { current = i; reveal(); } },
    el("span", { class: "pic" }, image(i)),
    el("span", {}, el("span", { class: "asked" }, S[columns.question[i]]), el("small", {}, kindOf(i))),
    el("span", { class: "truth" }, el("small", {}, "expected"), S[columns.answer[i]] || "(empty)"), answer(m, i, "mine"));
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
  const source = D.images.thumb[columns.image[i]];
  return source ? el("img", { src: source, alt: "", decoding: "async" }) : el("small", {}, "no image");
}

/* ---- one row in full ---- */
function show() {
  const box = $("detail"), i = current;
  if (!ready()) return;
  if (i < 0) { box.replaceChildren(); return; }
  const k = D.metrics.findIndex(x => x[0] === (state.metric || state.sort)), extra = k >= 0 && k !== ACCURACY ? k : D.metrics.findIndex(x => x[0] === "f1");
  const order = [modelIndex(state.model), modelIndex(state.vs)].filter(m => m >= 0);
  D.models.forEach((_, m) => order.includes(m) || order.push(m));
  const table = el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "Model"), el("th", {}, "Answer"), el("th", { class: "n" }, "Conf."), ...(extra >= 0 ? [el("th", { class: "n" }, D.metrics[extra][1])] : []))),
    el("tbody", {}, ...order.map(m => { const there = byModel[m], c = there ? confidence(m, i) : null, x = there && extra >= 0 ? metric(m, i, extra) : null, why = byModel[m]?.error[i];
      return el("tr", { class: "pick" + (D.models[m].id === state.model ? " current" : ""), title: "Make it the model in view", onclick: () => set({ model: D.models[m].id, ...(state.vs === D.models[m].id ? { vs: state.model } : {}) }, true) },
        el("td", {}, el("span", { class: "dot " + D.models[m].kind }), D.models[m].name),
        el("td", {}, there ? mark(m, i) : "…", ...(why === undefined ? [] : [el("span", { class: "error" }, S[why])])),
        el("td", { class: "n" }, c === null ? "–" : Math.round(100 * c) + "%"), ...(extra >= 0 ? [el("td", { class: "n" }, x === null ? "–" : x.toFixed(2))] : [])); })));
  const siblings = [], of = columns.image;
  for (let j = 0; j < N; j++) if (of[j] === of[i] && j !== i) siblings.push(j);
  const values = el("table", {}, el("tbody", {}, ...D.metrics.map(([id, text], j) => { const x = metric(modelIndex(state.model), i, j);
    return el("tr", {}, el("td", {}, text), el("td", { class: "n" }, x === null ? "–" : x.toFixed(3))); })));
  box.replaceChildren(
    el("div", { class: "steps" }, el("button", { type: "button", onclick: () => step(-1), title: "Previous (↑)" }, "↑"), el("button", { type: "button", onclick: () => step(1), title: "Next (↓)" }, "↓"),
      el("button", { type: "button", class: "link", id: "link", onclick: copy }, "Copy link")),
    el("div", { class: "photo" }, image(i)), el("h1", {}, S[columns.question[i]]),
    el("p", { class: "meta" }, "expected ", el("b", {}, S[columns.answer[i]] || "(empty)"), ` · ${kindOf(i)}${SEEN ? ` · question ${columns.seen[i] ? "seen in train" : "new"}` : ""} · row ${columns.id[i]} · ${D.images.path[columns.image[i]]}`),
    table, ...(siblings.length ? [el("h2", {}, "Same image"), el("div", { class: "siblings" }, ...siblings.map(j => el("button", { type: "button", onclick: () => jump(j) }, `${S[columns.question[j]]} `, mark(modelIndex(state.model), j))))] : []),
    el("h2", {}, `All metrics, ${name(state.model)}`), values);
}

function jump(i) {
  if (!shown.includes(i)) { Object.assign(state, { ...DEFAULTS, model: state.model, vs: state.vs, sort: state.sort, dir: state.dir }); fill(); current = i; afterwards(apply(), () => { current = i; reveal(); }); }
  else { current = i; reveal(); }
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
  state.row = current < 0 ? "" : String(columns.id[current]);
  const kept = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
  history.replaceState(null, "", "#" + new URLSearchParams(kept));
}

function recall() {
  if (!N) return;  // the rows are still being read, and end here
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const key in DEFAULTS) state[key] = asked.has(key) ? asked.get(key) : DEFAULTS[key];
  if (modelIndex(state.model) < 0) state.model = DEFAULTS.model;
  if (modelIndex(state.vs) < 0) state.vs = "";
  fill();
  current = columns.id.indexOf(+state.row || (state.row === "0" ? 0 : -1));
  afterwards(apply(), () => { if (current >= 0) reveal(); });
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

// What follows from the rows: the choices there are.
function begin() {
  TYPES = [...new Set(columns.type)].sort((a, b) => S[a] < S[b] ? -1 : 1);
  const places = new Map(TYPES.map((t, n) => [t, n]));
  typeOf = filled(new Uint16Array(N), i => places.get(columns.type[i]));
  SEEN = columns.seen.length > 0;
  const products = [...new Set(columns.product)].map(p => S[p]).sort();
  $("seen").closest("fieldset").hidden = !SEEN;
  $("product").closest("fieldset").hidden = products.length < 2;
  options("product", [["", "all"], ...products.map(p => [p, p.replaceAll("_", " ")])]);
  recall();
}

// The first view, then all the rest, a script at a time: the page answers in between.
async function readParts() {
  await load("rows");
  begin();
  for (const each of [...D.models.map((_, m) => `model-${m}`), ...D.metrics.map((_, k) => `metric-${k}`)]) {
    await load(each);
    show();
    await new Promise(done => setTimeout(done));
  }
}

const models = D.models.map(m => [m.id, `${m.name} (${(100 * m.accuracy).toFixed(1)}%)`]);
options("model", models);
options("vs", [["", "–"], ...models]);
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
if (!D.folder) { readEmbedded(); begin(); }
const reading = D.folder ? readParts().catch(report) : null;
