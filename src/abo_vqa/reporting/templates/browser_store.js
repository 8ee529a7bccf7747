"use strict";
// The data: columns of numbers, positions into one list of texts. A small page holds all of it as
// JSON; a large one holds the names of scripts (`folder`), each of which calls `part` with JSON,
// whose columns are packed. Either way the rest of the page sees the same typed arrays.
const D = JSON.parse(document.getElementById("data").textContent);
const NONE = -2147483648, METRIC_UNITS = 10000, CONFIDENCE_UNITS = 1000;
const ACCURACY = D.metrics.findIndex(m => m[0] === "accuracy");
const fold = text => text.toLowerCase();
let N = 0, S = [];         // the number of rows, and all texts
let columns = {};          // what doesn't depend on the model, by name: [N]
let ranks = null;          // text → its place in the order of lower-cased texts
const byModel = [];        // text, vector, correct, confidence, error of each model that is there
const byMetric = [];       // distinct row of metrics → value in METRIC_UNITS, of each metric there

// A plain loop: `from` with a function goes through an iterator, ten times as slowly.
function filled(array, of) {
  for (let i = 0; i < array.length; i++) array[i] = of(i);
  return array;
}

/* ---- reading ---- */
function unpack({ low, bytes, data }) {
  const raw = atob(data), n = raw.length / bytes, values = new Int32Array(n);
  for (let i = 0, at = 0; i < n; i++) {
    let stored = 0;
    for (let b = 0; b < bytes; b++) stored += raw.charCodeAt(at++) * 2 ** (8 * b);
    values[i] = stored ? stored + low - 1 : NONE;
  }
  return values;
}

const inUnits = (values, units) => filled(new Int32Array(values.length), i => values[i] === null ? NONE : Math.round(values[i] * units));

const receive = {
  rows(content) {
    S = content.strings;
    D.images = content.images;
    ranks = unpack(content.rank);
    for (const name in content.rows) columns[name] = unpack(content.rows[name]);
    N = columns.id.length;
  },
  model(content, m) {
    const { text, vector, correct, confidence, error } = content;
    byModel[m] = { text: unpack(text), vector: unpack(vector), correct: unpack(correct), confidence: confidence && unpack(confidence), error };
  },
  metric(content, k) { byMetric[k] = unpack(content.values); },
};

function readEmbedded() {
  S = D.strings;
  for (const name in D.rows) columns[name] = Int32Array.from(D.rows[name]);
  N = columns.id.length;
  D.metrics.forEach((_, k) => { byMetric[k] = inUnits(D.vectors.map(v => v[k]), METRIC_UNITS); });
  D.predictions.forEach(({ text, vector, confidence, error }, m) => {
    byModel[m] = { text: Int32Array.from(text), vector: Int32Array.from(vector), error, confidence: confidence && inUnits(confidence, CONFIDENCE_UNITS),
      correct: filled(new Int32Array(N), i => byMetric[ACCURACY][vector[i]] === METRIC_UNITS ? 1 : 0) };
  });
  for (const unused of ["strings", "rows", "vectors", "predictions"]) delete D[unused];
}

const parts = new Map();   // name → promise, or true once it is there

function part(name, json) {
  const [kind, number] = name.split("-");
  receive[kind](JSON.parse(json), Number(number));
  parts.set(name, true);
}

// One script; a page opened from a disk may load scripts beside it, but read no other file.
function load(name) {
  if (!parts.has(name)) parts.set(name, new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = `${D.folder}/${name}.js`;
    script.onload = () => { script.remove(); done(); };
    script.onerror = () => { parts.delete(name); failed(new Error(`${script.src} is missing: it belongs beside this page.`)); };
    document.head.append(script);
  }));
  return parts.get(name);
}

const isThere = name => !D.folder || parts.get(name) === true;

