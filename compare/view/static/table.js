// A step at a glance: totals, reward against length, and every completion and group as a line of a table.
const sorts = { rows: { by: 0, down: false }, groups: { by: 0, down: false } };
const tableRows = 400; // lines drawn at first

const totals = [
  ["rows", "completions", show], ["groups", "groups", show], ["reward", "mean reward", show], ["reward_sd", "its deviation", show],
  ["same", "groups without a difference", share], ["length", "mean length", show], ["truncated", "cut at their longest", share],
  ["turns", "turns", show], ["idle", "credit on turns that earned nothing", share], ["failed", "environment went wrong", share],
  ["entropy", "mean entropy", show], ["gap", "mean |log-prob now \u2212 sampled|", show],
];

function tiles(summary) {
  const box = element("dl", "tiles");
  for (const [key, name, form] of totals.filter(([key]) => key in summary)) {
    const tile = element("div");
    tile.append(element("dt", "", name), element("dd", "", form(summary[key])));
    box.append(tile);
  }
  return box;
}

function mean(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
}

function learning(row, key) {
  return row[key] ? row[key].filter((_, t) => row.learns[t]) : [];
}

function drawTable(groups) {
  const step = thisStep(), list = groups.flatMap((group) => chosenRows(group).map((row) => ({ group, row })));
  rows = [];
  const all = groups.reduce((sum, group) => sum + group.rows.length, 0);
  count.textContent = `${list.length} of ${all} completions`;
  main.replaceChildren(tiles(step.summary));
  const scored = list.filter(({ row }) => row.reward !== null);
  if (scored.length) main.append(chart([{
    name: "completions", dots: true, points: scored.map(({ row }) => [row.tokens.length, row.reward]),
    flagged: scored.map(({ row }) => row.truncated), open: (i) => openRow(scored[i].row),
  }], { name: "reward against length (rings: cut at their longest)", x: "tokens", y: "reward" }));
  main.append(table("rows", "completions", rowColumns(step, list), list, ({ row }) => openRow(row)));
  const some = groups.filter((group) => chosenRows(group).length);
  main.append(table("groups", "groups", groupColumns(), some, (group) => openRow(chosenRows(group)[0])));
}

// [name, value, form]
function rowColumns(step, list) {
  const columns = [["group", ({ group }) => group.group, String], ["reward", ({ row }) => row.reward, show]];
  step.rewards.forEach((name, k) => columns.push([name, ({ row }) => row.rewards[k], show]));
  columns.push(["advantage", ({ row }) => row.advantage, (value) => show(value, true)], ["tokens", ({ row }) => row.tokens.length, String]);
  if (list.some(({ row }) => row.truncated !== null)) columns.push(["cut", ({ row }) => (row.truncated ? 1 : 0), (value) => (value ? "cut" : "")]);
  if (list.some(({ row }) => turnsOf(row).length > 1)) columns.push(["turns", ({ row }) => turnsOf(row).filter((turn) => turn.own).length, String]);
  if (list.some(({ row }) => row.fault)) columns.push(["environment", ({ row }) => row.fault || "", (value) => value.slice(0, 60)]);
  if (present("entropy")) columns.push(["mean entropy", ({ row }) => short(mean(learning(row, "entropy"))), show]);
  if (present("gap")) columns.push(["|now \u2212 sampled|", ({ row }) => short(mean(learning(row, "gap").map(Math.abs))), show]);
  if (present("ref")) columns.push(["policy \u2212 reference", ({ row }) => short(mean(learning(row, "ref"))), show]);
  for (const column of visibleColumns(step)) columns.push([`\u03a3 A\u00b7w ${step.strategies[column]}`, ({ row }) => short(total(row, column)), (value) => show(value, true)]);
  if (list.some(({ group }) => group.columns.length)) columns.push([list.find(({ group }) => group.columns.length).group.columns[0][0], ({ group }) => (group.columns[0] || ["", ""])[1].slice(0, 60), String]);
  columns.push(["begins", ({ row }) => row.tokens.slice(0, 40).join("").replaceAll("\n", "\u23ce").slice(0, 60), String]);
  return columns;
}

function groupColumns() {
  const rewards = (group) => group.rows.map((row) => row.reward).filter((value) => value !== null);
  return [
    ["group", (group) => group.group, String], ["completions", (group) => group.rows.length, String],
    ["mean reward", (group) => short(mean(rewards(group))), show],
    ["least", (group) => (rewards(group).length ? Math.min(...rewards(group)) : null), show], ["most", (group) => (rewards(group).length ? Math.max(...rewards(group)) : null), show],
    ["difference", (group) => (new Set(rewards(group)).size > 1 ? 1 : 0), (value) => (value ? "yes" : "none: nothing to learn")],
    ["mean length", (group) => short(mean(group.rows.map((row) => row.tokens.length))), show],
    ["prompt", (group) => (group.messages ? group.messages.at(-1).text : group.prompt).replaceAll("\n", "\u23ce").slice(0, 80), String],
  ];
}

function table(key, name, columns, items, open) {
  const wrap = element("section", "tablewrap"), grid = element("table"), head = element("tr"), body = element("tbody"), sort = sorts[key];
  const [, value] = columns[Math.min(sort.by, columns.length - 1)];
  const number = (item) => { const each = value(item); return each === null ? -Infinity : each; };
  const sorted = [...items].sort((a, b) => { const [x, y] = [number(a), number(b)]; return (x < y ? -1 : x > y ? 1 : 0) * (sort.down ? -1 : 1); });
  columns.forEach(([title], i) => {
    const cell = element("th", items.length && typeof columns[i][1](items[0]) === "string" ? "words" : "");
    cell.scope = "col";
    if (i === sort.by) cell.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    cell.append(button(`${title}${i === sort.by ? (sort.down ? " \u25be" : " \u25b4") : ""}`, () => { sort.down = sort.by === i ? !sort.down : true; sort.by = i; draw(); }));
    head.append(cell);
  });
  const fill = (from, to) => sorted.slice(from, to).forEach((item) => {
    const line = element("tr");
    columns.forEach(([, get, form], i) => {
      const cell = element("td", typeof get(item) === "string" ? "words" : "");
      if (i) cell.textContent = form(get(item)); else cell.append(button(form(get(item)), () => open(item), "small"));
      line.append(cell);
    });
    line.addEventListener("click", (event) => { if (!event.target.closest("button")) open(item); });
    body.append(line);
  });
  fill(0, tableRows);
  const top = element("thead");
  top.append(head);
  grid.append(top, body);
  wrap.append(element("h2", "", `${items.length} ${name}`), grid);
  if (sorted.length > tableRows) { const more = button(`show ${sorted.length - tableRows} more`, () => { more.remove(); fill(tableRows); }); wrap.append(more); }
  return wrap;
}

function openRow(row) {
  state.tab = "completions";
  draw();
  const index = rows.findIndex((record) => record.row === row);
  if (index >= 0) {
    go(index, rows[index].columns[0], 0, false);
    rows[index].article.scrollIntoView({ block: "start" });
  }
}

