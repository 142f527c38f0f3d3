"use strict";
// Draws the page from the JSON block. Data reaches the document through textContent only.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const app = document.getElementById("app");
  const many = 800; // tokens of a completion shown at first
  const state = { step: data.steps.length - 1, quantity: "Aw", scale: "each", sort: "recorded", hidden: new Set(), min: {}, max: {} };
  let here = null; // {row, column, token}: indices into `rows`
  let rows = [];
  let open = new Set();

  const quantities = [
    ["Aw", "credit A\u00b7w"], ["A", "advantage A"], ["w", "weight w"],
    ["entropy", "entropy"], ["logp", "log-probability"], ["value", "value"],
  ];

  function element(tag, name, text) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function show(value, sign) {
    if (value === null || value === undefined) return "none";
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text = size >= 1e-2 && size < 1e5 ? String(Number(size.toPrecision(3))) : size.toExponential(2);
    return (value < 0 ? "\u2212" : sign ? "+" : "") + text;
  }

  // Blue for more, orange for less, white for nothing: apart for every common colour blindness, and by lightness
  // from the ground. The ends are light enough for dark text (contrast above 7).
  function colour(value, limit) {
    if (value === null || value === undefined || !limit) return "transparent";
    const share = Math.min(1, Math.abs(value) / limit);
    const end = value > 0 ? [116, 178, 229] : [247, 164, 92];
    return `rgb(${end.map((part) => Math.round(255 + (part - 255) * share)).join(",")})`;
  }

  function values(row, column) {
    const quantity = state.quantity;
    if (quantity === "Aw") return row.A[column].map((a, t) => (a === null ? null : a * row.w[column][t]));
    return quantity === "A" || quantity === "w" ? row[quantity][column] : row[quantity] || row.tokens.map(() => null);
  }

  function total(row, column) {
    return row.A[column].reduce((sum, a, t) => sum + (a || 0) * row.w[column][t], 0);
  }

  function visibleColumns(step) {
    return step.strategies.map((_, i) => i).filter((i) => !state.hidden.has(step.strategies[i]));
  }

  function within(row) {
    const numbers = { reward: row.reward, length: row.tokens.length };
    return Object.entries(numbers).every(([key, value]) => {
      const low = state.min[key], high = state.max[key];
      if (low === undefined && high === undefined) return true;
      return value !== null && (low === undefined || value >= low) && (high === undefined || value <= high);
    });
  }

  function order(list) {
    if (state.sort === "recorded") return list;
    const key = state.sort === "length" ? (row) => row.tokens.length : (row) => (row.reward === null ? -Infinity : row.reward);
    return [...list].sort((a, b) => key(b) - key(a));
  }

  function limits(step, columns) {
    const each = step.strategies.map(() => 0);
    for (const group of step.groups) for (const row of group.rows) for (const column of columns)
      for (const value of values(row, column)) if (value !== null) each[column] = Math.max(each[column], Math.abs(value));
    const largest = Math.max(0, ...columns.map((column) => each[column]));
    return state.scale === "all" ? each.map(() => largest) : each;
  }

  // ---- controls -------------------------------------------------------------------------------------------------
  function choice(label, options, key, redraw) {
    const wrap = element("label", ["scale", "sort"].includes(key) ? "folds" : ""), select = element("select");
    wrap.append(element("span", "", label), select);
    for (const [value, text] of options) {
      const option = element("option", "", text);
      option.value = value;
      option.selected = String(state[key]) === String(value);
      select.append(option);
    }
    select.addEventListener("change", () => { state[key] = key === "step" ? Number(select.value) : select.value; redraw(); });
    select.dataset.key = key;
    return wrap;
  }

  function range(label, key) {
    const wrap = element("fieldset", "folds");
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

  const header = element("header"), main = element("main"), footer = element("footer");
  const boxes = element("fieldset"), scales = element("div", "controls scales folds"), failed = element("p", "failed"), count = element("p", "note");
  footer.setAttribute("aria-live", "polite");

  function build() {
    const title = element("div", "title");
    title.append(element("h1", "", data.title), count);
    const keys = element("p", "keys", "\u2190 \u2192 token, \u2191 \u2193 completion, Tab column, [ ] step, / filter");
    title.append(keys);
    const controls = element("div", "controls");
    const present = (key) => ["Aw", "A", "w"].includes(key) || data.steps.some((s) => s.groups.some((g) => g.rows.some((r) => r[key])));
    controls.append(
      choice("step", data.steps.map((step, i) => [i, step.step]), "step", () => { here = null; draw(); }),
      choice("colour", quantities.filter(([key]) => present(key)), "quantity", draw),
      choice("scale", [["each", "each column"], ["all", "all columns"]], "scale", draw),
      choice("order", [["recorded", "as recorded"], ["reward", "reward"], ["length", "length"]], "sort", draw),
      range("reward", "reward"), range("length", "length"),
    );
    const more = element("button", "more", "filters and columns"); // on narrow screens these start folded away
    more.addEventListener("click", () => more.setAttribute("aria-expanded", String(header.classList.toggle("open"))));
    more.setAttribute("aria-expanded", "false");
    controls.append(more);
    header.append(title, controls, scales, failed);
    app.replaceChildren(header, main, footer);
  }

  function drawScales(step, columns, limit) {
    scales.replaceChildren(boxes);
    boxes.replaceChildren(element("legend", "", "columns"));
    step.strategies.forEach((name, i) => {
      const label = element("label"), box = element("input");
      box.type = "checkbox";
      box.checked = columns.includes(i);
      box.addEventListener("change", () => { if (box.checked) state.hidden.delete(name); else state.hidden.add(name); draw(); });
      label.append(box, element("b", "", name), ...(columns.includes(i) ? [ramp(limit[i])] : []));
      boxes.append(label);
    });
    failed.replaceChildren();
    const reasons = Object.entries(step.failed).map(([name, reason]) => `${name} cannot be shown: ${reason}`);
    failed.textContent = reasons.join(" ");
    failed.hidden = !reasons.length;
  }

  function ramp(limit) {
    const wrap = element("span", "scale"), bar = element("span", "ramp");
    for (let i = -4; i <= 4; i++) {
      const patch = element("i");
      patch.style.backgroundColor = colour(i, 4);
      bar.append(patch);
    }
    wrap.append(element("span", "", show(-limit)), bar, element("span", "", show(limit, true)));
    return wrap;
  }

  // ---- completions ----------------------------------------------------------------------------------------------
  function draw() {
    const step = data.steps[state.step], columns = visibleColumns(step), limit = limits(step, columns);
    rows = [];
    drawScales(step, columns, limit);
    main.replaceChildren();
    let shown = 0, all = 0;
    for (const group of step.groups) {
      const list = order(group.rows.filter(within));
      all += group.rows.length;
      shown += list.length;
      if (!list.length) continue;
      const section = element("section", "group");
      const scored = group.rows.map((row) => row.reward).filter((reward) => reward !== null);
      const mean = scored.length ? show(Number((scored.reduce((a, b) => a + b, 0) / scored.length).toPrecision(3))) : "none";
      section.append(element("h2", "prompt", group.prompt || "(empty prompt)"));
      section.append(element("p", "note", `${list.length} of ${group.rows.length} completions, mean reward ${mean}`));
      for (const row of list) section.append(drawRow(step, row, columns, limit));
      main.append(section);
    }
    if (!shown) main.append(element("p", "empty", "No completion passes the filter."));
    const batch = step.batch.rows ? `, a sample of ${step.batch.rows}` : "";
    count.textContent = `${shown} of ${all} completions${batch}`;
    if (here && !rows[here.row]) here = null;
    mark();
  }

  function drawRow(step, row, columns, limit) {
    const article = element("article", "row"), meta = element("div", "meta"), grid = element("div", "columns");
    const index = rows.length, record = { row, article, spans: {} };
    rows.push(record);
    const fact = (name, value) => { const b = element("b", "", value), s = element("span", "", `${name} `); s.append(b); meta.append(s); };
    fact("reward", show(row.reward));
    row.rewards.forEach((value, k) => fact(step.rewards[k], show(value)));
    fact("tokens", String(row.tokens.length));
    grid.style.setProperty("--columns", String(Math.max(1, columns.length)));
    for (const column of columns) {
      const box = element("div"), name = element("p", "name"), line = element("p", "tokens");
      name.append(element("b", "", step.strategies[column]), ` \u03a3 ${show(Number(total(row, column).toPrecision(3)), true)}`);
      line.tabIndex = 0;
      line.setAttribute("role", "group");
      line.setAttribute("aria-label", `tokens, ${step.strategies[column]}`);
      line.addEventListener("focus", () => { if (!here || here.row !== index || here.column !== column) go(index, column, here && here.row === index ? here.token : 0, false); });
      fill(record, line, column, limit[column], index);
      box.append(name, line);
      grid.append(box);
    }
    article.append(meta, grid);
    return article;
  }

  function fill(record, line, column, limit, index) {
    const { row } = record, list = values(row, column), spans = [];
    const length = open.has(row) ? row.tokens.length : Math.min(many, row.tokens.length);
    for (let t = 0; t < length; t++) {
      const span = element("span", "t"), value = list[t];
      const parts = row.tokens[t].split("\n");
      parts.forEach((part, i) => {
        if (i) span.append(element("span", "mark", "\u23ce"), "\n");
        span.append(part);
      });
      if (row.tokens[t] === "") span.append(element("span", "mark", "\u2205"));
      if (!row.learns[t]) span.classList.add("off");
      else if (value) {
        span.classList.add(value > 0 ? "plus" : "minus");
        span.style.backgroundColor = colour(value, limit);
        span.style.borderBottomColor = value > 0 ? "#2f76b5" : "#b8590b";
      }
      const at = t;
      span.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") go(index, column, at, false); });
      span.addEventListener("click", () => go(index, column, at, false));
      spans.push(span);
      line.append(span, element("wbr"));
    }
    record.spans[column] = spans;
    if (length < row.tokens.length) {
      const button = element("button", "", `show ${row.tokens.length - length} more tokens`);
      button.addEventListener("click", () => { open.add(row); draw(); });
      line.append(button);
    }
  }

  // ---- the current token ----------------------------------------------------------------------------------------
  function go(row, column, token, scroll) {
    const record = rows[row];
    if (!record || !record.spans[column] || !record.spans[column].length) return;
    here = { row, column, token: Math.max(0, Math.min(token, record.spans[column].length - 1)) };
    mark();
    if (scroll) record.spans[column][here.token].scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  let marked = [];
  function mark() {
    for (const span of marked) span.classList.remove("here", "same");
    marked = [];
    footer.replaceChildren();
    if (!here) {
      footer.append(element("span", "", "Point at a token, tap it, or move with the arrow keys, to read its numbers."));
      return;
    }
    const { row, spans } = rows[here.row], step = data.steps[state.step], t = here.token;
    for (const [column, list] of Object.entries(spans)) if (list[t]) {
      list[t].classList.add(Number(column) === here.column ? "here" : "same");
      marked.push(list[t]);
    }
    const what = element("div", "what"), by = element("div", "by");
    const fact = (box, name, value) => { const s = element("span", "", `${name} `); s.append(element("b", "", value)); box.append(s); };
    const token = row.tokens[t].replaceAll("\n", "\u23ce");
    what.append(element("code", "", token.trim() ? token : token.replaceAll(" ", "\u2423") || "\u2205"));
    fact(what, "token", `${t + 1} of ${row.tokens.length}`);
    if (row.logp) fact(what, "log p", show(row.logp[t]));
    if (row.entropy) fact(what, "entropy", show(row.entropy[t]));
    if (row.value) fact(what, "value", show(row.value[t]));
    if (!row.learns[t]) fact(what, "", "does not learn");
    for (const column of visibleColumns(step)) {
      const a = row.A[column][t], w = row.w[column][t];
      fact(by, step.strategies[column], `A\u00b7w ${show(a === null ? null : Number((a * w).toPrecision(3)), true)} = ${show(a, true)} \u00d7 ${show(w)}`);
    }
    footer.append(what, by);
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, button");
    if (event.key === "Escape" && typing) { event.target.blur(); return; }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const columns = visibleColumns(data.steps[state.step]);
    const at = here || { row: 0, column: columns[0], token: -1 };
    const moves = {
      ArrowRight: () => go(at.row, at.column, at.token + 1, true),
      ArrowLeft: () => go(at.row, at.column, at.token - 1, true),
      ArrowDown: () => go(here ? at.row + 1 : 0, at.column, Math.max(0, at.token), true),
      ArrowUp: () => go(at.row - 1, at.column, at.token, true),
      Home: () => go(at.row, at.column, 0, true),
      End: () => go(at.row, at.column, Infinity, true),
      "[": () => turn(-1),
      "]": () => turn(1),
      "/": () => { header.classList.add("open"); document.querySelector("[data-filter]").focus(); },
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    moves[event.key]();
  });

  function turn(by) {
    state.step = Math.max(0, Math.min(data.steps.length - 1, state.step + by));
    document.querySelector("[data-key=step]").value = String(state.step);
    here = null;
    draw();
  }

  build();
  draw();
})();
