"use strict";
const {page, pairs, drawn, limits} = JSON.parse(document.getElementById("data").textContent);
const rows = [...document.querySelectorAll("li")];
const nameField = document.getElementById("rater");
let rater = "", judgements = {}, now = 0;

// A page opened from a file may not be allowed to store anything: then it forgets when closed.
function load(key) {
  try { return JSON.parse(localStorage.getItem(key)); } catch (error) { return null; }
}
function store(key, value) {
  try { localStorage.setItem(key, JSON.stringify(value)); } catch (error) { /* see above */ }
}
const key = () => `abo-vqa review ${page} by ${rater}`;  // several people may share a browser
const decision = number => (judgements[number] || {}).decision || "";

function show(number) {
  const row = rows[number], {corrected = ""} = judgements[number] || {};
  row.dataset.decision = decision(number);
  for (const button of row.querySelectorAll("button"))
    button.setAttribute("aria-pressed", String(button.value === decision(number)));
  row.querySelector("input").value = corrected;
  row.querySelector(".correction").hidden = !corrected;
  complain(row.querySelector("input"), "");
}
function complain(field, text) {
  field.setAttribute("aria-invalid", String(Boolean(text)));
  field.parentElement.querySelector(".problem").textContent = text;
}
function count() {
  const made = pairs.map((_, number) => decision(number)).filter(Boolean);
  const number = kind => made.filter(d => d === kind).length;
  document.getElementById("done").textContent = `${made.length} of ${pairs.length} checked, ` +
    `${number("reject")} rejected, ${number("correct")} corrected`;
}
function decide(number, chosen, corrected = "") {
  judgements[number] = {decision: chosen, corrected};
  store(key(), judgements);
  show(number);
  count();
}
function choose(number, chosen) {
  if (chosen === "correct") openCorrection(number);  // an empty answer takes it back
  else decide(number, decision(number) === chosen ? "" : chosen);  // once more takes it back
}
function openCorrection(number) {
  rows[number].querySelector(".correction").hidden = false;
  rows[number].querySelector("input").focus();
}
function cleanAnswer(text) {  // as the table has it: see clean_answer in data/normalise.py
  const words = text.trim().toLowerCase().replace(/\s+/g, " ");
  return words.replace(/[.,;:!?… ]+$/, "") || words;
}
function answerProblem(text, answer) {
  if (!text) return "Write the right answer.";
  if (/\s/.test(text)) return "The answer must be one word.";
  if (!/[\p{L}\p{N}]/u.test(text)) return "The answer needs a letter or a digit.";
  if (text.length > limits.length) return `At most ${limits.length} characters.`;
  const letters = text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
  if (limits.articles.includes(letters)) return "An article isn't an answer.";
  if (limits.unknown.includes(letters)) return "Reject a question that can't be answered.";
  if (cleanAnswer(text) === cleanAnswer(answer)) return "That is the answer already: keep it.";
  return "";
}
function correct(number) {
  const field = rows[number].querySelector("input");
  const text = field.value.trim(), problem = answerProblem(text, pairs[number][2]);
  complain(field, problem);
  if (!problem) decide(number, "correct", text);
  return !problem;
}
function move(number) {
  rows[now].classList.remove("now");
  now = Math.max(0, Math.min(rows.length - 1, number));
  rows[now].classList.add("now");
  rows[now].scrollIntoView({block: "nearest"});
}
function rename() {
  const unnamed = rater ? {} : judgements;  // made before there was a name
  const former = rater, kept = former ? pairs.filter((_, number) => decision(number)).length : 0;
  if (!rater) store(key(), {});
  rater = nameField.value.trim().replace(/\s+/g, " ");
  store("abo-vqa rater", rater);
  judgements = {...load(key()), ...unnamed};
  store(key(), judgements);
  const left = kept && former !== rater;
  complain(nameField, left ? `${former}: ${kept} decisions stay under that name.` : "");
  rows.forEach((_, number) => show(number));
  count();
}
function csv() {
  const quote = text => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const lines = pairs.map((pair, number) => {
    const {decision = "", corrected = ""} = judgements[number] || {};
    return [...pair, decision, corrected, rater, drawn[number]].map(quote).join(",");
  });
  const header = "image_path,question,answer,decision,corrected,rater,drawn";
  return [header, ...lines].join("\n") + "\n";
}
function save() {
  if (!rater) {
    complain(nameField, "Write your name first.");
    nameField.focus();
    return;
  }
  const name = rater.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], {type: "text/csv"}));
  link.download = `review-${name}-${page.slice(0, 6)}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const main = document.querySelector("main");
const rowOf = element => Number(element.closest("li").dataset.number);
main.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  move(rowOf(button));
  choose(now, button.value);
});
main.addEventListener("change", event => {  // left by mouse or Tab
  const number = rowOf(event.target);
  if (event.target.value.trim()) correct(number);
  else decide(number, decision(number) === "correct" ? "" : decision(number));
});
main.addEventListener("keydown", event => {
  if (event.target.tagName !== "INPUT") return;
  const number = rowOf(event.target);
  if (event.key === "Escape") {
    show(number);
    event.target.blur();
  } else if (event.key === "Enter" && correct(number)) {
    event.target.blur();
    move(number + 1);
  }
});
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  const chosen = {k: "keep", x: "reject", c: "correct"}[event.key];
  if (chosen) {
    choose(now, chosen);
    if (chosen !== "correct" && decision(now)) move(now + 1);
  } else if (event.key === "ArrowDown") move(now + 1);
  else if (event.key === "ArrowUp") move(now - 1);
  else return;
  event.preventDefault();
});
nameField.addEventListener("change", rename);
document.getElementById("save").addEventListener("click", save);
judgements = load(key()) || {};
nameField.value = load("abo-vqa rater") || "";
rename();
move(0);
