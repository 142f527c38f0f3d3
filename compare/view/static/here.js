// The token that is looked at: its numbers in the bar below, its frame in all columns, and the keys that move it.
let rows = []; // {row, run, step, article, spans: {column: [span]}, columns: [column]}, in the order of the page
let here = null; // {row, column, token}: indices into `rows`
let framed = [];
let drawTo = () => {}; // draws rows up to an index: long pages are drawn as they are read

function go(index, column, token, scroll) {
  if (index < 0 || index >= rows.length) return;
  drawTo(index);
  const record = rows[index];
  const list = record.spans[column] || record.spans[record.columns[0]];
  if (!list || !list.length) return;
  here = { row: index, column: record.spans[column] ? column : record.columns[0], token: Math.max(0, Math.min(token, list.length - 1)) };
  mark();
  if (scroll) list[here.token].scrollIntoView({ block: "nearest", inline: "nearest" });
}

function mark() {
  for (const span of framed) span.classList.remove("here", "same");
  framed = [];
  footer.replaceChildren();
  footer.hidden = !["completions", "compare"].includes(state.tab);
  if (here && (!rows[here.row] || !rows[here.row].article)) here = null;
  if (!here) {
    footer.append(element("span", "", "Point at a token, tap it, or move with the arrow keys, to read its numbers."));
    return;
  }
  const { row, spans, step, columns } = rows[here.row], t = here.token;
  for (const [column, list] of Object.entries(spans)) if (list[t]) {
    list[t].classList.add(Number(column) === here.column ? "here" : "same");
    framed.push(list[t]);
  }
  const what = element("div", "what"), by = element("div", "by");
  const token = row.tokens[t].replaceAll("\n", "\u23ce");
  what.append(element("code", "", token.trim() ? token : token.replaceAll(" ", "\u2423") || "\u2205"));
  fact(what, "token", `${t + 1} of ${row.tokens.length}`);
  const names = { logp: "log p", entropy: "entropy", value: "value", gap: "now \u2212 sampled", ref: "policy \u2212 reference", span: "earned", turn: "turn earned", kl: "KL term" };
  for (const [key, name] of Object.entries(names)) if (row[key] && present(key)) fact(what, name, show(row[key][t]));
  if (!row.learns[t]) fact(what, "", "does not learn");
  for (const column of quantities[state.quantity].own ? columns : visibleColumns(step)) {
    const a = at(row.A[column], t), w = at(row.w[column], t);
    fact(by, step.strategies[column], `A\u00b7w ${show(a === null ? null : short(a * w), true)} = ${show(a, true)} \u00d7 ${show(w)}`);
  }
  footer.append(what, by);
}

function visibleColumns(step) {
  return step.strategies.map((_, i) => i).filter((i) => !state.hidden.has(step.strategies[i]));
}