/* ---- a row's values ---- */
const modelIndex = id => D.models.findIndex(m => m.id === id);
const prediction = (m, i) => S[byModel[m].text[i]];
const right = (m, i) => byModel[m].correct[i] === 1;
const failed = (m, i) => byModel[m].error[i] !== undefined;
const value = (code, units) => code === NONE ? null : code / units;
const metric = (m, i, k) => byMetric[k] ? value(byMetric[k][byModel[m].vector[i]], METRIC_UNITS) : null;
const confidence = (m, i) => byModel[m].confidence ? value(byModel[m].confidence[i], CONFIDENCE_UNITS) : null;

// Texts that differ only in case have one rank.
function rank() {
  if (ranks) return ranks;
  const folded = S.map(fold), places = new Map([...new Set(folded)].sort().map((text, place) => [text, place]));
  ranks = filled(new Int32Array(S.length), i => places.get(folded[i]));
  return ranks;
}

function productRank() {
  const places = new Map([...new Set(columns.product)].sort((a, b) => S[a] < S[b] ? -1 : S[a] > S[b] ? 1 : 0).map((text, place) => [text, place]));
  return filled(new Int32Array(N), i => places.get(columns.product[i]));
}

/* ---- searching: a word is looked for in each distinct text once, then rows are looked up ---- */
let folded = null, foldedPaths = null;
const searches = new Map();  // word → which texts, and which images' paths, have it; the last few

function occurrences(word) {
  if (searches.has(word)) return searches.get(word);
  folded ??= S.map(fold);
  foldedPaths ??= D.images.path.map(fold);
  // While typing, a word only gets longer: what the shorter one isn't in, it isn't in either.
  const before = [...searches].filter(([shorter]) => word.includes(shorter)).at(-1)?.[1];
  const search = (texts, earlier) => filled(new Uint8Array(texts.length), i => (!earlier || earlier[i]) && texts[i].includes(word) ? 1 : 0);
  const result = { texts: search(folded, before?.texts), paths: search(foldedPaths, before?.paths) };
  searches.set(word, result);
  if (searches.size > 8) searches.delete(searches.keys().next().value);
  return result;
}

// [N] 1 for rows in whose texts, image path, number ("#12") or answer every word is.
function matches(words, m) {
  const passes = new Uint8Array(N).fill(1), { question, answer, product, image, id } = columns, said = byModel[m].text;
  for (const word of words) {
    const { texts, paths } = occurrences(word), numbers = /^#?\d*$/.test(word);
    for (let i = 0; i < N; i++)
      if (passes[i] && !(texts[question[i]] | texts[answer[i]] | texts[product[i]] | texts[said[i]] | paths[image[i]]) && !(numbers && ("#" + id[i]).includes(word))) passes[i] = 0;
  }
  return passes;
}

/* ---- filters: each sorts the rows into a few classes and says which pass ---- */
// classes: [N]; values: what can be chosen → the classes that pass.
function filters(state) {
  const m = modelIndex(state.model), v = modelIndex(state.vs), k = D.metrics.findIndex(x => x[0] === state.metric);
  const low = state.min === "" ? -Infinity : +state.min, high = state.max === "" ? Infinity : +state.max;
  const words = fold(state.q).split(/\s+/).filter(Boolean);
  const outcome = new Uint8Array(N).fill(2), every = { "": () => true }, yes = { "": () => true, chosen: c => c === 1 };
  for (let i = 0; i < N; i++) if (byModel[m].correct[i]) outcome[i] = 1;
  for (const i in byModel[m].error) outcome[i] = 3;
  const seen = columns.seen.length ? columns.seen : new Uint8Array(N).fill(2);
  const list = {
    outcome: { classes: outcome, size: 4, values: { ...every, right: c => c === 1, wrong: c => c === 2, failed: c => c === 3 } },
    differ: v < 0 ? null : { classes: compared(m, v), size: 8, values: { ...every, answers: c => c & 4,
      first: c => (c & 3) === 1, second: c => (c & 3) === 2, both: c => (c & 3) === 3, neither: c => (c & 3) === 0 } },
    type: { classes: typeOf, size: TYPES.length, values: Object.fromEntries([["", () => true], ...TYPES.map((t, n) => [S[t], c => c === n])]) },
    seen: { classes: seen, size: 3, values: { ...every, yes: c => c === 1, no: c => c === 0 } },
  };
  const pass = (name, wanted, test) => { if (wanted) list[name] = { classes: filled(new Uint8Array(N), test), size: 2, values: yes, chosen: "chosen" }; };
  const product = state.product && S.indexOf(state.product);
  pass("product", state.product, i => columns.product[i] === product ? 1 : 0);
  const values = k >= 0 && byMetric[k], vector = byModel[m].vector;
  pass("metric", k >= 0, i => { const code = values[vector[i]], x = code / METRIC_UNITS; return code !== NONE && x >= low && x <= high ? 1 : 0; });
  if (words.length) list.q = { classes: matches(words, m), size: 2, values: yes, chosen: "chosen" };
  return list;
}

