// Text search: in completions, prompts and columns of the step; and how often in every other step.
function places(text, query) {
  const found = [], low = text.toLowerCase();
  const [hay, needle] = low.length === text.length ? [low, query.toLowerCase()] : [text, query];
  for (let i = hay.indexOf(needle); needle && i >= 0; i = hay.indexOf(needle, i + needle.length)) found.push(i);
  return found;
}

// Tokens of a row that a hit touches; `first` of each hit are where the search stops.
function hitTokens(row, first = false) {
  const tokens = new Set();
  if (!state.query) return tokens;
  const found = places(row.tokens.join(""), state.query);
  let begin = 0, next = 0;
  row.tokens.forEach((token, t) => {
    const end = begin + token.length;
    while (next < found.length && found[next] + state.query.length <= begin) next++;
    for (let i = next; i < found.length && found[i] < end; i++) if (!first || found[i] >= begin) tokens.add(t);
    begin = end;
  });
  return tokens;
}

function inGroup(group) {
  const texts = [group.prompt, ...group.columns.flat(), ...(group.messages || []).map((message) => message.text)];
  return texts.some((text) => places(text, state.query).length);
}

// Text in which hits are marked.
function marked(text, name) {
  const box = element("div", name || "");
  let from = 0;
  for (const place of state.query ? places(text, state.query) : []) {
    box.append(text.slice(from, place), element("mark", "", text.slice(place, place + state.query.length)));
    from = place + state.query.length;
  }
  box.append(text.slice(from));
  return box;
}

const search = element("div", "search"), searchBox = element("input"), found = element("span", "note");
let stops = []; // [index into rows, token]
let stop = -1;

function buildSearch() {
  searchBox.type = "search";
  searchBox.placeholder = "search text";
  searchBox.setAttribute("aria-label", "search completions, prompts and columns");
  searchBox.dataset.key = "query";
  let timer = 0;
  searchBox.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => { state.query = searchBox.value; stop = -1; draw(); }, 120); });
  searchBox.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (state.query !== searchBox.value) { state.query = searchBox.value; stop = -1; draw(); }
    toHit(event.shiftKey ? -1 : 1);
  });
  found.setAttribute("aria-live", "polite");
  search.append(searchBox, button("all steps", searchSteps), found);
}

function toHit(by) {
  if (!stops.length) return;
  stop = (stop + by + stops.length) % stops.length;
  const [index, token] = stops[stop];
  go(index, rows[index].columns[0], token, true);
  found.textContent = `${stop + 1} of ${stops.length}`;
}

function countHits() {
  stops = [];
  found.replaceChildren();
  if (!state.query || !["completions", "compare"].includes(state.tab)) return;
  rows.forEach((record, index) => { for (const t of hitTokens(record.row, true)) stops.push([index, t]); });
  const touched = new Set(stops.map(([index]) => index)).size;
  found.textContent = `${stops.length} ${stops.length === 1 ? "hit" : "hits"} in ${touched} ${touched === 1 ? "completion" : "completions"}; Enter: next`;
}

function searchSteps() {
  state.query = searchBox.value;
  if (!state.query) { searchBox.focus(); return; }
  const list = element("span", "steps"), query = state.query, run = state.run, { steps } = data.runs[run];
  found.replaceChildren(list);
  let place = 0, none = true;
  const next = () => {
    if (query !== state.query || !list.isConnected) return;
    if (place === steps.length) { list.append(none ? "in no step" : ""); return; }
    const mine = place++;
    withGroups(run, mine, (groups) => {
      const hits = groups.flatMap((group) => group.rows).reduce((sum, row) => sum + hitTokens(row, true).size, 0);
      if (hits) { none = false; list.append(button(`step ${steps[mine].step}: ${hits}`, () => { state.step = mine; state.tab = "completions"; draw(); }, "small")); }
      setTimeout(next);
    });
  };
  next();
}

