// Draws what the state says, and keeps it in the address, so that a link leads to it.
let turn = 0; // counts drawings: a step that is opened too late is not drawn

function draw() {
  const mine = ++turn;
  drawTo = () => {};
  drawControls();
  const done = (act) => (groups) => { if (mine === turn) { act(groups); countHits(); mark(); remember(); } };
  if (state.tab === "run") done(drawRun)();
  else if (state.tab === "compare") withSides(done(drawPairs));
  else withGroups(state.run, state.step, done(state.tab === "table" ? drawTable : drawCompletions));
}

function remember() {
  const said = { view: state.tab, run: data.runs.length > 1 ? state.run : "", step: thisStep().step, colour: state.quantity, search: state.query };
  const words = Object.entries(said).filter(([, value]) => value !== "").map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
  try { history.replaceState(null, "", `#${words.join("&")}`); } catch { /* a sandbox without history */ }
}

function recall() {
  const said = new URLSearchParams(location.hash.slice(1));
  if (tabs.some(([key]) => key === said.get("view"))) state.tab = said.get("view");
  if (data.runs[Number(said.get("run"))] && said.has("run")) state.run = Number(said.get("run"));
  const place = data.runs[state.run].steps.findIndex((step) => String(step.step) === said.get("step"));
  state.step = place >= 0 ? place : Math.min(state.step, data.runs[state.run].steps.length - 1);
  if (Object.hasOwn(quantities, said.get("colour")) && present(said.get("colour"))) state.quantity = said.get("colour");
  state.query = said.get("search") || "";
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, button, summary");
  if (event.key === "Escape" && typing) { event.target.blur(); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = {
    ArrowRight: () => (here ? go(here.row, here.column, here.token + 1, true) : go(0, 0, 0, true)),
    ArrowLeft: () => (here ? go(here.row, here.column, here.token - 1, true) : go(0, 0, 0, true)),
    ArrowDown: () => (here ? go(here.row + 1, here.column, here.token, true) : go(0, 0, 0, true)),
    ArrowUp: () => here && go(here.row - 1, here.column, here.token, true),
    Home: () => here && go(here.row, here.column, 0, true),
    End: () => here && go(here.row, here.column, Infinity, true),
    "[": () => turnStep(-1),
    "]": () => turnStep(1),
    "/": () => searchBox.focus(),
  };
  tabs.forEach(([key], i) => { moves[String(i + 1)] = () => { state.tab = key; draw(); }; });
  const arrows = event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End";
  if (!moves[event.key] || (arrows && !rows.length)) return;
  event.preventDefault();
  moves[event.key]();
});
window.addEventListener("hashchange", () => { recall(); draw(); });
window.addEventListener("resize", repaint);

recall();
build();
draw();
