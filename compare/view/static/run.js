// The run as a whole: what metrics.jsonl and the records say over its steps, and what the run says of itself.
let curveFilter = "";
const recorded = "recorded completions/";

function drawRun() {
  rows = [];
  count.textContent = "";
  const box = element("div", "curves"), input = element("input"), controls = element("div", "controls");
  input.type = "search";
  input.placeholder = "filter curves by name";
  input.setAttribute("aria-label", "filter curves by name");
  input.value = curveFilter;
  input.addEventListener("input", () => { curveFilter = input.value; drawCurves(box); });
  controls.append(input);
  main.replaceChildren(...data.runs.map((run) => runFacts(run)), controls, box);
  drawCurves(box);
}

function runFacts(run) {
  const box = element("details", "about"), list = element("dl", "facts");
  box.append(element("summary", "", `about ${run.title}`), list);
  for (const [name, value] of run.facts) {
    const item = element("div", value.length > 100 ? "long" : "");
    item.append(element("dt", "", name), element("dd", "", value));
    list.append(item);
  }
  if (!run.facts.length) list.append(element("p", "note", "The run folder holds no summary.json or config.yaml that can be read."));
  return box;
}

// {name: [{name of the run, points}]}, reward first, then by what stands before the slash.
function curvesOf() {
  const curves = new Map();
  const add = (name, run, points) => {
    if (!points.some((point) => point[1] !== null)) return;
    if (!curves.has(name)) curves.set(name, []);
    curves.get(name).push({ name: run.title, points });
  };
  for (const run of data.runs) {
    for (const [name, values] of Object.entries(run.curves.values)) add(name, run, values.map((value, i) => [run.curves.steps[i], value]));
    for (const [key, name] of totals) if (!["rows", "groups"].includes(key)) add(`${recorded}${name}`, run, run.steps.map((step) => [step.step, step.summary[key] ?? null]));
  }
  const first = ["reward", "eval_reward", "loss", "entropy", "kl"];
  const rank = (name) => (first.includes(name) ? first.indexOf(name) : first.length + (name.includes("/") ? 1 : 0));
  const part = (name) => name.slice(0, name.lastIndexOf("/") + 1);
  const before = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const ordered = (a, b) => rank(a) - rank(b) || before(part(a), part(b)) || (part(a) === recorded ? 0 : before(a, b));
  return [...curves].sort(([a], [b]) => ordered(a, b));
}

function drawCurves(box) {
  const wanted = curveFilter.toLowerCase();
  const list = curvesOf().filter(([name]) => name.toLowerCase().includes(wanted));
  box.replaceChildren();
  let part = null;
  for (const [name, series] of list) {
    const before = name.includes("/") ? name.slice(0, name.lastIndexOf("/")) : "";
    if (before !== part) { box.append(element("h2", "apart", before || "metrics")); part = before; }
    box.append(chart(series, { name: before ? name.slice(before.length + 1) : name, x: "step" }));
  }
  if (!list.length) box.append(element("p", "empty", wanted ? "No curve has that in its name." : "The run logged nothing."));
}

