// The head of the page: tabs, what is shown, filters.
const tabs = [["completions", "Completions"], ["table", "Table"], ["compare", "Compare"], ["run", "Run"]];
const count = element("p", "note count"), tabList = element("nav", "tabs"), controls = element("div", "controls");
const columnBoxes = element("fieldset"), scales = element("div", "controls scales folds"), failed = element("p", "failed"), words = element("div");

function choice(label, options, key, name) {
  const wrap = element("label", name || ""), select = element("select");
  wrap.append(element("span", "", label), select);
  for (const [value, text] of options) {
    const option = element("option", "", text);
    option.value = value;
    select.append(option);
  }
  select.addEventListener("change", () => {
    state[key] = ["step", "run"].includes(key) ? Number(select.value) : select.value;
    if (key === "run") state.step = Math.min(state.step, data.runs[state.run].steps.length - 1);
    if (key === "run" || key === "step") here = null;
    draw();
  });
  select.dataset.key = key;
  return wrap;
}

function numbers(label, key) {
  const wrap = element("fieldset", "filters");
  wrap.append(element("legend", "", label));
  for (const side of ["min", "max"]) {
    const input = element("input");
    input.type = "number";
    input.step = "any";
    input.placeholder = side;
    input.setAttribute("aria-label", `${label}, ${side}`);
    input.dataset.filter = key + side;
    input.addEventListener("input", () => {
      if (input.value === "") delete state[side][key]; else state[side][key] = Number(input.value);
      draw();
    });
    wrap.append(input);
  }
  return wrap;
}

function build() {
  const title = element("div", "title");
  title.append(element("h1", "", data.runs.map((run) => run.title).join(" and ")), tabList, count);
  title.append(element("p", "keys", "\u2190 \u2192 token, \u2191 \u2193 completion, Tab column, [ ] step, / search, 1\u20134 views"));
  for (const [key, text] of tabs) tabList.append(button(text, () => { state.tab = key; draw(); window.scrollTo(0, 0); }));
  buildSearch();
  const steps = element("span", "stepper");
  steps.append(button("\u25c0", () => turnStep(-1)), choice("step", [], "step"), button("\u25b6", () => turnStep(1)));
  steps.firstChild.setAttribute("aria-label", "step before");
  steps.lastChild.setAttribute("aria-label", "step after");
  if (data.runs.length > 1) controls.append(choice("run", data.runs.map((run, i) => [i, run.title]), "run", "onestep"));
  steps.classList.add("onestep");
  const more = button("filters", () => more.setAttribute("aria-expanded", String(header.classList.toggle("open"))), "more");
  more.setAttribute("aria-expanded", "false");
  controls.append(
    steps, choice("colour", Object.keys(quantities).filter(present).map((key) => [key, quantities[key].label]), "quantity", "tokensonly"), search, more,
    choice("scale", [["each", "each column"], ["all", "all columns"], ["steps", "all steps"]], "scale", "filters tokensonly"),
    choice("order", [["recorded", "as recorded"], ["reward", "reward"], ["advantage", "advantage"], ["length", "length"]], "sort", "filters tokensonly"),
    numbers("reward", "reward"), numbers("length", "length"),
  );
  header.append(title, controls, words, scales, failed);
  footer.setAttribute("aria-live", "polite");
  app.replaceChildren(header, main, footer);
}

function drawControls() {
  header.dataset.tab = state.tab;
  [...tabList.children].forEach((each, i) => each.setAttribute("aria-pressed", String(tabs[i][0] === state.tab)));
  const steps = controls.querySelector("[data-key=step]");
  steps.replaceChildren(...data.runs[state.run].steps.map((step, i) => {
    const option = element("option", "", String(step.step));
    option.value = String(i);
    return option;
  }));
  for (const key of ["step", "run", "quantity", "scale", "sort"]) {
    const select = controls.querySelector(`[data-key=${key}]`);
    if (select) select.value = String(state[key]);
  }
  if (document.activeElement !== searchBox) searchBox.value = state.query;
  const tokens = ["completions", "compare"].includes(state.tab);
  words.replaceChildren(...(tokens ? [legend(state.quantity)] : []));
  drawScales(tokens);
}

function drawScales(tokens) {
  const step = thisStep(), { own, plain } = quantities[state.quantity], compare = state.tab === "compare";
  scales.hidden = !tokens;
  scales.replaceChildren();
  if (compare && !plain) sides().forEach((side) => scales.append(element("span", "note", `${sideName(side)}${own ? ", recorded" : ""}`), ramp(state.quantity, sideLimit(side))));
  else if (!own && !plain) scales.append(element("span", "note", "of the completion, whatever the strategy"), ramp(state.quantity, limitOf(state.run, step, 0)));
  else if (own) {
    scales.append(columnBoxes);
    columnBoxes.replaceChildren(element("legend", "", "columns"));
    step.strategies.forEach((name, i) => {
      const label = element("label"), box = element("input"), on = !state.hidden.has(name);
      box.type = "checkbox";
      box.checked = on;
      box.addEventListener("change", () => { if (box.checked) state.hidden.delete(name); else state.hidden.add(name); draw(); });
      label.append(box, element("b", "", name), ...(on ? [ramp(state.quantity, limitOf(state.run, step, i))] : []));
      columnBoxes.append(label);
    });
  }
  const reasons = Object.entries(step.failed).map(([name, reason]) => `${name} cannot be shown: ${reason}`);
  failed.textContent = reasons.join(" ");
  failed.hidden = !reasons.length || !tokens || compare;
}

function turnStep(by) {
  state.step = Math.max(0, Math.min(data.runs[state.run].steps.length - 1, state.step + by));
  here = null;
  draw();
}

