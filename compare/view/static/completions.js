// The completions of a step, a group together, drawn as they are read.
const atOnce = 6000; // tokens drawn before the page waits to be scrolled

function within(row) {
  const numbers = { reward: row.reward, length: row.tokens.length };
  return Object.entries(numbers).every(([key, value]) => {
    const low = state.min[key], high = state.max[key];
    if (low === undefined && high === undefined) return true;
    return value !== null && (low === undefined || value >= low) && (high === undefined || value <= high);
  });
}

function inOrder(list) {
  if (state.sort === "recorded") return list;
  const keys = { length: (row) => row.tokens.length, reward: (row) => row.reward, advantage: (row) => row.advantage };
  const key = (row) => (keys[state.sort](row) === null ? -Infinity : keys[state.sort](row));
  return [...list].sort((a, b) => key(b) - key(a));
}

function chosenRows(group) {
  const list = inOrder(group.rows.filter(within));
  return !state.query || inGroup(group) ? list : list.filter((row) => hitTokens(row).size);
}

// What a row's colours say once for every strategy gets one column.
function shownColumns(step) {
  return quantities[state.quantity].own ? visibleColumns(step) : [0];
}

function drawCompletions(groups) {
  const step = thisStep(), columns = shownColumns(step), plan = [];
  rows = [];
  let all = 0;
  for (const group of groups) {
    const list = chosenRows(group);
    all += group.rows.length;
    if (!list.length) continue;
    plan.push({ group, shown: list.length });
    for (const row of list) {
      plan.push({ group, row, index: rows.length });
      rows.push({ group, row, run: state.run, step, columns, article: null, spans: {} });
    }
  }
  const batch = step.batch.rows && step.batch.rows !== all ? `, a sample of ${step.batch.rows}` : "";
  count.textContent = `${rows.length} of ${all} completions${batch}`;
  main.replaceChildren();
  if (!rows.length) main.append(element("p", "empty", state.query ? "No completion, prompt or column of this step has that text." : "No completion passes the filter."));
  drawAsRead(plan, drawItem);
}

// Draws items of the plan until enough is there, the rest when its end comes near.
function drawAsRead(plan, drawOne) {
  let next = 0, section = null;
  const end = element("p", "note end", "");
  const one = () => { section = drawOne(plan[next++], section); };
  const some = () => {
    for (let tokens = 0; next < plan.length && tokens < atOnce;) {
      const item = plan[next];
      one();
      tokens += (item.row ? Math.min(many, item.row.tokens.length) * Math.max(1, shownColumns(thisStep()).length) : 0) + 40;
    }
    if (next < plan.length) main.append(end); else end.remove();
    end.textContent = next < plan.length ? "more below" : "";
  };
  drawTo = (index) => { while (rows[index] && !rows[index].article && next < plan.length) one(); };
  some();
  if (next < plan.length) {
    const watcher = new IntersectionObserver((entries) => {
      if (!end.isConnected) { watcher.disconnect(); return; }
      if (entries.some((entry) => entry.isIntersecting)) { some(); watcher.unobserve(end); if (end.isConnected) watcher.observe(end); }
    }, { rootMargin: "1500px" });
    watcher.observe(end);
  }
}

function drawItem({ group, row, index, shown }, section) {
  if (row) {
    section.append(drawRow(rows[index], index));
    return section;
  }
  const box = element("section", "group");
  box.append(groupHead(group, shown));
  main.append(box);
  return box;
}

function groupHead(group, shown) {
  const head = element("div", "head"), scored = group.rows.map((row) => row.reward).filter((reward) => reward !== null);
  const mean = scored.length ? show(short(scored.reduce((a, b) => a + b, 0) / scored.length)) : "none";
  const same = !scored.length || Math.max(...scored) === Math.min(...scored);
  head.append(conversation(group));
  if (group.columns.length) head.append(columnsOf(group));
  head.append(element("p", "note", `${shown} of ${group.rows.length} completions, mean reward ${mean}${same ? "; no difference in reward" : ""}`));
  return head;
}

function rowFacts(row, step) {
  const meta = element("div", "meta");
  fact(meta, "reward", show(row.reward));
  row.rewards.forEach((value, k) => fact(meta, step.rewards[k], show(value)));
  if (row.advantage !== null) fact(meta, "advantage", show(row.advantage, true)).classList.add(row.advantage > 0 ? "up" : row.advantage < 0 ? "down" : "even");
  fact(meta, "tokens", String(row.tokens.length));
  if (row.truncated) meta.append(element("span", "flag", "cut at its longest"));
  if (row.fault) meta.append(element("span", "flag", `environment went wrong (${row.fault}): not scored`));
  return meta;
}

function drawRow(record, index) {
  const { row, step, columns } = record;
  const article = element("article", "row"), meta = rowFacts(row, step), grid = element("div", "columns");
  const quantity = state.quantity, own = quantities[quantity].own;
  record.article = article;
  meta.append(button("curve", () => toggleCurve(record, article), "small"));
  grid.style.setProperty("--columns", String(Math.max(1, columns.length)));
  if (quantities[quantity].plain) grid.append(asText(row));
  else for (const column of columns) {
    const box = element("div"), line = element("p", "tokens");
    if (own) {
      const name = element("p", "name");
      name.append(element("b", "", step.strategies[column]), ` \u03a3 ${show(short(total(row, column)), true)}`);
      box.append(name);
    }
    focusable(line, index, column, own ? step.strategies[column] : quantities[quantity].label);
    const limit = limitOf(record.run, step, column);
    record.spans[column] = tokenSpans(line, row, { column, quantity, limit, point: (t) => go(index, column, t, false), again: draw });
    box.append(line);
    grid.append(box);
  }
  article.append(meta, grid);
  return article;
}

function focusable(line, index, column, name) {
  line.tabIndex = 0;
  line.setAttribute("role", "group");
  line.setAttribute("aria-label", `tokens, ${name}`);
  line.addEventListener("focus", () => { if (!here || here.row !== index || here.column !== column) go(index, column, here && here.row === index ? here.token : 0, false); });
}

function total(row, column) {
  return row.tokens.reduce((sum, _, t) => sum + (valueAt(row, column, t, "Aw") || 0), 0);
}

// The quantity along the completion, a line for each column.
function toggleCurve(record, article) {
  const old = article.querySelector(".curve");
  if (old) { old.remove(); return; }
  const { row, step, columns } = record, quantity = quantities[state.quantity].plain ? "Aw" : state.quantity;
  const series = columns.map((column) => ({
    name: quantities[quantity].own ? step.strategies[column] : quantities[quantity].label,
    points: row.tokens.map((_, t) => [t + 1, row.learns[t] ? valueAt(row, column, t, quantity) : null]),
  }));
  article.append(chart(series, { name: `${quantities[quantity].label} along the completion`, x: "token", steps: true, zero: true }));
}

