// Two steps side by side: of one run, or of two; the same prompts together where there are.
function inCommon(a, b) {
  const there = new Set(b.prompts);
  return new Set(a.prompts.filter((prompt) => there.has(prompt))).size;
}

// The last step against the earliest that shares most prompts; of two runs, the last step that both have.
function chooseSides() {
  const lastRun = data.runs.length - 1, right = { run: lastRun, step: data.runs[lastRun].steps.length - 1 };
  if (lastRun) {
    const numbers = data.runs[0].steps.map((step) => step.step);
    const both = data.runs[1].steps.map((step, i) => [numbers.indexOf(step.step), i]).filter(([i]) => i >= 0);
    const [l, r] = both.at(-1) || [numbers.length - 1, right.step];
    return [{ run: 0, step: l }, { run: 1, step: r }];
  }
  let best = 0;
  for (let i = 0; i < right.step; i++) if (inCommon(stepOf(0, i), stepOf(0, right.step)) > inCommon(stepOf(0, best), stepOf(0, right.step))) best = i;
  return [{ run: 0, step: best }, right];
}

function sides() {
  if (!state.left) [state.left, state.right] = chooseSides();
  return [state.left, state.right];
}

// What tells the titles of two runs apart: the parts between slashes and commas that the other lacks.
function shortTitle(run) {
  if (data.runs.length < 2) return "";
  const parts = (title) => title.split(/[/,]/), others = new Set(parts(data.runs[1 - run].title));
  return parts(data.runs[run].title).filter((part) => !others.has(part)).join(", ") || data.runs[run].title;
}

function sideName({ run, step }) {
  return [shortTitle(run), `step ${stepOf(run, step).step}`].filter(Boolean).join(", ");
}

function sideChoice(key) {
  const wrap = element("label"), select = element("select"), other = state[key === "left" ? "right" : "left"];
  wrap.append(element("span", "", key), select);
  data.runs.forEach((run, r) => run.steps.forEach((step, i) => {
    const common = inCommon(step, stepOf(other.run, other.step));
    const option = element("option", "", `${sideName({ run: r, step: i })}${common ? ` (${common} ${common === 1 ? "prompt" : "prompts"} in common)` : ""}`);
    option.value = `${r} ${i}`;
    option.selected = r === state[key].run && i === state[key].step;
    select.append(option);
  }));
  select.dataset.key = key;
  select.addEventListener("change", () => { const [run, step] = select.value.split(" ").map(Number); state[key] = { run, step }; draw(); });
  return wrap;
}

function withSides(then) {
  const [left, right] = sides();
  withGroups(left.run, left.step, (first) => withGroups(right.run, right.step, (second) => then([first, second])));
}

function drawPairs([first, second]) {
  const [left, right] = sides(), [a, b] = [stepOf(left.run, left.step), stepOf(right.run, right.step)];
  rows = [];
  const choices = element("div", "controls sides");
  choices.append(sideChoice("left"), sideChoice("right"));
  main.replaceChildren(choices, differences(a, b));
  const bysecond = new Map(second.map((group) => [group.prompt, group]));
  const pairs = first.filter((group) => bysecond.has(group.prompt)).map((group) => [group, bysecond.get(group.prompt)]);
  const shared = new Set(pairs.map(([group]) => group.prompt));
  const lone = (groups) => groups.filter((group) => !shared.has(group.prompt));
  const [only, others] = [lone(first), lone(second)];
  const plan = [{ title: pairs.length ? `${pairs.length} ${pairs.length === 1 ? "prompt" : "prompts"} in common` : "No prompt in common: what each was asked stands side by side" }];
  for (const [one, two] of pairs) addPair(plan, one, two);
  if (pairs.length && (only.length || others.length)) plan.push({ title: "Prompts of one side only" });
  for (let i = 0; i < Math.max(only.length, others.length); i++) addPair(plan, only[i], others[i]);
  count.textContent = `${rows.length} completions`;
  drawAsRead(plan, (item, section) => drawPairItem(item, section, [left, right]));
}

function addPair(plan, one, two) {
  const [first, second] = [one, two].map((group) => (group ? chosenRows(group) : []));
  if (!first.length && !second.length) return;
  plan.push({ one, two });
  for (let i = 0; i < Math.max(first.length, second.length); i++) {
    const pair = [first[i], second[i]].map((row, side) => {
      if (!row) return null;
      const { run, step } = sides()[side];
      rows.push({ row, run, step: stepOf(run, step), columns: [0], article: null, spans: {}, index: rows.length });
      return rows.at(-1);
    });
    plan.push({ pair, row: (pair[0] || pair[1]).row });
  }
}

function drawPairItem({ title, one, two, pair }, section, both) {
  if (title) { main.append(element("h2", "apart", title)); return section; }
  const line = element("div", "pair");
  if (pair) {
    for (const record of pair) line.append(record ? drawOneSided(record) : element("div"));
    section.append(line);
    return section;
  }
  const box = element("section", "group");
  const same = one && two && one.prompt === two.prompt;
  if (same) box.append(conversation(one), ...(one.columns.length ? [columnsOf(one)] : []));
  [one, two].forEach((group, side) => {
    const head = element("div", "side");
    head.append(element("h3", "", sideName(both[side])));
    if (!same && group) head.append(conversation(group), ...(group.columns.length ? [columnsOf(group)] : []));
    if (group) head.append(element("p", "note", `${group.rows.length} completions, mean reward ${show(short(mean(group.rows.map((row) => row.reward))))}`));
    line.append(head);
  });
  box.append(line);
  main.append(box);
  return box;
}

function drawOneSided(record) {
  const { row, step, run, index } = record, article = element("article", "row");
  record.article = article;
  article.append(rowFacts(row, step));
  if (quantities[state.quantity].plain) article.append(asText(row));
  else {
    const line = element("p", "tokens");
    focusable(line, index, 0, sideName({ run, step: data.runs[run].steps.indexOf(step) }));
    record.spans[0] = tokenSpans(line, row, { column: 0, quantity: state.quantity, limit: sideLimit({ run, step: data.runs[run].steps.indexOf(step) }), point: (t) => go(index, 0, t, false), again: draw });
    article.append(line);
  }
  return article;
}

// The recorded strategy's scale of a side; "all columns": one for both, so that the same colour is the same number.
function sideLimit({ run, step }) {
  const of = (side) => limitOf(side.run, stepOf(side.run, side.step), 0, state.quantity, state.scale === "steps" ? "steps" : "each");
  return state.scale === "all" ? joined(sides().map(of)) : of({ run, step });
}

function differences(a, b) {
  const wrap = element("section", "tablewrap"), grid = element("table"), head = element("tr");
  for (const name of ["", ...sides().map(sideName), "difference"]) head.append(element("th", "", name));
  grid.append(head);
  for (const [key, name, form] of totals.filter(([key]) => key in a.summary || key in b.summary)) {
    const line = element("tr"), [x, y] = [a.summary[key] ?? null, b.summary[key] ?? null];
    const change = x === null || y === null ? "" : form === share ? `${show(Math.round((y - x) * 100), true)} points` : show(short(y - x), true);
    const title = element("th", "", name);
    title.scope = "row";
    line.append(title, element("td", "", form(x)), element("td", "", form(y)), element("td", "", ["rows", "groups"].includes(key) ? "" : change));
    grid.append(line);
  }
  wrap.append(grid);
  return wrap;
}