// Bits: the first is right, the second is right, the answers differ.
function compared(m, v) {
  const a = byModel[m], b = byModel[v], order = rank();
  return filled(new Uint8Array(N), i => a.correct[i] | b.correct[i] << 1 | (order[a.text[i]] !== order[b.text[i]]) << 2);
}

// The rows that pass all filters, in their own order, and for each filter's values how many rows
// would pass if it were chosen and the others stayed.
function filtered(state) {
  const list = Object.entries(filters(state)).filter(([, filter]) => filter);
  const passes = list.map(([name, { size, values, chosen }]) => {
    const test = values[chosen ?? state[name]] || values[""];
    return filled(new Uint8Array(size), c => test(c) ? 1 : 0);
  });
  const classes = list.map(([, filter]) => filter.classes), counts = list.map(([, { size }]) => new Int32Array(size));
  const rows = new Int32Array(N), last = list.length;
  let n = 0;
  for (let i = 0; i < N; i++) {
    let misses = 0, miss = 0;
    for (let t = 0; t < last && misses < 2; t++) if (!passes[t][classes[t][i]]) { misses++; miss = t; }
    if (misses === 0) { rows[n++] = i; for (let t = 0; t < last; t++) counts[t][classes[t][i]]++; }
    else if (misses === 1) counts[miss][classes[miss][i]]++;
  }
  const facets = {};
  list.forEach(([name, { values, chosen }], t) => {
    if (chosen) return;
    facets[name] = {};
    for (const value in values) facets[name][value] = counts[t].reduce((sum, count, c) => values[value](c) ? sum + count : sum, 0);
  });
  return { rows: rows.subarray(0, n), facets };
}

/* ---- order: what has no value comes last either way; equal rows keep their order ---- */
function sorted(rows, state) {
  const key = sortKey(modelIndex(state.model), state.sort), n = rows.length, down = state.dir === "down";
  if (!key) return down ? rows.slice().reverse() : rows;
  let low = Infinity, high = -Infinity;
  for (const i of rows) { const x = key(i); if (x !== NONE) { low = Math.min(low, x); high = Math.max(high, x); } }
  if (low > high) return rows;
  // One number a row, key × n + place: sorting numbers takes no comparison written here.
  const places = new Float64Array(n);
  for (let at = 0; at < n; at++) {
    const x = key(rows[at]);
    places[at] = (x === NONE ? high - low + 1 : down ? high - x : x - low) * n + at;
  }
  places.sort();
  return filled(new Int32Array(n), at => rows[places[at] % n]);
}

function sortKey(m, name) {
  const { text, vector, confidence: sure } = byModel[m], k = D.metrics.findIndex(x => x[0] === name);
  if (k >= 0) return i => byMetric[k][vector[i]];
  if (name === "confidence") return sure ? i => sure[i] : () => NONE;
  if (name === "product") { const order = productRank(); return i => order[i]; }
  const texts = { question: columns.question, answer: columns.answer, prediction: text }[name], order = texts && rank();
  return texts && (i => order[texts[i]]);
}
