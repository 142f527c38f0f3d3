// What every part uses: elements, numbers in words, and the steps of the page. Data reaches the document through textContent only.
const data = JSON.parse(document.getElementById("data").textContent);
const app = document.getElementById("app");
const state = {
  tab: data.runs.length > 1 ? "compare" : "completions", run: 0, step: data.runs[0].steps.length - 1, quantity: "Aw",
  scale: "each", sort: "recorded", hidden: new Set(), min: {}, max: {}, query: "", left: null, right: null,
};

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(text, act, name) {
  const node = element("button", name, text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

function show(value, sign) {
  if (value === null || value === undefined) return "none";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-2 && size < 1e5 ? String(Number(size.toPrecision(3))) : size.toExponential(2);
  return (value < 0 ? "\u2212" : sign ? "+" : "") + text;
}

const share = (value) => (value === null || value === undefined ? "none" : `${Math.round(value * 100)} %`);
const short = (value) => (value === null || value === undefined ? null : Number(value.toPrecision(3)));
const at = (list, t) => (Array.isArray(list) ? list[t] : list); // one number stands for many equal ones
const stepOf = (run, place) => data.runs[run].steps[place];
const thisStep = () => stepOf(state.run, state.step);

function fact(box, name, value) {
  const span = element("span", "", `${name} `);
  span.append(element("b", "", value));
  box.append(span);
  return span;
}

// ---- the groups of a step, opened when they are looked at ---------------------------------------------------------
const opened = new Map();
const kept = 4; // steps that stay open

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function withGroups(run, place, then) {
  const key = `step-${run}-${place}`;
  const keep = (groups) => {
    opened.delete(key);
    opened.set(key, groups);
    if (opened.size > kept) opened.delete(opened.keys().next().value);
    then(groups);
  };
  if (opened.has(key)) return keep(opened.get(key));
  const block = document.getElementById(key);
  if (block.type === "application/json") return keep(JSON.parse(block.textContent));
  if (typeof DecompressionStream === "undefined") return say("This browser cannot open packed steps: use a newer one, or make the page with fewer rows.");
  return unpack(block.textContent).then(keep, (error) => say(`This step cannot be opened: ${error.message}`));
}

function say(text) {
  main.replaceChildren(element("p", "empty", text));
}

const main = element("main"), header = element("header"), footer = element("footer");

